# Messages of rank 0 whose lengths cannot be are refused by rank, thing and values; all ranks end, none waits.
# timeout: 240
# labels: mpi
"""One message on its way to rank 1 is another one (tests/support/preload/forge.c): too long, negative, cut, longer or shorter
than it says, or in the place of another."""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

CONTROL, START = 1, 2  # comm/internal.h: COMM_TAG_CONTROL, COMM_TAG_SCATTER
LIMIT = 64 << 20       # base/limits.h: LIMIT_MESSAGE_BYTES
HEAD = 2048            # comm/internal.h: COMM_HEAD_BYTES, of which 8 are the length
RUN = ["run", "-m", trireme.DEFAULT_MODEL, "-t", "1", "-n", "8", "--temp", "0", "-p", "Once", "-q"]


def sends(library, ranks, tag):
    """The bytes of what rank 0 sends to rank 1 by the tag: {number of the send: bytes}."""
    done = start(library, ranks, FORGE_TAG=tag, FORGE_TRACE=1)
    words = [line.split() for line in done.stderr.splitlines() if line.startswith("send ")]
    return {int(w[1].rstrip(":")): int(w[2]) for w in words if w[-1] == "1"}


def start(library, ranks, **forge):
    settings = [f"{name}={value}" for name, value in forge.items()]
    # the sanitizer wants to be the first library, unless told
    preload = (f"LD_PRELOAD={library}", f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0")
    line = [*trireme.MPIRUN, "-n", ranks, "env", *preload, *settings, trireme.BINARY, *RUN]
    # mpirun need not wait for ranks that it has told to end: who ends the run has said why before.
    return subprocess.run([str(c) for c in line], capture_output=True, text=True, timeout=40 * trireme.PATIENCE,
                          env={**os.environ, "OMPI_MCA_odls_base_sigkill_timeout": "0"})


def refused(library, ranks, words, forge):
    begin = time.monotonic()
    done = start(library, ranks, **forge)
    errors = [line for line in done.stderr.splitlines() if "error: " in line]
    assert done.returncode not in (0, 124), (forge, done)
    assert errors and all(w in errors[0] for w in ("[rank 1]", "rank 0", *words)), (forge, words, done.stderr)
    print(f"{forge}: status {done.returncode} after {time.monotonic() - begin:.1f} s: {errors[0]}")


def control_cases(sent):
    share, step = min(sent), max(sent) - 4
    # What a head announces: over the limit, negative, or not what lies in it.
    for at in (share, step):
        n = sent[at]
        yield ("announced", str(LIMIT + 1), f"limit {LIMIT}"), {"AT": at, "ANNOUNCE": LIMIT + 1}
        yield ("announced", str(2**64 - 5)), {"AT": at, "ANNOUNCE": -5}
        for announced in (0, n - 9, n - 7, LIMIT):
            yield (f"{n} bytes where {8 + min(announced, HEAD - 8)} were due",), {"AT": at, "ANNOUNCE": announced}
    # Cut, inside the length and behind it; longer than any head.
    for left in (0, 7, 8, sent[step] - 1):
        yield (f"{left} bytes where {8 if left < 8 else sent[step]} were due",), {"AT": step, "BYTES": left}
    yield (f"more than the {HEAD} bytes due",), {"AT": step, "BYTES": HEAD + 1}
    # Sound, but of another place in the order: the bindings have a known length.
    n = sent[share] - 8
    yield (f"12 bytes where {n} were due", "bindings"), {"AT": share, "ANNOUNCE": 12, "BYTES": 20}
    yield (f"more than the {n} bytes due", "bindings"), {"AT": share, "ANNOUNCE": n + 10, "BYTES": n + 18}


def start_cases(sent):
    """The length, then the message."""
    length, body = sorted(sent)
    n = sent[body]
    yield ("announced", str(2**63)), {"AT": length, "ANNOUNCE": 2**63}
    yield ("7 bytes where 8 were due",), {"AT": length, "BYTES": 7}
    yield (f"{n} bytes where {n + 1} were due",), {"AT": length, "ANNOUNCE": n + 1}
    yield (f"more than the {n - 1} bytes due",), {"AT": length, "ANNOUNCE": n - 1}
    yield (f"0 bytes where {n} were due",), {"AT": body, "BYTES": 0}


def piece_cases(sent):
    """Behind a head that is full: the bindings of many ranks."""
    at, n = sorted(sent.items())[1]
    yield (f"0 bytes where {n} were due",), {"AT": at, "BYTES": 0}
    yield (f"{n - 1} bytes where {n} were due",), {"AT": at, "BYTES": n - 1}
    yield (f"more than the {n} bytes due",), {"AT": at, "BYTES": n + 1}


with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(4) as pool:
    lib = trireme.preload("forge", folder)
    runs = []
    for ranks, tag, cases in ((3, CONTROL, control_cases), (3, START, start_cases), (9, CONTROL, piece_cases)):
        sent = sends(lib, ranks, tag)
        assert min(sent) == 1 and len(sent) >= 2 and (ranks < 9 or sent[1] == HEAD), sent
        for words, forge in cases(sent):
            settings = {"FORGE_TAG": tag, **{f"FORGE_{name}": value for name, value in forge.items()}}
            runs.append(pool.submit(refused, lib, ranks, words, settings))
    for run in runs:
        run.result()
