# A rank that fails while several steps are in flight ends the run of all in seconds, with its error.
# timeout: 180
# labels: mpi
# sanitize: no
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

with tempfile.TemporaryDirectory() as folder:
    text, library = pathlib.Path(folder, "text"), trireme.preload("fault", folder)
    text.write_text("Once upon a time there was a cat. " * 20000)
    for layout in ("2x1", "1x2", "3x1"):
        stages, shards = map(int, layout.split("x"))
        # Step 200 is in the middle of some 2500.
        for fault, words in (("FAULT_MESSAGE=200", "no step message"), ("FAULT_WAIT=200", "MPI_I")):
            command = [*trireme.MPIRUN, "-n", str(stages * shards), "env", f"LD_PRELOAD={library}", fault, trireme.BINARY,
                       "eval", "-m", str(trireme.DEFAULT_MODEL), "--perplexity", str(text), "-c", "64", "-t", "1", "-q",
                       "--layout", layout]
            begin = time.monotonic()
            done = subprocess.run(command, capture_output=True, text=True, timeout=50)
            errors = [line for line in done.stderr.splitlines() if "error: " in line]
            assert done.returncode not in (0, 124) and done.stdout == "", (layout, fault, done)
            assert errors and words in errors[0] and "[rank " in errors[0], (layout, fault, done.stderr)
            print(f"{layout}, {fault}: status {done.returncode} after {time.monotonic() - begin:.1f} s: {errors[0]}")
