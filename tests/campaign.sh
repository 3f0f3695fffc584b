#!/bin/sh
# Runs any number of seeds of a suite and writes down what it found: one line of tests/LEDGER.md for each slice.
#
#   tests/campaign.sh crash FIRST COUNT [SLICE]     crash histories FIRST .. FIRST + COUNT, SLICE (100,000) at a time
#   tests/campaign.sh rot FIRST COUNT               so many drawings of flipped bits, one in 64
#   tests/campaign.sh bits                          every bit of the small stores of tests/rot.rs, once
#   tests/campaign.sh faults                        every call of every scenario crashed and failed, once
#   tests/campaign.sh cancels SEED COUNT            so many statements stopped at random moments
#   tests/campaign.sh differential FIRST COUNT [SLICE]  generated queries against DuckDB and PostgreSQL 15, 20,000 over other
#                                                   rows at a time; MARIGRAM names a server that was built for speed
#
# A slice that fails says which seed repeats it, and the campaign ends there. JOBS=2 runs two slices
# at once.
set -eu
cd "$(dirname "$0")/.."
suite=${1:?crash, rot, bits, faults, cancels or differential} first=${2:-0} count=${3:-1}
slice=${4:-100000} jobs=${JOBS:-1}
case $suite in
crash) ;;
rot) slice=${4:-100} ;;
bits | faults) first=0 count=1 slice=1 ;;
cancels) slice=${4:-$count} ;;
differential) slice=${4:-20000} ;;
*) sed -n '2,14p' "$0" && exit 2 ;;
esac
test=$suite
case $suite in
bits) test=rot ;;
cancels) test=http ;;
esac
case $test in
crash) filter=what_is_shown_after_a_crash ;;
rot) filter=flipped_bits ;;
faults) filter= ;;
http) filter=nothing_is_left ;;
esac
if [ "$suite" = differential ]; then
    binary=tests/differential/run.sh
else
    binary=$(cargo test --workspace --test "$test" --no-run --message-format=json 2>/dev/null |
        sed -n '/"kind":\["test"\]/s/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
fi
[ -x "$binary" ] || { echo "tests/$test.rs does not build" >&2 && exit 1; }
# What is tested is what was built: a checkout that differs from its commit is marked.
commit=$(git rev-parse --short HEAD)$(git diff --quiet HEAD -- ':!tests/LEDGER.md' || echo +)

# run FROM COUNT: one slice, and its line.
run() {
    began=$(date +%s) status=0 log=$(mktemp)
    case $suite in
    crash) MARIGRAM_CRASH_FROM=$1 MARIGRAM_CRASH_SEEDS=$2 "$binary" "$filter" --nocapture >"$log" 2>&1 || status=$? ;;
    rot) MARIGRAM_ROT_SEED=$1 MARIGRAM_ROT_SEEDS=$2 "$binary" "$filter" --nocapture >"$log" 2>&1 || status=$? ;;
    bits) MARIGRAM_ROT_STEP=1 "$binary" "$filter" --nocapture >"$log" 2>&1 || status=$? ;;
    cancels) MARIGRAM_CANCELS_SEED=$1 MARIGRAM_CANCELS=$2 "$binary" "$filter" --nocapture >"$log" 2>&1 || status=$? ;;
    faults) "$binary" --nocapture >"$log" 2>&1 || status=$? ;;
    differential) "$binary" --from "$1" --count "$2" --data $(($1 / 20000 + 1)) >"$log" 2>&1 || status=$? ;;
    esac
    # Each test that counts its points says so.
    points=$(sed -n 's/.*points: \([0-9]*\).*/\1/p' "$log" | awk '{sum += $1} END {print sum + 0}')
    failures=$(sed -n 's/.*\(repeat: .*\)/\1/p' "$log" | head -1)
    [ $status -eq 0 ] && failures=0
    [ -n "$failures" ] || failures="ended with status $status"
    seconds=$(($(date +%s) - began))
    echo "| $(date -u +%F) | $commit | $suite | $1..$(($1 + $2)) | $points | $seconds | $failures |" >>tests/LEDGER.md
    tail -1 tests/LEDGER.md
    [ $status -eq 0 ] || tail -40 "$log" >&2
    rm -f "$log"
    return $status
}

end=$((first + count)) failed=0
while [ "$first" -lt "$end" ] && [ $failed -eq 0 ]; do
    pids= started=0
    while [ $started -lt "$jobs" ] && [ "$first" -lt "$end" ]; do
        step=$((end - first < slice ? end - first : slice))
        run "$first" "$step" &
        pids="$pids $!" first=$((first + step)) started=$((started + 1))
    done
    for pid in $pids; do
        wait "$pid" || failed=1
    done
done
exit $failed
