# Rows of logits come home by MPI types that are made once, not in each step.
# timeout: 120
# labels: mpi
# sanitize: no
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

with tempfile.TemporaryDirectory() as folder:
    text, library = pathlib.Path(folder, "text"), trireme.preload("types", folder)
    text.write_text("Once upon a time there was a cat. " * 60)
    for layout, types in (("2x2", 2), ("3x1", 0)):  # one for each shard of the last stage that has a part of a row
        stages, shards = map(int, layout.split("x"))
        for chunks in (1, 8):
            command = [*trireme.MPIRUN, "-n", str(stages * shards), "env", f"LD_PRELOAD={library}", trireme.BINARY, "eval",
                       "-m", str(trireme.DEFAULT_MODEL), "--perplexity", str(text), "-c", "64", "--chunks", str(chunks),
                       "-t", "1", "-q", "--layout", layout]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60 * trireme.PATIENCE)
            assert done.returncode == 0, done.stderr
            made = dict(re.findall(r"rank (\d+) made (\d+) types", done.stderr))
            assert len(made) == stages * shards and made["0"] == str(types), (layout, chunks, made, done.stderr)
            print(f"{layout}, {chunks} chunks: {types} types")
