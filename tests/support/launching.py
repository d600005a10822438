"""What the tests of launchers share: the outcome to compare with, tools and packages, builds with other MPI libraries."""
import os
import pathlib
import shutil
import subprocess
import sys

import trireme

BUILD = pathlib.Path(os.environ.get("TRIREME_BUILD", trireme.SOURCE / "build/release"))
PROMPT = "Once upon a time there was a ship"


def need(package, *programs):
    """The test is skipped where a program is missing; under CI=true that counts as a failure."""
    for program in programs:
        if shutil.which(program) is None:
            trireme.skip(f"missing tool: {program} (package {package})")


def environment(**more):
    """Ours, without the twins of options and without marks of another launcher."""
    marks = ("TRIREME", "SLURM_", "PMI_", "PMIX_", "OMPI_COMM_")
    return {k: v for k, v in os.environ.items() if not k.startswith(marks)} | {"PMIX_MCA_gds": "^ds12"} | more


def evaluate(out, *options):
    """The options of one run that writes its logits to `out`."""
    return ["eval", "-m", str(trireme.DEFAULT_MODEL), "-p", PROMPT, "--logits", str(out), "-t", "1", *options]


def one_rank(tmp):
    """The logits of one process without a launcher, as bytes."""
    out = pathlib.Path(tmp, "one.npy")
    subprocess.run([trireme.BINARY, *evaluate(out)], check=True, capture_output=True, env=environment())
    return out.read_bytes()


def command(args, what, env=None, seconds=120, cwd=None):
    """Run it; both outputs as text, in this order. Another status than 0 ends the test, with what was said."""
    done = subprocess.run(list(map(str, args)), capture_output=True, text=True, timeout=seconds, cwd=cwd,
                          stdin=subprocess.DEVNULL, env=environment() if env is None else env)
    if done.returncode != 0:
        sys.exit(f"{what}: exit status {done.returncode} of {' '.join(map(str, args))}\n{done.stdout}{done.stderr}")
    return done.stdout, done.stderr


def same(what, out, want):
    """The file of logits is there and holds these bytes; then it goes."""
    out = pathlib.Path(out)
    assert out.exists(), f"{what}: no logits were written"
    assert out.read_bytes() == want, f"{what}: other logits than one rank's"
    out.unlink()
    print(f"{what}: the logits of one rank, byte for byte")


def build(name, mpicc, mpiexec, env=None):
    """The program built with another MPI library, in a build folder of its own that is kept between runs."""
    folder = BUILD / "tests/foreign" / name
    cmake = ["cmake", "-S", trireme.SOURCE, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", f"-DMPI_C_COMPILER={mpicc}",
             f"-DMPIEXEC_EXECUTABLE={mpiexec}"]
    for tool, option in (("ninja", "-GNinja"), ("ccache", "-DCMAKE_C_COMPILER_LAUNCHER=ccache")):
        if shutil.which(tool) is not None:
            cmake.append(option)
    command(cmake, f"configuring with {name}", env)
    command(["cmake", "--build", folder, "--target", "trireme", "-j", "2"], f"the build with {name}", env, 1500)
    return str(folder / "bin/trireme")
