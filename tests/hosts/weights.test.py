# Three emulated hosts, the model's file on one of them: the bits of one rank; a second start sends no weights.
# timeout: 300
# ranks: 3
# labels: mpi
# lock: hosts
# sanitize: no
"""The folder of the model is hidden on the other hosts; each host keeps its own cache. A bit flipped in one host's
cache is found, named, and that piece is sent again; a full one is told, and does without."""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import hosts
import trireme


def check(tmp):
    folder, cache, out = tmp / "models", tmp / "caches", tmp / "out.npy"
    folder.mkdir(), cache.mkdir()
    model = folder / "model.gguf"
    shutil.copy(trireme.DEFAULT_MODEL, model)
    command = [trireme.BINARY, "eval", "-m", str(model), "-p", "Once upon a time there was a ship", "-t", "1",
               "--cache", f"{cache}/mine", "--logits"]
    one = tmp / "one.npy"
    subprocess.run([*command, str(one)], check=True, capture_output=True)

    def begin(h, layout):
        out.unlink(missing_ok=True)
        done = h.mpirun([*command, str(out), "--layout", layout, "--json"], 1)
        text = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
        assert out.read_bytes() == one.read_bytes(), layout
        report = json.loads(done.stdout)
        return report["weights_received_bytes"], report["weights_cached_bytes"], text

    with hosts.Hosts(3, hide={folder: [1, 2], cache: [1, 2]}) as h:
        assert h.enter(1, f"ls {folder}") == ""
        cold, kept, _ = begin(h, "3x1")
        assert cold > 0 and kept == 0, (cold, kept)
        again, kept, _ = begin(h, "3x1")
        assert again == 0 and kept == cold, (again, kept, cold)
        other, kept, _ = begin(h, "1x3")
        assert other > 0 and kept > 0, (other, kept)
        assert begin(h, "1x3")[0] == 0
        h.enter(2, f"f=$(echo {cache}/mine/*.units); printf '\\377' | dd of=$f bs=1 seek=$(($(stat -c %s $f) - 50)) "
                   "conv=notrunc status=none")
        sent, _, text = begin(h, "1x3")
        said = [line for line in text.splitlines() if "damaged" in line]
        assert 0 < sent < cold / 4 and len(said) == 1 and f"{cache}/mine" in said[0], (sent, cold, text)
        # A folder in which no file can be made: nothing is kept there, and the run goes on.
        h.enter(2, f"mount -t tmpfs -o nr_inodes=1 none {cache}/mine")
        sent, _, text = begin(h, "1x3")
        said_full = [line for line in text.splitlines() if "No space left" in line]
        assert sent > 0 and len(said_full) == 1 and "nothing more is kept" in said_full[0], (sent, text)
        print(f"{cold} bytes sent at first, 0 again, {other} for another layout, {sent} for a damaged piece: {said[0]}")


with tempfile.TemporaryDirectory() as tmp:
    try:
        check(pathlib.Path(tmp))
    except hosts.Unavailable as why:
        trireme.skip(str(why))
