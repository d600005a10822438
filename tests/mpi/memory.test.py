# A rank that is out of memory while the world opens is told by one error; no rank waits for it.
# timeout: 120
# labels: mpi
# sanitize: no
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

os.environ["OMPI_MCA_odls_base_sigkill_timeout"] = "0"  # mpirun waits a second for ranks it ends, in each run
# What comm/world.c allocates before ranks meet: its own allocations from the second on, the first being the world itself.
PARTS = ["host table", "ranks of a host", "names of hosts", "requests", "control buffer", "control buffer"]

with tempfile.TemporaryDirectory() as folder:
    library = trireme.preload("lean", folder)
    for nth, part in enumerate(PARTS, 2):
        command = [*trireme.MPIRUN, "-n", "3", "env", f"LD_PRELOAD={library}", "LEAN_RANK=1", f"LEAN_AT={nth}", trireme.BINARY,
                   "run", "-m", str(trireme.DEFAULT_MODEL), "-t", "1", "-n", "2", "--temp", "0", "-p", "Once", "-q"]
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        errors = [line for line in done.stderr.splitlines() if "error: " in line]
        assert done.returncode not in (0, 124) and len(errors) == 1, (nth, done)
        assert f"rank 1: {part}: cannot allocate" in errors[0], (nth, done.stderr)
        print(f"{nth}: status {done.returncode} after {time.monotonic() - begin:.1f} s: {errors[0]}")
