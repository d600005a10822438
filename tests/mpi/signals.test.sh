#!/usr/bin/env bash
# Signals to a run under mpirun leave no process behind, whatever the ranks are doing.
# timeout: 180
# labels: mpi
set -u

program=${TRIREME_BUILD:-build/release}/tests/bin/test_mpi_interrupt
mpirun=${TRIREME_MPIRUN:-mpirun --map-by :OVERSUBSCRIBE --bind-to none}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

[ -x "$program" ] || { echo "skipped: $program is not built"; exit 77; }
command -v "${mpirun%% *}" >/dev/null || { echo "skipped: no ${mpirun%% *}"; exit 77; }

# Time is counted in naps of this script, not by the clock: a machine that stands still, or is busy with others, naps longer.
nap() { sleep 0.1; ms=$((ms + 100)); }

fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# start HOW RANKS: the run in the background, its pid in $run; returns when all ranks are up, after $up ms.
start() {
    ms=0
    rm -rf "$work/pids" && mkdir "$work/pids"
    # shellcheck disable=SC2086
    $mpirun -n "$2" "$program" "$1" "$work/pids" >"$work/log" 2>&1 &
    run=$!
    for _ in $(seq 300); do
        if [ -d "$work/pids/ready" ]; then
            up=$ms
            return
        fi
        nap
    done
    up=$ms
    fail "$1: the ranks did not come up"
}

ranks() { ls "$work/pids" | grep -v ready; }

# A zombie is gone: only its parent has not asked yet (in containers nobody may ever ask).
lives() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# gone NAME MS: mpirun and all ranks end within the time and twice the time that they took to start, which says how busy the
# machine is; within 18 s at most, as the ranks end by themselves after 20 s. Sets $status.
gone() {
    local pid most=$(($2 + 2 * up))
    [ "$most" -le 18000 ] || most=18000
    ms=0
    for _ in $(seq 190); do
        lives "$run" || break
        nap
    done
    kill -9 "$run" 2>/dev/null
    wait "$run"
    status=$?
    for pid in $(ranks); do
        lives "$pid" && sleep 0.5
        lives "$pid" && { fail "$1: rank process $pid is left"; kill -9 "$pid"; }
    done
    [ "$ms" -le "$most" ] || fail "$1: took $ms ms, at most $most wanted"
    echo "$1: $ms ms of $most, status $status"
}

for signal in INT TERM; do
    for how in polite leave deaf; do
        start $how 3
        kill -$signal "$run"
        gone "$how SIG$signal" 6000
        [ "$status" -ne 0 ] || fail "$how SIG$signal: status 0"
    done
done

# One rank alone is told to end, or dies: the others follow.
start leave 3
kill -TERM "$(ranks | head -1)"
gone "one rank SIGTERM" 8000
start leave 3
kill -KILL "$(ranks | tail -1)"
gone "one rank SIGKILL" 6000
[ "$status" -ne 0 ] || fail "SIGKILL: status 0"

# Nobody is told, one rank has an error: its text and its exit status.
start abort 3
gone "abort" 6000
[ "$status" -eq 3 ] || fail "abort: status $status, not 3"
grep -q 'error: an error of one rank' "$work/log" || { fail "abort: no text"; cat "$work/log"; }

[ "$failures" -eq 0 ]
