"""A virtual machine with several memory domains, in qemu's software emulation: no rights and no hardware are needed.

    run([["/bin/program", "argument"], ["@send", "/tmp/file"]], [program, file, ...], folder) -> [Answer, ...]

Its only file system is an archive of the programs and files named, with the libraries they load, and Open MPI. Its first
process is vm_init.c. The kernel is Debian's for clouds: unpacked into the build directory, never installed.
"""
import dataclasses
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = "linux-image-cloud-amd64" # a package that names the newest


class Unavailable(Exception):
    """Why this machine cannot run one: a test may skip with this reason."""


@dataclasses.dataclass
class Answer:
    """What a command ended with and said; of "@send" the file as `out`."""
    status: int
    out: bytes
    err: bytes


def kernel(folder):
    """The path of a kernel: TRIREME_VM_KERNEL, or Debian's, fetched once and kept in the folder."""
    if os.environ.get("TRIREME_VM_KERNEL"):
        return pathlib.Path(os.environ["TRIREME_VM_KERNEL"])
    folder = pathlib.Path(folder)
    kept = folder / "vmlinuz"
    if kept.exists():
        return kept
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"no kernel for the virtual machine: neither TRIREME_VM_KERNEL nor {tool}")
    shown = subprocess.run(["apt-cache", "depends", KERNEL], capture_output=True, text=True).stdout
    names = re.findall(r"Depends: (linux-image-\S+)", shown)
    if not names:
        raise Unavailable(f"apt does not know the package {KERNEL}")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as tmp:
        done = subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2", "download",
                               names[0]], cwd=tmp, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        packages = list(pathlib.Path(tmp).glob("*.deb"))
        if done.returncode != 0 or len(packages) != 1:
            raise Unavailable(f"no package index gives {names[0]} ({(done.stderr.strip() or 'nothing said').splitlines()[-1]})")
        subprocess.run(["dpkg-deb", "-x", packages[0], f"{tmp}/image"], check=True)
        (image,) = pathlib.Path(tmp, "image/boot").glob("vmlinuz-*")
        image.rename(kept)
    return kept


# --- the archive that is its file system ---

def libraries(program):
    """Files that the dynamic linker loads with it, the linker among them."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
    return [pathlib.Path(p) for p in re.findall(r"(/\S+) \(0x", said)]


def open_mpi():
    """mpirun, its plugins and those of PMIx, its texts and settings: all files."""
    mpirun = shutil.which("mpirun")
    if mpirun is None or shutil.which("ompi_info") is None:
        raise Unavailable("missing tool: mpirun and ompi_info of Open MPI, for the virtual machine")
    said = subprocess.run(["ompi_info", "--parsable", "--path", "all"], capture_output=True, text=True).stdout
    paths = dict(re.findall(r"^path:(\w+):(\S+)$", said, re.M))
    folders = [pathlib.Path(paths[k]) for k in ("pkglibdir", "pkgdatadir") if k in paths]
    if not folders or not list(folders[0].glob("*.so")) and not list(folders[0].glob("*/*.so")):
        raise Unavailable(f"Open MPI's plugins are not found (ompi_info names {folders})")
    for plugin in folders[0].rglob("mca_pmix_*.so"):
        folders += [p.resolve().parent / "pmix" for p in libraries(plugin) if p.name.startswith("libpmix.so")]
    return [pathlib.Path(mpirun), *(p for f in folders for p in f.rglob("*") if p.is_file() and p.suffix in (".so", ".txt"))]


class Archive:
    """cpio, "newc": what Linux unpacks at its start."""

    def __init__(self, path):
        self.file, self.names, self.entries = open(path, "wb"), set(), 0

    def _entry(self, name, mode, data):
        self.entries += 1
        raw = name.encode() + b"\0"
        fields = (self.entries, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        for part in (head, data):
            self.file.write(part + bytes(-len(part) % 4))

    def folder(self, name):
        name = str(name).strip("/")
        if name in self.names or name in ("", "."):
            return
        self.folder(pathlib.PurePath(name).parent)
        self.names.add(name)
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def add(self, name, data, mode=0o644):
        name = str(name).strip("/")
        if name in self.names:
            return
        self.folder(pathlib.PurePath(name).parent)
        self.names.add(name)
        self._entry(name, stat.S_IFREG | mode, data)

    def take(self, path):
        """A file of this machine under the same name, links followed, with the libraries it loads."""
        path = pathlib.Path(path)
        if str(path).strip("/") in self.names:
            return
        data = path.read_bytes()
        self.add(path, data, 0o755)
        if data[:4] == b"\x7fELF":
            for library in libraries(path):
                self.take(library)

    def close(self):
        self._entry("TRAILER!!!", 0, b"")
        self.file.close()


def pack(path, init, commands, files):
    a = Archive(path)
    a.add("init", pathlib.Path(init).read_bytes(), 0o755)
    lines = ["\t".join(map(str, c)) for c in commands]
    a.add("commands", ("\n".join(lines) + "\n").encode())
    a.add("etc/passwd", b"root:x:0:0:root:/tmp:/bin/sh\n")
    a.add("etc/hosts", b"127.0.0.1 localhost domains\n")
    for folder in ("proc", "sys", "dev", "tmp"):
        a.folder(folder)
    for f in files:
        a.take(f)
    a.close()


# --- the machine ---

def machine(domains, cores, mib, in_turn):
    """Options of qemu: so many memory domains of so many cores and MiB. in_turn: CPU i is of domain i modulo domains."""
    n = domains * cores
    shape = f"{n},sockets={n},cores=1,threads=1" if in_turn else f"{n},sockets={domains},cores={cores},threads=1"
    options = ["-smp", shape, "-m", f"{domains * mib}M"]
    for d in range(domains):
        cpus = range(d, n, domains) if in_turn else range(d * cores, (d + 1) * cores)
        options += ["-object", f"memory-backend-ram,id=m{d},size={mib}M",
                    "-numa", ",".join([f"node,nodeid={d},memdev=m{d}", *(f"cpus={c}" for c in cpus)])]
    return options


def parse(raw, commands, console):
    """The answers of vm_init.c."""
    answers = []
    for c in commands:
        line, _, raw = raw.partition(b"\n")
        fields = line.split()
        assert len(fields) == 3, f"the machine ended before {c}; its console:\n{console[-3000:]}"
        status, out, err = map(int, fields)
        assert len(raw) >= out + err, f"the machine ended within {c}; its console:\n{console[-3000:]}"
        answers.append(Answer(status, raw[:out], raw[out:out + err]))
        raw = raw[out + err:]
    return answers


def run(commands, files, folder, domains=2, cores=2, mib=512, in_turn=False, timeout=240):
    """Boot, run the commands in turn, turn off. files: what they need besides Open MPI. folder: where the kernel is kept.
    A command "/init DOMAIN PROGRAM ..." runs with memory of that domain alone."""
    if shutil.which("qemu-system-x86_64") is None:
        raise Unavailable("missing tool: qemu-system-x86_64 (package qemu-system-x86)")
    image, mpi = kernel(folder), open_mpi()
    with tempfile.TemporaryDirectory(prefix="trireme-vm-") as tmp:
        subprocess.run(["cc", "-O2", "-static", "-o", f"{tmp}/init", str(HERE / "vm_init.c")], check=True)
        pack(f"{tmp}/root.cpio", f"{tmp}/init", commands, [*files, *mpi])
        qemu = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", *machine(domains, cores, mib, in_turn),
                "-kernel", str(image), "-initrd", f"{tmp}/root.cpio",
                "-append", "console=ttyS0 quiet panic=-1 no_timer_check nowatchdog transparent_hugepage=never",
                "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", f"file:{tmp}/console",
                "-serial", f"file:{tmp}/answers"]
        try:
            done = subprocess.run(qemu, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
            said = done.stderr
        except subprocess.TimeoutExpired:
            said = f"it ran past {timeout} s"
        read = [pathlib.Path(tmp, n).read_bytes() if pathlib.Path(tmp, n).exists() else b"" for n in ("answers", "console")]
        return parse(read[0], commands, read[1].decode(errors="replace") + said)
