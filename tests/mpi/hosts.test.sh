#!/usr/bin/env bash
# Paths between hosts, on one: pretended hosts, so that some ranks share memory and others do not;
# messages alone; messages over TCP.
# timeout: 300
# labels: mpi
set -u

bin=${TRIREME_BUILD:-build/release}/tests/bin
mpirun=${TRIREME_MPIRUN:-mpirun --map-by :OVERSUBSCRIBE --bind-to none}
failures=0

[ -x "$bin/test_mpi_collective" ] || { echo "skipped: $bin/test_mpi_collective is not built"; exit 77; }
command -v "${mpirun%% *}" >/dev/null || { echo "skipped: no ${mpirun%% *}"; exit 77; }

# try RANKS VARIABLE=VALUE...: all programs under these variables
try() {
    local ranks=$1 program
    shift
    for program in collective stages control; do
        # shellcheck disable=SC2086
        env "$@" timeout 100 $mpirun -n "$ranks" "$bin/test_mpi_$program" ||
            { echo "FAILED: $program, $ranks ranks, $*"; failures=$((failures + 1)); }
    done
    echo "$ranks ranks, $*"
}

try 2 TRIREME_FAKE_HOSTS=2
try 4 TRIREME_FAKE_HOSTS=2
try 5 TRIREME_FAKE_HOSTS=2
try 4 TRIREME_FAKE_HOSTS=3,1
try 6 TRIREME_FAKE_HOSTS=1,3,2
try 3 TRIREME_COMM=messages
try 3 TRIREME_COMM=mpi
try 2 TRIREME_FAKE_HOSTS=2 TRIREME_COMM=shm
try 3 TRIREME_FAKE_HOSTS=3 OMPI_MCA_btl=tcp,self

[ "$failures" -eq 0 ]
