#!/usr/bin/env bash
# Starting without a launcher: fast, without MPI, and with a warning where Slurm meant several ranks.
# timeout: 60
# labels: mpi
set -u

program=${TRIREME_BUILD:-build/release}/tests/bin/test_mpi_interrupt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

[ -x "$program" ] || { echo "skipped: $program is not built"; exit 77; }
unset "${!OMPI_COMM@}" "${!PMIX_RANK@}" "${!PMI_@}" "${!SLURM_@}"

fail() { echo "FAILED: $*"; failures=$((failures + 1)); }

# try NAME: run with the environment given; stderr in $work/log, kernel calls are not our business.
try() {
    local name=$1
    shift
    env "$@" "$program" >"$work/out" 2>"$work/log" || { fail "$name: status $?"; cat "$work/log"; }
}

try plain TRIREME=1
[ -s "$work/log" ] && { fail "plain: not silent"; cat "$work/log"; }

try batch SLURM_NTASKS=4 SLURM_PROCID=0
grep -q 'SLURM_NTASKS is 4 but.*srun --mpi=pmix' "$work/log" || fail "batch: no warning"

try one_task SLURM_NTASKS=1 SLURM_PROCID=0
[ -s "$work/log" ] && fail "one task: warned"

# A step whose library found no PMI: a world of one rank each. MPI starts here: it may be unable to.
if env TRIREME_FORCE_MPI=1 "$program" >"$work/out" 2>"$work/log"; then
    try lonely TRIREME_FORCE_MPI=1 SLURM_NTASKS=2 SLURM_PROCID=0
    grep -q 'srun --mpi=pmix' "$work/log" || { fail "lonely: no warning"; cat "$work/log"; }
else
    echo "MPI cannot start without a launcher here: that part was skipped"
fi

[ "$failures" -eq 0 ]
