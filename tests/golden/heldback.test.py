# The bundled model on the held-back tenth of the TinyStories slice: at most 1.15 bits a byte.
# timeout: 300
"""The tenth is written by default-model/heldback.py; the figure must also agree with that of the training
code (heldback.json, by default-model/evaluate.py --bits: a float32 forward in Python)."""
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

slice_txt = trireme.shared("stories/tinystories-slice.txt")
golden = json.loads((trireme.SOURCE / "default-model/heldback.json").read_text())
with tempfile.TemporaryDirectory() as tmp:
    held = f"{tmp}/held.txt"
    subprocess.run([sys.executable, "-B", str(trireme.SOURCE / "default-model/heldback.py"), slice_txt, held],
                   check=True, stdout=subprocess.DEVNULL)
    out = trireme.run_json(["eval", "-m", trireme.DEFAULT_MODEL, "--bits-per-byte", held, "--stories", "-c", "512"])
bits = out["bits_per_byte"]
want = golden["stories"]["bits_per_byte"]
print(f"{bits:.4f} bits a byte (evaluate.py: {want:.4f}, {out['bytes']} bytes)")
assert bits <= 1.15
assert abs(bits / want - 1) < 2e-3
