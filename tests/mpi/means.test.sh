#!/usr/bin/env bash
# Ranks told to talk by different means are refused; they would wait for each other for ever. And a
# patience that is no number is told.
# timeout: 120
# labels: mpi
set -u

T=${TRIREME:-build/release/bin/trireme}
mpirun=${TRIREME_MPIRUN:-mpirun --map-by :OVERSUBSCRIBE --bind-to none}
run=(bench --shape tiny-gqa5 -p 2 -n 1 -r 1 -t 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
command -v "${mpirun%% *}" >/dev/null || { echo "skipped: no ${mpirun%% *}"; exit 77; }

fail() { echo "FAILED: $*"; cat "$work/err"; failures=$((failures + 1)); }

for pair in "auto messages" "auto shm" "messages mpi" "mpi shm"; do
    read -r a b <<<"$pair"
    # shellcheck disable=SC2086  # the launcher comes with its flags
    timeout 25 $mpirun -n 1 env TRIREME_COMM="$a" "$T" "${run[@]}" : \
        -n 1 env TRIREME_COMM="$b" "$T" "${run[@]}" >"$work/out" 2>"$work/err"
    status=$?
    [ $status != 0 ] && [ $status != 124 ] || fail "$pair: status $status"
    grep -q "TRIREME_COMM is .* on one rank" "$work/err" || fail "$pair: not told"
done
# shellcheck disable=SC2086
TRIREME_COMM=messages timeout 25 $mpirun -n 2 "$T" "${run[@]}" >"$work/out" 2>"$work/err" || fail "messages on both"
for patience in abc 0.5 1e9 -1; do
    # shellcheck disable=SC2086
    TRIREME_PATIENCE=$patience timeout 25 $mpirun -n 2 "$T" "${run[@]}" >"$work/out" 2>"$work/err" || fail "patience $patience"
    grep -q "TRIREME_PATIENCE=$patience: not a number" "$work/err" || fail "patience $patience: not told"
done
[ $failures = 0 ]
