# convert and verify: Hugging Face directories become GGUF files that give the same logits.
# timeout: 300
# labels: mpi
"""From the reference data: a packed directory whose scales half precision holds exactly, one whose it does
not, master weights (model "bitnet", squared ReLU and SiLU are told apart by the architecture), a dense one,
and RoPE scalings. Damaged weights: exit status 3, tensor and row named, nothing left behind."""
import json
import os
import pathlib
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    data = pathlib.Path(path).read_bytes()
    (n,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8:8 + n])
    head.pop("__metadata__", None)
    return {k: (v["dtype"], v["shape"], data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in head.items()}


def write_safetensors(path, tensors):
    head, body = {}, bytearray()
    for name, (dtype, shape, data) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def bf16(values):
    return b"".join(struct.pack("<f", v)[2:] for v in values)


def from_bf16(data):
    return struct.unpack("<f", b"\0\0" + data)[0]


def directory(source, to, config=None, tensors=None):
    """A copy of a reference directory with some keys of config.json and the weights replaced."""
    os.makedirs(to)
    settings = json.loads(pathlib.Path(source, "config.json").read_text())
    for key, value in (config or {}).items():
        settings[key] = value
    pathlib.Path(to, "config.json").write_text(json.dumps(settings))
    shutil.copyfile(f"{source}/tokenizer.json", f"{to}/tokenizer.json")
    write_safetensors(f"{to}/model.safetensors", tensors or read_safetensors(f"{source}/model.safetensors"))
    return to


def keys(source):
    return json.loads(pathlib.Path(source, "config.json").read_text())


def biased(source, to):
    """With biases of q, k, v and o: those of q and k move with their rows."""
    rng = random.Random(20261122)
    tensors = read_safetensors(f"{source}/model.safetensors")
    for name, (_, shape, _) in list(tensors.items()):
        if ".self_attn." in name and name.endswith("_proj.weight"):
            tensors[name[:-len("weight")] + "bias"] = (
                "BF16", [shape[0]], bf16([rng.gauss(0, 0.3) for _ in range(shape[0])]))
    return directory(source, to, {"attention_bias": True}, tensors)


def exact_scales(source, to):
    """Stored reciprocals become factors of 8 bits, which half precision holds."""
    tensors = read_safetensors(f"{source}/model.safetensors")
    for name, (dtype, shape, data) in tensors.items():
        if name.endswith("weight_scale"):
            tensors[name] = (dtype, shape, bf16([1 / from_bf16(data)]))
    return directory(source, to, {"quantization_config": {
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}}, tensors)


def master_weights(source, to, config):
    """Random weights of the "bitnet" kind, wide enough for blocks of 256, to be made ternary at load."""
    rng = random.Random(20261122)
    width, ffn, heads, kv, vocab, layers = 256, 512, 4, 2, 1024, 2
    tensors = {}

    def add(name, rows, columns, spread):
        shape = [rows, columns] if rows else [columns]
        values = [rng.gauss(0 if rows else 1, spread) for _ in range((rows or 1) * columns)]
        tensors[name] = ("BF16", shape, bf16(values))

    add("model.embed_tokens.weight", vocab, width, 1)
    add("model.norm.weight", 0, width, 0.1)
    for i in range(layers):
        head = f"model.layers.{i}."
        for name, rows, columns in (("self_attn.q_proj", width, width), ("self_attn.k_proj", width // 2, width),
                                    ("self_attn.v_proj", width // 2, width), ("self_attn.o_proj", width, width),
                                    ("mlp.gate_proj", ffn, width), ("mlp.up_proj", ffn, width),
                                    ("mlp.down_proj", width, ffn)):
            add(f"{head}{name}.weight", rows, columns, 0.05)
        for name, n in (("input_layernorm", width), ("post_attention_layernorm", width),
                        ("self_attn.attn_sub_norm", width), ("mlp.ffn_sub_norm", ffn)):
            add(f"{head}{name}.weight", 0, n, 0.1)
    return directory(source, to, {"hidden_size": width, "intermediate_size": ffn, "num_attention_heads": heads,
                                  "num_key_value_heads": kv, "num_hidden_layers": layers, **config}, tensors)


def compare(source, converted, ids, tmp, limit, what):
    """Logits of both, and of the converted one on 1x3."""
    want = trireme.floats(trireme.logits(source, ids, f"{tmp}/a.npy", 1, "-t", "1")[2])
    body = trireme.logits(converted, ids, f"{tmp}/b.npy", 1, "-t", "1")[2]
    assert body == trireme.logits(converted, ids, f"{tmp}/c.npy", 3, "--layout", "1x3", "-t", "1")[2], what
    got = trireme.floats(body)
    n = len(want)
    mean = sum(want) / n
    std = (sum((v - mean) ** 2 for v in want) / n) ** 0.5
    rms = (sum((a - b) ** 2 for a, b in zip(want, got)) / n) ** 0.5 / std
    print(f"{what}: rms difference {rms:.2e} of the standard deviation")
    assert rms <= limit, f"{what}: {rms:.2e}, limit {limit:.0e}"


def convert(source, to, *options):
    report = trireme.run_json(["convert", source, to, *options])
    assert report["file_bytes"] == os.path.getsize(to), report
    assert trireme.run_json(["verify", to])["damaged"] == 0
    return report


def check_models(tmp):
    # Pairs instead of halves add the same products of q and k in another order: last bits, which
    # may turn the rounding of an activation to 8 bits. Scales rounded to half precision turn many.
    falcon = trireme.shared("golden/falcon3-158-packed")
    dense = trireme.shared("golden/llama-dense")
    bitnet = trireme.shared("golden/bitnet-2b-online")
    ids = ",".join(str(i) for i in json.loads(pathlib.Path(falcon, "expected.json").read_text())["ids"])

    report = convert(falcon, f"{tmp}/falcon.gguf")
    assert report["arch"] == "llama" and 0 < report["scale_rounding"] <= 2**-11, report
    compare(falcon, f"{tmp}/falcon.gguf", ids, tmp, 0.1, "packed, reciprocal scales")
    exact = exact_scales(falcon, f"{tmp}/exact")
    report = convert(exact, f"{tmp}/exact.gguf")
    assert report["scale_rounding"] == 0, report
    compare(exact, f"{tmp}/exact.gguf", ids, tmp, 0.01, "packed, exact scales")
    convert(f"{tmp}/exact.gguf", f"{tmp}/tq1.gguf", "--type", "tq1_0")
    compare(f"{tmp}/exact.gguf", f"{tmp}/tq1.gguf", ids, tmp, 0, "GGUF to GGUF, TQ2_0 to TQ1_0")

    report = convert(dense, f"{tmp}/dense.gguf", "--embed-type", "f32")
    assert report["arch"] == "llama" and report["scale_rounding"] == 0, report
    compare(dense, f"{tmp}/dense.gguf", ids, tmp, 1e-5, "dense")
    convert(biased(dense, f"{tmp}/biased"), f"{tmp}/biased.gguf")
    compare(f"{tmp}/biased", f"{tmp}/biased.gguf", ids, tmp, 1e-5, "dense, biases")
    for name, rope in (
            ("linear", {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
            ("yarn", {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
                      "original_max_position_embeddings": 128}),
            ("llama3", {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 128, "rope_theta": 500000.0})):
        scaled = directory(dense, f"{tmp}/{name}", {"rope_parameters": rope})
        assert trireme.run_json(["inspect", "-m", scaled])["rope_scaling"] == name
        convert(scaled, f"{tmp}/{name}.gguf")
        compare(scaled, f"{tmp}/{name}.gguf", ids, tmp, 1e-5, f"dense, RoPE {name}")

    master = master_weights(bitnet, f"{tmp}/master", {})
    about = trireme.run_json(["inspect", "-m", master, "--tensors"])
    assert (about["online_tensors"], about["rope_scaling"], about["kinds"]["ternary"]["tensors"]) == (14, "none", 14)
    assert sum(t.get("online", False) for t in about["tensors"]) == 14
    assert convert(master, f"{tmp}/master.gguf")["arch"] == "bitnet-b1.58"
    assert trireme.run_json(["inspect", "-m", f"{tmp}/master.gguf"])["online_tensors"] == 0
    compare(master, f"{tmp}/master.gguf", ids, tmp, 0.1, "master weights, squared ReLU")
    silu = directory(bitnet, f"{tmp}/silu", {**keys(master), "hidden_act": "silu", "tie_word_embeddings": False},
                     {**read_safetensors(f"{master}/model.safetensors"), "lm_head.weight":
                      read_safetensors(f"{master}/model.safetensors")["model.embed_tokens.weight"]})
    done = trireme.run(["convert", silu, f"{tmp}/silu.gguf"])
    assert b"architecture bitnet does not take a head of its own" in done.stderr, done.stderr
    compare(silu, f"{tmp}/silu.gguf", ids, tmp, 0.1, "master weights, SiLU, own head")


def same_bytes(source, converted, ids, tmp, *options):
    """Every bit of the logits, on one rank and on 1x3."""
    want = trireme.logits(source, ids, f"{tmp}/a.npy", 1, "-t", "1")[2]
    assert want == trireme.logits(converted, ids, f"{tmp}/b.npy", 1, "-t", "1", *options)[2], converted
    assert want == trireme.logits(converted, ids, f"{tmp}/c.npy", 3, "--layout", "1x3", "-t", "1", *options)[2]


def types_of(model, *options):
    return {k: v["tensors"] for k, v in trireme.run_json(["inspect", "-m", model, *options])["types"].items()}


def ids_of(directory):
    return ",".join(str(i) for i in json.loads(pathlib.Path(directory, "expected.json").read_text())["ids"])


def check_i2s(tmp):
    """I2_S keeps scales whole: the same bits from any source whose rows are not permuted, in each layout."""
    ids = ids_of(trireme.shared("golden/bitnet-2b-online"))
    names = {"x86": "I2_S", "arm": "I2_S_64", "x86-old": "I2_S_R4"}
    master = f"{tmp}/master"
    for layout in ("x86", "arm", "x86-old"):
        out, option = f"{tmp}/{layout}.gguf", ("--i2s-layout", layout)
        report = trireme.run_json(["convert", master, out, "--type", "i2_s", *option])
        assert (report["arch"], report["scale_rounding"], report["f16_tensors"]) == ("bitnet-b1.58", 0, 0), report
        assert types_of(out, *option)[names[layout]] == 14
        assert trireme.run_json(["verify", out, *option])["damaged"] == 0
        same_bytes(master, out, ids, tmp, *option)
        data = pathlib.Path(out).read_bytes()  # general.file_type, a u32: 40
        assert b"general.file_type" + struct.pack("<II", 4, 40) in data
    source = trireme.GOLDEN / "transformers/silu-tq2.gguf"
    convert(source, f"{tmp}/silu-i2s.gguf", "--type", "i2_s")
    same_bytes(source, f"{tmp}/silu-i2s.gguf", source.with_suffix(".ids").read_text().strip(), tmp)
    # Rows of q and k change places when halves become pairs: the bytes that 4 of them share too.
    falcon = trireme.shared("golden/falcon3-158-packed")
    bodies = []
    for layout in ("x86", "x86-old"):
        option = ("--i2s-layout", layout)
        trireme.run(["convert", falcon, f"{tmp}/f.gguf", "--type", "i2_s", *option])
        compare(falcon, f"{tmp}/f.gguf", ids_of(falcon), tmp, 1e-5, "packed to I2_S") if layout == "x86" else None
        bodies.append(trireme.logits(f"{tmp}/f.gguf", ids_of(falcon), f"{tmp}/a.npy", 1, "-t", "1", *option)[2])
    assert bodies[0] == bodies[1]
    refused(["convert", trireme.GOLDEN / "transformers/llama-tq2-blocks.gguf", f"{tmp}/no.gguf", "--type", "i2_s"],
            "scales from", "--type tq2_0")
    assert not [f for f in os.listdir(tmp) if f.startswith("no.gguf")]


def check_short_rows(tmp):
    """Rows that no ternary type can hold: F16 and a key that says which; only the key makes them ternary."""
    packed = trireme.shared("golden/bitnet-2b-packed")  # its scales fit half precision
    for kind, f16 in (("tq2_0", 3), ("tq1_0", 3), ("i2_s", 3)):
        report = convert(packed, f"{tmp}/short.gguf", "--type", kind)
        assert (report["f16_tensors"], report["ternary_tensors"], report["scale_rounding"]) == (f16, 21, 0), report
        assert types_of(f"{tmp}/short.gguf")["F16_TERN"] == f16
        same_bytes(packed, f"{tmp}/short.gguf", ids_of(packed), tmp)
    convert(f"{tmp}/short.gguf", f"{tmp}/again.gguf")
    same_bytes(packed, f"{tmp}/again.gguf", ids_of(packed), tmp)
    online = trireme.shared("golden/bitnet-2b-online")
    report = convert(online, f"{tmp}/online.gguf")
    assert report["f16_tensors"] == 12 and 0 < report["scale_rounding"] <= 2**-11, report
    compare(online, f"{tmp}/online.gguf", ids_of(online), tmp, 0.1, "master weights, rows of 192")

    data = pathlib.Path(f"{tmp}/again.gguf").read_bytes()
    key = b"trireme.ternary_tensors"
    assert data.count(key) == 1
    pathlib.Path(f"{tmp}/plain.gguf").write_bytes(data.replace(key, b"another.ternary_tensors"))
    types = types_of(f"{tmp}/plain.gguf")
    assert types["F16"] == 3 and "F16_TERN" not in types, types
    assert trireme.logits(f"{tmp}/plain.gguf", ids_of(packed), f"{tmp}/a.npy")[2] != \
        trireme.logits(packed, ids_of(packed), f"{tmp}/b.npy")[2]

    at = data.index(key)
    name = b"blk.0.ffn_down.weight"
    assert data.index(name, at) - at < 100
    lost = data[:at] + data[at:].replace(name, b"blk.9.ffn_down.weight", 1)
    pathlib.Path(f"{tmp}/lost.gguf").write_bytes(lost)
    refused(["inspect", "-m", f"{tmp}/lost.gguf"], "trireme.ternary_tensors", "blk.9.ffn_down.weight")
    listed = trireme.run_json(["inspect", "-m", f"{tmp}/again.gguf", "--tensors"])["tensors"]
    (tensor,) = [t for t in listed if t["name"] == "blk.1.ffn_down"]
    broken = bytearray(data)
    columns = tensor["shape"][1]
    for column in range(7, columns):  # not the tensor's first weight, which gives the scale
        where = tensor["offset"] + 2 * (3 * columns + column)
        if broken[where:where + 2] != b"\0\0":
            break
    broken[where] ^= 1
    pathlib.Path(f"{tmp}/broken.gguf").write_bytes(broken)
    refused(["verify", f"{tmp}/broken.gguf"], "blk.1.ffn_down.weight", "row 3 of")
    refused(["eval", "-m", f"{tmp}/broken.gguf", "--ids", "1,2", "--logits", f"{tmp}/a.npy"], "blk.1.ffn_down row 3")


def check_normalizer(tmp):
    """A normalisation form of tokenizer.json goes along, in a key of our own."""
    dense = trireme.shared("golden/llama-dense")
    source = directory(dense, f"{tmp}/nfd")
    tokenizer = json.loads(pathlib.Path(dense, "tokenizer.json").read_text())
    assert tokenizer["normalizer"] is None
    tokenizer["normalizer"] = {"type": "NFD"}
    pathlib.Path(source, "tokenizer.json").write_text(json.dumps(tokenizer))
    convert(source, f"{tmp}/nfd.gguf")
    convert(f"{tmp}/nfd.gguf", f"{tmp}/nfd2.gguf")

    def ids(model, text):
        pathlib.Path(f"{tmp}/text").write_text(text)
        with open(f"{tmp}/text", "rb") as f:
            return trireme.run_json(["tokenize", "-m", model], stdin=f)["tokens"]

    taken_apart = ids(dense, "caf\u0065\u0301")
    assert ids(dense, "caf\u00e9") != taken_apart
    for model in (source, f"{tmp}/nfd.gguf", f"{tmp}/nfd2.gguf"):
        assert ids(model, "caf\u00e9") == taken_apart, model


def check_files(tmp):
    """From GGUF to GGUF nothing changes: not the sub-norms, nor scales that differ from block to block."""
    for name, to in (("silu-tq2", "tq1_0"), ("relu2-gqa5-tq1", "tq2_0"), ("llama-tq2-blocks", "tq1_0"),
                     ("llama-f16", "tq2_0")):
        source = trireme.GOLDEN / f"transformers/{name}.gguf"
        report = convert(source, f"{tmp}/{name}.gguf", "--type", to)
        was = trireme.run_json(["inspect", "-m", source])
        now = trireme.run_json(["inspect", "-m", f"{tmp}/{name}.gguf"])
        for key in ("arch", "name", "shape", "tokenizer", "width", "ffn", "rope_base", "activation"):
            assert was.get(key) == now.get(key), (name, key, was.get(key), now.get(key))
        assert report["scale_rounding"] == 0, report
        compare(source, f"{tmp}/{name}.gguf", source.with_suffix(".ids").read_text().strip(), tmp, 0, name)


def refused(args, *words):
    done = trireme.run(args, check=False)
    text = done.stderr.decode()
    assert done.returncode == 3 and all(w in text for w in words), f"{args}: {done.returncode} {text}"


def check_damage(tmp):
    os.makedirs(f"{tmp}/out")
    out = f"{tmp}/out/out.gguf"
    falcon = trireme.shared("golden/falcon3-158-packed")
    tensors = read_safetensors(f"{falcon}/model.safetensors")
    dtype, shape, data = tensors["model.layers.1.mlp.up_proj.weight"]
    broken = bytearray(data)
    broken[5 * shape[1] + 7] |= 3 << 4  # a code 3 in row 2 * (rows / 4) + 5
    tensors["model.layers.1.mlp.up_proj.weight"] = (dtype, shape, bytes(broken))
    source = directory(falcon, f"{tmp}/broken", None, tensors)
    words = ("model.safetensors", "blk.1.ffn_up.weight", f"row {2 * shape[0] + 5} of {4 * shape[0]}")
    refused(["verify", source], *words)
    refused(["convert", source, out], *words)
    assert os.listdir(f"{tmp}/out") == []

    bitnet = trireme.shared("golden/bitnet-2b-online")
    master = read_safetensors(f"{tmp}/master/model.safetensors")
    dtype, shape, data = master["model.layers.0.mlp.down_proj.weight"]
    broken = bytearray(data)
    broken[2 * (9 * shape[1] + 1):][:2] = b"\0\0"
    struct.pack_into("<H", broken, 2 * (9 * shape[1] + 1), 0x7F80)
    master["model.layers.0.mlp.down_proj.weight"] = (dtype, shape, bytes(broken))
    source = directory(bitnet, f"{tmp}/infinite", keys(f"{tmp}/master"), master)
    words = ("blk.0.ffn_down.weight", "row 9 of", "not a finite number")
    refused(["verify", source], *words)
    refused(["convert", source, out], *words)
    assert os.listdir(f"{tmp}/out") == []


def check_verify(tmp):
    plain = trireme.run_json(["verify", f"{tmp}/dense.gguf", "--tensors"])
    assert len(plain["list"]) == plain["tensors"] and not any(t["damaged"] for t in plain["list"])
    data = bytearray(pathlib.Path(f"{tmp}/dense.gguf").read_bytes())
    data[-100] ^= 1  # still a sound weight, but another
    pathlib.Path(f"{tmp}/other.gguf").write_bytes(data)
    other = trireme.run_json(["verify", f"{tmp}/other.gguf", "--tensors"])
    assert other["xxh3_128"] != plain["xxh3_128"]
    assert sum(a != b for a, b in zip(plain["list"], other["list"])) == 1


def check_scales(tmp):
    """A scale that lies beside the weights counts too."""
    source = trireme.shared("golden/falcon3-158-packed")
    tensors = read_safetensors(f"{source}/model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight_scale"
    tensors[name] = (tensors[name][0], tensors[name][1], bf16([from_bf16(tensors[name][2]) * 1.25]))
    other = directory(source, f"{tmp}/scale", None, tensors)
    assert trireme.run_json(["verify", other])["xxh3_128"] != trireme.run_json(["verify", source])["xxh3_128"]


def check_interrupt(tmp):
    """Ctrl-C leaves neither the file nor its beginning. The file must be large enough to be caught."""
    os.makedirs(f"{tmp}/cut")
    trireme.run(["synth", "--shape", "tiny-gqa5", "-o", f"{tmp}/tiny.gguf"])
    for delay in (0.0, 0.005, 0.02):
        command = [trireme.BINARY, "convert", f"{tmp}/tiny.gguf", f"{tmp}/cut/out.gguf"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        rc = process.wait(timeout=60)
        left = os.listdir(f"{tmp}/cut")
        if rc == 0:
            assert left == ["out.gguf"], left
            os.remove(f"{tmp}/cut/out.gguf")
        else:
            assert rc in (130, -signal.SIGINT) and left == [], (rc, left)


with tempfile.TemporaryDirectory() as tmp:
    check_files(tmp)
    check_normalizer(tmp)
    check_models(tmp)
    check_i2s(tmp)
    check_short_rows(tmp)
    check_damage(tmp)
    check_verify(tmp)
    check_scales(tmp)
    check_interrupt(tmp)
