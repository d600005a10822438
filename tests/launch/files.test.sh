#!/usr/bin/env bash
# tokenize, inspect and synth: round trips, JSON, and files that fit together.
. "$TRIREME_SOURCE/tests/launch/common.sh"

# there and back, byte for byte: newlines, other scripts, emoji, spaces, nothing; broken UTF-8 where
# the vocabulary has all bytes. (Names of special tokens come back only when they stay text.)
printf 'Once upon a time\n\n  there was a  fox. ' >"$tmp/1"
printf '\xc3\xa4\xe4\xb8\xad\xf0\x9f\x90\x99 \t\n\n x' >"$tmp/2"
printf 'broken \xff\xc3 <s> text' >"$tmp/3"
: >"$tmp/4"
models=("$SOURCE"/tests/golden/tokenizers/*.gguf)
[ -e "${models[0]}" ] || fail "no vocabularies in tests/golden/tokenizers"
[ -z "$SHARED" ] || models+=("$SHARED/bitllama/bitllama-3m-tq2.gguf" "$SHARED"/vocabs/*.gguf)
for model in "${models[@]}"; do
    case $model in *-unk.gguf) continue ;; esac # cannot express every text
    for i in 1 2 3 4; do
        for flags in "" "--no-bos" "--no-parse-special" "--no-bos --no-parse-special"; do
            [ -z "$SHARED" ] || case $model$flags in "$SHARED"*--no-bos*) continue ;; esac # they are large
            case $i$flags$model in
                3*falcon*) continue ;; # lacks bytes
                3--no-parse-special* | "3--no-bos --no-parse"*) ;;
                3*) continue ;;
            esac
            # shellcheck disable=SC2086
            "$T" tokenize -m "$model" $flags <"$tmp/$i" >"$tmp/ids" || fail "tokenize $flags of text $i"
            # shellcheck disable=SC2086
            "$T" tokenize -m "$model" $flags --decode <"$tmp/ids" >"$tmp/back" || fail "decode $flags of text $i"
            cmp -s "$tmp/$i" "$tmp/back" || fail "$model: text $i does not come back with '$flags': $(cat "$tmp/ids")"
        done
    done
    same "lines of ids" 1 "$("$T" tokenize -m "$model" <"$tmp/1" | wc -l)"
    "$T" tokenize -m "$model" --json <"$tmp/2" | python3 -c '
import json, sys
v = json.load(sys.stdin)
assert len(v["tokens"]) == v["n_tokens"] == len(v["pieces"])' || fail "tokenize --json"
    "$T" tokenize -m "$model" --json --decode <"$tmp/ids" | python3 -m json.tool >/dev/null || fail "decode --json"
    "$T" tokenize -m "$model" <"$tmp/1" >"$tmp/ids"
    sed 's/ /, /g; s/^/[/; s/$/]/' "$tmp/ids" | "$T" tokenize -m "$model" --decode | cmp -s - "$tmp/1" ||
        fail "decode of a JSON list"
done
echo "1 99999999" | "$T" tokenize -m "$MODEL" --decode >/dev/null 2>"$tmp/err"
same "exit of an unknown id" 3 $?
grep -q 99999999 "$tmp/err" || fail "the message lacks the id"
echo "1 x" | "$T" tokenize -m "$MODEL" --decode >/dev/null 2>&1
same "exit of what is no id" 3 $?
printf '1 x2 403\n' | "$T" tokenize "$MODEL" --decode >/dev/null 2>"$tmp/err"
grep -qF "byte 2: 'x2' is not a token id" "$tmp/err" || fail "the word that is no id: $(cat "$tmp/err")"

# the model without -m; what is no model says what would be one
"$T" tokenize "$MODEL" <"$tmp/1" >"$tmp/ids"
"$T" tokenize -m "$MODEL" <"$tmp/1" | cmp -s - "$tmp/ids" || fail "tokenize MODEL differs from tokenize -m MODEL"
"$T" inspect "$MODEL" >"$tmp/table" || fail "inspect MODEL: exit $?"
"$T" inspect -m "$MODEL" | cmp -s - "$tmp/table" || fail "inspect MODEL differs from inspect -m MODEL"
want 3 "a model is a path, nothing is downloaded" run -m "$tmp/someone/some-model" -p x
printf '\x40\0\0\0\0\0\0\0{"x": {}}' >"$tmp/x.safetensors"
want 3 "a safetensors file: give the directory" inspect "$tmp/x.safetensors"

# verify: whole, but nothing to read text with
want 0 "no vocabulary that can be used" verify "$SOURCE/tests/golden/transformers/llama-f16.gguf"
want 0 "" verify "$MODEL"
[ ! -s "$tmp/err" ] || fail "verify of a model with a vocabulary: $(cat "$tmp/err")"

# inspect's table: no -1, the template that a chat takes
grep -qE '^  bos, eos, eot +[0-9]+, [0-9]+, none' "$tmp/table" || fail "inspect: ids of bos, eos, eot: $(grep bos "$tmp/table")"
grep -q 'chat template' "$tmp/table" && fail "inspect: a chat template where the file has none"
"$T" inspect "$SOURCE/default-model/trireme-stories.gguf" >"$tmp/table"
grep -qE '^  chat template +bitnet$' "$tmp/table" || fail "inspect: no chat template of bitnet-b1.58"
"$T" inspect "$SOURCE/default-model/trireme-stories.gguf" --json >"$tmp/out"
python3 -c 'import json, sys; assert json.load(open(sys.argv[1]))["tokenizer"]["chat_template_name"] == "bitnet"' "$tmp/out" ||
    fail "inspect --json: chat_template_name"

want 0 "" inspect -m "$MODEL" --tensors
want_json inspect -m "$MODEL" --tensors --json
python3 - "$tmp/out" "$MODEL" <<'PY' || fail "inspect --json"
import json, os, sys
v = json.load(open(sys.argv[1]))
assert v["file_bytes"] == os.path.getsize(sys.argv[2])
for key in ("arch", "n_layers", "n_params", "bits_per_weight", "kinds", "types", "tokenizer"):
    assert key in v, key
t = v["tensors"]
params = sum(x["shape"][0] * x["shape"][1] for x in t)
bits = sum(x["bytes"] for x in t) * 8
assert params == v["n_params"], (params, v["n_params"])
assert abs(v["bits_per_weight"] - bits / params) < 1e-9
for group in ("kinds", "types"):
    assert sum(x["params"] for x in v[group].values()) == params
    assert sum(x["bytes"] for x in v[group].values()) * 8 == bits
assert v["file_bytes"] >= bits // 8
PY

# a synthetic file: the same bytes for the same seed, other ones for another, and it runs
want 0 "" synth --shape tiny-kv3 --type tq2_0 -o "$tmp/a.gguf" -q
want_json synth --shape tiny-kv3 --type tq2_0 -o "$tmp/b.gguf" --json
want 0 "" synth --shape tiny-kv3 --type tq2_0 -o "$tmp/c.gguf" --seed 2
cmp -s "$tmp/a.gguf" "$tmp/b.gguf" || fail "the same seed gives other bytes"
cmp -s "$tmp/a.gguf" "$tmp/c.gguf" && fail "another seed gives the same bytes"
want 0 "" run -m "$tmp/a.gguf" -p "x" -n 3
want 3 "no-such-folder" synth --shape tiny-kv3 -o "$tmp/no-such-folder/a.gguf"
finish
