# Damaged safetensors, index and config.json: exit status 3, a message that names file and field.
# timeout: 300
# labels: mpi
"""300 variants of each (tests/support/damage.py) of a small BitNet directory made here."""
import json
import pathlib
import random
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme
import damage
from damage import DROP, EITHER, REFUSED, SAME, changed, replaced, text

EVAL = ["eval", "-m", "{m}", "--ids", "1,2,3", "--logits", "{d}/x.npy", "-t", "1", "-q"]
INSPECT = ["inspect", "-m", "{m}", "--tensors", "--json"]
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


def parse_json(data):
    return json.loads(data)


# ---- model.safetensors

def header_length(data):
    (n,) = struct.unpack_from("<Q", data)
    for value in (0, 1, 2, n - 1, n + 1, n + 8, len(data) - 8, len(data) - 7, len(data), 2**31, 2**32, 2**53,
                  2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1):
        yield f"a header of {value} bytes", replaced(data, 0, struct.pack("<Q", value)), REFUSED


def odd_entries(rows):
    """(name, bytes, expect): one field of one tensor's entry changed."""
    def made(name, field, value):
        def header(entries):
            if value is DROP:
                del entries[name][field]
            else:
                entries[name][field] = value
        return damage.safetensors(rows, header)

    at = 0
    for name, dtype, shape, body in rows:
        begin, end = at, at + len(body)
        at = end
        for value in (DROP, None, 5, [], {}, True, "", "f32", "F33", "F32\0", "X" * 1000):
            yield f"{name}: dtype {str(value)[:20]}", made(name, "dtype", value), (name,)
        for value in ("F64", "F16", "BF16", "I32", "BOOL", "U8", "F4", "I8", "U32"):
            if value != dtype:
                yield f"{name}: dtype {value}", made(name, "dtype", value), (name,)
        for value in (DROP, None, 5, "x", {}, [-1, 64], [1.5, 64], [True, 64], ["64"], [None], [[64]], [2**31, 2**33],
                      [2**32, 2**32], [2**62, 8], [2**63 - 1], [0], [0, 2**62], [], [1] * 5, [1] * 1000,
                      shape + [2], [shape[0] + 1] + shape[1:], [shape[0] - 1] + shape[1:]):
            expect = SAME if value == [] and shape == [1] else (name,)
            yield f"{name}: shape {str(value)[:40]}", made(name, "shape", value), expect
        for value in (DROP, None, 5, "x", {}, [begin], [begin, end, end], [end, begin], [-8, end - begin - 8],
                      [begin, end + 1], [begin, end - 1], [begin + 1, end + 1], [begin + 0.5, end], [str(begin), end],
                      [None, None], [2**63 - 1, 2**63 - 1], [2**62, 2**62 + end - begin], [begin, 2**40]):
            word = (name, "hole", "overlap")
            yield f"{name}: data_offsets {str(value)[:40]}", made(name, "data_offsets", value), word
        yield f"{name}: all moved by 8", damage.safetensors(rows, lambda e: move(e, 8)), REFUSED
        yield f"{name}: no object", damage.safetensors(rows, lambda e: e.update({name: 5})), (name,)
        yield f"{name}: null", damage.safetensors(rows, lambda e: e.update({name: None})), (name,)
        yield f"{name}: gone, its bytes still there", damage.safetensors(rows, lambda e: e.pop(name)), REFUSED
        yield f"{name}: gone", damage.safetensors([r for r in rows if r[0] != name]), (name,)
        others = [r if r[0] != name else (name + "x", *r[1:]) for r in rows]
        yield f"{name}: another name", damage.safetensors(others), (name,)


def move(entries, by):
    for name, entry in entries.items():
        if name != "__metadata__":
            entry["data_offsets"] = [v + by for v in entry["data_offsets"]]


def weights_variants(sound, rows):
    rng = random.Random(damage.SEED)
    n = 8 + struct.unpack_from("<Q", sound)[0]
    head = sound[8:n]
    hostile = [(f"header: {name}", struct.pack("<Q", len(body)) + body + sound[n:],
                ("zz",) if expect == SAME and b"zz" in body else expect if body else REFUSED)
               for name, body, expect in damage.hostile_json(head)]
    fixed = [*damage.cuts(sound, 40), *header_length(sound), *hostile]
    fixed += [
        ("bytes behind the last tensor", sound + b"\0", ("hole", "cover", "behind")),
        ("a page behind the last tensor", sound + b"\0" * 4096, ("hole", "cover", "behind")),
        ("a hole before the first", damage.safetensors([("zz", "U8", [8], b"\0" * 8), *rows],
                                                       lambda e: e.pop("zz")), ("hole", "cover")),
        ("two entries, the same bytes", damage.safetensors(rows, lambda e: e.update(
            {"model.layers.0.twin": e["model.norm.weight"]})), ("overlap",)),
        ("a tensor that a layer does not have", damage.safetensors(
            rows + [("model.layers.0.self_attn.q_norm.weight", "F32", [4], b"\0" * 16)]), ("q_norm",)),
        ("a tensor of a layer too many", damage.safetensors(
            rows + [("model.layers.2.input_layernorm.weight", "F32", [4], b"\0" * 16)]), ("model.layers.2",)),
        ("a name of 300 bytes", damage.safetensors(rows + [("n" * 300, "F32", [4], b"\0" * 16)]), ("name",)),
        ("a name of 100000 bytes", damage.safetensors(rows + [("n" * 100000, "F32", [4], b"\0" * 16)]), ("name",)),
        ("no name", damage.safetensors(rows + [("", "F32", [4], b"\0" * 16)]), EITHER),
        ("a name of control characters", damage.safetensors(
            rows + [("model.layers.0.\x1b[2J\n", "F32", [4], b"\0" * 16)]), ("model.layers.0.",)),
        ("no tensors", damage.safetensors([]), ("missing",)),
        ("no metadata", damage.safetensors(rows, lambda e: e.pop("__metadata__")), SAME),
        ("metadata with more", damage.safetensors(rows, lambda e: e["__metadata__"].update({"a": "b"})), SAME),
        ("a git-lfs pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", ("git-lfs",)),
        ("a GGUF file", b"GGUF" + b"\3\0\0\0" * 20, REFUSED),
        ("a folder", damage.folder, REFUSED),
        ("a named pipe", damage.fifo, REFUSED),
        ("a device", lambda path: path.symlink_to("/dev/zero"), REFUSED),
        ("a link to itself", lambda path: path.symlink_to(path.name), REFUSED),
        ("a link to nothing", lambda path: path.symlink_to("nowhere"), REFUSED),
    ]
    for name in ("weight_scale", "norm"):  # numbers that no model has
        for value in (float("nan"), float("inf"), -float("inf"), 1e38, -1.0, 0.0):
            one = next(r for r in rows if name in r[0])
            body = struct.pack("<f", value) + one[3][4:]
            out = damage.safetensors([r if r is not one else (*one[:3], body) for r in rows])
            fixed.append((f"{one[0]} = {value}", out, (one[0],) if name == "weight_scale" else EITHER))
    fixed += damage.random_bytes(sound, 70, rng, damage.judge_safetensors, 0, n)
    seen = {v[0] for v in fixed}
    rest = [v for v in odd_entries(rows) if not (v[0] in seen or seen.add(v[0]))]
    for name, body, expect in damage.fill(fixed, rest, rng):
        yield name, {WEIGHTS: body}, expect


# ---- model.safetensors.index.json

PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def indexed(rows):
    half = len(rows) // 2
    names = {r[0]: PARTS[i >= half] for i, r in enumerate(rows)}
    return {PARTS[0]: damage.safetensors(rows[:half]), PARTS[1]: damage.safetensors(rows[half:]),
            INDEX: text({"metadata": {"total_size": sum(len(r[3]) for r in rows)}, "weight_map": names})}


def index_variants(sound, files, rows):
    rng = random.Random(damage.SEED)
    document = parse_json(sound)
    names = list(document["weight_map"])
    fixed = [(name, {INDEX: body}, expect) for name, body, expect in
             [*damage.cuts(sound, 40), *damage.hostile_json(sound)]]

    def add(name, path, value, expect):
        fixed.append((name, {INDEX: text(changed(document, path, value))}, expect))

    for value in (DROP, None, 5, "x", [], {}, True, [1], 1.5):
        add(f"weight_map = {str(value)[:10]}", ["weight_map"], value, ("weight_map",))
    for value in (DROP, None, 5, "x", [], {}, {"total_size": -1}, {"total_size": "x"}, {"total_size": 2**62}):
        add(f"metadata = {str(value)[:30]}", ["metadata"], value, SAME)
    away = ("../" + PARTS[0], "../../../../../../etc/passwd", "/etc/passwd", "./" + PARTS[0], "x/" + PARTS[0],
            "../x.safetensors", "/dev/zero", "..", ".", "", "x", PARTS[0] + "/", PARTS[0] + "/..", ".safetensors",
            PARTS[0].upper(), "\\" + PARTS[0] + "\\", "model.bin", "a" * 300 + ".safetensors", "/a.safetensors",
            PARTS[0] + "\0", "\0.safetensors", "x\0/../" + PARTS[0], "~/" + PARTS[0], "file://" + PARTS[0],
            "..\0/a.safetensors", "config.json", 5, None, [], {}, True, [PARTS[0]], 1.5)
    for i, value in enumerate(away):
        name = names[i % len(names)]
        add(f"{name} in {str(value)[:30]!r} ({i})", ["weight_map", name], value, ("weight_map",))
    for i, value in enumerate(("model-00003-of-00002.safetensors", "..safetensors", " .safetensors", "*.safetensors",
                               "a" * 243 + ".safetensors", "$(x).safetensors", "%s%n.safetensors", "a\nb.safetensors",
                               "\x1b[2J.safetensors", "-m.safetensors")):
        add(f"a file that is not there: {value[:30]!r}", ["weight_map", names[i]], value, (names[i],))
    many = {f"m{i}.safetensors": b"x" for i in range(1100)}
    map_of_many = {**document["weight_map"], **{f"t{n}": n for n in many}}
    fixed.append(("1102 files", {INDEX: text(changed(document, ["weight_map"], map_of_many)), **many},
                  ("names over 1024 files",)))
    add("all in the first", ["weight_map"], {n: PARTS[0] for n in names}, ("missing",))
    add("all in the second", ["weight_map"], {n: PARTS[1] for n in names}, ("missing",))
    add("a tensor that nobody has", ["weight_map", "zz"], PARTS[0], SAME)
    for name in rng.sample(names, 12):
        other = PARTS[document["weight_map"][name] == PARTS[0]]
        add(f"{name} in the other file", ["weight_map", name], other, SAME)
        add(f"{name} not in the index", ["weight_map", name], DROP, SAME)
    for p in PARTS:
        half = [r for r in rows if document["weight_map"][r[0]] == p]
        cut = files[p]
        for name, body, expect in (
                ("missing", None, (p,)), ("empty", b"", (p,)), ("a folder", damage.folder, (p,)),
                ("a named pipe", damage.fifo, (p,)), ("a link to itself", lambda q: q.symlink_to(q.name), (p,)),
                ("a device", lambda q: q.symlink_to("/dev/zero"), (p,)),
                ("the other file", files[PARTS[p == PARTS[0]]], ("also",)),
                ("without its first tensor", damage.safetensors(half[1:]), (half[0][0],)),
                ("with one of the other's", damage.safetensors(half + [next(r for r in rows if r not in half)]),
                 ("also",)),
                ("no tensors", damage.safetensors([]), ("missing",))):
            fixed.append((f"{p} is {name}", {p: body}, expect))
        for k in range(8):
            fixed.append((f"{p} cut at {k}/8", {p: cut[:len(cut) * k // 8]}, (p,)))
    fixed += [("a folder", {INDEX: damage.folder}, REFUSED), ("a named pipe", {INDEX: damage.fifo}, REFUSED),
              ("missing", {INDEX: None}, EITHER), ("a device", {INDEX: lambda p: p.symlink_to("/dev/zero")}, REFUSED)]
    rest = [(name, {INDEX: body}, expect) for name, body, expect in
            damage.random_bytes(sound, 200, rng, damage.judge_json)]
    return damage.fill(fixed, rest, rng)


# ---- config.json

SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
         "vocab_size", "max_position_embeddings")
MEANS = {"rms_norm_eps": ("norm epsilon",), "rope_theta": ("RoPE base",)}


def config_variants(sound):
    rng = random.Random(damage.SEED)
    document = parse_json(sound)
    out = []

    def add(path, value, expect, note=""):
        shown = "gone" if value is DROP else repr(value)[:200]
        out.append((f"{'.'.join(path)} = {shown}{note}", {CONFIG: text(changed(document, path, value))}, expect))

    for key in SIZES:
        for value in ("64", "", [], {}, [64], True, 1.5, 64.0, 0, -1, -2**31, -2**63, 2**31, 2**32, 2**40, 2**63 - 1):
            add([key], value, (key,))
        add([key], 2**63, REFUSED)
        for value in (DROP, None):
            add([key], value, (key,) if key not in SIZES[4:] or key == "vocab_size" else EITHER)
        add([key], document[key] + 1, EITHER)
        add([key], document[key] * 2, EITHER)
        add([key], 1, EITHER)
    for key in ("rms_norm_eps", "rope_theta"):
        for value in ("1e-5", "", [], {}, True, [1e-5], -1, -1e-5, 1e30, 1e300, -1e300):
            add([key], value, (key,) + MEANS[key])
        for value in (float("nan"), float("inf"), -float("inf")):
            add([key], value, REFUSED)
        for value in (DROP, None):
            add([key], value, EITHER)
    for key in ("attention_bias", "tie_word_embeddings", "mlp_bias"):
        for value in ("true", 1, 0, [], {}, "", 1.5):
            add([key], value, (key,))
    add(["attention_bias"], True, ("bias",))
    add(["mlp_bias"], True, ("bias",))
    add(["tie_word_embeddings"], False, ("lm_head",))
    for value in ("gelu", "", "RELU2", "relu2\0", 5, [], {}, True, "x" * 100000, DROP, None):
        add(["hidden_act"], value, ("hidden_act",))
    for value in ("gpt2", "", "BITNET", "bitnet\0", 5, [], {}, True, "x" * 100000, DROP, None, "mamba", "\x1b[2J"):
        add(["model_type"], value, ("model_type",))
    for value in ("bitnet", "", 5, [], {}, True, ["bitnet"], {"quant_method": "gptq"}, {"quant_method": None}):
        add(["quantization_config"], value, ("quantization_config", "quant_method"))
    for value in (DROP, None):
        add(["quantization_config"], value, ("U8", "tensor"))
    for key, values in (("quant_method", ("gptq", "", 5, [], {}, None, DROP, True)),
                        ("linear_class", ("linear", "", 5, [], {}, True, "AutoBitLinear")),
                        ("quantization_mode", ("later", "", 5, [], {}, True)),
                        ("use_rms_norm", ("no", 5, 0, [], {}, True)),
                        ("modules_to_not_convert", ("lm_head", 5, {}, True, ["q_proj"], [5], [None], [[]],
                                                    ["model.layers.0"]))):
        for value in values:
            add(["quantization_config", key], value, (key, "quantization_config"))
    add(["quantization_config", "linear_class"], "bitlinear", ("weight_scale",), " (divides)")
    for value in ("yarn", 5, [], True, [5], {"rope_type": "odd"}, {"rope_type": 5}, {"rope_type": "linear"},
                  {"rope_type": "linear", "factor": 0}, {"rope_type": "linear", "factor": -1},
                  {"rope_type": "linear", "factor": "2"}, {"rope_type": "linear", "factor": 1e30},
                  {"rope_type": "llama3", "factor": 8}, {"rope_type": "yarn", "factor": 4, "beta_fast": "x"},
                  {"rope_type": "yarn", "factor": 4, "truncate": 5},
                  {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": -5, "low_freq_factor": 1,
                   "high_freq_factor": 4},
                  {"rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 64, "low_freq_factor": 4,
                   "high_freq_factor": 4}):
        for key in ("rope_scaling", "rope_parameters"):
            words = ("rope", "factor", "beta", "truncate", "frequency", "original", "RoPE", "freq")
            add([key], value, words)
    for value in (0, -1, 2, 1e-30, "x", [], 1e300):
        add(["partial_rotary_factor"], value, ("partial_rotary_factor", "rotated dimensions"))
    for value in ("64", 0, -1, 15, 1.5, 2**20, [], {}, True, 17, 2048):
        add(["head_dim"], value, ("head_dim", "rotated dimensions", "tensor", "head"))
    for key in ("bos_token_id", "eos_token_id"):
        for value in ("<s>", {}, True, 1.5, ["x"], [1.5], [[]], -2**63, [{}]):
            add([key], value, (key,))
        for value in (-1, 266, 2**31, 2**62):  # published models have ids beyond their vocabulary
            add([key], value, EITHER)
    for key in ("torch_dtype", "use_cache", "transformers_version", "a_key_of_the_future"):
        for value in ("x", 5, [], {}, None):
            add([key], value, SAME)
    for value in ([], ["LlamaForCausalLM"], [5], 5, {}, None):
        add(["architectures"], value, EITHER)
    own = len(out)
    fixed = [(name, {CONFIG: body}, expect) for name, body, expect in
             [*damage.cuts(sound, 30), *damage.hostile_json(sound)]]
    fixed += [("missing", {CONFIG: None}, ("config.json",)), ("a folder", {CONFIG: damage.folder}, REFUSED),
              ("a named pipe", {CONFIG: damage.fifo}, REFUSED),
              ("a device", {CONFIG: lambda p: p.symlink_to("/dev/zero")}, REFUSED),
              ("a link to itself", {CONFIG: lambda p: p.symlink_to(p.name)}, REFUSED)]
    fixed += [(name, {CONFIG: body}, expect) for name, body, expect in
              damage.random_bytes(sound, 40, rng, damage.judge_json)]
    assert own > 180, own
    return damage.fill(fixed, out, rng)


rows = damage.tensors()
files = damage.hf_model()
more = [(EVAL, 1, 6), (EVAL, 3, 40)]
bench = damage.Bench("safetensors", files, "", INSPECT, more, EVAL)
bench.check(weights_variants(files[WEIGHTS], rows))
parts = indexed(rows)
several = {**{n: b for n, b in files.items() if n != WEIGHTS}, **parts}
bench = damage.Bench("index", several, "", INSPECT, more, EVAL)
bench.check(index_variants(parts[INDEX], parts, rows))
bench = damage.Bench("config.json", files, "", INSPECT, more, EVAL)
bench.check(config_variants(files[CONFIG]))
