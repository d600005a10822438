"""What script tests share: running the binary on any number of ranks, reading .npy, skipping."""
import ast
import json
import os
import pathlib
import shlex
import shutil
import struct
import subprocess
import sys

SOURCE = pathlib.Path(os.environ.get("TRIREME_SOURCE", pathlib.Path(__file__).parents[2]))
BINARY = os.environ.get("TRIREME") or str(SOURCE / "build/release/bin/trireme")
MPIRUN = shlex.split(os.environ.get("TRIREME_MPIRUN", "mpirun --map-by :OVERSUBSCRIBE --bind-to none"))
SHARED = os.environ.get("TRIREME_SHARED", "")
PRESET = os.environ.get("TRIREME_PRESET", "release")
# What a limit of time is multiplied with: sanitizers are slow (tests/CMakeLists.txt).
PATIENCE = int(os.environ.get("TRIREME_TEST_PATIENCE", "1"))
GOLDEN = SOURCE / "tests/golden"
DEFAULT_MODEL = SOURCE / "default-model/trireme-stories.gguf"


def skip(reason):
    print(reason)
    sys.exit(77)


def shared(path):
    """A file of the reference data; the test is skipped where there is none."""
    if not SHARED or not os.path.exists(os.path.join(SHARED, path)):
        skip(f"the reference data (shared/data/{path}) is not here")
    return os.path.join(SHARED, path)


def preload(name, folder):
    """tests/support/preload/NAME.c, compiled against MPI into the folder: what LD_PRELOAD is to name."""
    if shutil.which("mpicc") is None:
        skip(f"missing tool: mpicc, which tests/support/preload/{name}.c is compiled with")
    library = pathlib.Path(folder, f"{name}.so")
    subprocess.run(["mpicc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE / f"tests/support/preload/{name}.c"], check=True)
    return library


def run(args, ranks=1, timeout=120, check=True, **kwargs):
    """Run `trireme args` on so many ranks. check: an exit status other than 0 fails the test. timeout: seconds, four times
    as many under a sanitizer."""
    launcher = [] if ranks == 1 else MPIRUN + ["-n", str(ranks)]
    command = launcher + [BINARY] + [str(a) for a in args]
    done = subprocess.run(command, capture_output=True, timeout=timeout * PATIENCE,
                          stdin=kwargs.pop("stdin", subprocess.DEVNULL), **kwargs)
    if check and done.returncode != 0:
        sys.exit(f"exit status {done.returncode} of {shlex.join(command)}\n"
                 f"{done.stderr.decode(errors='replace')}")
    return done


def run_json(args, ranks=1, **kwargs):
    """The one JSON value that `trireme args --json` prints."""
    return json.loads(run(list(args) + ["--json"], ranks, **kwargs).stdout)


def read_npy(path):
    """A float32 .npy file of two dimensions: (rows, columns, bytes of the data)."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == b"\x93NUMPY\x01\x00", f"{path}: not an .npy file of version 1.0"
    (length,) = struct.unpack_from("<H", data, 8)
    head = ast.literal_eval(data[10:10 + length].decode())
    assert head["descr"] == "<f4" and not head["fortran_order"], head
    rows, columns = head["shape"]
    body = data[10 + length:]
    assert len(body) == rows * columns * 4, f"{path}: {len(body)} bytes for {head['shape']}"
    return rows, columns, body


def floats(body):
    return memoryview(body).cast("f")


def logits(model, ids, out, ranks=1, *options, **kwargs):
    """Logits of all ids as (rows, columns, bytes)."""
    run(["eval", "-m", model, "--ids", ids, "--logits", out, *options], ranks, **kwargs)
    return read_npy(out)


def argmax(row):
    return max(range(len(row)), key=row.__getitem__)


def close_logits(name, want, got, rows, columns):
    """The difference's root mean square is below 1 % of the logits' standard deviation, and the largest logit is the
    same wherever the first two differ by more than that."""
    n = rows * columns
    mean = sum(want) / n
    std = (sum((v - mean) ** 2 for v in want) / n) ** 0.5
    rms = (sum((a - b) ** 2 for a, b in zip(want, got)) / n) ** 0.5
    print(f"{name}: rms difference {rms / std:.1e} of the standard deviation")
    assert rms < 0.01 * std, name
    for r in range(rows):
        row = list(want[r * columns:(r + 1) * columns])
        top, second = sorted(row, reverse=True)[:2]
        if top - second > 0.01 * std:
            assert argmax(row) == argmax(list(got[r * columns:(r + 1) * columns])), f"{name}: row {r}"
