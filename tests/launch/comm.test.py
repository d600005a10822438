# timeout: 300
# labels: mpi
"""bench --comm: every operation at every size on 2, 3 and 5 ranks, also on pretended hosts; figures
that agree with each other; nothing to measure on one rank."""

import csv
import json
import math
import os
import shlex
import subprocess

TRIREME = os.environ["TRIREME"]
MPIRUN = shlex.split(os.environ["TRIREME_MPIRUN"])
OPS = {"sum_i32": "MPI_Allreduce", "gather_f32": "MPI_Allgatherv", "hop": "MPI_Send",
       "control": "MPI_Bcast"}
SIZES = [4, 64, 4096, 65540]


def run(ranks, *args, status=0, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("TRIREME_")}
    command = [] if ranks == 0 else MPIRUN + ["-n", str(ranks)]
    out = subprocess.run(command + [TRIREME, "bench", "--comm", *args], env=env | more,
                         capture_output=True, text=True)
    assert out.returncode == status, (ranks, args, out.returncode, out.stderr[-600:])
    return out.stdout, out.stderr


def rows_of(ranks, **more):
    sizes = ",".join(map(str, SIZES))
    out, _ = run(ranks, "--sizes", sizes, "--comm-ms", "1", "-o", "jsonl", **more)
    return [json.loads(line) for line in out.splitlines()]


def check_row(row):
    assert 0 < row["best_us"] <= row["median_us"] and 0 < row["mpi_best_us"] <= row["mpi_median_us"], row
    assert math.isclose(row["ratio"], row["mpi_median_us"] / row["median_us"], rel_tol=1e-9), row
    assert math.isclose(row["gb_s"], row["bytes"] / row["median_us"] / 1e3, rel_tol=1e-9), row


def check(ranks, groups, **more):
    """groups: (name, ranks, hosts) of those whose sums and gathers are measured; the last is all."""
    rows = rows_of(ranks, **more)
    want = {(op, mpi, *g, n) for op, mpi in OPS.items() for g in groups for n in SIZES
            if op in ("sum_i32", "gather_f32") or g == groups[-1]}
    want.add(("barrier", "MPI_Barrier", *groups[-1], 0))
    found = [(r["op"], r["mpi"], r["group"], r["n_ranks"], r["n_hosts"], r["bytes"]) for r in rows]
    assert len(found) == len(set(found)) and set(found) == want, set(found) ^ want
    for row in rows:
        check_row(row)
    return rows


def forms():
    some = ("--sizes", "64-256*2", "--comm-ms", "1")
    rows = json.loads(run(2, *some, "--json")[0])
    assert [r["bytes"] for r in rows if r["op"] == "hop"] == [64, 128, 256], rows
    lines = list(csv.DictReader(run(2, *some, "-o", "csv")[0].splitlines()))
    assert len(lines) == len(rows) and float(lines[0]["median_us"]) > 0, lines
    table = run(2, *some)[0].splitlines()
    assert len(table) == len(rows) + 2 and len({line.count("|") for line in table}) == 1, table


def alone_and_refusals():
    for ranks in (0, 1):
        out, error = run(ranks, "--json")
        assert json.loads(out) == [] and "nothing is measured" in error, (out, error)
    run(0, "-m", "model.gguf", status=2)
    run(0, "--kernels", status=2)
    _, error = run(0, "--sizes", "6", status=2)
    assert "multiple of 4" in error, error


check(2, [("host", 2, 1)])
check(3, [("host", 3, 1)])
check(4, [("host", 2, 1), ("hosts", 4, 2)], TRIREME_FAKE_HOSTS="2")
check(5, [("hosts", 5, 2)], TRIREME_FAKE_HOSTS="2")
forms()
alone_and_refusals()
