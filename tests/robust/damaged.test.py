# Damaged model files: exit status 3 within a second, a message that names file and field.
# timeout: 900
# labels: mpi
# serial: yes
"""200 variants of a sound file: cut at every 1/64, bytes of the header set to other values, counts at
their maxima. A variant may still be a sound file (a changed weight or name); then it must load. On 3 ranks
every rank must end, with the same status and one message."""
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

MODEL = trireme.GOLDEN / "transformers/silu-tq2.gguf"
times = {1: [], 3: []}
messages = {1: [], 3: []}
FULL = trireme.PRESET == "release"


def variants(data):
    """(name, bytes, must it be refused?)"""
    for i in range(64):
        yield f"cut at {i}/64", data[:len(data) * i // 64], True
    header = data.index(b"token_embd.weight") + 2000
    counts = [8, 16]  # tensors, keys: u64 at these offsets
    for at in counts:
        for value in (2**64 - 1, 2**63 - 1, 2**63, 2**32, 2**31 - 1, 2**20):
            yield f"count at {at} = {value}", data[:at] + struct.pack("<Q", value) + data[at + 8:], True
    for at in range(8):
        yield f"magic or version byte {at} flipped", data[:at] + bytes([data[at] ^ 0x5A]) + data[at + 1:], True
    rng = random.Random(20261122)
    for i in range(116):
        at = rng.randrange(8, header)
        value = rng.choice((0xFF, data[at] ^ 0x80, data[at] ^ 1, 0))
        yield f"byte {at} = {value}", data[:at] + bytes([value]) + data[at + 1:], None


def check(path, name, must_fail, ranks):
    start = time.monotonic()
    launcher = [] if ranks == 1 else trireme.MPIRUN + ["-n", str(ranks)]
    done = subprocess.Popen(launcher + [trireme.BINARY, "eval", "-m", path, "--ids", "1,2,3", "--logits",
                                        path + ".npy", "-t", "1", "-q"], stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    guard = threading.Timer(60, done.kill)
    guard.start()
    lines, said = [], None
    for line in done.stderr:
        lines.append(line.decode(errors="replace"))
        if said is None and "error:" in lines[-1]:
            said = time.monotonic() - start
    done.wait()
    guard.cancel()
    seconds = time.monotonic() - start
    text = "".join(lines)
    if done.returncode == 0 and must_fail is None:
        return False
    assert done.returncode == 3, f"{name} on {ranks} ranks: exit status {done.returncode}\n{text}"
    ours = [line for line in text.splitlines() if "error:" in line]
    assert len(ours) == 1, f"{name} on {ranks} ranks: {len(ours)} messages\n{text}"
    assert os.path.basename(path) in ours[0], f"{name}: the message does not name the file: {ours[0]}"
    assert seconds < 20, f"{name} on {ranks} ranks: {seconds:.1f} s"
    times[ranks].append(seconds)
    messages[ranks].append(said)
    return True


def main():
    data = MODEL.read_bytes()
    every = list(variants(data))
    assert len(every) == 200, len(every)
    refused = 0
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "damaged.gguf")
        for i, (name, body, must_fail) in enumerate(every):
            pathlib.Path(path).write_bytes(body)
            for ranks in (1, 3):
                if ranks == 3 and not FULL and i % 20:
                    continue
                refused += check(path, name, must_fail, ranks)
    # The median, since a busy machine delays one process or another. The message comes within a second;
    # Open MPI's mpirun may wait a second more for processes that have already ended.
    for ranks, limit in ((1, 1.0), (3, 2.0)):
        median = sorted(times[ranks])[len(times[ranks]) // 2]
        print(f"{ranks} ranks: {len(times[ranks])} refusals, {median:.2f} s in the median")
        assert median < (limit if FULL else 20)
        said = sorted(messages[ranks])[len(messages[ranks]) // 2]
        print(f"{ranks} ranks: the message after {said:.2f} s in the median")
        assert said < (1.0 if FULL else 20)
    print(f"{len(every)} variants, {refused} refusals")


main()
