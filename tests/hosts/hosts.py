#!/usr/bin/env python3
"""Several hosts on one machine: network, name, mounts and CPU share of their own.

    tests/hosts/hosts.py --hosts 3 --mbit 1000 --delay-ms 0.2 -- COMMAND ARGS...

Runs COMMAND under mpirun on emulated hosts, --ranks on each, and ends with its exit status. Needs
root. Each host is a network namespace with the address 10.83.0.(i + 1), a UTS namespace with the
name hostI (Open MPI wants distinct names), a mount namespace in which folders can be hidden, and a
control group when --cpu limits it. The wire between them is relay.c, compiled at the start: rate
and delay, without the kernel's netem. Everything ends with this process, however it ends: the
namespaces live in processes that die with it.

In Python: with Hosts(3, mbit=1000, delay_ms=0.2) as h: h.mpirun([binary, ...], ranks=[1, 1, 2])
"""
import argparse
import contextlib
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
NET = "10.83.0"


class Unavailable(Exception):
    """Why this machine cannot emulate hosts: a test may skip with this reason."""


def address(host):
    return f"{NET}.{host + 1}"


class Hosts:
    """n hosts. mbit 0: as fast as it goes. cpu: CPU time that each host may use, in CPUs; None: all.
    cores: how many CPUs each host has, by turns the first ones and the next; None: all of them. Two hosts that
    have all take the same first CPU when each binds one thread.
    hide: {folder: [hosts that do not see what is in it]}. mounts: a mount namespace for each host, as with hide."""

    def __init__(self, n, mbit=0, delay_ms=0.0, cpu=None, hide=None, mtu=9000, mounts=False,
                 cores=None):
        self.n, self.mbit, self.delay_ms, self.cpu, self.mtu = n, mbit, delay_ms, cpu, mtu
        self.cores = cores
        self.hide = hide or {}
        self.mounts = ["--mount"] if mounts or self.hide else [] # not in a chroot, where / is no mount
        self.keepers, self.groups = [], []

    # --- start and end ---

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self.stack.close()
            raise
        return self

    def __exit__(self, *_):
        self.stack.close()

    def _start(self):
        if os.geteuid() != 0:
            raise Unavailable("emulated hosts need root (network namespaces)")
        for tool in ("unshare", "nsenter", "setpriv", "taskset", "ip", "cc", "mount"):
            if shutil.which(tool) is None:
                raise Unavailable(f"missing tool: {tool}, for emulated hosts")
        if not os.path.exists("/dev/net/tun"):
            raise Unavailable("emulated hosts need /dev/net/tun")
        self.tmp = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="trireme-hosts-"))
        self.relay_binary = os.path.join(self.tmp, "relay")
        subprocess.run(["cc", "-O2", "-o", self.relay_binary, str(HERE / "relay.c")], check=True)
        for i in range(self.n):
            self._start_host(i)
        pids = [str(k.pid) for k in self.keepers]
        relay = subprocess.Popen([self.relay_binary, str(self.mbit), str(self.delay_ms * 1000), str(self.mtu), *pids],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.stack.callback(self._stop, relay)
        self.relay = relay
        if relay.stdout.readline().strip() != "ready":
            raise Unavailable("the relay between emulated hosts did not start")
        for i in range(self.n):
            self.enter(i, f"ip addr add {address(i)}/24 dev eth0 && ip link set eth0 up")
        self._write_agent()

    def _start_host(self, i):
        """A process that holds the namespaces, and dies with this one."""
        hidden = " && ".join(f"mount -t tmpfs none {shlex.quote(str(folder))}" for folder, hosts in self.hide.items()
                             if i in hosts) or ":"
        private = "mount --make-rprivate /" if self.mounts else ":"
        script = f"hostname host{i} && {private} && {hidden} && ip link set lo up && echo up && exec sleep infinity"
        keeper = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", *self.mounts, "sh",
                                   "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True)
        self.stack.callback(self._stop, keeper)
        if keeper.stdout.readline().strip() != "up":
            keeper.wait()
            raise Unavailable("namespaces cannot be made here: " + keeper.stderr.read().strip())
        self.keepers.append(keeper)
        self.groups.append(self._cpu_group(i))

    @staticmethod
    def _stop(process):
        process.kill()
        process.wait()

    def _cpu_group(self, i):
        """The file into which a process writes its id to come under the quota; None without one."""
        if self.cpu is None:
            return None
        # What a host does not use while it waits, it has besides at the next burst, up to a period's
        # share: a slow CPU saves nothing. So the period is short; the kernel takes no quota below 1 ms.
        name, period = f"trireme-{os.getpid()}-{i}", max(4000, int(1000 / self.cpu) + 1)
        v1 = pathlib.Path("/sys/fs/cgroup/cpu")
        if (v1 / "cpu.cfs_quota_us").exists() or (v1 / "tasks").exists():
            group = v1 / name
            files = {"cpu.cfs_period_us": period, "cpu.cfs_quota_us": int(period * self.cpu)}
            entry = group / "tasks"
        else:
            root = pathlib.Path("/sys/fs/cgroup")
            with contextlib.suppress(OSError):
                (root / "cgroup.subtree_control").write_text("+cpu")
            group = root / name
            files = {"cpu.max": f"{int(period * self.cpu)} {period}"}
            entry = group / "cgroup.procs"
        try:
            group.mkdir()
            self.stack.callback(self._remove_group, group)
            for file, value in files.items():
                (group / file).write_text(str(value))
        except OSError as e:
            raise Unavailable(f"no CPU quotas here: {e}") from e
        return entry

    @staticmethod
    def _remove_group(group):
        for _ in range(50):
            try:
                group.rmdir()
                return
            except OSError:
                subprocess.run(["sleep", "0.1"], check=False)

    # --- commands on them ---

    def prefix(self, host):
        """What stands before a command that shall run on a host."""
        enter = ["nsenter", "-t", str(self.keepers[host].pid), "--net", "--uts", *self.mounts]
        if self.cores is not None:
            have = sorted(os.sched_getaffinity(0))
            mine = {str(have[(host * self.cores + i) % len(have)]) for i in range(self.cores)}
            enter = ["taskset", "-c", ",".join(sorted(mine)), *enter]
        group = self.groups[host]
        if group is not None: # joined outside: the mount namespace may not show the control groups
            join = f'echo $$ > {shlex.quote(str(group))} && exec "$@"'
            enter = ["sh", "-c", join, "sh", *enter]
        return enter

    def enter(self, host, script):
        """A shell script on a host; its standard output."""
        done = subprocess.run([*self.prefix(host), "sh", "-c", script], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"host{host}: {script}: {done.stderr.strip()}")
        return done.stdout

    def _write_agent(self):
        """What mpirun calls in the place of ssh: AGENT ADDRESS COMMAND..."""
        cases = "\n".join(f"{address(i)}) exec {shlex.join(self.prefix(i))} sh -c \"$*\" ;;" for i in range(self.n))
        self.agent = os.path.join(self.tmp, "agent")
        pathlib.Path(self.agent).write_text(
            f'#!/bin/sh\nhost=$1\nshift\ncase "$host" in\n{cases}\n*) echo "agent: unknown host $host" >&2; exit 1 ;;\nesac\n')
        os.chmod(self.agent, 0o755)

    def mpirun_command(self, command, ranks=1, options=(), order=None):
        """The command line, to be run anywhere. ranks: of each host, or a list. order: the hosts with ranks, as the ranks shall
        lie on them; it is started on the first, which Open MPI puts in front of all others. command: a list, or several lists
        of (count, command) as mpirun joins them by ':'."""
        counts = [ranks] * self.n if isinstance(ranks, int) else list(ranks)
        listed = ",".join(f"{address(i)}:{counts[i]}" for i in (range(self.n) if order is None else order) if counts[i] > 0)
        mca = {"plm_rsh_agent": self.agent, "btl_tcp_if_include": f"{NET}.0/24", "oob_tcp_if_include": f"{NET}.0/24",
               "orte_keep_fqdn_hostnames": "1", "btl_vader_single_copy_mechanism": "none",
               "plm_rsh_no_tree_spawn": "1"}
        flags = [part for key, value in mca.items() for part in ("--mca", key, value)]
        first = [*self.prefix(0 if order is None else order[0]), "env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                 "PMIX_MCA_gds=^ds12", "mpirun", *flags, "--host", listed, "--bind-to", "none", "--map-by",
                 "slot:OVERSUBSCRIBE", *options]
        if command and isinstance(command[0], tuple):
            parts = [["-np", str(n), *map(str, c)] for n, c in command]
            return first + [word for i, p in enumerate(parts) for word in ([":"] if i else []) + p]
        return [*first, "-np", str(sum(counts)), *map(str, command)]

    def mpirun(self, command, ranks=1, options=(), timeout=300, check=True, order=None, **kwargs):
        """Run it; a subprocess.CompletedProcess with bytes of both outputs."""
        done = subprocess.run(self.mpirun_command(command, ranks, options, order), capture_output=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, **kwargs)
        if check and done.returncode != 0:
            raise RuntimeError(f"exit status {done.returncode} of {command}\n{done.stderr.decode(errors='replace')}")
        return done


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hosts", type=int, default=2, help="how many (default 2)")
    p.add_argument("--mbit", type=float, default=0, help="rate of each host's link in Mbit/s, 0: no limit (default)")
    p.add_argument("--delay-ms", type=float, default=0, help="delay of each frame, one way (default 0)")
    p.add_argument("--cpu", type=float, help="CPUs that each host may use, such as 0.5 (default: all)")
    p.add_argument("--cores", type=int, help="CPUs that each host has, its own as long as there are enough (default: all)")
    p.add_argument("--ranks", default="1", help="ranks of each host, or a list such as 2,1 (default 1)")
    p.add_argument("--hide", action="append", default=[], metavar="FOLDER:HOSTS",
                   help="an empty folder in its place on these hosts, such as /models:1,2")
    p.add_argument("--mpirun", default="", help="more options of mpirun")
    p.add_argument("--plain", action="store_true", help="run COMMAND on host 0, without mpirun")
    p.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ARGS...")
    o = p.parse_args()
    command = o.command[1:] if o.command[:1] == ["--"] else o.command
    if not command:
        p.error("no command")
    hide = {folder: [int(h) for h in hosts.split(",")] for folder, _, hosts in (h.rpartition(":") for h in o.hide)}
    ranks = [int(r) for r in o.ranks.split(",")]
    if len(ranks) not in (1, o.hosts):
        p.error(f"--ranks {o.ranks}: one number, or {o.hosts}")
    try:
        with Hosts(o.hosts, o.mbit, o.delay_ms, o.cpu, hide, cores=o.cores) as h:
            line = [*h.prefix(0), *command] if o.plain else h.mpirun_command(
                command, ranks[0] if len(ranks) == 1 else ranks, shlex.split(o.mpirun))
            status = subprocess.run(line).returncode
    except Unavailable as e:
        sys.exit(f"hosts.py: {e}")
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
