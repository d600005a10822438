# launch/mpirun-ethernet.sh over three emulated hosts: by ssh to a daemon on each, by a launch agent, with uneven slots.
# timeout: 600
# labels: mpi
# lock: hosts
# sanitize: no
import contextlib
import os
import pathlib
import pwd
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "hosts"))
import hosts
import launching
import trireme

RECIPE = trireme.SOURCE / "launch/mpirun-ethernet.sh"
HOSTS = 3


def keys(folder):
    """A .ssh folder that all hosts share: one user key, the hosts' key, who is known."""
    folder.mkdir(mode=0o700)
    user, daemon = folder / "id_ed25519", folder / "host_key"
    launching.command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", user], "ssh-keygen")
    out, _ = launching.command(["dropbearkey", "-t", "ed25519", "-f", daemon], "dropbearkey")
    public = next(line for line in out.splitlines() if line.startswith("ssh-ed25519"))
    kind, key = public.split()[:2]
    (folder / "authorized_keys").write_text(user.with_suffix(".pub").read_text())
    (folder / "known_hosts").write_text("".join(f"host{i} {kind} {key}\n" for i in range(HOSTS)))
    for file in folder.iterdir():
        file.chmod(0o600)
    return daemon


@contextlib.contextmanager
def daemons(h, tmp):
    """A daemon on each host, which sees our keys in the place of the user's and the hosts' names in /etc/hosts."""
    home = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir, ".ssh")
    key = keys(tmp / "ssh")
    (tmp / "names").write_text("127.0.0.1 localhost\n" +
                               "".join(f"{hosts.address(i)} host{i}\n" for i in range(HOSTS)))
    made = not home.exists()
    if made:
        home.mkdir(mode=0o700)
    running = []
    try:
        for i in range(HOSTS): # in the host's mount namespace only
            h.enter(i, f"mount --bind {tmp}/ssh {home} && mount --bind {tmp}/names /etc/hosts")
            log = open(tmp / f"sshd{i}.log", "w")
            running.append(subprocess.Popen([*h.prefix(i), "setpriv", "--pdeathsig", "KILL", "dropbear", "-F", "-E", "-s",
                                             "-r", str(home / "host_key"), "-P", str(tmp / f"sshd{i}.pid"), "-p",
                                             f"{hosts.address(i)}:22"], stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        assert key.exists()
        deadline = time.monotonic() + 20
        for i in range(HOSTS):
            while subprocess.run([*h.prefix(0), "ssh", f"host{i}", "hostname"], capture_output=True, text=True,
                                 stdin=subprocess.DEVNULL, env=launching.environment()).stdout != f"host{i}\n":
                if time.monotonic() > deadline:
                    sys.exit(f"ssh to host{i}: {(tmp / f'sshd{i}.log').read_text()}")
                time.sleep(0.1)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()
        if made:
            home.rmdir()


def launch(h, tmp, hostfile, want, ranks, what, layout, **env):
    """The recipe on host 0: that many ranks on the three hosts, and the logits of one."""
    (tmp / "hosts").write_text(hostfile)
    env = launching.environment(TRIREME=trireme.BINARY, OMPI_MCA_btl_vader_single_copy_mechanism="none", **env)
    out = tmp / "out.npy"
    _, err = launching.command([*h.prefix(0), RECIPE, f"{hosts.NET}.0/24", tmp / "hosts",
                                *launching.evaluate(out, "--layout", layout)], what, env)
    launching.same(f"{what}, layout {layout}", out, want)
    bound = sorted(line.split("host")[1][0] for line in err.splitlines() if "MCW rank" in line)
    assert bound == ranks, f"{what}: ranks on hosts {bound}, not {ranks}\n{err}"


def main():
    launching.need("openssh-client", "ssh", "ssh-keygen")
    launching.need("dropbear-bin", "dropbear", "dropbearkey")
    with tempfile.TemporaryDirectory(prefix="trireme-ssh-") as folder, hosts.Hosts(HOSTS, mounts=True) as h:
        tmp = pathlib.Path(folder)
        want = launching.one_rank(tmp)
        with daemons(h, tmp):
            names = "".join(f"host{i}\n" for i in range(HOSTS))
            launch(h, tmp, names, want, ["0", "1", "2"], "hostfile by ssh", "1x3")
            slots = "host0 slots=1\nhost1 slots=2\nhost2 slots=1\n"
            launch(h, tmp, slots, want, ["0", "1", "1", "2"], "uneven slots by ssh", "2x2")
        addresses = "".join(f"{hosts.address(i)}\n" for i in range(HOSTS))
        launch(h, tmp, addresses, want, ["0", "1", "2"], "hostfile by a launch agent", "3x1",
               OMPI_MCA_plm_rsh_agent=h.agent, OMPI_MCA_orte_keep_fqdn_hostnames="1")


try:
    main()
except hosts.Unavailable as e:
    trireme.skip(str(e))
