# No step allocates: 100 tokens more cost no allocation more, on any rank.
# timeout: 120
# labels: mpi
# sanitize: no
"""Counts the allocations of the program's own code (tests/preload/alloc_count.c) in a short and in a long
run; a malloc in the step path shows as at least one a token. A few more are the result's growing
arrays."""
import glob
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme


RUN = ["run", "-p", "One day", "--temp", "0.7", "-s", "3", "--ignore-eos", "-c", "512", "--head", "screened"]
BENCH = ["bench", "-p", "40", "-np", "5", "-r", "1"]  # several sequences in a step


def counts(library, tmp, ranks, what, n):
    base = os.path.join(tmp, f"count-{what[0]}-{ranks}-{n}")
    env = dict(os.environ, ALLOC_COUNT_FILE=base, LD_PRELOAD=library)
    command = [trireme.BINARY, *what, "-m", str(trireme.DEFAULT_MODEL), "-n", str(n), "-t", "1", "-q"]
    if ranks > 1:
        env.pop("LD_PRELOAD")
        command = trireme.MPIRUN + ["-n", str(ranks), "-x", f"LD_PRELOAD={library}", "-x",
                                    f"ALLOC_COUNT_FILE={base}"] + command
    subprocess.run(command, env=env, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    found = sorted(int(pathlib.Path(f).read_text()) for f in glob.glob(base + ".*"))
    return found[-ranks:]  # launchers' helpers count nothing


with tempfile.TemporaryDirectory() as tmp:
    library = os.path.join(tmp, "alloc_count.so")
    source = str(trireme.SOURCE / "tests/preload/alloc_count.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    for ranks, what in ((1, RUN), (2, RUN), (1, BENCH), (2, BENCH)):
        short, long = (counts(library, tmp, ranks, what, n) for n in (20, 120))
        print(f"{what[0]}, {ranks} ranks: {short} allocations for 20 tokens, {long} for 120")
        assert all(s > 0 for s in short), "the counter counts nothing"
        assert all(b - a < 20 for a, b in zip(short, long)), "a step allocates"
