# launch/scaling: every layout of the ranks asked for, ideal and efficiency by arithmetic, failures told.
# ranks: 3
# timeout: 300
# sanitize: no
import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

SCALING = trireme.SOURCE / "launch/scaling"
CLUSTER = {"nodes": [{"mem": "4G", "cores": 1, "membw_gbs": 8, "ranks": 2}, {"mem": "4G", "cores": 1, "membw_gbs": 8}],
           "latency_us": 10, "net_gbit": 10}

with tempfile.TemporaryDirectory() as tmp:
    out = pathlib.Path(tmp, "out")
    cluster = pathlib.Path(tmp, "cluster.json")
    cluster.write_text(json.dumps(CLUSTER))
    env = dict(os.environ, TRIREME=trireme.BINARY)
    command = [str(SCALING), str(trireme.DEFAULT_MODEL), str(out), "--ranks", "1,2,3", "-t", "1", "-p", "8", "-n", "4",
               "-r", "1", "--cluster", str(cluster), "--launcher",
               "mpirun -np {n} --bind-to none --map-by :OVERSUBSCRIBE"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out / "report.md"), done.stdout
    with (out / "results.csv").open() as f:
        rows = list(csv.DictReader(f))
    want = {(n, layout, test) for n, layout in (("1", "1x1"), ("2", "1x2"), ("2", "2x1"), ("3", "1x3"), ("3", "3x1"))
            for test in ("prompt", "decode")}
    assert {(r["ranks"], r["layout"], r["test"]) for r in rows} == want, rows
    for r in rows:
        one = next(float(b["measured_tps"]) for b in rows if b["ranks"] == "1" and b["test"] == r["test"])
        ideal = one * int(r["ranks"])
        assert abs(float(r["ideal_tps"]) - ideal) < 1e-6 * ideal, r
        assert abs(float(r["efficiency"]) - float(r["measured_tps"]) / ideal) < 1e-9, r
        assert float(r["predicted_tps"]) > 0 and r["threads"] == "1", r
    text = (out / "report.md").read_text()
    assert all(f"| {layout} |" in text for layout in ("1x1", "1x2", "2x1", "1x3", "3x1")), text

    # Names are texts: no gnuplot command, no quote that ends, no brace of a format.
    tools, hostile = pathlib.Path(tmp, "bin"), pathlib.Path(tmp, "it's `touch x` \"{m}.gguf")
    tools.mkdir()
    (tools / "gnuplot").write_text(f"#!/bin/sh\ncat >>'{tmp}/plots'\n")
    (tools / "gnuplot").chmod(0o755)
    shutil.copyfile(trireme.DEFAULT_MODEL, hostile)
    odd = pathlib.Path(tmp, "o'ut {n}")
    done = subprocess.run([str(SCALING), str(hostile), str(odd), "--ranks", "1,2", "--layouts", "1x1,1x2", "-t", "1", "-p", "8", "-n", "0",
                           "-r", "1", "--launcher", "mpirun -np {n} --bind-to none -x A={b} --map-by :OVERSUBSCRIBE"], capture_output=True,
                          text=True, env=env | {"PATH": f"{tools}:{os.environ['PATH']}", "A": "x"}, cwd=tmp)
    assert done.returncode == 0, done.stderr
    said = pathlib.Path(tmp, "plots").read_text().splitlines()
    name = hostile.name.replace("'", "''")
    assert f"set title '{name}: prompt, the best layout of each rank count' noenhanced" in said, said
    assert "set output '" + str(odd).replace("'", "''") + "/prompt.svg'" in said, said

    # A layout that cannot be run is a line of its own; nothing that ran is a failure.
    done = subprocess.run([*command, "--ranks", "1", "--bench", "--cpu nonsense"], capture_output=True, text=True, env=env)
    assert done.returncode == 1, done.stderr
    assert "| failed | 1 | 1x1 |" in (out / "report.md").read_text() and "nonsense" in done.stderr, done.stderr

    # What cannot begin says why, in a line.
    for change, words in ((["--ranks", "2", "--layouts", "2x2"], "no layout of --layouts 2x2 makes 2 ranks"), ([], "no folder for the results")):
        place = "/dev/full" if not change else str(out)
        done = subprocess.run([*command[:2], place, *command[3:], *change], capture_output=True, text=True, env=env)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr, done.stderr

    # Warnings are notes of the table and lines of the report.
    cores = len(os.sched_getaffinity(0))
    done = subprocess.run([*command, "--ranks", "2", "--layouts", "1x2", "-t", str(cores), "-p", "0"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    with (out / "results.csv").open() as f:
        (row,) = csv.DictReader(f)
    assert row["note"].startswith("more threads than cores"), row
    assert "- 1x2: more threads than cores" in (out / "report.md").read_text()

    # In a Slurm job srun starts the ranks, if it speaks PMIx.
    for kinds, words in (("none pmix pmix_v4", "srun --mpi=pmix -n 1"), ("none pmi2", "mpirun -np 1")):
        for tool in ("srun", "mpirun"): # both note how they were called, and run nothing
            (tools / tool).write_text(f'#!/bin/sh\n[ "$1" = --mpi=list ] && echo "{kinds}" && exit\necho "{tool} $*" >>\'{tmp}/called\'\nexit 1\n')
            (tools / tool).chmod(0o755)
        pathlib.Path(tmp, "called").write_text("")
        subprocess.run([str(SCALING), str(trireme.DEFAULT_MODEL), str(out), "--ranks", "1,2"], capture_output=True, text=True,
                       env=env | {"PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "1"})
        called = pathlib.Path(tmp, "called").read_text()
        assert words.replace(" 1", " 2") in called, (kinds, called)
