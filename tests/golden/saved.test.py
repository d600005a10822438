# Directories as transformers' own save_pretrained wrote them: logits, greedy continuation, several ranks.
# timeout: 240
# labels: mpi
"""Made by make_saved.py: BitNet packed (BitLinear), with trits as floats (what saving a loaded packed model
gives), and with master weights quantised online; Llama with BitNet's layers; dense Llama in several files with
an index. Expected values are transformers' own, in float32, of the directory loaded again."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

CASES = sorted((trireme.GOLDEN / "saved").glob("*.json"))


assert len(CASES) == 5, CASES
for case in CASES:
    folder = case.with_suffix("")
    expected = json.loads(case.read_text())
    ids = ",".join(map(str, expected["ids"]))
    rows, columns, want = trireme.read_npy(case.with_suffix(".npy"))
    with tempfile.TemporaryDirectory() as tmp:
        got_rows, got_columns, first = trireme.logits(folder, ids, f"{tmp}/o.npy", 1, "-t", "1")
        assert (got_rows, got_columns) == (rows, columns), case.stem
        trireme.close_logits(case.stem, trireme.floats(want), trireme.floats(first), rows, columns)
        _, _, again = trireme.logits(folder, ids, f"{tmp}/o.npy", 2, "-t", "1", "--layout", "1x2")
        assert again == first, f"{case.stem} on 1x2"
    # tokenizer.json says that <s> comes first, and byte-level BPE makes the prompt's ids
    told = trireme.run_json(["run", "-m", folder, "-p", expected["prompt"], "-n", len(expected["greedy"]),
                             "--temp", "0", "-t", "1"])
    assert told["prompt_tokens"] == expected["prompt_ids"], told
    assert expected["smallest_gap"] > 0.5, "the greedy text would hang on a tie: make it again"
    assert told["tokens"] == expected["greedy"], f"{case.stem}: {told['text']!r}, want {expected['text']!r}"

# A weight that is no trit where trits stand as floats: refused with the tensor's name, not rounded.
with tempfile.TemporaryDirectory() as tmp:
    folder = pathlib.Path(tmp) / "bitnet-offline"
    folder.mkdir()
    for file in (trireme.GOLDEN / "saved/bitnet-offline").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    data = bytearray((folder / "model.safetensors").read_bytes())
    head = int.from_bytes(data[:8], "little")
    at = json.loads(data[8:8 + head])["model.layers.0.mlp.up_proj.weight"]["data_offsets"][0] + 8 + head
    data[at:at + 2] = (0x3F00).to_bytes(2, "little")  # bfloat16 0.5
    (folder / "model.safetensors").write_bytes(data)
    done = trireme.run(["run", "-m", folder, "-p", "The", "-n", "1"], check=False)
    assert done.returncode == 3 and b"ffn_up" in done.stderr, done.stderr
    print(done.stderr.decode().strip())
