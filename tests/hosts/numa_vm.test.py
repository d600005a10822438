# Two memory domains for real, in qemu's software emulation: weights and KV cache lie on the domain that reads them.
# timeout: 900
# labels: mpi
# sanitize: no
"""The machine's CPUs are numbered across its domains in turn (0 and 2, 1 and 3), as some firmware does it. Its kernel answers
where a page is, and can be told to give a program memory of one domain alone: then the shares of near pages must fall to
what counting says, or the looking would be no check."""
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import trireme
import vm

FOLDER = pathlib.Path(os.environ.get("TRIREME_BUILD", trireme.SOURCE / "build/release")) / "tests/vm"
MODEL, NOTHING = trireme.DEFAULT_MODEL, "/none/at.all"
MPIRUN = shutil.which("mpirun")
EVAL = ["eval", "-m", MODEL, "-p", "Once upon a time there was a ship", "--logits"]
NUMA = ["--map-by", "numa", "--bind-to", "numa"]


def ranks(n, binding, *args, before=()):
    return [MPIRUN, "-n", n, *binding, *before, trireme.BINARY, *args]


def bench(*options, model=MODEL):
    return ["bench", "-m", model, "-p", "0", "-n", "2", "-r", "1", "-o", "json", *options]


# What is run, the near share of the pages of weights and of KV cache that must be seen (None: see below), and what else the
# report must hold. Memory of the second domain alone is near for the half of two ranks, and not at all for one on the first.
SECOND = ["/init", 1]
BENCHES = [
    ("one rank over both domains", [trireme.BINARY, *bench()], None, {}),
    ("a rank on each, memory of the second", ranks(2, NUMA, *bench(), before=SECOND), 0.5, {}),
    ("a rank on the first, memory of the second", ranks(1, NUMA, *bench(), before=SECOND), 0.0, {}),
    ("a rank on each", ranks(2, NUMA, *bench("--pack-cache", "/tmp/packed")), 1.0, {"pack_cache": "written"}),
    ("two ranks that nobody bound, packed weights from a file",
     ranks(2, ["--bind-to", "none"], *bench("--pack-cache", "/tmp/packed")), 1.0, {"pack_cache": "read"}),
    ("a rank on each, weights sent, screened head",
     [*ranks(1, NUMA, *bench("--head", "screened", "--cache", "/tmp/units")), ":", "-n", "1", trireme.BINARY,
      *bench("--head", "screened", "--cache", "/tmp/units", model=NOTHING)], 1.0, {"head": "screened"}),
]


def host_logits():
    with tempfile.TemporaryDirectory() as tmp:
        out = f"{tmp}/one.npy"
        subprocess.run([trireme.BINARY, *EVAL, out, "-t", "1"], check=True, capture_output=True)
        return pathlib.Path(out).read_bytes()


def check(name, a, want, report):
    assert a.status == 0, f"{name}: exit status {a.status}\n{a.out.decode()}{a.err.decode()}"
    (value,) = json.loads(a.out)
    weights, kv = value["numa_local"], value["numa_local_kv"]
    print(f"{name}: {100 * weights:.0f} % of the weights' pages and {100 * kv:.0f} % of the KV cache's are near")
    for key, what in report.items():
        assert value[key] == what, (name, key, value[key])
    if want is None: # a page may hold the shares of two threads; every domain is one of the rank's
        assert weights >= 0.7 and kv == 1, (name, weights, kv) # by chance: 0.5
    else:
        assert (weights, kv) == (want, want), (name, weights, kv)
    warned = b"lie on the memory domain of their thread" in a.err
    assert warned == (weights < 0.9), (name, weights, a.err)


def main():
    commands = [c for _, c, _, _ in BENCHES]
    for out, args in (("/tmp/a.npy", [trireme.BINARY, *EVAL, "/tmp/a.npy"]), ("/tmp/b.npy", ranks(2, NUMA, *EVAL, "/tmp/b.npy"))):
        commands += [args, ["@send", out]]
    if platform.machine() != "x86_64":
        trireme.skip(f"the virtual machine is an x86-64 one, this is {platform.machine()}")
    start = time.time()
    try:
        answers = vm.run(commands, [trireme.BINARY, MODEL], FOLDER, in_turn=True, timeout=800)
    except vm.Unavailable as e:
        trireme.skip(str(e))
    print(f"{len(commands)} commands in a machine of two domains, {time.time() - start:.0f} s")
    for (name, _, want, report), a in zip(BENCHES, answers):
        check(name, a, want, report)
    one = host_logits()
    for i, name in ((-4, "one rank"), (-2, "two ranks")):
        assert answers[i].status == 0, (name, answers[i].err)
        assert answers[i + 1].status == 0 and answers[i + 1].out == one, f"{name} in the machine: other logits than here"
        print(f"{name}: the logits of this machine, byte for byte")


main()
