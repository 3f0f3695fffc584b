#!/usr/bin/env bash
# The batch set beside DuckDB: makes the rows where they are not yet, loads both stores, asks both and compares (run.py).
#
#   benches/batch/run.sh DIRECTORY [--runs 3] [--memory-gib 8] [--only NAME,NAME] [--explain NAME]
#
# MARIGRAM names the server's binary, else it is the release build of the target directory. DIRECTORY takes about 2 GB and is kept:
# HOSTS and DAYS (405, 10) count only while it is new. What it needs of Python is kept in a cache.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1 # the checkout stays as it is
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/marigram-ci"
marigram=${MARIGRAM:-${CARGO_TARGET_DIR:-$here/../../target}/release/marigram}
[[ $# -gt 0 ]] || { echo "usage: run.sh DIRECTORY …" >&2; exit 2; }
[[ -x $marigram ]] || { echo "no server at $marigram: build it, or name one in MARIGRAM" >&2; exit 1; }
directory=$1 && shift

python="$cache/batch/bin/python"
if ! cmp -s "$here/requirements.txt" "$cache/batch/installed.txt"; then
    rm -rf "$cache/batch"
    python3 -m venv "$cache/batch"
    "$python" -m pip install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$cache/batch/installed.txt"
fi

if [[ ! -f $directory/parquet/cpu.parquet ]]; then
    "$python" "$here/generate.py" "$directory/parquet" --hosts "${HOSTS:-405}" --days "${DAYS:-10}"
fi
"$python" "$here/run.py" "$marigram" "$directory" "$@"
