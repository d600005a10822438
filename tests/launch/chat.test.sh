#!/usr/bin/env bash
# Chat: recognised from the file, turn by turn, its ends; and the options of sampling.
# timeout: 240
# labels: mpi
. "$TRIREME_SOURCE/tests/launch/common.sh"

# with_template TEMPLATE OUT: the model with a chat template; the addition keeps the alignment
with_template() {
    python3 - "$MODEL" "$2" "$1" <<'PY' || fail "with_template"
import struct, sys
data = open(sys.argv[1], "rb").read()
text, key = sys.argv[3].encode(), b"tokenizer.chat_template"
text += b" " * (-(8 + len(key) + 4 + 8 + len(text)) % 32)
pair = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(text)) + text
magic, version, n_tensors, n_pairs = struct.unpack_from("<4sIQQ", data)
open(sys.argv[2], "wb").write(struct.pack("<4sIQQ", magic, version, n_tensors, n_pairs + 1) + pair + data[24:])
PY
}
chatml="{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
with_template "$chatml" "$tmp/chatml.gguf"
with_template "{{ messages }}" "$tmp/unknown.gguf"
CHAT=(run -m "$tmp/chatml.gguf" -n 6 -s 3)

# the prompt that comes of it
same "--dump-prompt" "$(printf '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n.')" \
    "$("$T" "${CHAT[@]}" -cnv -sys 'Be brief.' -p Hello --dump-prompt | head -c -1; echo .)"
same "--chat-template" "[INST] Hello [/INST]" "$("$T" "${CHAT[@]}" --chat-template llama2 -p Hello --dump-prompt)"
same "no chat" "Hello" "$("$T" "${CHAT[@]}" -p Hello --dump-prompt)"
want_json "${CHAT[@]}" -cnv -p Hello --dump-prompt --json
python3 - "$tmp/out" <<'PY' || fail "--dump-prompt --json"
import json, sys
v = json.load(open(sys.argv[1]))
assert v["chat_template"] == "chatml" and v["prompt"].endswith("assistant\n") and v["prompt_tokens"][0] == 1, v
PY

# one answer as JSON, and the same one shown
want_json "${CHAT[@]}" -cnv -p Hello --json
one=$(python3 -c 'import json,sys; v=json.load(open(sys.argv[1])); assert v["chat_template"] == "chatml"; print(v["text"])' "$tmp/out")
same "-st" "$one" "$("$T" "${CHAT[@]}" -st -p Hello -q </dev/null)"

# messages from the input; without options the model's template makes it a chat
printf 'Hello\n\nAgain,\\\nand\\\r\nagain\nThird' >"$tmp/in"
"$T" "${CHAT[@]}" <"$tmp/in" >"$tmp/talk" 2>"$tmp/err"
same "status of a chat" 0 $?
same "first answer" "$one" "$(head -c "$(printf %s "$one" | wc -c)" "$tmp/talk")"
grep -q "template chatml" "$tmp/err" || fail "no word on the template: $(cat "$tmp/err")"
tail -n 1 "$tmp/err" | grep -qE '^layout 1x1, 1 rank, .* MiB$' || fail "no last line: $(cat "$tmp/err")"
printf 'Again,\\\nand\\\r\nagain\nThird\n' | "$T" "${CHAT[@]}" -cnv -p Hello -q >"$tmp/out" 2>"$tmp/err"
cmp "$tmp/talk" "$tmp/out" || fail "-p is not the first message"
[ ! -s "$tmp/err" ] || fail "-q still writes: $(cat "$tmp/err")"
"$T" "${CHAT[@]}" -b 1 -t 3 --no-pin <"$tmp/in" >"$tmp/out" 2>/dev/null
cmp "$tmp/talk" "$tmp/out" || fail "chunks and threads change a chat"
want 0 "" "${CHAT[@]}"
[ ! -s "$tmp/out" ] || fail "an empty chat says something"

# what one turn leaves is what the next goes on from: as if the whole text were one prompt
python3 - "$T" "$tmp/chatml.gguf" <<'PY' || fail "a second turn is not the continuation of the first"
import json, subprocess, sys
def run(*args, text=""):
    done = subprocess.run([sys.argv[1], "run", "-m", sys.argv[2], "-n", "1", "--temp", "0", "-q", *args],
                          input=text.encode(), stdout=subprocess.PIPE, check=True)
    return done.stdout
checked = 0
for word in ("Hello", "Who", "0123", "w0007", "A longer message", "?", "xyz", "two words", "!", "So"):
    first = json.loads(run("-cnv", "-p", word, "--json"))
    head = run("-cnv", "-p", word, "--dump-prompt")[:-1].decode()
    whole = head + first["text"] + "<|im_end|>\n<|im_start|>user\nAgain<|im_end|>\n<|im_start|>assistant\n"
    one = json.loads(run("--no-cnv", "-p", whole, "--json"))
    ids = first["prompt_tokens"] + first["tokens"]
    if one["prompt_tokens"][:len(ids)] != ids or "\n" in first["text"]:
        continue  # the answer's text alone has other ids
    answers = run("-cnv", "-p", word, text="Again\n").decode().split("\n", 1)
    assert answers[1].rstrip("\n").lstrip(" ") == one["text"].lstrip(" "), (word, answers, one["text"])
    checked += 1
assert checked > 1, checked
PY

# a template that is not known is no chat, unless one is named
want 3 "not known here; give --chat-template NAME, one of: bitnet" run -m "$tmp/unknown.gguf"
want 0 "" run -m "$tmp/unknown.gguf" -p x -n 1
want 0 "template falcon3" run -m "$tmp/unknown.gguf" --chat-template falcon3

# the context is full: in an answer, before one, with the first message
printf 'a\nb\nc\n' | "$T" "${CHAT[@]}" -c 80 -n -1 --ignore-eos >"$tmp/out" 2>"$tmp/err"
same "status of a full context" 0 $?
grep -q "the chat ends: its context of 80 tokens is full" "$tmp/err" || fail "no word: $(cat "$tmp/err")"
printf 'a\na message that is quite long\n' | "$T" "${CHAT[@]}" -c 80 >"$tmp/out" 2>"$tmp/err"
same "status of a message that does not fit" 0 $?
grep -q "the chat ends: with this message" "$tmp/err" || fail "no word: $(cat "$tmp/err")"
want 2 "raise -c or shorten" "${CHAT[@]}" -c 20 -cnv -p "a message"

# Ctrl-C: an answer ends, then the chat
mkfifo "$tmp/fifo"
"$T" run -m "$tmp/chatml.gguf" -s 3 -c 100000 --ignore-eos -t 1 --cpu ref <"$tmp/fifo" >"$tmp/out" 2>"$tmp/err" &
pid=$!
exec 3>"$tmp/fifo"
echo Hello >&3
for _ in $(seq 100); do sleep 0.1; [ "$(stat -c %s "$tmp/out")" -lt 20 ] || break; done
kill -INT $pid
sleep 0.5
before=$(stat -c %s "$tmp/out")
echo Again >&3
for _ in $(seq 100); do sleep 0.1; [ "$(stat -c %s "$tmp/out")" -lt $((before + 20)) ] || break; done
kill -INT $pid
[ "$(stat -c %s "$tmp/out")" -gt "$before" ] || fail "no answer after an interrupted one: $(cat "$tmp/err")"
sleep 0.5
kill -INT $pid
wait $pid
same "status of an interrupted chat" 130 $?
exec 3>&-
tail -n 1 "$tmp/err" | grep -q '^layout 1x1' || fail "no last line: $(cat "$tmp/err")"

# sampling: log-probabilities, bias, order
want_json run -m "$MODEL" -p "Once upon" -n 5 -s 3 --temp 0 --json --n-probs 3
python3 - "$tmp/out" <<'PY' || fail "--n-probs"
import json, math, sys
v = json.load(open(sys.argv[1]))
p = v["completion_probabilities"]
assert [x["id"] for x in p] == v["tokens"]
for x in p:
    top = x["top_logprobs"]
    assert len(top) == 3 and top[0]["id"] == x["id"] and top[0]["logprob"] == x["logprob"]
    assert 0 >= top[0]["logprob"] >= top[1]["logprob"] >= top[2]["logprob"]
    assert bytes(x["bytes"]).decode(errors="replace") == x["token"], x
PY
read -r best second < <(python3 -c 'import json,sys; p=json.load(open(sys.argv[1]))["completion_probabilities"][0]; print(p["id"], p["top_logprobs"][1]["id"])' "$tmp/out")
first() { # the first token, greedily
    "$T" run -m "$MODEL" -p "Once upon" -n 1 -s 3 --json -q "$@" | python3 -c 'import json,sys; print(json.load(sys.stdin)["tokens"][0])'
}
same "without bias" "$best" "$(first --temp 0)"
same "a banned token" "$second" "$(first --temp 0 -l "$best-inf")"
same "a favoured token" 77 "$(first --temp 0 -l "$best-5" -l 77+100)"
same "top_k alone" "$best" "$(first --samplers top_k --top-k 1)"
same "the default order" "$(first)" "$(first --samplers "penalties;top-k;typical;nucleus;min_p;temp")"
same "typical" "$(first --typical 0.3)" "$(first --typical-p 0.3)"

# two ranks: stdin goes to rank 0
if command -v "${MPIRUN[0]}" >/dev/null; then
    for layout in 1x2 2x1; do
        "${MPIRUN[@]}" -n 2 "$T" "${CHAT[@]}" --layout $layout <"$tmp/in" >"$tmp/out" 2>"$tmp/err" ||
            fail "chat on two ranks: $(cat "$tmp/err")"
        cmp "$tmp/talk" "$tmp/out" || fail "a chat on $layout differs"
        grep -q 'template chatml' "$tmp/err" || fail "no word on the template: $(cat "$tmp/err")"
        grep -q '> ' "$tmp/err" && fail "a prompt for nobody: $(cat "$tmp/err")"
    done
    same "--dump-prompt on two ranks" 1 "$("${MPIRUN[@]}" -n 2 "$T" "${CHAT[@]}" -p Hello --dump-prompt </dev/null | grep -c Hello)"
fi
finish
