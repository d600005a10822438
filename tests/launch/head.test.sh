#!/usr/bin/env bash
# --head: the same text from the screened head as from the full one, whatever the sampler, on any layout;
# log-probabilities and plain temperature sampling take whole rows.
# timeout: 300
# labels: mpi
. "$TRIREME_SOURCE/tests/launch/common.sh"

ids() { # ids HEAD RANKS options...
    local head=$1 ranks=$2
    shift 2
    local start=()
    [ "$ranks" = 1 ] || start=("${MPIRUN[@]}" -n "$ranks")
    "${start[@]}" "$T" run -m "$MODEL" -p "Once upon a time" -n 40 -t 1 --json -q --head "$head" "$@" </dev/null 2>"$tmp/err" |
        python3 -c 'import json, sys; v = json.load(sys.stdin); print(v["tokens"], v.get("completion_probabilities"))'
}

samplers=("--temp 0" "-s 1" "-s 2 --temp 1.5 --top-k 100 --top-p 1" "-s 3 --top-k 5 --min-p 0.2"
    "-s 4 --repeat-penalty 1.3 --presence-penalty 0.5" "--temp 0 --repeat-penalty 1.5 --ignore-eos"
    "-s 5 --repeat-penalty 0.8" "-s 6 --top-k 0" "-s 7 --typical 0.7" "-s 8 --repeat-penalty 1.2 --repeat-last-n -1"
    "-s 9 --samplers top_k;penalties;temperature --frequency-penalty 0.4" "-s 10 --samplers min_p;top_k"
    "-s 11 --n-probs 3" "-s 12 --ignore-eos --top-k 250" "-s 13 --top-k 300")
for sampler in "${samplers[@]}"; do
    read -ra options <<<"$sampler"
    same "$sampler" "$(ids full 1 "${options[@]}")" "$(ids screened 1 "${options[@]}")"
done
if command -v "${MPIRUN[0]}" >/dev/null; then
    for layout in 1x3 2x2; do
        for sampler in "${samplers[@]:0:5}"; do
            read -ra options <<<"$sampler"
            same "$layout $sampler" "$(ids full 1 "${options[@]}")" \
                "$(ids screened $((${layout%x*} * ${layout#*x})) --layout $layout "${options[@]}")"
        done
    done
    # A rank without rows of the head has none of the best. And the number wanted passes the 256
    # that a screen gives, as ids come under the penalty: whole rows follow rows that were screened.
    for sampler in "--temp 0" "-s 4 --temp 3 --top-k 240 --repeat-penalty 1.1"; do
        read -ra options <<<"$sampler"
        want=$(ids full 1 "${options[@]}")
        for split in 1,1000000 1000000,1; do
            same "--split $split $sampler" "$want" \
                "$(ids screened 2 --layout 1x2 --split $split "${options[@]}")"
        done
    done
fi

# run tells the rows read whole for each row of logits: at least the 40 that are wanted
want_json run -m "$MODEL" -p "Once upon a time" -n 20 -s 1 --json --head screened
python3 -c 'import json, sys; v = json.load(open(sys.argv[1])); assert 40 <= v["head_rows"] < 2000, v["head_rows"]' "$tmp/out" ||
    fail "head_rows of run"

# bench says which, and how many rows were read: at least the best one of each token, and not all
want_json bench -m "$MODEL" -p 0 -n 8 -r 1 --head screened --json
python3 - "$tmp/out" <<'PY' || fail "bench --head screened: $(cat "$tmp/out")"
import json, sys
v = json.load(open(sys.argv[1]))[0]
assert v["head"] == "screened" and v["head_rows"] >= 1, v
PY
want_json bench -m "$MODEL" -p 0 -n 2 -r 1 --json
grep -q '"head": "full"' "$tmp/out" || fail "bench without --head: $(cat "$tmp/out")"

# plan counts the coarse rows: 128256 of 2560 weights, 6 bits each, a byte for 64, 12 for a row
python3 - "$("$T" plan --shape bitnet-2b-4t --mem 8G --json)" "$("$T" plan --shape bitnet-2b-4t --mem 8G --json --head full)" <<'PY' || fail "plan --head"
import json, sys
auto, full = (json.loads(a)["ranks"][0] for a in sys.argv[1:])
assert auto["screen_bytes"] == 128256 * (2560 * 6 // 8 + 40 + 12), auto
assert full["screen_bytes"] == 0, full
PY

finish
