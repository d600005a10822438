# Logits of tiny checkpoints against those of transformers (made by make_transformers.py).
# timeout: 120
# labels: mpi
"""The difference's root mean square stays below 1 % of the logits' standard deviation, and the largest logit
is the same wherever the first two differ by more than that. transformers keeps keys and values as float32, so
do we unless told otherwise: as halves they move int8 codes that lie near a tie of the rounding, which costs
these tiny models up to 3 %."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

F16 = ("-ctk", "f16", "-ctv", "f16")

for golden in sorted((trireme.GOLDEN / "transformers").glob("*.npy")):
    rows, columns, body = trireme.read_npy(golden)
    want = trireme.floats(body)
    ids = golden.with_suffix(".ids").read_text().strip()
    model = golden.with_suffix(".gguf")
    with tempfile.TemporaryDirectory() as tmp:
        got_rows, got_columns, got = trireme.logits(model, ids, f"{tmp}/out.npy", 1, "-t", "1")
        if "table" in golden.stem:  # a head in a ternary type is cut by rows too
            assert got == trireme.logits(model, ids, f"{tmp}/out.npy", 3, "--layout", "1x3", "-t", "1")[2]
        halves = trireme.floats(trireme.logits(model, ids, f"{tmp}/out.npy", 1, "-t", "1", *F16)[2])
    assert (got_rows, got_columns) == (rows, columns), (golden.name, got_rows, got_columns)
    got = trireme.floats(got)
    trireme.close_logits(golden.stem, want, got, rows, columns)
    mean = sum(want) / len(want)
    power = sum((v - mean) ** 2 for v in want)
    part = (sum((a - b) ** 2 for a, b in zip(want, halves)) / power) ** 0.5
    print(f"{golden.stem}: {part:.2e} with a cache of halves")
    assert 0 < part < 0.05, golden.stem
