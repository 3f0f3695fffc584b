#!/usr/bin/env bash
# Holds generated queries against DuckDB and PostgreSQL 15: a seed is a query, and what repeats it is printed.
#
#   tests/differential/run.sh [--from 0] [--count 20000] [--data 1] [--workers 3] [--show 20] [--examples FILE]
#
# MARIGRAM names the server's binary, else it is that of the target directory. What it needs of Python is kept in a cache;
# PostgreSQL is installed where Debian's packages can be had, else nothing is compared, and that is said. --data is the seed
# of the rows.
set -euo pipefail
export PYTHONDONTWRITEBYTECODE=1 # the checkout stays as it is
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/marigram-ci"
marigram=${MARIGRAM:-${CARGO_TARGET_DIR:-$here/../../target}/debug/marigram}
[[ -x $marigram ]] || { echo "no server at $marigram: build it, or name one in MARIGRAM" >&2; exit 1; }
marigram=$(realpath "$marigram")

python="$cache/differential/bin/python"
if ! cmp -s "$here/requirements.txt" "$cache/differential/installed.txt"; then
    rm -rf "$cache/differential"
    python3 -m venv "$cache/differential"
    "$python" -m pip install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$cache/differential/installed.txt"
fi

bin=/usr/lib/postgresql/15/bin
if [[ ! -x $bin/postgres ]] && ! DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql-15 >/dev/null; then
    echo "==> differential: NOT COMPARED, PostgreSQL 15 cannot be installed here" >&2
    exit 0
fi

work=$(mktemp -d) postgres=
finish() {
    if [[ -n $postgres ]]; then
        kill -INT "$postgres" 2>/dev/null && wait "$postgres" || true
    fi
    rm -rf "$work"
}
trap finish EXIT
chmod 755 "$work"
mkdir "$work/postgres"

# PostgreSQL does not run as root, and asks for a /dev/null that everybody may write to: where it is not, it gets its own.
as=() own_null=()
if [[ $(id -u) == 0 ]]; then
    as=(setpriv --reuid=postgres --regid=postgres --init-groups)
    chown postgres "$work/postgres"
    if ! "${as[@]}" sh -c ': >/dev/null' 2>/dev/null; then
        mknod -m 666 "$work/null" c 1 3
        # shellcheck disable=SC2016
        own_null=(unshare -m sh -c 'mount --bind "$0" /dev/null && exec "$@"' "$work/null")
    fi
fi
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cd "$work"
"${own_null[@]}" "${as[@]}" "$bin/initdb" -D postgres -U postgres -A trust -E UTF8 --lc-collate=C --lc-ctype=C.UTF-8 --no-sync >initdb.log
"${own_null[@]}" "${as[@]}" "$bin/postgres" -D postgres -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off -c timezone=UTC >"$work/postgres.log" 2>&1 &
postgres=$!
for _ in $(seq 100); do
    "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && break
    sleep 0.2
done

data=1 rest=()
while [[ $# -gt 0 ]]; do
    case $1 in
    --data) data=$2 && shift 2 ;;
    *) rest+=("$1") && shift ;;
    esac
done
"$python" "$here/serve.py" "$marigram" "$work/servers" --data "$data" --postgres "host=127.0.0.1 port=$port user=postgres" -- "${rest[@]}"
