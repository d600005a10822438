"""plan --scale: predicted speeds against a model written anew from docs/DECISIONS.md; text, JSON, CSV
and SVG say the same; machines needed against plain bytes."""
# sanitize: no
import csv
import io
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

SHAPES = {  # width, ffn, layers, heads, kv heads, head dim, vocabulary
    "llama-70b": (8192, 28672, 80, 64, 8, 128, 32000),
    "llama3-405b": (16384, 53248, 126, 128, 8, 128, 128256),
    "bitnet-2b-4t": (2560, 6912, 30, 20, 5, 128, 128256),
}
MEM, BW, OPS, LAT, NET, MESSAGE = 64 * 2**30, 50e9, 2.4e12, 20e-6, 25e9 / 8, 0.5e-6


def plan(*args, status=0):
    command = [trireme.BINARY, "plan", *args]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, (command, done.returncode, done.stderr)
    return done.stdout if status == 0 else done.stderr


def network(*args):
    return ["--head", "full", "--mem", "64G", "--cores", "16", "--membw", "50", "--latency", "20", "--netbw", "25", *args]


def cut(n, granule, k, of):
    """The k-th of `of` even shares, halves rounded up."""
    edge = [min(n, granule * math.floor(n * i / of / granule + 0.5)) for i in (k, k + 1)]
    return edge[0], n if k + 1 == of else edge[1]


def packed(rows, cols):
    """Bytes of 2-bit tiles: 16 rows, granules of 16 columns in 64 bytes."""
    return math.ceil(rows / 16) * math.ceil(cols / 16) * 64


def token_ms(shape, shards):
    """One token through one stage of so many nodes: (weights, head, exchanges)."""
    width, ffn, layers, heads, kv_heads, hd, vocab = SHAPES[shape]
    halves, head = [0, 0], 0
    for k in range(shards):
        q0, q1 = cut(heads, 1, k, shards)
        f0, f1 = cut(ffn, 32, k, shards)
        v0, v1 = cut(vocab, 16, k, shards)
        group = heads // kv_heads
        kv = (q1 - 1) // group + 1 - q0 // group
        q, f = (q1 - q0) * hd, f1 - f0
        attention = packed(q, width) + 2 * packed(kv * hd, width) + packed(width, q) + 4 * (width + q)
        mlp = 2 * packed(f, width) + packed(width, f) + 4 * (width + f)
        halves = [max(halves[0], attention / BW, (2 * q + 2 * kv * hd) * width / OPS),
                  max(halves[1], mlp / BW, 3 * f * width / OPS)]
        head = max(head, (v1 - v0) * width * 2 / BW, 4 * (v1 - v0) * width / OPS)
    if shards == 1:
        return layers * sum(halves) * 1e3, head * 1e3, 0.0
    rounds = math.ceil(math.log2(shards))
    hidden = 4 * width

    def total(size):
        return min(LAT + (shards - 1) * (size / NET + MESSAGE),
                   2 * LAT + 2 * (shards - 1) * (size / shards / NET + MESSAGE),
                   rounds * (LAT + size / NET + MESSAGE))

    def gather(size):
        return size * (shards - 1) / shards / NET + min(LAT + (shards - 1) * MESSAGE, rounds * (LAT + MESSAGE))

    layer = 2 * total(2 * width) + gather(4 * (heads + shards)) + gather(4 * (math.ceil(ffn / 32) + shards))
    away = sum(min(4 * (cut(vocab, 16, k, shards)[1] - cut(vocab, 16, k, shards)[0]), 512) for k in range(1, shards))
    logits = LAT + away / NET
    return layers * sum(halves) * 1e3, head * 1e3, (LAT + total(hidden) + layers * layer + logits) * 1e3


def near(a, b):
    assert abs(a - b) <= 1e-6 * abs(b) + 1e-12, (a, b)


# Strong scaling: where the plan is one stage of even shares, the independent model says the same.
checked = 0
for shape in SHAPES:
    got = json.loads(plan("--shape", shape, "-c", "2048", *network("--scale", "1,2,4,8,16,32", "-o", "json")))
    assert got["scaling"] == "strong" and [p["nodes"] for p in got["points"]] == [1, 2, 4, 8, 16, 32]
    first = next(p for p in got["points"] if p["fits"])
    for p in got["points"]:
        if not p["fits"]:
            assert p["tokens_s"] is None
            continue
        near(p["ideal_tokens_s"], first["tokens_s"] * p["nodes"] / first["nodes"])
        near(p["efficiency"], p["tokens_s"] / p["ideal_tokens_s"])
        near(1000 / p["tokens_s"], sum(p[k] for k in ("weights_ms", "head_ms", "attention_ms", "communication_ms",
                                                       "overhead_ms")))
        even = json.loads(plan("--shape", shape, "-c", "2048", "--nodes", str(p["nodes"]), "--layout",
                               f"1x{p['nodes']}", *network("--json")))["predicted"]
        weights, head, exchanges = token_ms(shape, p["nodes"])
        near(even["parts"]["weights_ms"], weights)
        near(even["parts"]["head_ms"], head)
        near(even["parts"]["communication_ms"], exchanges)
        assert p["tokens_s"] >= even["decode_tps"] * (1 - 1e-9), (shape, p, even)
        checked += 1
assert checked >= 14, checked

# The other forms say the same.
args = ["--shape", "llama-70b", "-c", "2048", *network("--scale", "1-16*2")]
points = json.loads(plan(*args, "-o", "json"))["points"]
got = json.loads(plan(*args, "-o", "json"))
with tempfile.TemporaryDirectory() as tmp:  # two kinds of nodes, one too small for anything
    cluster = pathlib.Path(tmp, "cluster.json")
    kind = {"mem": "64G", "cores": 16, "membw_gbs": 50}
    cluster.write_text(json.dumps({"latency_us": 20, "net_gbit": 25, "nodes": [
        kind | {"name": "big"}, kind | {"name": "small", "mem": "90M"}]}))
    unlike = ["--shape", "llama-70b", "-c", "2048", "--head", "full", "--cluster", str(cluster), "--scale", "1,4"]
    both = [(got, plan(*args, "-o", "csv")),
            (json.loads(plan(*unlike, "-o", "json")), plan(*unlike, "-o", "csv"))]
for value, text in both:
    table = list(csv.reader(io.StringIO(text, newline="")))
    assert {len(row) for row in table} == {16}, table  # every row has the header's columns
    rows = [dict(zip(table[0], row)) for row in table[1:]]
    curve = [r for r in rows if r["table"] == "scale"]
    needed = [r for r in rows if r["table"] == "needed"]
    assert len(curve) + len(needed) == len(rows) and len(curve) == len(value["points"])
    for r, p in zip(curve, value["points"]):
        assert (r["layout"], int(r["nodes"]), int(r["sequences"])) == (p["layout"], p["nodes"], p["sequences"])
        assert r["fits"] == "1" and p["fits"] and r["format"] == "2 bits", (r, p)
        for key in ("tokens_s", "ideal_tokens_s", "efficiency", "weights_ms", "attention_ms", "head_ms",
                    "communication_ms", "overhead_ms"):
            near(float(r[key]), p[key])
    kinds = [(k, name) for k in value["machines_needed"] for name in ("fp16", "int8", "2 bits", "1.6 bits")]
    assert len(kinds) == len(needed)
    for r, (k, name) in zip(needed, kinds):
        want = k["formats"][name]
        assert (r["node"], r["format"], r["layout"]) == (k["node"], name, ""), (r, k)
        near(float(r["node_gib"]) * 2**30, k["mem_bytes"])
        assert r["nodes"] == str(want["machines"] or "") and r["fits"] == str(int(want["machines"] is not None)), (r, want)
        assert (r["tokens_s"] == "") == (want["decode_tps"] is None), (r, want)
        if r["tokens_s"]:
            near(float(r["tokens_s"]), want["decode_tps"])
assert {r["node"] for r in needed} == {"big", "small"} and any(r["fits"] == "0" for r in needed), needed
table = plan(*args)
assert all(f"{p['nodes']:5d}  {p['layout']} " in table for p in points), table
picture = xml.fromstring(plan(*args, "-o", "svg"))
assert picture.tag.endswith("svg")
names = [e.text for e in picture.iter() if e.tag.endswith("text")]
assert {"ideal", "predicted", "tokens/s", "nodes", "16"} <= set(names), names
assert len([e for e in picture.iter() if e.tag.endswith("circle")]) == 5
curve = next(e.get("d") for e in picture.iter() if e.tag.endswith("path") and e.get("class") == "i")
ends = [tuple(map(float, v.split())) for v in curve[1:].split("L")]
slope = {round((b[1] - a[1]) / (b[0] - a[0]), 2) for a, b in zip(ends, ends[1:])}
assert len(slope) == 1, ends  # ideal is a straight line where both axes are logarithmic

# Weak: the sequences grow with the nodes, and so do the tokens.
weak = json.loads(plan(*args, "--weak", "-np", "2", "--json"))
assert weak["scaling"] == "weak" and [p["sequences"] for p in weak["points"]] == [2, 4, 8, 16, 32]
assert all(a["tokens_s"] < b["tokens_s"] for a, b in zip(weak["points"], weak["points"][1:]))

# Machines needed: at least what the bytes of the weights ask for, and not many more.
for shape, gib in (("llama-70b", 24), ("llama3-405b", 64), ("llama3-405b", 24)):
    width, ffn, layers, heads, kv_heads, hd, vocab = SHAPES[shape]
    weights = layers * (2 * heads * hd * width + 2 * kv_heads * hd * width + 3 * width * ffn)
    got = json.loads(plan("--shape", shape, "-c", "512", "--mem", f"{gib}G", "--json", status=0)
                     if shape == "llama-70b" else
                     plan("--shape", shape, "-c", "512", "--mem", f"{gib}G", "--nodes", "40", "--json"))
    usable = gib * 2**30 - 512 * 2**20
    for name, bits in (("fp16", 16), ("int8", 8.5), ("2 bits", 2), ("1.6 bits", 1.6)):
        least = math.ceil((weights * bits / 8 + vocab * width * 2) / usable)
        needed = got["machines_needed"][name]
        assert least <= needed <= least * 1.15 + 1, (shape, gib, name, least, needed)

# Wrong wishes.
assert "--membw" in plan("--shape", "llama-70b", "--mem", "24G", "--scale", "1,2", status=2)
assert "--weak" in plan("--shape", "llama-70b", "--mem", "24G", "--weak", status=2)
assert "--output" in plan("--shape", "llama-70b", "--mem", "24G", "-o", "svg", status=2)
