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
    n = rows * columns
    mean = sum(want) / n
    std = (sum((v - mean) ** 2 for v in want) / n) ** 0.5
    rms = (sum((a - b) ** 2 for a, b in zip(want, got)) / n) ** 0.5
    print(f"{golden.stem}: rms difference {rms / std:.2e} of the standard deviation")
    assert rms < 0.01 * std, golden.stem
    rms = (sum((a - b) ** 2 for a, b in zip(want, halves)) / n) ** 0.5
    print(f"{golden.stem}: {rms / std:.2e} with a cache of halves")
    assert 0 < rms < 0.05 * std, golden.stem
    for r in range(rows):
        row = want[r * columns:(r + 1) * columns]
        top, second = sorted(row, reverse=True)[:2]
        mine = got[r * columns:(r + 1) * columns]
        if top - second > 0.01 * std:
            assert max(range(columns), key=row.__getitem__) == max(range(columns), key=mine.__getitem__), \
                f"{golden.stem}: row {r}"
