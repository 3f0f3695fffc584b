#!/bin/sh
# Cuts a real file system from under a writer and checks that nothing acknowledged is lost.
#
#   cargo build -p marigram-tests --bin power_cut_writer && tests/power_cut.sh [HISTORIES]
#
# Needs root, loop devices, mkfs.ext4 and xfs_io (package xfsprogs; its shutdown works on ext4, too).
# WRITER names the binary, FS the file system (ext4 or xfs).
set -eu
histories=${1:-20}
writer=${WRITER:-${CARGO_TARGET_DIR:-target}/debug/power_cut_writer}
fs=${FS:-ext4}
scratch=/dev/shm
[ -d "$scratch" ] || scratch=/tmp
work=$(mktemp -d "$scratch/power_cut.XXXXXX")
disk=$work/disk mount=$work/mount told=$work/told
pid=
finish() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    umount "$mount" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

truncate -s 512M "$disk"
case $fs in
ext4) mkfs.ext4 -q -F "$disk" ;;
xfs) mkfs.xfs -q -f "$disk" ;;
esac
mkdir "$mount"
mount -o loop "$disk" "$mount"
mkdir "$mount/store"
sync -f "$mount"

last=-1
history=1
while [ "$history" -le "$histories" ]; do
    : >"$told"
    "$writer" write "$mount/store" >"$told" &
    pid=$!
    # Every fifth cut may fall into the open; the others fall behind the first acknowledgement.
    if [ $((history % 5)) -ne 0 ]; then
        while [ ! -s "$told" ] && kill -0 "$pid"; do sleep 0.01; done
    fi
    sleep "$(awk -v seed="$history" 'BEGIN { srand(seed * 7919); printf "%.3f", rand() }')"
    # Stopped first: a sync that races with the shutdown may return 0 falsely.
    kill -STOP "$pid"
    xfs_io -x -c shutdown "$mount"
    kill -9 "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
    umount "$mount"
    mount -o loop "$disk" "$mount"
    # A line without its end may be half a number.
    line=$(awk -v whole="$(tail -c 1 "$told" | wc -l)" '
        { before = last; last = $0 } END { print whole ? last : before }' "$told")
    if [ -n "$line" ] && [ "$line" -gt "$last" ]; then last=$line; fi
    printf 'history %s: ' "$history"
    "$writer" verify "$mount/store" "$last"
    history=$((history + 1))
done
echo "$histories power cuts on $fs, nothing acknowledged was lost"
