# What bench says of a token's time and energy: parts that add up, figures that agree with each other.
# timeout: 120
# labels: mpi
import csv
import io
import pathlib
import sqlite3
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

PARTS = ["weights", "attention", "head", "norms", "comm", "wait"]
TEST = ["bench", "-m", trireme.DEFAULT_MODEL, "-p", "48", "-n", "24", "-r", "3", "-t", "2"]


def close(a, b, part):
    return abs(a - b) <= part * max(abs(a), abs(b))


for ranks in (1, 2):
    prompt, one = trireme.run_json(TEST, ranks)
    for r in (prompt, one):
        assert list(r["parts_ms"]) == PARTS, r["parts_ms"]
        whole = sum(r["parts_ms"].values())
        # The engine times whole steps from outside, by another clock.
        assert close(whole, r["compute_ms"] + r["comm_ms"], 0.25), (whole, r["compute_ms"], r["comm_ms"])
        assert close(r["projection_share"], r["parts_ms"]["weights"] / whole, 1e-6), r
        assert close(r["amdahl_ceiling"], 1 / (1 - r["projection_share"]), 1e-6), r
        assert r["rapl_joules_per_token"] is None or r["rapl_joules_per_token"] >= 0, r
        nm7, nm45 = r["joules_per_token"]["7 nm"], r["joules_per_token"]["45 nm"]
        assert close(nm7["matrix_ratio"], 0.5 / 0.007, 1e-6) and close(nm45["matrix_ratio"], 1.5 / 0.03, 1e-6), r
        macs = r["macs_per_token"]
        assert macs["dense"] == 0, macs
        by_hand = (macs["ternary"] * 0.007 + (macs["attention"] + macs["head"]) * 1.69) * 1e-12
        assert close(nm7["here"], by_hand, 1e-6), (nm7, by_hand)
    assert prompt["read_gb_s"] is None, "a prompt reads its weights once for many tokens"
    assert close(one["read_gb_s"], one["weight_bytes"] * one["avg_ts"] / 1e9, 1e-6), one
    if ranks == 1:
        assert prompt["parts_ms"]["comm"] < 0.2 * sum(prompt["parts_ms"].values()), prompt["parts_ms"]

measured = trireme.run_json(TEST + ["--account"])[1]
NEW = ["bandwidth_gb_s", "bandwidth_share", "huge_page_share"]
assert measured["bandwidth_gb_s"] > 0.5 and 0 <= measured["huge_page_share"] <= 1, measured
# Medians: of pairs, of looks, against a mean of all repetitions. A wrong unit would be far off.
assert 0.2 < measured["bandwidth_share"] * measured["bandwidth_gb_s"] / measured["read_gb_s"] < 5, measured
assert prompt["bandwidth_share"] is None and [one[k] for k in NEW] == [None] * 3, one
assert measured["peak_rss_bytes"] < one["peak_rss_bytes"] + 64 * 2**20, "the meter's 256 MiB are not the model's"
shared = trireme.run_json(TEST + ["--account"], 2)[1]
assert [shared[k] for k in NEW] == [None] * 3, "ranks that share a host"

# Lines for people; a table of scalars without holes in the columns.
text = trireme.run(TEST + ["--account"]).stdout.decode()
assert text.count("one token, ") == 2 and text.count("Amdahl") == 2 and text.count("; share ") == 1 and "71.4x less" in text, text
assert "one token" not in trireme.run(TEST).stdout.decode()
rows = list(csv.reader(io.StringIO(trireme.run(TEST + ["-o", "csv"]).stdout.decode())))
assert len(rows) == 3 and len({len(row) for row in rows}) == 1, rows
assert "parts_ms" not in rows[0] and rows[1][rows[0].index("read_gb_s")] == "", rows

# The same as SQL, for sqlite3: a table of its columns, every value as in CSV.
db = sqlite3.connect(":memory:")
db.executescript(trireme.run(TEST + ["-o", "sql"]).stdout.decode())
columns = [c[1] for c in db.execute("PRAGMA table_info(trireme_bench)")]
assert columns == rows[0], columns
for line, stored in zip(rows[1:], db.execute("SELECT * FROM trireme_bench ORDER BY rowid"), strict=True):
    for name in ("model_filename", "n_prompt", "n_gen", "cpu", "layout"):
        assert str(stored[columns.index(name)]) == line[columns.index(name)], (name, stored, line)
    assert (stored[columns.index("read_gb_s")] is None) == (line[columns.index("read_gb_s")] == ""), (stored, line)
