#!/bin/sh
# Builds the engine's tests for aarch64 and runs those of codecs and aggregates under qemu: the same pinned bytes, the same
# states. Not a part of CI, which only checks that the engine compiles: another build of all it depends on takes minutes, the tests one.
#
#   tests/aarch64.sh [FILTER…]
#
# Needs `rustup target add aarch64-unknown-linux-gnu` and, of Debian,
# `apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user`.
set -eu
cd "$(dirname "$0")/.."
target=aarch64-unknown-linux-gnu
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
[ $# -gt 0 ] || set -- codec:: aggregate:: processor::
cargo test -p marigram-storage --lib --target "$target" -- "$@"
