#!/usr/bin/env bash
# eval and bench: files, figures and keys.
# timeout: 300
# labels: mpi
. "$TRIREME_SOURCE/tests/launch/common.sh"

want 0 "" eval -m "$MODEL" --ids 1,5,9,2 --logits "$tmp/a.npy"
want_json eval -m "$MODEL" --ids 1,5,9,2 --logits "$tmp/b.npy" -b 2 --json
cmp "$tmp/a.npy" "$tmp/b.npy" || fail "logits depend on the chunks"
python3 - "$tmp/a.npy" "$tmp/out" <<'PY' || fail "the .npy file"
import ast, json, struct, sys
data = open(sys.argv[1], "rb").read()
v = json.load(open(sys.argv[2]))
assert data[:8] == b"\x93NUMPY\x01\x00"
n = struct.unpack_from("<H", data, 8)[0]
assert (10 + n) % 64 == 0 and data[10 + n - 1:10 + n] == b"\n"
head = ast.literal_eval(data[10:10 + n].decode())
assert head == {"descr": "<f4", "fortran_order": False, "shape": (4, v["n_vocab"])}, head
assert len(data) == 10 + n + 16 * v["n_vocab"]
PY
same "files left" "a.npy b.npy" "$(cd "$tmp" && echo *.npy*)"
want 0 "" eval -m "$MODEL" -p "Once" --logits /dev/null
[ -c /dev/null ] || fail "/dev/null was replaced"

for i in $(seq 60); do echo "Once upon a time there was a little ship number $i that sailed."; done >"$tmp/text"
want 0 "" eval -m "$MODEL" --perplexity "$tmp/text" -c 64 --chunks 4
grep -qE '^perplexity [0-9.]+ \+/- [0-9.]+ \(4 chunks of 64' "$tmp/out" || fail "perplexity: $(cat "$tmp/out")"
want_json eval -m "$MODEL" --perplexity "$tmp/text" -c 64 --chunks 4 --json
cp "$tmp/out" "$tmp/whole"
want_json eval -m "$MODEL" --perplexity "$tmp/text" -c 64 --chunks 4 -b 7 --json
python3 - "$tmp/whole" "$tmp/out" <<'PY' || fail "perplexity --json"
import json, math, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
assert a["tokens"] == 4 * 31 and a["chunks"] == 4, a
assert math.isclose(math.exp(a["nll"]), a["ppl"], rel_tol=1e-12) and a["ppl_error"] > 0
assert (a["nll"], a["ppl"]) == (b["nll"], b["ppl"])
PY
want_json eval -m "$MODEL" --bits-per-byte "$tmp/text" -c 128 --json
python3 -c '
import json, sys
v = json.load(open(sys.argv[1]))
assert v["bytes"] == int(sys.argv[2]) and v["bits_per_byte"] > 0' "$tmp/out" "$(stat -c %s "$tmp/text")" ||
    fail "bits per byte: $(cat "$tmp/out")"
want_json eval -m "$MODEL" --bits-per-byte "$tmp/text" -c 128 --stories --json
want 3 "" eval -m "$MODEL" --perplexity "$tmp/no-such-file"

want 0 "" bench -m "$MODEL" -p 16 -n 4 -pg 8,2 -d 0,8 -r 2 -q
grep -q '^| model .*| size .*| params .*| backend .*| threads .*| test .*| t/s |$' <(tr -s ' ' <"$tmp/out") ||
    fail "columns: $(head -n 1 "$tmp/out")"
for test in "pp16 |" "tg4 |" "pp8+tg2 |" "pp16 @ d8 |" "tg4 @ d8 |"; do
    grep -qF "$test" "$tmp/out" || fail "no test '$test'"
done
want_json bench -m "$MODEL" -p 8-16+8 -n 0 -r 2 -o json -q
cp "$tmp/out" "$tmp/bench.json"
want_json bench -m "$MODEL" -p 8 -n 0 -r 1 --json -q
want 0 "" bench -m "$MODEL" -p 8,16 -n 0 -r 2 -o jsonl -q
cp "$tmp/out" "$tmp/bench.jsonl"
want 0 "" bench -m "$MODEL" -p 8,16 -n 0 -r 2 -o csv -q
cp "$tmp/out" "$tmp/bench.csv"
python3 - "$tmp" <<'PY' || fail "bench's forms"
import csv, json, sys
tmp = sys.argv[1]
lists = [json.load(open(f"{tmp}/bench.json")), [json.loads(l) for l in open(f"{tmp}/bench.jsonl")]]
keys = """build_commit cpu_info model_filename model_type model_size model_n_params n_batch n_threads n_prompt n_gen
    n_depth test_time avg_ns stddev_ns avg_ts stddev_ts samples_ns samples_ts ranks layout peak_rss_bytes compute_ms
    comm_ms bytes_per_token pack cpu""".split()
for rows in lists:
    assert [r["n_prompt"] for r in rows] == [8, 16]
    for r in rows:
        assert not [k for k in keys if k not in r], [k for k in keys if k not in r]
        assert len(r["samples_ns"]) == len(r["samples_ts"]) == 2 and r["avg_ts"] > 0
        assert abs(sum(r["samples_ns"]) / 2 - r["avg_ns"]) <= 1
rows = list(csv.DictReader(open(f"{tmp}/bench.csv")))
assert [r["n_prompt"] for r in rows] == ["8", "16"] and float(rows[0]["avg_ts"]) > 0
PY
want 0 "" bench -m "$MODEL" -p 8 -n 4 -np 1,3 -d 0,5 -r 1 -q
for test in "pp8 |" "tg4 |" "pp8 x3 |" "tg4 x3 |" "pp8 x3 @ d5 |" "tg4 x3 @ d5 |"; do
    grep -qF "$test" "$tmp/out" || fail "no test '$test'"
done
for form in json jsonl csv; do # t/s counts the tokens of all sequences
    want 0 "" bench -m "$MODEL" -p 0 -n 4 -npl 5 -b 2 -r 1 -o "$form" -q
    python3 - "$form" "$tmp/out" <<'PY' || fail "bench -npl, $form: $(cat "$tmp/out")"
import csv, json, sys
form, text = sys.argv[1], open(sys.argv[2]).read()
row = {"json": lambda: json.loads(text)[0], "jsonl": lambda: json.loads(text),
       "csv": lambda: list(csv.DictReader(text.splitlines()))[0]}[form]()
assert int(row["n_parallel"]) == 5
assert abs(float(row["avg_ts"]) * float(row["avg_ns"]) / 1e9 - 5 * 4) < 0.01, row
PY
done
want 2 "" bench -m "$MODEL" -np 257
want_json bench --shape tiny-gqa5 --type tq1_0 -p 8 -n 2 -r 1 -o json -q
if command -v "${MPIRUN[0]}" >/dev/null; then
    "${MPIRUN[@]}" -n 2 "$T" bench --shape tiny-gqa5 -p 8 -n 2 -r 1 -t 1,2 -o json -q --no-pin \
        >"$tmp/out" 2>"$tmp/err" </dev/null || fail "bench on two ranks: $(cat "$tmp/err")"
    python3 -c '
import json, sys
rows = json.load(open(sys.argv[1]))
assert len(rows) == 4 and all(r["ranks"] == 2 and r["bytes_per_token"] > 0 for r in rows)
assert [r["n_threads"] for r in rows] == [1, 1, 2, 2]' "$tmp/out" || fail "bench on two ranks: $(cat "$tmp/out")"
fi
finish
