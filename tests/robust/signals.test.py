# SIGINT and SIGTERM, plain and under mpirun, end the run and leave no process behind.
# timeout: 180
# labels: mpi
"""Also: kill -9 of one rank ends the others (mpirun's doing, but ours to not outlive)."""
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

MARK = f"trireme-signal-test-{os.getpid()}"


def ours():
    """Processes of this test's runs, found by a mark on their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if MARK in line and int(pid) != os.getpid() and state != "Z":
            found.append((int(pid), line.replace("\0", " ")))
    return found


def start(ranks):
    command = [] if ranks == 1 else trireme.MPIRUN + ["-n", str(ranks)]
    command += [trireme.BINARY, "run", "-m", str(trireme.DEFAULT_MODEL), "-p", MARK, "-n", "100000", "-c", "200000",
                "--ignore-eos", "-t", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               stdin=subprocess.DEVNULL)
    seen = b""
    deadline = time.monotonic() + 60
    while len(seen) < len(MARK) + 40 and time.monotonic() < deadline:  # it writes: it is in its steps
        seen += os.read(process.stdout.fileno(), 4096)
    assert process.poll() is None, "the run ended by itself"
    return process


def ends(process, what, statuses):
    begin = time.monotonic()
    process.stdout.close()
    status = process.wait(timeout=20)
    while ours() and time.monotonic() - begin < 20:
        time.sleep(0.05)
    print(f"{what}: exit status {status} after {time.monotonic() - begin:.2f} s, left: {ours()}")
    assert not ours(), what
    assert statuses is None or status in statuses, (what, status)


for ranks in (1, 2, 3):
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(ranks)
        process.send_signal(number)
        ends(process, f"{number.name} on {ranks} ranks", (128 + number,) if ranks == 1 else None)
process = start(3)
workers = [pid for pid, line in ours() if "mpirun" not in line.split()[0]]
os.kill(workers[-1], signal.SIGKILL)
ends(process, "SIGKILL of one of 3 ranks", None)
