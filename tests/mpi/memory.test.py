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

with tempfile.TemporaryDirectory() as folder:
    library = trireme.preload("memory", folder)
    failures = 0
    for nth in range(1, 21):
        command = [*trireme.MPIRUN, "-n", "3", "env", f"LD_PRELOAD={library}", f"MEMORY_FAILS={nth}", trireme.BINARY,
                   "run", "-m", str(trireme.DEFAULT_MODEL), "-t", "1", "-n", "2", "--temp", "0", "-p", "Once", "-q"]
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        errors = [line for line in done.stderr.splitlines() if "error: " in line]
        if done.returncode == 0:
            break
        failures += 1
        assert len(errors) == 1 and "rank 1: " in errors[0] and "cannot allocate" in errors[0], done.stderr
        print(f"{nth}: status {done.returncode} after {time.monotonic() - begin:.1f} s: {errors[0]}")
    # All of them, up to the first number that no allocation has.
    assert 4 <= failures < 20, failures
