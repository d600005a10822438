#!/usr/bin/env bash
# trireme plan: exit status, JSON fields, errors; and its prediction against real runs.
# labels: mpi
set -u
trireme=${TRIREME:?set by ctest: the binary}
if [ ! -x "$trireme" ]; then
    echo "no $trireme"
    exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# plan STATUS ARGS...: run, compare the exit status; stdout and stderr in $dir/out and $dir/err
plan() {
    local want=$1 got
    shift
    "$trireme" plan "$@" >"$dir/out" 2>"$dir/err"
    got=$?
    [ "$got" = "$want" ] || fail "plan $*: exit status $got, expected $want: $(cat "$dir/err")"
}

# says PATTERN: the error is one line that matches
says() {
    [ "$(wc -l <"$dir/err")" = 1 ] || fail "not one line on stderr: $(cat "$dir/err")"
    grep -q -e "$1" "$dir/err" || fail "'$(cat "$dir/err")' lacks '$1'"
}

# holds EXPRESSION: python over the JSON value p
holds() {
    python3 -c '
import json, sys
p = json.load(open(sys.argv[1]))
assert eval(sys.argv[2]), (sys.argv[2], p)' "$dir/out" "$1" || fail "$1"
}

# Two nodes of one name are one machine to a launcher; names made by count may meet another's.
for nodes in '{"name": "a", "mem": "8G"}, {"name": "a", "mem": "8G"}' \
    '{"name": "a", "mem": "8G", "count": 2}, {"name": "b", "mem": "8G"}, {"name": "a2", "mem": "8G"}'; do
    echo "{\"nodes\": [$nodes]}" >"$dir/twins.json"
    plan 0 --shape tiny-mha --cluster "$dir/twins.json"
    says 'nodes [12] and [24] are both named a2\?: .*give each its own name'
done
echo '{"nodes": [{"name": "a", "mem": "8G", "count": 2}, {"name": "b", "mem": "8G"}]}' >"$dir/apart.json"
plan 0 --shape tiny-mha --cluster "$dir/apart.json"
[ ! -s "$dir/err" ] || fail "distinct names: $(cat "$dir/err")"

plan 0 --shape llama-70b --type tq1_0 --mem 24G --pack t3 --cores 16 --membw 60 --json
holds 'p["fits"] is True and p["layout"] == "1x1" and p["stages"] == 1 and p["pack"] == "t3"'
holds 'len(p["memory_per_rank"]) == 1 and 14 * 2**30 < p["memory_per_rank"][0] < 24 * 2**30'
holds '0 < p["predicted"]["decode_tps"] < 60e9 / (68.7e9 * 1.6 / 8)'
holds 'abs(1000 / p["predicted"]["decode_tps"] - sum(p["predicted"]["parts"][k] for k in ("weights_ms", "head_ms", "communication_ms"))) < 1e-6'
[ -s "$dir/err" ] && fail "stderr: $(cat "$dir/err")"

plan 0 --shape llama-70b --type tq1_0 --mem 24G --pack t3
grep -q 'fits: node1 holds' "$dir/out" || fail "table: $(cat "$dir/out")"
grep -q 'no prediction' "$dir/out" || fail "prediction without figures"

plan 1 --shape llama3-405b --nodes 3 --mem 24G -c 4096 --json
holds 'p["fits"] is False and p["advice"]["n_nodes"] >= 4'
holds 'p["predicted"]["decode_tps"] is None'
says 'does not fit.*nodes like node1 would do'

plan 0 --shape llama3-405b --type tq1_0 --nodes 5 --pack t3 --mem 24G -c 4096 --membw 50 --latency 50 --netbw 10 --json
holds 'p["layout"] == "1x5" and p["left_out"] == [] and p["exact"] and p["predicted"]["decode_tps"] > 2'
plan 0 --shape llama3-405b --type tq1_0 --nodes 5 --pack t3 --mem 24G -c 4096 --membw 50 --latency 50 --netbw 10 --layout 5x1 --json
holds 'p["layout"] == "5x1" and len(p["memory_per_rank"]) == 5 and max(p["memory_per_rank"]) < 24 * 2**30'
holds 'p["predicted"]["parts"]["communication_ms"] > 0'
holds '[r["layers"][0] for r in p["ranks"]][1:] == [r["layers"][1] for r in p["ranks"]][:-1]'

# Every shape, also those that no file of 256-blocks could hold.
for shape in bitnet-2b-4t bitnet-3b falcon3-10b llama3-8b llama-13b llama-70b bitnet-100b llama3-405b; do
    plan 0 --shape "$shape" --nodes 2 --mem 1T --ranks-per-node 3 -c 2048 --json
    holds 'p["layout"] == "2x3" and p["fits"] and len(p["ranks"]) == 6'
done

plan 0 --shape bitnet-2b-4t --nodes 2 --mem 4G --layout 1x2 --split 3,1 --json
holds 'p["split"] == "3,1" and [r["heads"] for r in p["ranks"]] == [[0, 15], [15, 20]]'

cat >"$dir/c.json" <<'JSON'
{"nodes": [{"name": "big", "mem": "16G"}, {"mem": "5G", "count": 2}], "latency_us": 30, "net_gbit": 10}
JSON
plan 0 --shape llama-70b --type tq1_0 --pack t3 --cluster "$dir/c.json" --json
holds '[n["name"] for n in p["nodes"]] == ["big", "node2-1", "node2-2"] and all(n["fits"] for n in p["nodes"])'

# 68.72e9 weights: 128 GiB at 16 bits, and some; a slow network makes one node the fastest.
plan 0 --shape llama-70b --type tq1_0 --nodes 3 --mem 24G --membw 50 --latency 9000 --netbw 1 -c 4096 --json
holds 'p["machines_needed"] == {"fp16": 6, "int8": 4, "2 bits": 1, "1.6 bits": 1}'
holds 'p["layout"] == "1x1" and p["left_out"] == ["node2", "node3"] and p["layouts"][0]["n_nodes"] == 1'
holds '[n["used_bytes"] > 0 for n in p["nodes"]] == [True, False, False] and all(n["fits"] for n in p["nodes"])'
plan 0 --shape llama-70b --type tq1_0 --nodes 3 --mem 24G --membw 50 --latency 9000 --netbw 1 -c 4096 --explain
for words in 'left out: node2 node3' 'network would cost more' 'none of the model.s space is faster' 'machines like node1'; do
    grep -q "$words" "$dir/out" || fail "--explain lacks '$words': $(cat "$dir/out")"
done

# One node of several is named; a layout of fewer ranks goes to the best nodes, or the largest.
grep -q '^run it on node1: trireme run ' "$dir/out" || fail "which node: $(cat "$dir/out")"
cat >"$dir/unlike.json" <<'JSON'
{"nodes": [{"name": "a", "mem": "24G", "membw_gbs": 20}, {"name": "b", "mem": "8G", "membw_gbs": 60},
           {"name": "c", "mem": "24G", "membw_gbs": 40}, {"name": "d", "mem": "24G", "membw_gbs": 60}],
 "latency_us": 30, "net_gbit": 10}
JSON
plan 0 --shape llama3-8b -c 4096 --cluster "$dir/unlike.json" --layout 1x2 --json
holds 'p["layout"] == "1x2" and sorted(r["node"] for r in p["ranks"]) == ["b", "d"] and p["left_out"] == ["a", "c"]'
plan 0 --shape llama3-8b -c 4096 --cluster "$dir/unlike.json" --layout 2x1 --split even --json # as they come
holds 'sorted(r["node"] for r in p["ranks"]) == ["a", "c"] and p["left_out"] == ["b", "d"]'
plan 0 --shape llama3-8b -c 4096 --cluster "$dir/unlike.json" --layout 1x2 --explain
grep -q 'left out: a c: the layout has fewer ranks' "$dir/out" || fail "left out: $(cat "$dir/out")"
grep -q 'of the layout that was given' "$dir/out" || fail "--explain of a layout: $(cat "$dir/out")"
! grep -q 'No node holds' "$dir/out" || fail "--explain of a layout: what was not looked at"
plan 0 --shape llama3-8b -c 4096 --cluster "$dir/unlike.json" --layout 1x4 --json # all, unlike: not even
holds 'p["split"] != "even" and len(p["ranks"]) == 4 and p["left_out"] == []'

# What the command can do: run makes one sequence, bench many; run wants a text.
plan 0 --shape llama3-8b --nodes 2 --mem 8G -c 512 -np 16
grep -q '^run it on node1: mpirun .* trireme bench -m MODEL -np 16 --layout [^ ]* --split [^ ]* --pack t2 --head screened$' "$dir/out" ||
    fail "the command of many sequences: $(cat "$dir/out")"
plan 0 --shape llama3-8b --nodes 40 --mem 8G -c 512 --layout 10x4
grep -q '^run it .*,node40:1 .* -c 512 -p PROMPT$' "$dir/out" || fail "the command of 40 nodes: $(cat "$dir/out")"
echo '{"nodes": [{"mem": 24}]}' >"$dir/bytes.json"
plan 3 --shape llama3-8b --cluster "$dir/bytes.json"
says '24 bytes are less than 1 MiB; a size with a unit is a text'

# What was planned is what the command does: types of the cache and the size of steps, too.
plan 0 --shape llama3-8b --nodes 2 --mem 8G -c 4096 -ctk f16 -ctv f16 -b 64 --head full
grep -q '^run it on node1: .* --pack t2 --head full -ctk f16 -ctv f16 -b 64 -c 4096 -p PROMPT$' "$dir/out" || fail "options: $(cat "$dir/out")"

# Shares without a layout: the fastest of the layouts that take them.
shares="--shape llama3-8b -c 4096 --nodes 3 --mem 24G --membw 50 --cores 16 --latency 30 --netbw 25 --split 3,1,1"
plan 0 $shares --layout 3x1 --json
three=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["predicted"]["decode_tps"])' "$dir/out")
plan 0 $shares --layout 1x3 --json
holds "p['predicted']['decode_tps'] > $three"
plan 0 $shares --json
holds "p['layout'] == '1x3' and p['split'] == '3,1,1'"
plan 0 $shares --explain
grep -q 'the split was given; of the layouts that take it' "$dir/out" || fail "--explain of shares: $(cat "$dir/out")"

# mpirun is to be started on the first node of the plan, which it would put in front anyway.
plan 0 --shape llama3-8b -c 4096 --cluster "$dir/unlike.json" --layout 2x1
first=$(sed -n 's/^ *0  \([a-d]\) .*/\1/p' "$dir/out")
grep -q "^run it on $first: mpirun -n 2 --host $first:1," "$dir/out" || fail "where to start: $(cat "$dir/out")"

# What fits does not hang on speeds: shares and layers are moved until it does.
plan 0 --shape llama3-405b -c 8192 --nodes 6 --mem 16G --json
holds 'p["fits"] and p["split"] != "even" and p["predicted"]["decode_tps"] is None'
holds 'p["layouts"][0]["layout"] == p["layout"] and p["layouts"][0]["fits"]'
plan 0 --shape llama-70b -c 4096 --nodes 10 --mem 2G

# Where the file is: rows of the embedding (128256 x 16384 x 2 bytes of the 405B shape, a third of them
# in blocks of 16) in the first stage, but for rank 0's node. All that a rank holds is its total.
rows='all(abs(r["embed_bytes"] - 128256 * 16384 * 2 / 3) <= 16 * 16384 * 2 for r in p["ranks"][:3])'
total='r["ternary_bytes"] + r["dense_bytes"] + r["screen_bytes"] + r["kv_bytes"] + r["activation_bytes"]'
for files in "" "--files first" "--files all"; do
    # shellcheck disable=SC2086  # none, or two words
    plan 0 --shape llama3-405b -c 4096 --nodes 6 --mem 24G --layout 2x3 $files --json
    held=$([ "$files" = "--files all" ] && echo False || echo "i in (1, 2)")
    holds "$rows and all(r['embed_bytes'] == 0 for r in p['ranks'][3:])"
    holds "all(r['embed_held'] == ($held) for i, r in enumerate(p['ranks']))"
    holds "all($total + r['embed_held'] * r['embed_bytes'] == m for r, m in zip(p['ranks'], p['memory_per_rank']))"
done
plan 0 --shape llama3-405b -c 4096 --nodes 6 --mem 24G --layout 2x3
grep -q 'file is on node1 alone' "$dir/out" || fail "where the file is: $(cat "$dir/out")"

# How many nodes would do: so many do, one less does not; by speeds that are given and without, also a great many.
for ask in "llama3-8b --mem 3G -c 8192 -np 8 --pack t3 -b 64 --membw 40 --latency 50 --netbw 10" \
    "llama-13b --mem 2G -c 8192 --nodes 3 --pack t3 --membw 40 --latency 50 --netbw 10" \
    "falcon3-10b --mem 24G -c 4096 -np 64 --pack t2 --ranks-per-node 2 --membw 40 --latency 50 --netbw 10" \
    "bitnet-3b --mem 2G -c 30000 -np 8" "llama3-8b --mem 3G -c 30000 -np 64 -ctk f16" "bitnet-100b --mem 24G -c 30000"; do
    plan 1 --shape $ask --json
    n=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["advice"]["n_nodes"] or 0)' "$dir/out")
    [ "$n" -gt 1 ] || fail "no number of nodes: $ask"
    plan 0 --shape $ask --nodes "$n"
    plan 1 --shape $ask --nodes "$((n - 1))"
done

plan 1 --shape llama-70b --pack t2 --mem 17G -c 4096 --json
holds 'p["advice"]["pack_t3"] is True and p["advice"]["cache_f16"] is False'
says 'fits with --pack t3; 2 nodes'

plan 2
says 'one of -m FILE and --shape'
plan 2 --shape llama-70b
says 'no cluster'
plan 2 --shape llama-70b --mem lots
says '\-\-mem lots'
plan 2 --shape llama-70b --mem 1
says '\-\-mem 1: expected a size from 1M'
plan 2 --shape llama-70b --mem 24G --nodes 4096 --ranks-per-node 2
says '4096 ranks at most'
plan 2 --shape llama-70b --mem 24G --layout 2x2
says 'possible: 1x1'
plan 2 --shape llama-70b --mem 24G --layout two
says 'expected STAGESxSHARDS'
plan 2 --shape llama-70b --cluster "$dir/c.json" --mem 24G
says 'leave --nodes'
plan 3 --shape llama-70b --cluster "$dir/none.json"
says 'none.json'
echo '{"nodes": [{"mem": "16G", "rank": 2}]}' >"$dir/bad.json"
plan 3 --shape llama-70b --cluster "$dir/bad.json"
says 'nodes\[0\].rank: no such field'
plan 3 -m "$dir/none.gguf" --mem 24G
says 'none.gguf'

# The prediction is what workers hold: weights, to the byte.
"$trireme" synth --shape tiny-gqa5 --type tq1_0 -o "$dir/m.gguf" 2>"$dir/err" || fail "synth: $(cat "$dir/err")"
# weights LAYOUT RANKS LAUNCHER...: compare with what a run reports
weights() {
    local layout=$1 ranks=$2
    shift 2
    plan 0 -m "$dir/m.gguf" --nodes "$ranks" --mem 1G --layout "$layout" --json
    "$@" "$trireme" bench -m "$dir/m.gguf" -p 0 -n 2 -r 1 --layout "$layout" -o json >"$dir/bench" 2>"$dir/err" ||
        fail "bench $layout: $(cat "$dir/err")"
    python3 -c '
import json, sys
p, b = (json.load(open(f)) for f in sys.argv[1:])
planned = sum(r["ternary_bytes"] + r["dense_bytes"] for r in p["ranks"])
held = b[0]["weight_bytes"]
assert planned == held, f"planned {planned} bytes of weights, held {held}"' "$dir/out" "$dir/bench" ||
        fail "weights of $layout"
}
weights 1x1 1
if [ -n "${TRIREME_MPIRUN:-}" ]; then
    # shellcheck disable=SC2086  # the launcher comes with its flags
    weights 1x3 3 $TRIREME_MPIRUN -n 3
    # shellcheck disable=SC2086
    weights 2x2 4 $TRIREME_MPIRUN -n 4

    # ranks without the file hold rows of the embedding besides, if they are of the first stage
    bench="bench -p 0 -n 2 -r 1 --layout 2x2 -o json -m"
    # shellcheck disable=SC2086
    $TRIREME_MPIRUN -n 1 "$trireme" $bench "$dir/m.gguf" : -n 3 "$trireme" $bench "$dir/nothing.gguf" \
        >"$dir/bench" 2>"$dir/err" || fail "bench without the file: $(cat "$dir/err")"
    python3 -c '
import json, sys
p, b = (json.load(open(f)) for f in sys.argv[1:])
planned = sum(r["ternary_bytes"] + r["dense_bytes"] + r["embed_held"] * r["embed_bytes"] for r in p["ranks"])
assert [r["embed_held"] for r in p["ranks"]] == [False, True, False, False], p["ranks"]
held = b[0]["weight_bytes"]
assert planned == held, f"planned {planned} bytes of weights, held {held}"' "$dir/out" "$dir/bench" ||
        fail "weights of ranks without the file"
fi

[ "$failures" = 0 ] && echo "passed"
[ "$failures" = 0 ]
