#!/usr/bin/env bash
# doctor: figures of this machine, links, the cluster file that plan reads.
# timeout: 200
# ranks: 3
# labels: mpi
# sanitize: no
. "$TRIREME_SOURCE/tests/launch/common.sh"

# this machine may be busy or limited: 0 or 1, but always a table
rc=0
"$T" doctor -t 1 >"$tmp/out" 2>"$tmp/err" || rc=$?
[ "$rc" -le 1 ] || fail "doctor: exit $rc: $(cat "$tmp/err")"
grep -q '^host ' "$tmp/out" || fail "no table: $(cat "$tmp/out")"

rc=0
TRIREME_FAKE_HOSTS=3 "${MPIRUN[@]}" -n 3 "$T" doctor -t 1 --json --save "$tmp/cluster.json" >"$tmp/json" 2>"$tmp/err" || rc=$?
[ "$rc" -le 1 ] || fail "doctor on 3 ranks: exit $rc: $(cat "$tmp/err")"
python3 - "$tmp/json" "$tmp/cluster.json" "$rc" <<'PY' || fail "doctor --json"
import json, os, sys
v = json.load(open(sys.argv[1]))
c = json.load(open(sys.argv[2]))
assert v["ranks"] == 3 and len(v["hosts"]) == 3, v
assert [(l["a"], l["b"]) for l in v["links"]] == [(0, 1), (0, 2), (1, 2)], v["links"]
assert all(l["latency_us"] > 0 and l["net_gbit"] > 0 and l["between_hosts"] for l in v["links"])
total = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemTotal"))
for h, n in zip(v["hosts"], c["nodes"]):
    assert h["name"] == os.uname().nodename and h["threads"] == 1
    assert h["mem_total"] == total and 0 < h["mem_free"] <= h["mem_allowed"] <= total, h
    assert 0.05 < h["membw_gbs"] < 1000 and h["int8_gops"] > 0.5, h
    few = [n[f"{k}_few_gops"] for k in ("t2", "t3", "dense", "screen")]
    assert all(len(f) == 4 and min(f) > 0.01 for f in few) and n["screen_gbs"] > 0.01, n
    assert n["mem"] == h["mem_allowed"] and n.get("ranks", 1) == 1 and n["cores"] == 1, n
assert v["cluster"] == c, (v["cluster"], c)
assert c["latency_us"] > 0 and c["net_gbit"] > 0, c
assert (sys.argv[3] == "1") == any(f["level"] == "problem" for f in v["findings"]), v["findings"]
PY
want 0 "" plan --shape bitnet-2b-4t --cluster "$tmp/cluster.json" -c 512
want 3 "cannot write" doctor -t 1 --save "$tmp/no/such/folder.json"
# A pipe gets the text and stays a pipe; a folder is refused and stays empty.
mkfifo "$tmp/pipe"
timeout 60 cat "$tmp/pipe" >"$tmp/piped" &
"$T" doctor -t 1 --save "$tmp/pipe" >"$tmp/out" 2>"$tmp/err" || [ $? -eq 1 ] || fail "doctor --save PIPE: $(cat "$tmp/err")"
wait
[ -p "$tmp/pipe" ] || fail "doctor --save replaced a pipe"
want 0 "" plan --shape bitnet-2b-4t --cluster "$tmp/piped" -c 512
mkdir "$tmp/folder"
want 3 "directory" doctor -t 1 --save "$tmp/folder"
[ -z "$(ls "$tmp/folder")" ] || fail "doctor --save FOLDER: $(ls "$tmp/folder")"
want 2 "" doctor --model x
finish
