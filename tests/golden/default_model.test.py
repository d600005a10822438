# The bundled model against its own training code's evaluation (default-model/golden.json).
# timeout: 200
# labels: mpi
"""Greedy ids and text of three openings, ids of the sample text, and its mean negative log-likelihood.
The expected values come from default-model/evaluate.py, a float32 forward in Python that shares
no code with the engine."""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

golden = json.loads((trireme.SOURCE / "default-model/golden.json").read_text())
model = trireme.DEFAULT_MODEL
sample = trireme.SOURCE / "default-model/sample-text.txt"

ids = trireme.run(["tokenize", "-m", model, "--no-bos"], stdin=sample.open("rb")).stdout.split()
assert [int(i) for i in ids] == golden["sample_text_ids"], "ids of sample-text.txt"
for g in golden["greedy"]:
    for ranks in (1, 3):
        out = trireme.run_json(["run", "-m", model, "-p", g["prompt"], "-n", len(g["ids"]), "--temp", "0",
                                "-t", "1"], ranks)
        assert out["tokens"] == g["ids"], f"{g['prompt']!r} on {ranks} ranks: {out['tokens']}"
out = trireme.run_json(["eval", "-m", model, "--bits-per-byte", sample, "-c", "256"])
want = golden["sample_text_stream"]["bits_per_byte"]
print(f"bits per byte of the sample text: {out['bits_per_byte']} (evaluate.py: {want})")
assert abs(out["bits_per_byte"] / want - 1) < 2e-3
out = trireme.run_json(["eval", "-m", model, "--perplexity", sample, "-c", "256"])
want = golden["sample_text_llama_cpp"]
print(f"perplexity of the sample text: {out['ppl']} (evaluate.py: {want['ppl']})")
assert out["tokens"] == want["tokens"] and abs(out["ppl"] / want["ppl"] - 1) < 5e-3
