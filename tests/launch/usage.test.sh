#!/usr/bin/env bash
# Usage errors: exit status 2, one line that names what is wrong.
# timeout: 300
# labels: mpi
. "$TRIREME_SOURCE/tests/launch/common.sh"

want 2 "no command"
want 2 "did you mean 'tokenize'" tokenise
want 2 "unknown option '--bogus'" --bogus
want 2 "did you mean 'run'" --help rnu
want 2 "did you mean '--temp'" run --tmep 1
want 2 "unknown option '--frobnicate' (see" run --frobnicate 1
want 2 "unknown option '-w' (see" run -w

# what other engines call it: one line that says what ours is, and that is no mistake itself
for command in chat serve generate perplexity show pull quantize; do
    want 2 "unknown command '$command': " $command
    same "lines of an error" 1 "$(wc -l <"$tmp/err")"
done
want 2 "run -m MODEL -cnv" chat
want 2 "no HTTP server" serve
want 2 "run -m MODEL -p TEXT" generate
for pair in --max-tokens:"-n N" --max_new_tokens=5:"-n N" --num-ctx:"-c N" -fa:"in blocks" --flash-attn:"leave it out" \
    --mlock:"trireme doctor" --no-mmap:"leave it out" --jinja:"--chat-template NAME" -i:"-cnv" --numa:"--bind-to numa" \
    --csv:"--json" -hf:"nothing is downloaded"; do
    want 2 "unknown option '${pair%%[:=]*}': " run -m "$MODEL" -p x "${pair%%:*}"
    want 2 "${pair#*:}" run -m "$MODEL" -p x "${pair%%:*}"
done
want 2 "unknown option '--csv': that is -o csv" bench -m "$MODEL" --csv
want 2 "unknown option '--csv': that is -o csv" plan --shape tiny-mha --mem 1G --csv
want 0 "" run -m "$MODEL" -p x -n 1 --temperature 0.5
# no row of that table hides an option or a command that is ours, and what hints name is there
python3 - "$T" "$SOURCE/launch/foreign.c" <<'PYTHON' || fail "the table of other engines' names"
import re, subprocess, sys
program, table = sys.argv[1], re.sub(r'"\s*\n\s*"', "", open(sys.argv[2]).read())
commands = "run eval tokenize inspect bench synth plan doctor convert verify".split()
helps = {c: subprocess.run([program, c, "--help"], capture_output=True, text=True, check=True).stdout for c in commands}
words = {c: set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", "\n".join(
    l for l in helps[c].splitlines() if re.match(r"  -", l)))) for c in commands}
rows = re.findall(r'\{([A-Z_0-9 |]+), "([^"]+)",\s*"([^"]+)"\}', table)
assert len(rows) > 40, len(rows)
for bits, names, hint in rows:
    bits = bits.replace("MODEL_COMMANDS", "CMD_RUN | CMD_EVAL | CMD_BENCH").replace("CMD_ALL", " | ".join(f"CMD_{c.upper()}" for c in commands))
    where = [b.strip()[4:].lower() for b in bits.split("|") if b.strip() != "0"]
    for name in names.split():
        said = [[c, name] for c in where] or [[name]]
        for args in said:
            done = subprocess.run([program, *args], capture_output=True, text=True)
            assert done.returncode == 2 and "unknown" in done.stderr and ": " in done.stderr, (args, done)
            assert len(done.stderr.splitlines()) == 1 and hint[:20] in done.stderr or name == "--csv" or "--format" in name, (args, done)
    for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", re.sub(r"mpirun.*", "", hint)):
        assert any(option in words[c] for c in commands), (hint, option)
PYTHON
want 2 "--top-p: '2' is not a number from 0 to 1" run --top-p 2
want 2 "-n needs a value" run -n
want 2 "needs its option before it, a model -m" run stray
want 2 "unexpected argument 'two'" inspect "$MODEL" two
want 2 "no model: give -m" run -p x
want 2 "no model: give -m" eval --ids 1 --logits x.npy
want 2 "or -m" tokenize
want 2 "or -m" inspect
want 2 "no model" bench
want 2 "give only one" bench -m "$MODEL" --shape tiny-mha
want 2 "no shape: give --shape" synth -o "$tmp/x.gguf"
want 2 "no file to write: give -o" synth --shape tiny-mha
want 2 "no prompt: give -p TEXT, -f FILE" run -m "$MODEL"
want 2 "no prompt: give -p TEXT, -f FILE" run -m "$MODEL" --json
want 2 "no prompt: give -p TEXT, -f FILE" run -m "$MODEL" --no-cnv
want 2 "--no-cnv excludes" run -m "$MODEL" -cnv -no-cnv
want 2 "not one of bitnet, bitnet-gguf" run -m "$MODEL" -cnv --chat-template gpt5
want 2 "with --json give the first one" run -m "$MODEL" -cnv --json
want 2 "with --dump-prompt give the first one" run -m "$MODEL" -cnv --dump-prompt
want 2 "--n-probs needs --json" run -m "$MODEL" -p x --n-probs 2
want 2 "'dry' is not known" run -m "$MODEL" -p x --samplers "dry;top_k"
want 2 "'top_k' is there twice" run -m "$MODEL" -p x --samplers "top_k;temp;top_k"
for bias in 5 5+ 5x1 +1 -5+1 5+1x 5+-1 5-nan 99999999999+1; do
    want 2 "bias" run -m "$MODEL" -p x --logit-bias="$bias"
done
want 2 "token 512 is outside the vocabulary" run -m "$MODEL" -p x -l 512+1
want 3 "no chat template; give --chat-template NAME" run -m "$MODEL" -cnv
want 2 "exclude each other" run -m "$MODEL" -p x -f y
want 2 "give one of --logits" eval -m "$MODEL"
want 2 "give only one of" eval -m "$MODEL" --ids 1 --logits x.npy --perplexity y
want 2 "--stories needs" eval -m "$MODEL" --perplexity x --stories
want 2 "exclude each other" eval -m "$MODEL" --ids 1 -p x --logits x.npy
want 2 "no test" bench -m "$MODEL" -p 0 -n 0
want 2 "-pg: wants pairs" bench -m "$MODEL" -pg 1
want 2 "not one of tq1_0, tq2_0" synth --shape tiny-mha --type q4 -o "$tmp/x.gguf"
want 2 "999999 at index 1" eval -m "$MODEL" --ids 1,999999 --logits "$tmp/x.npy"
want 3 "no-such-file" run -m "$tmp/no-such-file" -p x
want 3 "no-such-file" run -m "$MODEL" -f "$tmp/no-such-file"
want 3 "no-such-folder" eval -m "$MODEL" --ids 1 --logits "$tmp/no-such-folder/x.npy"
want 3 "no-such-file" inspect -m "$tmp/no-such-file"
want 3 "no-such-file" tokenize -m "$tmp/no-such-file"
[ ! -e "$tmp/x.npy" ] || fail "a failed eval left its file"

# one line each, also on two ranks
want 2 "" run --tmep 1
same "lines of an error" 1 "$(wc -l <"$tmp/err")"
if command -v "${MPIRUN[0]}" >/dev/null; then
    "${MPIRUN[@]}" -n 2 "$T" run --tmep 1 >"$tmp/out" 2>"$tmp/err" </dev/null
    same "exit status on two ranks" 2 $?
    same "messages of two ranks" 1 "$(grep -c 'trireme: error:' "$tmp/err")"
fi

# the environment: the line wins; a wrong value names the variable
TRIREME_TOP_P=7 want 2 "TRIREME_TOP_P (environment): '7'" run -m "$MODEL" -p x -n 1
TRIREME_TOP_P=7 want 0 "" run -m "$MODEL" -p x -n 1 --top-p 0.5
TRIREME_TOP_P=7 want 0 "" inspect -m "$MODEL"
TRIREME_MODEL=$MODEL want 0 "" inspect
TRIREME_JSON=1 want_json inspect -m "$MODEL"

# a context beyond the model's: said, and run
want 0 "the model was made for" run -m "$MODEL" -p x -n 1 -c 100000

# more threads than cores: one warning, of rank 0; none where cores suffice (hwloc takes a machine's description), nor
# where it is meant so. Kernels of a lesser CPU change nothing.
if command -v "${MPIRUN[0]}" >/dev/null; then
    # crowded WANTED CORES RANKS ARGS...: how often it is said, on a machine of so many cores
    crowded() {
        local want=$1 cores=$2 n=$3 rc=0
        shift 3
        HWLOC_SYNTHETIC="core:$cores pu:1" "${MPIRUN[@]}" -n "$n" "$T" run -m "$MODEL" -p x -n 1 --temp 0 "$@" \
            >"$tmp/out" 2>"$tmp/err" </dev/null || rc=$?
        same "exit status of $n ranks" 0 "$rc"
        same "$n ranks on $cores cores, $*: warnings" "$want" "$(grep -c 'more threads than cores' "$tmp/err")"
    }
    crowded 1 2 5
    grep -qF "(5 ranks, 5 threads, 2 cores)" "$tmp/err" || fail "numbers: $(cat "$tmp/err")"
    crowded 0 2 5 --oversubscribe
    TRIREME_OVERSUBSCRIBE=1 crowded 0 2 5
    crowded 1 3 2 -t 2 -q
    grep -qF "(2 ranks, 4 threads, 3 cores)" "$tmp/err" || fail "numbers: $(cat "$tmp/err")"
    crowded 0 4 2 -t 2
    crowded 0 16 5
    crowded 0 2 2 --cpu ref
    HWLOC_SYNTHETIC="core:2 pu:1" want 0 "(1 rank, 3 threads, 2 cores)" run -m "$MODEL" -p x -n 1 -t 3
fi

# a cache of two thirds of the memory that is free: said, with what would be less
STORIES=$SOURCE/default-model/trireme-stories.gguf
# (a control group may allow less than the machine has: doctor knows; 5100 bytes are a position of this model)
positions=$("$T" doctor --json 2>/dev/null | python3 -c 'import json, sys
print(min(16000000, int(json.load(sys.stdin)["hosts"][0]["mem_free"] * 0.7 / 5100)))')
if [ "$positions" -lt 16000000 ]; then
    want 0 "of them are the KV cache of $positions positions (-c); -ctk f16 -ctv f16 keeps it in half precision; -c " \
        run -m "$STORIES" -p x -n 1 -c "$positions"
    want 0 "; -c " run -m "$STORIES" -p x -n 1 -c "$positions" -ctk f16 -ctv f16
    grep -qF -- "-ctk" "$tmp/err" && fail "halves are advised twice: $(cat "$tmp/err")"
    want 0 "" run -m "$STORIES" -p x -n 1 -c "$positions" -q
    grep -qF "KV cache" "$tmp/err" && fail "-q: $(cat "$tmp/err")"
fi
want 0 "" run -m "$STORIES" -p x -n 1
grep -qF "KV cache" "$tmp/err" && fail "a small cache is told: $(cat "$tmp/err")"

# mpirun's own binding leaves cores idle: said, unless -t or a binding is chosen
if command -v mpirun >/dev/null && mpirun --version 2>/dev/null | grep -q "Open MPI"; then
    for words in "-t 0" "-t 1"; do
        said=0
        [ "$words" = "-t 0" ] && [ "$(lscpu -p=core | grep -v '#' | sort -u | wc -l)" -gt 1 ] && said=1
        # shellcheck disable=SC2086
        mpirun -n 1 "$T" run -m "$MODEL" -p x -n 1 $words >"$tmp/out" 2>"$tmp/err" </dev/null
        same "mpirun -n 1, $words" "$said" "$(grep -c 'bound each rank to one core' "$tmp/err")"
    done
fi
finish
