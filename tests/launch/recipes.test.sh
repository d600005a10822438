#!/usr/bin/env bash
# The recipes of launch/: bash understands them, and they start what they say.
# labels: mpi
# sanitize: no
. "$TRIREME_SOURCE/tests/launch/common.sh"
export TRIREME=$T

for file in "$SOURCE"/launch/*.sh "$SOURCE"/launch/slurm/*.sbatch "$SOURCE"/launch/{demo,setup,build}; do
    bash -n "$file" || fail "$file: bash -n"
    [ -x "$file" ] || fail "$file: not executable"
done
# the table of launch/README.md names files that are there
for file in $(sed -n 's/^| [^|]* | `\([^`]*\)` |.*/\1/p' "$SOURCE/launch/README.md"); do
    [ -e "$SOURCE/launch/$file" ] || fail "launch/README.md names $file"
done

# a cluster that records what it is asked to start
mkdir "$tmp/bin"
cat >"$tmp/bin/srun" <<'SRUN'
#!/usr/bin/env bash
if [ "$1" = --mpi=list ]; then # Slurm goes on talking
    echo "MPI plugin types are... $FAKE_PMI" && sleep 0.2 && echo "specific versions available: none" || exit 141
    exit
fi
echo "srun $*"
SRUN
printf '#!/usr/bin/env bash\necho "mpirun $*"\n' >"$tmp/bin/mpirun"
chmod +x "$tmp/bin/"*
slurm() {
    PATH=$tmp/bin:$PATH SLURM_NTASKS_PER_NODE=2 SLURM_CPUS_ON_NODE=16 \
        bash "$SOURCE/launch/slurm/run.sbatch" run -p "two words"
}
same "under Slurm with PMIx" "srun --mpi=pmix --cpus-per-task=8 --cpu-bind=cores $T run -p two words" \
    "$(FAKE_PMI="pmi2 pmix" slurm)"
same "under Slurm without" "mpirun --map-by ppr:2:node:PE=8 --bind-to core --report-bindings $T run -p two words" \
    "$(FAKE_PMI="pmi2 none" slurm)"
echo localhost >"$tmp/hosts"
TRIREME_TEMP=0 PATH=$tmp/bin:$PATH "$SOURCE/launch/mpirun-ethernet.sh" 10.0.0.0/24 "$tmp/hosts" run -p x >"$tmp/out" ||
    fail "mpirun-ethernet.sh: exit $?"
for word in "--hostfile $tmp/hosts" "--mca btl_tcp_if_include 10.0.0.0/24" "-x TRIREME_TEMP" "$T run -p x"; do
    grep -qF -- "$word" "$tmp/out" || fail "mpirun-ethernet.sh: no '$word' in: $(cat "$tmp/out")"
done
# folders that CDPATH names are not looked into, and a name that looks like an option is none
mkdir -p "$tmp/other/launch" "$tmp/tree/launch"
cp "$SOURCE"/launch/{local.sh,mpirun-ethernet.sh} "$tmp/tree/launch"
mkdir -p "$tmp/tree/build/release/bin" && ln -s "$T" "$tmp/tree/build/release/bin/trireme"
cp "$tmp/hosts" "$tmp/tree/-hosts"
(
    cd "$tmp/tree" && unset TRIREME && export CDPATH=$tmp/other PATH=$tmp/bin:$PATH
    RANKS=2 launch/local.sh run -p x && launch/mpirun-ethernet.sh 10.0.0.0/24 -hosts run -p x
) >"$tmp/out" 2>"$tmp/err" || fail "launch/ by a relative path: $(cat "$tmp/err")"
for word in "$tmp/tree/launch/../build/release/bin/trireme run -p x" "--hostfile ./-hosts"; do
    grep -qF -- "$word" "$tmp/out" || fail "launch/ by a relative path: no '$word' in: $(cat "$tmp/out" "$tmp/err")"
done
"$SOURCE/launch/mpirun-ethernet.sh" 2>"$tmp/err"
same "mpirun-ethernet.sh without arguments" 2 $?
grep -q '^usage:' "$tmp/err" || fail "mpirun-ethernet.sh: no usage: $(cat "$tmp/err")"

# really started, where there is an mpirun
if command -v mpirun >/dev/null; then
    one=$("$T" run -m "$MODEL" -p x -n 8 -s 3 -q 2>"$tmp/err")
    same "local.sh" "$one" "$(RANKS=2 "$SOURCE/launch/local.sh" run -m "$MODEL" -p x -n 8 -s 3 2>"$tmp/err")"
    grep -q ', 2 ranks, ' "$tmp/err" || fail "local.sh: $(cat "$tmp/err")"
    same "local.sh with a wrong number" "2 local.sh: RANKS=x: expected a number from 1 on" \
        "$(said=$(RANKS=x "$SOURCE/launch/local.sh" run -m "$MODEL" 2>&1); echo "$? $said")"
    same "local.sh with one rank" "$one" "$(RANKS=1 "$SOURCE/launch/local.sh" run -m "$MODEL" -p x -n 8 -s 3 -q)"
    same "mpirun-ethernet.sh" "$one" "$("$SOURCE/launch/mpirun-ethernet.sh" 127.0.0.0/8 "$tmp/hosts" \
        run -m "$MODEL" -p x -n 8 -s 3 2>"$tmp/err")"
fi
finish
