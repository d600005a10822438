# timeout: 120
# labels: mpi
# sanitize: no
"""A chat that waits for its next message uses less than one per cent of a core, on every rank and with all threads:
just loaded, and after an answer, when threads and ranks have spun for each other."""
import os
import pathlib
import select
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

MARK = f"idle-test-{os.getpid()}"
SECONDS = 3


def ranks_of(parent):
    """The processes of the program under `parent`, which is one itself or mpirun."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if line[0] == trireme.BINARY and MARK in line:
            found.append(int(pid))
    return found


def busy_seconds(pid):
    """CPU time of all threads, in the scheduler's nanoseconds."""
    return sum(int((task / "schedstat").read_text().split()[0])
               for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) * 1e-9


def sleeps(pids, when):
    """In one of several windows all sleep: on a busy machine an answer may still be on its way in the first."""
    time.sleep(1.5)  # who waits for a second is patient
    for _ in range(5):
        before = {pid: busy_seconds(pid) for pid in pids}
        begin = time.monotonic()
        time.sleep(SECONDS)
        shares = [(busy_seconds(pid) - was) / (time.monotonic() - begin) for pid, was in before.items()]
        print(f"{len(pids)} ranks, {when}: {', '.join(f'{100 * v:.3f}' for v in shares)} % of a core")
        if max(shares) < 0.01:
            return
    raise AssertionError(f"{when}: a rank of {len(pids)} uses {100 * max(shares):.1f} % of a core")


def answer(process):
    """Something comes, and then nothing for half a second."""
    text = b""
    wait = 60
    while select.select([process.stdout], [], [], wait)[0]:
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, "the chat ended"
        text += piece
        wait = 0.5
    assert text.strip(), "no answer"


for ranks, options in ((1, ("-t", "2")), (3, ("-t", "1", "--layout", "3x1")), (2, ("-t", "2", "--layout", "1x2"))):
    command = [] if ranks == 1 else trireme.MPIRUN + ["-n", str(ranks)]
    command += [trireme.BINARY, "run", "-m", str(trireme.DEFAULT_MODEL), "-cnv", "--chat-template", "llama2", "-sys", MARK,
                "-n", "20", "--ignore-eos", "-c", "512", *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while len(ranks_of(process)) < ranks and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(3)  # loaded, also where the machine is busy
        pids = ranks_of(process)
        assert len(pids) == ranks and process.poll() is None, pids
        sleeps(pids, "before the first message")
        process.stdin.write(b"Once there was\n")
        process.stdin.flush()
        answer(process)
        sleeps(pids, "after an answer")
        process.stdin.write(b"and then\n")
        process.stdin.flush()
        answer(process)  # it was asleep, not dead
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
