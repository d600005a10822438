# launch/container and launch/apptainer: what the files say agrees, and their steps run, in chroots over this machine's
# files (an argument: over another Debian 12's, such as `debootstrap --variant=minbase` makes). Then, as the image's
# user: the program, two ranks, and sshd as the MPI operator starts it.
# timeout: 900
# labels: mpi
# sanitize: no
import fnmatch
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parent / "tidy")]
import images
import launching
import tree
import trireme

FOLDER = trireme.SOURCE / "launch"
USER = "1000:1000"


def context():
    """The files that `podman build` and `docker build` see: those of the project that .dockerignore leaves."""
    lines = [line for line in (trireme.SOURCE / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    for line in lines: # so little of its syntax is read here
        assert re.fullmatch(r"[-\w./]+", line), f".dockerignore: {line}"
    return [f for f in tree.files("") if not any(fnmatch.fnmatch(f, pattern) for p in lines for pattern in (p, p + "/*"))]


def agree(container, definition):
    """Both files: the same base, the same build, the same libraries; no source left out."""
    assert [s.base for s in container] == [s.base for s in definition] == ["debian:12-slim"] * 2
    assert [s.name for s in container] == ["build", None] and definition[0].name == "build", "names of stages"
    assert container[0].scripts() == definition[0].scripts()[0].splitlines()[2:], "the build stages differ"
    assert container[1].packages() - definition[1].packages() == {"openssh-client", "openssh-server"}
    assert not definition[1].packages() - container[1].packages()
    copied = {what[0] for _, _, what, _ in definition[0].steps[:-1]}
    left = {f.split("/")[0] for f in context()} - copied
    assert all(name.startswith(".") for name in left), f"trireme.def does not copy {sorted(left)}"
    for _, _, what, target in definition[0].steps[:-1]:
        assert (trireme.SOURCE / what[0]).exists() and target == "/src/" + what[0], what
    refused = 0
    for read, text in ((images.containerfile, "FROM a\nRUNN x"), (images.definition, "Bootstrap: docker\nForm: a"),
                       (images.definition, "Bootstrap: docker\nFrom: a\n%pots\n x\n")):
        try:
            read(text)
        except ValueError:
            refused += 1
    assert refused == 3, "a misspelt word was not refused"


def libraries(program, packages):
    """Each library that the program names is of a package that is installed, or of Open MPI or libc."""
    said = launching.command(["readelf", "-d", program], "readelf")[0]
    for name in re.findall(r"NEEDED.*\[(.*)\]", said):
        owners = {line.split(":")[0] for line in launching.command(["dpkg", "-S", f"*/{name}"], "dpkg -S")[0].splitlines()}
        assert owners & (packages | {"libc6", "libopenmpi3"}), f"{name} is of {owners}: not in the image"
    assert "openmpi-bin" in packages


def same(root, prefix, want, tmp, env, user=None, home="/tmp"):
    """Two ranks of the image's own model give the logits of one."""
    options = shlex.split(shlex.join(launching.evaluate(f"{home}/out.npy", "--layout", "1x2")))
    options[options.index("-m") + 1] = f"{prefix}/share/trireme/default-model/{trireme.DEFAULT_MODEL.name}"
    root.run("mpirun", "-n", "2", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none", "trireme", *options, user=user,
             folder=home, env=env | {"PMIX_MCA_gds": "^ds12"})
    out = root.path / home.lstrip("/") / "out.npy"
    launching.same(f"two ranks in {root.path.parent.name}", out, want)


def sshd(root, home, env):
    """The operator mounts keys, of root and readable; the worker's command of launch/k8s answers on its port."""
    keys = root.path / home.lstrip("/") / ".ssh"
    keys.mkdir()
    launching.command(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", keys / "id_rsa"], "ssh-keygen")
    shutil.copy(keys / "id_rsa.pub", keys / "authorized_keys")
    for file in keys.iterdir():
        file.chmod(0o644)
    script = """/usr/sbin/sshd -De -f /etc/trireme/sshd_config & pid=$!
        for i in $(seq 100); do ssh localhost true 2>/dev/null && break; sleep 0.1; done
        ssh localhost 'id -un; trireme --version; command -v orted'; status=$?; kill $pid; exit $status"""
    said = root.run("bash", "-c", script, user=USER, folder=home, env=env)
    assert re.search(r"^mpiuser$", said, re.M) and "trireme 0." in said and "/orted" in said, said
    print("ssh to the image's sshd, as its user: the program and orted are found")


def steps(tmp, lower, want):
    container = images.containerfile((FOLDER / "container/Containerfile").read_text())
    definition = images.definition((FOLDER / "apptainer/trireme.def").read_text())
    sources = tmp / "context"
    for file in context():
        (sources / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(trireme.SOURCE / file, sources / file)
        (sources / file).chmod((sources / file).stat().st_mode | 0o020) # a clone made under umask 002
    began = time.monotonic()
    build = images.Root(tmp / "build", lower)
    build.build(container[0], {}, sources, True)
    libraries(build.path / "opt/trireme/bin/trireme", container[1].packages())
    print(f"build stage: {time.monotonic() - began:.0f} s", flush=True)

    image = images.Root(tmp / "container", lower)
    image.build(container[1], {"build": build}, sources, True)
    facts = container[1].facts
    home, env = facts["WORKDIR"], facts["ENV"] | {"HOME": facts["WORKDIR"]}
    assert facts["USER"] == "mpiuser"
    cmd = re.findall(r'"([^"]*)"', facts["CMD"])
    assert "Commands:" in image.run(*cmd, user=USER, folder=home, env=env)
    assert (image.upper / "usr/local/bin/trireme").exists()
    same(image, "/usr/local", want, tmp, env, USER, home)
    sshd(image, home, env)

    image = images.Root(tmp / "apptainer", lower)
    image.build(definition[1], {"build": build}, sources, False)
    shell = "\n".join(definition[1].facts["environment"][1])
    env = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    env["PATH"] = image.run("sh", "-c", f"{shell}\necho $PATH").strip()
    for section, words in (("test", []), ("runscript", ["--version"])):
        script = "\n".join(definition[1].facts[section][1])
        said = image.run("sh", "-c", script, "sh", *words, env=env)
        assert said.startswith("trireme 0."), said
    same(image, "/opt/trireme", want, tmp, env)
    print(f"all: {time.monotonic() - began:.0f} s")


def apart(tmp, lower):
    """The steps in namespaces of mounts and processes: nothing of them is left, however they end."""
    launching.one_rank(tmp) # out here, where /proc is that of our processes
    (tmp / "mounted").mkdir()
    for more in ([], ["--propagation", "unchanged"]): # in a chroot / is no mount, whose propagation could be changed
        space = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *more]
        if subprocess.run([*space, "true"], capture_output=True).returncode == 0:
            break
    else:
        trireme.skip("no namespaces of mounts and processes here")
    done = subprocess.run([*space, sys.executable, "-B", __file__, "--inside", tmp, lower], stdin=subprocess.DEVNULL)
    return done.returncode


def inside(folder, lower):
    tmp = folder / "mounted"
    want = (folder / "one.npy").read_bytes()
    try:
        images.mount("-t", "tmpfs", "-o", "size=3g,mode=755", "tmpfs", tmp)
        images.mount("--make-private", tmp)
        images.Root(tmp / "probe", lower)
    except (OSError, subprocess.CalledProcessError) as e:
        trireme.skip(f"no overlay of / can be mounted here: {e}")
    try:
        steps(tmp, lower, want)
    finally:
        subprocess.run(["umount", "--lazy", tmp], check=False)


if sys.argv[1:2] == ["--inside"]:
    inside(pathlib.Path(sys.argv[2]), sys.argv[3])
    sys.exit(0)
agree(images.containerfile((FOLDER / "container/Containerfile").read_text()),
      images.definition((FOLDER / "apptainer/trireme.def").read_text()))
print("both files agree", flush=True)
if os.geteuid() != 0:
    trireme.skip("the steps of container files need root (chroot, mounts)")
launching.need("util-linux", "unshare")
launching.need("iproute2", "ip")
launching.need("openssh-client", "ssh-keygen")
if shutil.which("apt-get") is None:
    trireme.skip("the steps of container files are Debian's (apt-get)")
with tempfile.TemporaryDirectory(prefix="images-") as folder:
    sys.exit(apart(pathlib.Path(folder), sys.argv[1] if len(sys.argv) > 1 else "/"))
