# labels: mpi
# ranks: 4
"""Too little /dev/shm, as containers have it: ranks of one machine say so once, send messages, and write the same bytes.
Before, some waited for a window that others could not make, or were killed at their first write into it."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import launching
import trireme

# The room, the layout, and how often too little of it is told.
CASES = (("16m", "2x2", 0), ("16m", "1x4", 0),  # all fits
         ("4m", "2x2", 1),  # but for the rings between stages
         ("1m", "2x2", 1), ("1m", "1x4", 1),  # flags alone fit
         ("16k", "2x2", 1), ("16k", "1x4", 1))  # nothing does


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
        for size, layout, times in CASES:
            what, out = f"/dev/shm of {size}, {layout}", pathlib.Path(tmp, "out.npy")
            command = [*trireme.MPIRUN, "-n", "4", trireme.BINARY, *launching.evaluate(out, "--layout", layout)]
            _, said = launching.command(small(size, command), what, env=env, seconds=60)
            assert said.count("too little room in /dev/shm") == times, said
            launching.same(what, out, want)
        # It becomes full between asking for room and writing: at the second and the third thing to share.
        library = trireme.preload("fault", tmp)
        tells = tuple(map(int, re.findall(r"\d+", os.uname().release)[:2])) >= (5, 14)
        if not tells:
            print(f"Linux {os.uname().release} does not tell in time that a page has no room: not tried")
        for nth in ("2", "3") if tells else ():
            what, out = f"/dev/shm full at window {nth}", pathlib.Path(tmp, "out.npy")
            late = env | {"LD_PRELOAD": library, "FAULT_SHM": nth,
                          "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0"}
            command = [*trireme.MPIRUN, "-n", "4", trireme.BINARY, *launching.evaluate(out, "--layout", "2x2")]
            _, said = launching.command(small("16m", command), what, env=late, seconds=60)
            assert said.count("too little room in /dev/shm") == 1, said
            launching.same(what, out, want)


main()
