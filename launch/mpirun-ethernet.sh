#!/usr/bin/env bash
# usage: launch/mpirun-ethernet.sh SUBNET HOSTFILE COMMAND [options]
#        launch/mpirun-ethernet.sh 10.0.0.0/24 hosts run -m /models/m.gguf -p TEXT
# Machines on plain Ethernet, one rank each with all its cores. HOSTFILE: a host name a line; with
# `slots=N` behind the names, as many ranks there (all on its cores: give -t, or trireme shares them
# out). Where ssh is not the way in: OMPI_MCA_plm_rsh_agent=PROGRAM, called as HOST COMMAND... The
# program and the model lie at the same paths everywhere, ssh works without a password, and SUBNET
# names the network to use: without it Open MPI tries every interface, Docker's bridges too, and hangs.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
subnet=$1 hosts=$2
shift 2
case $hosts in -*) hosts=./$hosts ;; esac
[ -s "$hosts" ] || { echo "mpirun-ethernet.sh: HOSTFILE $hosts: no such file, or empty" >&2; sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
here=$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd)
trireme=${TRIREME:-$here/../build/release/bin/trireme}
[ -x "$trireme" ] || trireme=$(command -v trireme) || { echo "mpirun-ethernet.sh: no trireme found; set TRIREME" >&2; exit 1; }

# Under mpirun a rank cannot see the terminal: we can.
[ ! -t 2 ] || export TRIREME_PROGRESS="${TRIREME_PROGRESS:-on}"
pass=() # the options' twins in the environment go along
for name in "${!TRIREME_@}"; do pass+=(-x "$name"); done
[ "$(id -u)" -ne 0 ] || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
place=ppr:1:node
if grep -q '^[^#]*slots=' "$hosts"; then place=slot:OVERSUBSCRIBE; fi
exec mpirun --hostfile "$hosts" --map-by "$place" --bind-to none --report-bindings \
    --mca pml ob1 --mca btl tcp,self,vader \
    --mca btl_tcp_if_include "$subnet" --mca oob_tcp_if_include "$subnet" \
    "${pass[@]}" "$trireme" "$@"
