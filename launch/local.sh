#!/usr/bin/env bash
# usage: [RANKS=N] launch/local.sh COMMAND [options]        launch/local.sh run -m M -p TEXT
# On this machine: one rank on each NUMA node, bound to it; RANKS=N for another number, unbound.
set -euo pipefail
here=$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd)
trireme=${TRIREME:-$here/../build/release/bin/trireme}
[ -x "$trireme" ] || trireme=$(command -v trireme) || { echo "local.sh: no trireme found; set TRIREME" >&2; exit 1; }

nodes=0 # those with CPUs: memory alone may be a node too
for list in /sys/devices/system/node/node[0-9]*/cpulist; do
    if [ -s "$list" ] && grep -q '[0-9]' "$list"; then nodes=$((nodes + 1)); fi
done
[ "$nodes" -gt 0 ] || nodes=1
ranks=${RANKS:-$nodes}
[[ $ranks =~ ^[1-9][0-9]{0,3}$ ]] || { echo "local.sh: RANKS=$ranks: expected a number from 1 on" >&2; exit 2; }
[ "$ranks" -gt 1 ] || exec "$trireme" "$@"

if [ "$ranks" -eq "$nodes" ]; then
    place=(--map-by numa --bind-to numa)
else
    place=(--map-by :OVERSUBSCRIBE --bind-to none)
fi
# Containers forbid what vader's single copy needs; root must say that it means it.
export OMPI_MCA_btl_vader_single_copy_mechanism=${OMPI_MCA_btl_vader_single_copy_mechanism:-none}
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Under mpirun a rank cannot see the terminal: we can.
[ ! -t 2 ] || export TRIREME_PROGRESS="${TRIREME_PROGRESS:-on}"
exec mpirun -np "$ranks" "${place[@]}" --report-bindings "$trireme" "$@"
