# A file's own words cannot drive the terminal of who looks at it, nor break the JSON.
# timeout: 120
"""A sound model with a tokenizer of 8 tokens whose name, pre-tokenizer, architecture or tensors hold
escape sequences, in 7 and 8 bits, turned writing, and bytes that are no UTF-8."""
import json
import pathlib
import struct
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

STRING, ARRAY, F32, I32 = 8, 9, 6, 5
EVIL = b"\x1b[2J\x07\xc2\x9b31m\xe2\x80\xae\xff\x9b"


def text(value):
    return struct.pack("<Q", len(value)) + value


def key(name, value):
    return text(name) + struct.pack("<I", STRING) + text(value)


def array(name, kind, values):
    return text(name) + struct.pack("<IIQ", ARRAY, kind, len(values)) + b"".join(values)


def model(path, keys):
    """The golden model with more keys, whose bytes are a multiple of the alignment."""
    data = (trireme.GOLDEN / "transformers/silu-tq2.gguf").read_bytes()
    count, body = struct.unpack_from("<Q", data, 16)[0], b"".join(keys)
    body += key(b"filler", b"x" * (-(len(body) + len(key(b"filler", b""))) % 32))
    pathlib.Path(path).write_bytes(data[:16] + struct.pack("<Q", count + len(keys) + 1) + body + data[24:])
    return path


def harmless(data, what):
    said = data.decode()  # UTF-8, or this fails
    bad = [c for c in said if (ord(c) < 32 and c != "\n") or 0x7f <= ord(c) < 0xa0 or c == "\u202e"]
    assert not bad, f"{what}: {bad} in {said!r}"


tokens = [b"<unk>", b"<s>", b"</s>", b"a", b"b", EVIL, b"\xe2\x96\x81", b"\xe2\x96\x81a"]
vocabulary = [
    key(b"tokenizer.ggml.model", b"llama"), key(b"tokenizer.ggml.pre", EVIL),
    array(b"tokenizer.ggml.tokens", STRING, [text(t) for t in tokens]),
    array(b"tokenizer.ggml.scores", F32, [struct.pack("<f", -i) for i in range(8)]),
    array(b"tokenizer.ggml.token_type", I32, [struct.pack("<i", t) for t in (2, 3, 3, 1, 1, 1, 1, 1)])]

with tempfile.TemporaryDirectory() as tmp:
    path = model(f"{tmp}/m.gguf", vocabulary)
    for args in (["inspect", "-m", path], ["inspect", "-m", path, "--tensors"], ["verify", path]):
        done = trireme.run(args)
        harmless(done.stdout + done.stderr, args)
    shown = trireme.run(["inspect", "-m", path]).stdout.decode()
    assert "spm, ?[2J???31m?????" in shown, shown
    for args in (["inspect", "-m", path], ["convert", path, f"{tmp}/o.gguf"], ["tokenize", "-m", path],
                 ["run", "-m", path, "-p", "a", "-n", "3", "-l", "5+1000", "--n-probs", "2"]):
        report = trireme.run_json(args)
        if args[0] == "run":
            assert report["tokens"] == [5, 5, 5], report["tokens"]

    def refused(path, word):
        done = trireme.run(["inspect", "-m", path], check=False)
        assert done.returncode == 3 and word in done.stderr, (done.returncode, done.stderr)
        harmless(done.stderr, word)

    refused(model(f"{tmp}/m.gguf", [key(b"tokenizer.ggml.model", EVIL)]), b"tokenizer '?[2J")
    names = [key(b"trireme.ternary_tensors", b"")[:-12] + struct.pack("<IIQ", ARRAY, STRING, 1) + text(EVIL)]
    refused(model(f"{tmp}/m.gguf", names), b"names the tensor ?[2J")
    # a name that only looks like one of a tensor, up to its NUL
    names = [key(b"trireme.ternary_tensors", b"")[:-12] + struct.pack("<IIQ", ARRAY, STRING, 1)
             + text(b"token_embd.weight\0")]
    refused(model(f"{tmp}/m.gguf", names), b"which is not there")

    # More log-probabilities than the vocabulary has tokens: all of them.
    path = model(f"{tmp}/m.gguf", vocabulary)
    report = trireme.run_json(["run", "-m", path, "-p", "a", "-n", "2", "--n-probs", "1000", "--ignore-eos",
                               "-l", "3+1000"])
    (first, _) = report["completion_probabilities"]
    assert sorted(t["id"] for t in first["top_logprobs"]) == list(range(320)), first
