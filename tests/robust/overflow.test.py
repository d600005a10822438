# Values beyond a half's range: noticed in a cache of halves, and no matter in one of floats.
# timeout: 60
"""In a copy of the bundled model the scale of one layer's value matrix becomes 60000."""
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

BLOCKS = {"TQ2_0": 66, "TQ1_0": 54}  # bytes of 256 weights; the scale is the last two
tensors = trireme.run_json(["inspect", "-m", trireme.DEFAULT_MODEL, "--tensors"])["tensors"]
(values,) = (t for t in tensors if t["name"] == "blk.2.attn_v")
block = BLOCKS[values["type"]]
data = bytearray(trireme.DEFAULT_MODEL.read_bytes())
for at in range(values["offset"], values["offset"] + values["bytes"], block):
    struct.pack_into("<e", data, at + block - 2, 60000)
with tempfile.TemporaryDirectory() as tmp:
    model = pathlib.Path(tmp) / "large.gguf"
    model.write_bytes(data)
    text = ["run", "-m", model, "-p", "Once upon a time", "-n", "4", "--temp", "0", "-t", "1"]
    wide = trireme.run_json(text)
    assert wide["text"], "float32 has room for it"
    done = trireme.run(text + ["-ctv", "f16"], check=False)
    assert done.returncode == 3 and b"-ctv f32" in done.stderr, (done.returncode, done.stderr)
