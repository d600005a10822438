# Rank 0 cannot open the model: all end with its message and exit status 3; none hangs.
# timeout: 120
# labels: mpi
"""Ranks start in different directories, and the model's path is relative: rank 0 finds nothing, or a cut file.
(What other ranks do not find they get from rank 0: tests/mpi/weights.test.py.)"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

MODEL = trireme.GOLDEN / "transformers/silu-tq2.gguf"

with tempfile.TemporaryDirectory() as tmp:
    good, bad = os.path.join(tmp, "good"), os.path.join(tmp, "bad")
    os.mkdir(good), os.mkdir(bad)
    shutil.copy(MODEL, f"{good}/model.gguf")
    cut = pathlib.Path(MODEL).read_bytes()[:300000]
    for ranks, damage in ((2, "missing"), (3, "missing"), (5, "missing"), (3, "cut")):
        if damage == "cut":
            pathlib.Path(f"{bad}/model.gguf").write_bytes(cut)
        script = (f'[ "$OMPI_COMM_WORLD_RANK" = 0 ] && cd {bad} || cd {good}; '
                  f'exec {trireme.BINARY} eval -m model.gguf --ids 1,2,3 --logits {tmp}/out.npy -t 1 -q')
        start = time.monotonic()
        done = subprocess.run(trireme.MPIRUN + ["-n", str(ranks), "bash", "-c", script], capture_output=True,
                              timeout=60 * trireme.PATIENCE, stdin=subprocess.DEVNULL)
        text = done.stderr.decode(errors="replace")
        assert done.returncode == 3, f"{damage} on {ranks}: exit status {done.returncode}\n{text}"
        ours = [line for line in text.splitlines() if "error:" in line]
        assert len(ours) == 1 and "rank 0:" in ours[0] and "model.gguf" in ours[0], text
        assert damage == "cut" or "rank 1 on" in ours[0], text
        print(f"{damage} on rank 0 of {ranks}, {time.monotonic() - start:.1f} s: {ours[0]}")
