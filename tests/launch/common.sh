# tests/launch/common.sh: what the command line's tests share; sourced.
# $T: the program. $MODEL: a small model with a vocabulary. $tmp: a folder, removed at the end.
set -uo pipefail
T=$TRIREME
SOURCE=$TRIREME_SOURCE
SHARED=${TRIREME_SHARED:-} # reference data, where there is any
read -r -a MPIRUN <<<"${TRIREME_MPIRUN:-mpirun --map-by :OVERSUBSCRIBE --bind-to none}"
tmp=$(mktemp -d)
MODEL=$tmp/model.gguf
trap 'rm -rf "$tmp"' EXIT
failures=0
unset "${!TRIREME_@}" 2>/dev/null || true # the options' twins, and what ctest told us

[ -x "$T" ] || { echo "the program is not built"; exit 77; }

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# want STATUS WORDS ARGS...: exit status, and the words on stderr (a fixed string, may be empty)
want() {
    local status=$1 words=$2 rc=0
    shift 2
    "$T" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || rc=$?
    [ "$rc" -eq "$status" ] || fail "trireme $*: exit $rc, not $status: $(head -c 300 "$tmp/err")"
    [ -z "$words" ] || grep -qF -- "$words" "$tmp/err" || fail "trireme $*: no '$words' in: $(head -c 300 "$tmp/err")"
}

# one JSON value on stdout and nothing else
want_json() {
    local rc=0
    "$T" "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || rc=$?
    [ "$rc" -eq 0 ] || fail "trireme $*: exit $rc: $(head -c 300 "$tmp/err")"
    python3 -m json.tool "$tmp/out" >/dev/null || fail "trireme $*: not JSON: $(head -c 300 "$tmp/out")"
}

# same WHAT A B
same() {
    [ "$2" = "$3" ] || fail "$1: '$2' is not '$3'"
}

"$T" synth --shape tiny-mha -o "$MODEL" -q || { echo "FAILED: synth"; exit 1; }

finish() {
    [ "$failures" -eq 0 ] || exit 1
}
