#!/usr/bin/env bash
# run: prompts from everywhere, one JSON value, the last line, ends of all kinds.
# timeout: 240
# labels: mpi
. "$TRIREME_SOURCE/tests/launch/common.sh"

want_json run -m "$MODEL" -p "Once upon" -n 12 -s 3 --json
python3 - "$tmp/out" <<'PY' || fail "run --json"
import json, sys
v = json.load(open(sys.argv[1]))
for key in ("layout", "prompt_tokens", "tokens", "text", "timings", "stop", "ranks", "memory_per_rank"):
    assert key in v, key
for key in ("load_s", "prompt_tps", "decode_tps"):
    assert key in v["timings"], key
assert v["layout"] == "1x1" and v["ranks"] == 1 and len(v["memory_per_rank"]) == 1
assert len(v["tokens"]) <= 12 and v["stop"] in ("limit", "eos")
PY
text() { # the generated text alone, fixed seed
    "$T" run -m "$MODEL" -s 3 -n 12 -q --no-display-prompt "$@" 2>"$tmp/err"
}
one=$(text -p "Once upon")
same "text and JSON" "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["text"])' "$tmp/out")" "$one"
[ ! -s "$tmp/err" ] || fail "-q still writes: $(cat "$tmp/err")"
printf 'Once upon\n' >"$tmp/prompt"
same "-f FILE" "$one" "$(text -f "$tmp/prompt")"
same "-f -" "$one" "$(text -f - <"$tmp/prompt")"
same "-e" "$one" "$(text -e -p 'Once\x20upon')"
same "chunks of the prompt" "$one" "$(text -p "Once upon" -b 1)"
same "threads" "$one" "$(text -p "Once upon" -t 3 --no-pin)"
same "the environment's prompt" "$one" "$(TRIREME_PROMPT="Once upon" text)"
same "the line's prompt wins" "$one" "$(TRIREME_PROMPT="Something else" text -f "$tmp/prompt")"
same "the prompt is shown" "Once upon$one" "$("$T" run -m "$MODEL" -s 3 -n 12 -q -p "Once upon")"

want_json run -m "$MODEL" -p x -n 0 --json
grep -q '"tokens": \[\]' "$tmp/out" || fail "-n 0 makes tokens"
want_json run -m "$MODEL" -p x -n 200 --ignore-eos -c 32 --json
grep -q '"stop": "context"' "$tmp/out" || fail "the context has no end: $(cat "$tmp/out")"
want 2 "" run -m "$MODEL" -p "a text that does not fit" -c 2
want 0 "ignored" run -m "$MODEL" -p x -n 1 -ngl 99

# the last line on stderr
want 0 "" run -m "$MODEL" -p x -n 3
tail -n 1 "$tmp/err" | grep -qE '^layout 1x1, 1 rank, [0-9.]+ tokens/s \(prompt [0-9.]+ tokens/s\), memory per rank [0-9]+ MiB$' ||
    fail "the last line: $(tail -n 1 "$tmp/err")"

# a reader that leaves: no message, no failure
"$T" run -m "$MODEL" -p x -n 500 --ignore-eos -q 2>"$tmp/err" | head -c 1 >/dev/null
same "status when the reader leaves" 0 "${PIPESTATUS[0]}"
[ ! -s "$tmp/err" ] || fail "a reader that leaves: $(cat "$tmp/err")"

# a full disk is a failure
"$T" run -m "$MODEL" -p x -n 5 -q >/dev/full 2>"$tmp/err"
same "status when the disk is full" 1 $?
grep -q "standard output: No space left" "$tmp/err" || fail "a full disk: $(cat "$tmp/err")"

# two ranks: the same text, one JSON value, one last line
if command -v "${MPIRUN[0]}" >/dev/null; then
    for layout in 1x2 2x1; do
        "${MPIRUN[@]}" -n 2 "$T" run -m "$MODEL" -s 3 -n 12 -p "Once upon" --layout $layout --json \
            >"$tmp/out" 2>"$tmp/err" </dev/null || fail "$layout: $(cat "$tmp/err")"
        same "$layout" "$one" "$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["text"])' "$tmp/out")"
        grep -q "^layout $layout, 2 ranks, .* [0-9]* + [0-9]* MiB$" "$tmp/err" || fail "the last line: $(cat "$tmp/err")"
    done
    "${MPIRUN[@]}" -n 2 "$T" run -m "$MODEL" -p x --layout 3x1 >"$tmp/out" 2>"$tmp/err" </dev/null
    same "exit of a wrong layout" 2 $?
    same "messages of a wrong layout" 1 "$(grep -c 'trireme: error:' "$tmp/err")"
fi
# A random seed is told behind the text, on a line of its own, also where both streams end on one terminal
# (mpirun hands them on apart: a line told before the text might come out in its middle).
behind() { # $1: what both streams said
    local seed
    seed=$(sed -n 's/^trireme: seed \([0-9]*\) (give -s [0-9]* .*/\1/p' "$1")
    [ -n "$seed" ] || return 1
    "$T" run -m "$MODEL" -p "Once" -n 40 -s "$seed" -q >"$tmp/want" 2>/dev/null
    head -c "$(stat -c %s "$tmp/want")" "$1" | cmp -s - "$tmp/want" || return 1
    [ "$(tail -n 2 "$1" | cut -c 1-14 | tr '\n' ' ')" = "trireme: seed  $(tail -n 1 "$1" | cut -c 1-14) " ] || return 1
    tail -n 1 "$1" | grep -q "^layout "
}
"$T" run -m "$MODEL" -p "Once" -n 40 >"$tmp/both" 2>&1 || fail "run with a random seed: exit $?"
behind "$tmp/both" || fail "the seed is not told behind the text: $(cat "$tmp/both")"
if command -v "${MPIRUN[0]}" >/dev/null; then
    for n in 1 2; do
        for attempt in 1 2 3; do # mpirun may be late by more than we wait, on a busy machine
            "${MPIRUN[@]}" -n "$n" "$T" run -m "$MODEL" -p "Once" -n 40 -t 1 >"$tmp/both" 2>&1 </dev/null
            behind "$tmp/both" && break
            [ "$attempt" -lt 3 ] || fail "$n ranks: the seed is not told behind the text: $(cat "$tmp/both")"
        done
    done
fi
finish
