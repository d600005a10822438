# tests/bench/curves: every point is in the CSV files, in the order asked for.
# timeout: 180
# sanitize: no
import csv
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

CURVES = trireme.SOURCE / "tests/bench/curves"

with tempfile.TemporaryDirectory() as tmp:
    out = pathlib.Path(tmp, "out")
    command = [str(CURVES), str(trireme.DEFAULT_MODEL), str(out), "--trireme", trireme.BINARY, "-t", "2", "-r", "1",
               "-n", "4", "-p", "8", "-np", "1,3", "-d", "0,16"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, xs, columns in (("threads", ["1", "2"], 2), ("batch", ["1", "3"], 1), ("depth", ["0", "16"], 2)):
        with (out / f"{name}.csv").open() as f:
            head, *rows = list(csv.reader(f))
        assert len(head) == 1 + columns, head
        assert [r[0] for r in rows] == xs, rows
        assert all(float(v) > 0 for r in rows for v in r[1:]), rows
        assert (out / f"{name}.svg").exists() != ("gnuplot is not installed" in done.stderr), done.stderr
    # a program that fails is named
    done = subprocess.run([*command[:1], str(pathlib.Path(tmp, "missing.gguf")), *command[2:]], capture_output=True,
                          text=True)
    assert done.returncode != 0 and "missing.gguf" in done.stderr, done.stderr
