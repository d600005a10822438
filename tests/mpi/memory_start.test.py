# One rank runs out of memory while the run starts: all ranks end, with one text that names the rank.
# timeout: 1200
# labels: mpi
# sanitize: no
"""Each allocation of a rank's start fails once (tests/support/preload/lean.c), in a run of its own. Nobody may be left
waiting in an exchange. Where it can do without, as for shared memory, the run gives what it gives undisturbed."""
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

MODEL = trireme.GOLDEN / "transformers/silu-tq2.gguf"
ONLINE = trireme.GOLDEN / "saved/bitnet-online"


def start(library, model, others, options, rank, at, seconds=100):
    """`others`: what rank 1 is given as its model."""
    program = ["env", f"LD_PRELOAD={library}", f"LEAN_RANK={rank}", f"LEAN_AT={at}", f"LEAN_FILE={library}.count",
               trireme.BINARY, "eval", "-m"]
    rest = ["--ids", "1,5,9", "--logits", f"{library}.npy", "-t", "1", "-q", *options]
    pathlib.Path(f"{library}.npy").unlink(missing_ok=True)
    command = [*trireme.MPIRUN, "-n", "1", *program, model, *rest, ":", "-n", "1", *program, others, *rest]
    try:
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=seconds * trireme.PATIENCE)
    except subprocess.TimeoutExpired as late:
        sys.exit(f"rank {rank}, allocation {at}, {options}: ranks wait for ever\n{late.stderr}")


def check(library, ranks, model, others, *options):
    for rank in ranks:
        done = start(library, model, others, options, rank, 0)
        assert done.returncode == 0, done
        want = pathlib.Path(f"{library}.npy").read_bytes()
        n = int(pathlib.Path(f"{library}.count").read_text())
        assert n > 20, n
        refused = 0
        for at in range(1, n + 1):
            done = start(library, model, others, options, rank, at)
            errors = [line for line in done.stderr.splitlines() if "error: " in line]
            if done.returncode == 0:
                got = pathlib.Path(f"{library}.npy").read_bytes()
                assert got == want and not errors, (rank, at, done)
                continue
            # The first is the world itself: before the ranks know each other.
            named = f"rank {rank}" if at > 1 else ""
            assert len(errors) == 1 and "cannot" in errors[0] and named in errors[0], (rank, at, done.stderr)
            refused += 1
        assert refused > n // 2, (refused, n)
        print(f"{' '.join(options)}, rank {rank}: {n} allocations, {refused} ended the run, the rest did without")


with tempfile.TemporaryDirectory() as folder:
    lean = trireme.preload("lean", folder)
    check(lean, (1, 0), MODEL, f"{folder}/none", "--layout", "1x2")
    check(lean, (1,), ONLINE, ONLINE, "--layout", "1x2", "--pack-cache", folder)
    check(lean, (1,), MODEL, MODEL, "--layout", "2x1")
