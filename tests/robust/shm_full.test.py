# labels: mpi
# ranks: 4
"""Too little /dev/shm, as containers have it: ranks of one machine say so once, send messages, and write the same bytes.
Before, some waited for a window that others could not make, or were killed at their first write into it."""
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import launching
import trireme

SIZES = ("4m", "1m", "16k")  # messages between ranks fit, or not; not even flags do


def small(size, command):
    """The command with a /dev/shm of its own."""
    inside = 'mount -t tmpfs -o size="$1" tmpfs /dev/shm && shift && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", inside, "sh", size, *command]


def main():
    launching.need("util-linux", "unshare", "mount")
    probe = subprocess.run(small("1m", ["true"]), capture_output=True, text=True)
    if probe.returncode != 0:
        trireme.skip(f"no /dev/shm of our own: {probe.stderr.strip()}")
    # Open MPI's own segments want 4 MiB a rank; its complaints of that, many lines by each rank, are not looked at here.
    env = os.environ | {"OMPI_MCA_btl": "self,tcp"}
    with tempfile.TemporaryDirectory() as tmp:
        want = launching.one_rank(tmp)
        for size in SIZES:
            for layout in ("2x2", "1x4"):
                out = pathlib.Path(tmp, "out.npy")
                command = [*trireme.MPIRUN, "-n", "4", trireme.BINARY, *launching.evaluate(out, "--layout", layout)]
                _, said = launching.command(small(size, command), f"/dev/shm of {size}, {layout}", env=env,
                                            seconds=60)
                told = said.count("too little room in /dev/shm")
                assert told == 1 or told == 0 and size == "4m", said
                launching.same(f"/dev/shm of {size}, {layout}", out, want)


main()
