# Hugging Face directories against transformers: logits, greedy continuation, the same bytes on every layout.
# timeout: 300
# labels: mpi
"""The checkpoints and what transformers 5.23 answers (float32, eager) lie in the shared data: packed ternary
with either meaning of weight_scale, master weights made ternary at load, and a dense one."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

NAMES = ("bitnet-2b-packed", "bitnet-2b-online", "falcon3-158-packed", "llama3-158-packed", "llama-dense")
LAYOUTS = ("1x2", "2x1", "1x3", "2x2", "1x5") if trireme.PRESET == "release" else ("1x3",)


def greedy(model, ids, n, tmp):
    """Continue by the largest logit, the whole text anew each time: no sampler takes part."""
    out = list(ids)
    for _ in range(n):
        rows, columns, body = trireme.logits(model, ",".join(map(str, out)), f"{tmp}/g.npy", 1, "-t", "1")
        out.append(trireme.argmax(list(trireme.floats(body)[(rows - 1) * columns:])))
    return out[len(ids):]


for name in NAMES:
    folder = pathlib.Path(trireme.shared(f"golden/{name}"))
    expected = json.loads((folder / "expected.json").read_text())
    ids = ",".join(map(str, expected["ids"]))
    rows, columns, body = trireme.read_npy(folder / "logits.npy")
    with tempfile.TemporaryDirectory() as tmp:
        got_rows, got_columns, first = trireme.logits(folder, ids, f"{tmp}/o.npy", 1, "-t", "1")
        assert (got_rows, got_columns) == (rows, columns)
        trireme.close_logits(name, trireme.floats(body), trireme.floats(first), rows, columns)
        for layout in LAYOUTS:
            stages, shards = map(int, layout.split("x"))
            _, _, again = trireme.logits(folder, ids, f"{tmp}/o.npy", stages * shards, "-t", "1", "--layout", layout)
            assert again == first, f"{name} on {layout}"
        want = expected["greedy_from_8"]
        start = expected["ids"][:8]
        want = want[8:] if want[:8] == start else want
        assert greedy(folder, start, len(want), tmp) == want, f"{name}: greedy continuation"
        print(f"{name}: the same bytes on {', '.join(LAYOUTS)}, {len(want)} greedy tokens")
