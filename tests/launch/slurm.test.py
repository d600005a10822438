# Slurm, really: a controller, a daemon on each of two emulated hosts, munge. sbatch of launch/slurm/run.sbatch, srun
# --mpi=pmix, mpirun in a job, and srun without a PMI, which is recognised.
# timeout: 600
# labels: mpi
# lock: hosts
# sanitize: no
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "hosts"))
import hosts
import launching
import trireme

HOSTS = 2
RECIPE = trireme.SOURCE / "launch/slurm/run.sbatch"


def configuration(tmp):
    nodes = "".join(f"NodeName=host{i} NodeAddr={hosts.address(i)} CPUs={os.cpu_count()} State=UNKNOWN\n"
                    for i in range(HOSTS))
    (tmp / "slurm.conf").write_text(f"""ClusterName=emulated
SlurmctldHost=host0({hosts.address(0)})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={tmp}/munge.socket
StateSaveLocation={tmp}/state
SlurmdSpoolDir={tmp}/spool-%n
SlurmctldPidFile={tmp}/slurmctld.pid
SlurmdPidFile={tmp}/slurmd-%n.pid
SlurmctldLogFile={tmp}/slurmctld.log
SlurmdLogFile={tmp}/slurmd-%n.log
TmpFS={tmp}/local-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
{nodes}PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")


@contextlib.contextmanager
def cluster(h, tmp):
    """munge for all (its socket is a file), the controller on host 0, a daemon on each; all nodes idle."""
    (tmp / "state").mkdir()
    for i in range(HOSTS):
        (tmp / f"local-host{i}").mkdir() # of each node: PMIx keeps folders named after the job there
    (tmp / "munge.key").write_bytes(os.urandom(1024))
    (tmp / "munge.key").chmod(0o600)
    configuration(tmp)
    env = launching.environment(SLURM_CONF=str(tmp / "slurm.conf"))
    running = []

    def start(host, *args):
        log = open(tmp / f"{os.path.basename(args[0])}-{host}.out", "w")
        running.append(subprocess.Popen([*h.prefix(host), "setpriv", "--pdeathsig", "TERM", *args], env=env,
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    try:
        start(0, "munged", "--foreground", "--force", f"--socket={tmp}/munge.socket", f"--key-file={tmp}/munge.key",
              f"--pid-file={tmp}/munged.pid", f"--log-file={tmp}/munged.log", f"--seed-file={tmp}/munged.seed")
        wait(lambda: (tmp / "munge.socket").exists(), "munged", tmp)
        start(0, "slurmctld", "-D")
        for i in range(HOSTS):
            start(i, "slurmd", "-D", "-N", f"host{i}")

        def idle():
            said = subprocess.run([*h.prefix(0), "sinfo", "-h", "-o", "%t %D"], env=env, capture_output=True, text=True)
            return said.stdout.split() == ["idle", str(HOSTS)]
        wait(idle, "the nodes", tmp)
        yield env
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait(ready, what, tmp):
    deadline = time.monotonic() + 60
    while not ready():
        if time.monotonic() > deadline:
            logs = [f"{f.name}: {f.read_text()[-1500:]}" for f in sorted(tmp.iterdir()) if f.suffix in (".log", ".out")]
            sys.exit(f"Slurm: {what} not ready in 60 s\n" + "\n".join(logs))
        time.sleep(0.2)


def sbatch(h, tmp, env, what, *args):
    """Submit, wait for the end; what the job wrote."""
    out = tmp / "job.txt"
    try:
        launching.command([*h.prefix(0), "sbatch", "--wait", "--output", out, "--nodes=2", *args], what, env, 120, tmp)
    finally:
        text = out.read_text() if out.exists() else "no output"
        print(f"{what}: {text}")
    return text


def run(h, tmp):
    want = launching.one_rank(tmp)
    out = tmp / "out.npy"
    with cluster(h, tmp) as base:
        env = base | {"TRIREME": trireme.BINARY}
        kinds, more = launching.command([*h.prefix(0), "srun", "--mpi=list"], "srun --mpi=list", env)
        assert "pmix" in kinds + more, kinds + more
        for tasks, layout in ((1, "1x2"), (2, "2x2")):
            text = sbatch(h, tmp, env, "sbatch", f"--ntasks-per-node={tasks}", RECIPE,
                   *launching.evaluate(out, "--layout", layout))
            assert "SLURM_" not in text, text
            launching.same(f"run.sbatch on 2 nodes, {tasks} tasks each, layout {layout}", out, want)
        launching.command([*h.prefix(0), "srun", "--nodes=2", "--ntasks=3", "--mpi=pmix", trireme.BINARY,
                           *launching.evaluate(out, "--layout", "1x3")], "srun", base)
        launching.same("srun --mpi=pmix, 3 tasks on 2 nodes", out, want)
        script = tmp / "mpirun.sh"
        line = " ".join(launching.evaluate(out, "--layout", "1x2")).replace(launching.PROMPT, f"'{launching.PROMPT}'")
        script.write_text("#!/bin/sh\nexport OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\nexec mpirun "
                          f"--map-by ppr:1:node --bind-to none {trireme.BINARY} {line}\n")
        text = sbatch(h, tmp, base, "mpirun in a job", "--ntasks-per-node=1", script)
        assert "SLURM_" not in text, text
        launching.same("mpirun in a job of 2 nodes", out, want)
        script.write_text(script.read_text().replace("ppr:1:node", ":OVERSUBSCRIBE -n 2"))
        text = sbatch(h, tmp, base, "mpirun -n 2 in a job of 4 tasks", "--ntasks-per-node=2", script)
        launching.same("mpirun -n 2 in a job of 4 tasks", out, want)
        assert text.count("SLURM_NTASKS is 4 but MPI sees 2 ranks") == 1, text
        # Open MPI 4 ends it, with a text about its own build: ours says what to do
        done = subprocess.run([*h.prefix(0), "srun", "--nodes=2", "--ntasks=2", "--mpi=none", trireme.BINARY, "run", "-m",
                               str(trireme.DEFAULT_MODEL), "-p", "x", "-n", "2", "-s", "1"], env=base, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        told = [text for text in done.stderr.splitlines() if "SLURM_STEP_NUM_TASKS is 2" in text]
        assert len(told) == 1 and "srun --mpi=pmix" in told[0], done.stderr
        print(f"srun without a PMI: {told[0]}")


for package, *programs in (("munge", "munged"), ("slurmctld", "slurmctld"), ("slurmd", "slurmd"),
                           ("slurm-client", "srun", "sbatch", "sinfo")):
    launching.need(package, *programs)
with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
    os.chmod(folder, 0o755) # munge's socket is for everyone
    try:
        with hosts.Hosts(HOSTS) as emulated:
            run(emulated, pathlib.Path(folder))
    except hosts.Unavailable as e:
        trireme.skip(str(e))
