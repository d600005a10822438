# A build with MPICH gives the logits of one rank; launchers that do not fit the library are recognised and explained.
# timeout: 1800
# labels: mpi
# sanitize: no
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import launching
import trireme

OPENMPI_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def wrong(what, launcher, program, variable, library, tmp):
    """Two worlds of one rank: rank 0 says so, once, with the variable, the library and the remedy."""
    done = subprocess.run([*launcher, "-n", "2", program, "run", "-m", str(trireme.DEFAULT_MODEL), "-p", "x",
                           "-n", "2", "-s", "1", "-t", "1"],
                          capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, cwd=tmp,
                          env=launching.environment(**OPENMPI_AS_ROOT))
    told = [line for line in done.stderr.splitlines() if "MPI sees ONE rank" in line]
    said = f"{what}:\n{done.stdout}{done.stderr}"
    assert len(told) == 1 and f"{variable} is 2" in told[0] and library in told[0], said
    print(f"{what}: {told[0]}")


launching.need("mpich", "mpirun.mpich")
launching.need("libmpich-dev", "mpicc.mpich")
mpich = launching.build("mpich", "mpicc.mpich", "mpirun.mpich")
with tempfile.TemporaryDirectory(prefix="trireme-mpich-") as tmp:
    want = launching.one_rank(tmp)
    out = pathlib.Path(tmp, "out.npy")
    for ranks, layout in ((3, "1x3"), (4, "2x2")):
        _, err = launching.command(["mpirun.mpich", "-n", ranks, mpich, *launching.evaluate(out, "--layout", layout)],
                                   "MPICH")
        assert "ONE rank" not in err, err
        launching.same(f"MPICH, {ranks} ranks, layout {layout}", out, want)
    wrong("MPICH's mpirun, Open MPI's program", ["mpirun.mpich"], trireme.BINARY, "PMI_SIZE", "Open MPI", tmp)
    wrong("Open MPI's mpirun, MPICH's program", trireme.MPIRUN, mpich, "OMPI_COMM_WORLD_SIZE", "MPICH", tmp)
