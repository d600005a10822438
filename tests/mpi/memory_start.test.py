# One rank runs out of memory while the run starts: all ranks end, with one text that names the rank.
# timeout: 1200
# labels: mpi
# sanitize: no
"""Each allocation of a rank's start fails once (tests/support/preload/lean.c), in a run of its own; of those that one way
through the program makes again and again, as for each layer, the first and the last. Nobody may be left waiting in an
exchange. Where it can do without, as for shared memory, the run gives what it gives undisturbed."""
import concurrent.futures
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

os.environ["OMPI_MCA_odls_base_sigkill_timeout"] = "0"  # mpirun waits a second for ranks it ends, in each run
RUNS = 3  # at once: they mostly wait for mpirun
MODEL = trireme.GOLDEN / "transformers/silu-tq2.gguf"
ONLINE = trireme.GOLDEN / "saved/bitnet-online"


def ranks_left(out):
    """The processes that were to write this file, but for mpirun itself."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(out) in words and words[0] == trireme.BINARY:
            found.append(int(entry.name))
    return found


def start(library, model, others, options, rank, at, seconds=100):
    """One run, and the file of its logits. `others`: what rank 1 is given as its model."""
    out = pathlib.Path(f"{library}.{rank}.{at}.npy")
    program = ["env", f"LD_PRELOAD={library}", f"LEAN_RANK={rank}", f"LEAN_AT={at}", f"LEAN_FILE={library}.{at}.count",
               trireme.BINARY, "eval", "-m"]
    out.unlink(missing_ok=True)
    rest = ["--ids", "1,5,9", "--logits", out, "-t", "1", "-q", *options]
    command = [*trireme.MPIRUN, "-n", "1", *program, model, *rest, ":", "-n", "1", *program, others, *rest]
    command = [str(c) for c in command]
    mpirun = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = mpirun.communicate(timeout=seconds * trireme.PATIENCE)
        return subprocess.CompletedProcess(command, mpirun.returncode, *said), out
    except subprocess.TimeoutExpired:
        left = ranks_left(out)
        mpirun.kill()
        for pid in left: # they hold the pipes
            os.kill(pid, signal.SIGKILL)
        said = mpirun.communicate()
    # Open MPI 4.1 may itself hang, once in thousands of runs, when a rank is killed while it connects to mpirun.
    code = re.search(r"Exit code: +(\d+)", said[1])
    if left or code is None:
        sys.exit(f"rank {rank}, allocation {at}, {options}: ranks wait for ever: {left}\n{said[1]}")
    print(f"rank {rank}, allocation {at}, {options}: its ranks had ended, mpirun alone had not")
    return subprocess.CompletedProcess(command, int(code[1]), *said), out


def ways_of(library):
    """How many allocations the undisturbed run made; the first and the last of each way; how many ways."""
    n, *ways = pathlib.Path(f"{library}.0.count").read_text().split()
    assert int(n) > 20 and len(ways) == int(n), (n, len(ways))
    first, last = {}, {}
    for at, way in enumerate(ways, 1):
        first.setdefault(way, at)
        last[way] = at
    return int(n), sorted({*first.values(), *last.values()}), len(first)


def ended(rank, at, done, out, want):
    """Did the run end with the one error it should? Else it gave what it gives undisturbed."""
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    if done.returncode == 0:
        assert out.read_bytes() == want and not errors, (rank, at, done)
        return False
    # The first is the world itself: before the ranks know each other.
    named = f"rank {rank}" if at > 1 else ""
    assert len(errors) == 1 and "cannot" in errors[0] and named in errors[0], (rank, at, done.stderr)
    return True


def check(library, ranks, model, others, *options):
    for rank in ranks:
        done, out = start(library, model, others, options, rank, 0)
        assert done.returncode == 0, done
        want = out.read_bytes()
        n, tried, ways = ways_of(library)
        with concurrent.futures.ThreadPoolExecutor(RUNS) as pool:
            runs = pool.map(lambda at: (at, *start(library, model, others, options, rank, at)), tried)
            refused = sum(ended(rank, at, done, out, want) for at, done, out in runs)
        assert len(tried) > 20 and refused > len(tried) // 2, (refused, tried)
        print(f"{' '.join(options)}, rank {rank}: {len(tried)} of {n} allocations in {ways} ways, {refused} ended the run, the "
              "rest did without")


with tempfile.TemporaryDirectory() as folder:
    lean = trireme.preload("lean", folder)
    check(lean, (1, 0), MODEL, f"{folder}/none", "--layout", "1x2")
    check(lean, (1,), ONLINE, ONLINE, "--layout", "1x2", "--pack-cache", folder)
    check(lean, (1,), MODEL, MODEL, "--layout", "2x1")
