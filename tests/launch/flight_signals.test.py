# Signals to runs with several steps in flight: all end in seconds, by the right status, and leave nothing behind.
# timeout: 600
# labels: mpi
# sanitize: no
"""Ctrl-C to mpirun, SIGTERM to rank 0, SIGTERM and SIGKILL to another rank; and a rank that is stopped is named."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

MARK = f"flight-signals-{os.getpid()}"
folder = tempfile.TemporaryDirectory()
text = pathlib.Path(folder.name, MARK)
text.write_text("Once upon a time there was a cat who had a red hat. " * 20000)
KINDS = {"eval": ["eval", "-m", str(trireme.DEFAULT_MODEL), "--perplexity", str(text), "-c", "64", "--json"],
         "bench": ["bench", "-m", str(trireme.DEFAULT_MODEL), "-p", "0", "-n", "2000", "--parallel", "4", "-r", "1000",
                   "--cache", folder.name + "/" + MARK, "-o", "json"]}


def ranks():
    """Processes of the run that are not mpirun: pid by rank."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
            state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            rank = re.search(r"OMPI_COMM_WORLD_RANK=(\d+)", pathlib.Path(f"/proc/{pid}/environ").read_text(errors="replace"))
        except OSError:
            continue
        if any(MARK in word for word in line) and state != "Z" and int(pid) != os.getpid():
            found[int(rank[1]) if rank else -1] = int(pid)
    return found


def cpu_s(pid):
    """What it has computed. A start takes a quarter of a second of this small model: beyond, it is in its steps."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(kind, layout, **more):
    stages, shards = map(int, layout.split("x"))
    command = [*trireme.MPIRUN, "-n", str(stages * shards), trireme.BINARY, *KINDS[kind], "-t", "1", "--layout", layout]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, **more})
    deadline = time.monotonic() + 60
    found = {}
    while time.monotonic() < deadline and not (
            set(range(stages * shards)) <= set(found) and min(cpu_s(found[r]) for r in range(stages * shards)) > 0.7):
        time.sleep(0.05)
        found = ranks()
    assert process.poll() is None, (kind, layout, process.communicate())
    return process


def ends(process, what):
    """Exit status, standard output and error."""
    begin = time.monotonic()
    out, said = process.communicate(timeout=30)
    while ranks() and time.monotonic() - begin < 10:
        time.sleep(0.05)
    took = time.monotonic() - begin
    assert not ranks(), (what, ranks())
    assert took < 15, (what, took)  # mpirun alone takes two seconds
    print(f"{what}: status {process.returncode} after {took:.1f} s")
    return process.returncode, out.decode(), said.decode()


for layout in ("2x1", "1x2"):
    for kind in KINDS:
        process = start(kind, layout)
        process.send_signal(signal.SIGINT)
        status, out, said = ends(process, f"{kind}, {layout}, SIGINT to mpirun")
        assert status != 0, said
        if kind == "bench":  # a whole list of what was measured, here of nothing
            assert out == "" or json.loads(out) == [], out
        else:
            assert out == "", out

        process = start(kind, layout)
        os.kill(ranks()[0], signal.SIGTERM)
        status, out, said = ends(process, f"{kind}, {layout}, SIGTERM to rank 0")
        assert status == 143, (status, said)
        assert kind == "eval" and out == "" or json.loads(out) == [], out
        if kind == "bench":
            continue

        process = start(kind, layout)
        os.kill(ranks()[1], signal.SIGTERM)
        status, out, said = ends(process, f"{kind}, {layout}, SIGTERM to rank 1")
        assert status == 143, (status, said)

        process = start(kind, layout)
        os.kill(ranks()[1], signal.SIGKILL)
        status, out, said = ends(process, f"{kind}, {layout}, SIGKILL to rank 1")
        assert status != 0 and re.search(r"signal 9|Killed|KILLED", said), said

# A rank that is stopped: those that wait for it say so, and go on when it does.
for layout in ("2x1", "1x2", "3x1"):
    process = start("eval", layout, TRIREME_PATIENCE="1")
    stopped = ranks()[1]
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(3.5)
    assert process.poll() is None
    os.kill(stopped, signal.SIGCONT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    status, out, said = ends(process, f"eval, {layout}, rank 1 stopped")
    late = re.findall(r"rank (\d+) on host (\S+) has not answered for ([0-9.]+) s, in step (\d+)", said)
    assert any(who == "1" and host == os.uname().nodename[:63] and float(s) < 2.5 and int(step) > 1
               for who, host, s, step in late), said
    assert len(late) <= 4, said
    print(said.strip().splitlines()[0])
