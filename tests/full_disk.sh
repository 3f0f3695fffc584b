#!/bin/sh
# Fills a real file system to the last byte under a store, kills it, and starts it there: everything acknowledged is read,
# and once there is space again it is written on.
#
#   cargo build -p marigram-tests --bin power_cut_writer && tests/full_disk.sh [ROUNDS]
#
# Needs root and tmpfs. WRITER names the binary.
set -eu
rounds=${1:-3}
writer=${WRITER:-${CARGO_TARGET_DIR:-target}/debug/power_cut_writer}
work=$(mktemp -d)
mount=$work/mount told=$work/told
pid=
finish() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    umount "$mount" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

mkdir "$mount"
mount -t tmpfs -o size=24m tmpfs "$mount"
last=-1
for round in $(seq "$rounds"); do
    # It ends by itself when the reserve is reached; killed before, the log holds more.
    "$writer" write "$mount/store" >"$told" 2>"$work/said" &
    pid=$!
    sleep "0.$((round * 3 % 9 + 1))"
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    pid=
    [ -s "$told" ] && last=$(tail -1 "$told")
    # No byte is free.
    dd if=/dev/zero of="$mount/filler" bs=64k 2>/dev/null || true
    dd if=/dev/zero of="$mount/filler2" bs=1 count=65536 2>/dev/null || true
    [ "$(df --output=avail "$mount" | tail -1)" -eq 0 ] || { echo "the disk is not full" >&2 && exit 1; }
    "$writer" verify "$mount/store" "$last"
    rm "$mount/filler" "$mount/filler2"
    "$writer" verify "$mount/store" "$last"
    if [ "$(df --output=avail "$mount" | tail -1)" -lt 12000 ]; then
        rm -rf "$mount/store" && last=-1
    fi
done
echo "$rounds rounds: nothing acknowledged was lost on a full disk"
