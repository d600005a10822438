#!/usr/bin/env bash
# Starting without a launcher: fast, without MPI, and with a warning where Slurm meant several ranks. Worlds of another
# size than Slurm's step or job.
# timeout: 180
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

# slurm NAME RANKS WORDS VARIABLES...: under mpirun, with Slurm's variables; one warning with the words, or none at all
trireme=${TRIREME:-build/release/bin/trireme}
model=${TRIREME_SOURCE:-.}/default-model/trireme-stories.gguf
read -r -a mpirun <<<"${TRIREME_MPIRUN:-mpirun --map-by :OVERSUBSCRIBE --bind-to none}"
slurm() {
    local name=$1 ranks=$2 words=$3 told
    shift 3
    "${mpirun[@]}" -n "$ranks" env "$@" "$trireme" eval -m "$model" -p ship --logits "$work/out.npy" -q -t 1 \
        >"$work/out" 2>"$work/log" || { fail "$name: status $?"; cat "$work/log"; }
    told=$(grep -c 'SLURM_.* but ' "$work/log")
    if [ -z "$words" ]; then
        [ "$told" -eq 0 ] || { fail "$name: warned"; cat "$work/log"; }
    else
        [ "$told" -eq 1 ] && grep -q "$words" "$work/log" || { fail "$name: $told warnings"; cat "$work/log"; }
    fi
}
# mpirun in a job script
slurm "job of 2" 2 "" SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_PROCID=0
slurm "job without tasks" 2 "" SLURM_JOB_ID=7 SLURM_PROCID=0
slurm "job of 4, 2 ranks" 2 'SLURM_NTASKS is 4 but MPI sees 2 ranks: some.*-n 4' SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0
slurm "job of 4, 1 rank" 1 'SLURM_NTASKS is 4 but MPI sees 1 rank: some' SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0
slurm "job of 2, 3 ranks" 3 'SLURM_NTASKS is 2 but MPI sees 3 ranks: they share.*-n 2' SLURM_NTASKS=2 SLURM_PROCID=0
# ranks that mpirun's daemons started: the step's tasks are the daemons
slurm "daemons" 2 "" SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=1 SLURM_NTASKS=1 SLURM_PROCID=0
# srun itself, which says nothing about the world's size
srun=(-u OMPI_COMM_WORLD_SIZE -u PMI_SIZE SLURM_STEP_ID=0 SLURM_PROCID=0)
slurm "step of 2" 2 "" "${srun[@]}" SLURM_STEP_NUM_TASKS=2 SLURM_NTASKS=2
slurm "step of 4 in worlds of 2" 2 'SLURM_STEP_NUM_TASKS is 4 but MPI sees 2 ranks.*srun --mpi=pmix' "${srun[@]}" \
    SLURM_STEP_NUM_TASKS=4 SLURM_NTASKS=8
slurm "step of two components" 2 "" "${srun[@]}" SLURM_STEP_NUM_TASKS=1 SLURM_HET_SIZE=2

[ "$failures" -eq 0 ]
