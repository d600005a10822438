#!/usr/bin/env bash
# Interrupted runs keep what they made, print their last line, and say so by their exit status.
# sanitize: no
. "$TRIREME_SOURCE/tests/launch/common.sh"

interrupted() { # SIGNAL STATUS ARGS...
    local signal=$1 status=$2 rc=0
    shift 2
    "$T" run -m "$MODEL" -p "x" -n -1 -c 100000 --ignore-eos -t 1 --cpu ref "$@" \
        >"$tmp/out" 2>"$tmp/err" </dev/null &
    local pid=$!
    for _ in $(seq 100); do
        sleep 0.1
        [ "${1:-}" = --json ] || [ "$(stat -c %s "$tmp/out")" -lt 20 ] || break
        [ "${1:-}" != --json ] || { sleep 3; break; }
    done
    kill -s "$signal" "$pid"
    wait "$pid" || rc=$?
    same "exit after SIG$signal $*" "$status" "$rc"
    tail -n 1 "$tmp/err" | grep -q '^layout 1x1' || fail "no last line after SIG$signal: $(cat "$tmp/err")"
}
interrupted INT 130
grep -q "^x" "$tmp/out" || fail "the text is lost"
interrupted TERM 143
interrupted TERM 143 --json
python3 - "$tmp/out" <<'PY' || fail "the JSON value after an interrupt"
import json, sys
v = json.load(open(sys.argv[1]))
assert v["stop"] == "interrupted" and len(v["tokens"]) > 0 and v["text"], v["stop"]
PY

# bench tells how far a single long test is, and does not claim its end
"$T" bench -m "$MODEL" -p 100000 -b 64 -n 0 -r 1 -t 1 --progress on >/dev/null 2>"$tmp/err" </dev/null &
pid=$!
for _ in $(seq 300); do
    sleep 0.1
    [ "$(tr '\r' '\n' <"$tmp/err" | grep -c '^bench ')" -lt 2 ] || break
done
kill -s INT "$pid"
wait "$pid"
same "exit of bench after SIGINT" 130 $?
[ "$(tr '\r' '\n' <"$tmp/err" | grep -c '^bench .*%')" -ge 2 ] || fail "no progress of bench: $(cat "$tmp/err")"
! grep -q '100 %' "$tmp/err" || fail "bench is done, it says: $(cat "$tmp/err")"

# bench --shape makes its model in memory: no file is left, however it ends
export TMPDIR=$tmp/scratch
mkdir "$TMPDIR"
"$T" bench --shape tiny-mha -p 8 -n 2 -r 1 -q >/dev/null 2>&1 || fail "bench --shape"
same "left by bench" "" "$(ls "$TMPDIR")"
for delay in 0.05 0.5 3; do
    "$T" bench --shape bitnet-2b-4t -p 8 -n 2 -r 1 -q >/dev/null 2>&1 </dev/null &
    pid=$!
    sleep $delay
    kill "$pid"
    wait "$pid" 2>/dev/null
    same "left by bench, ended after $delay s" "" "$(ls "$TMPDIR")"
done
finish
