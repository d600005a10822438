"""What the tests of damaged files share: sound models, readers of their own that say what is damaged, and
the check that a damaged one is refused.

A variant is (name, files, expect): `files` maps a name in the model's folder to its bytes, or to None where
the file is taken away, or to a function that makes something else at a path. `expect` says what must come:
  a text, or several   refused, and the message names one of them besides the file
  REFUSED              refused; the message names the file
  SAME                 accepted, with the output of the sound model
  EITHER               refused, or accepted: a sound file that says something else (a weight, a name)"""
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import time

import trireme

SEED = int(os.environ.get("TRIREME_DAMAGE_SEED", "20261122"))
FULL = trireme.PRESET == "release"
COUNT = 300
REFUSED, SAME, EITHER = "refused", "same", "either"
LIMIT = 30  # seconds for one process on one rank; a hang, not a slow machine


# ---- a small model of Hugging Face's kind

def byte_characters():
    """The printable stand-ins of bytes in byte-level BPE, as GPT-2 has them."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, extra = {}, 0
    for b in range(256):
        out[b] = chr(b if b in keep else 256 + extra)
        extra += b not in keep
    return out


def tokenizer():
    chars = list(byte_characters().values())
    vocab = {c: i for i, c in enumerate(chars)}
    merges = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"], ["\u0120", "w"], ["o", "r"]]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    special = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [{"id": 262 + i, "content": text, **special} for i, text in
             enumerate(("<s>", "</s>", "<|im_start|>", "<|im_end|>"))]
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single,
                "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [262], "tokens": ["<s>"]}}}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": level, "post_processor": template, "decoder": dict(level),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": False, "vocab": vocab, "merges": merges}}


TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
            "'<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
CONFIG = {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_size": 64, "intermediate_size": 128,
          "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 266,
          "max_position_embeddings": 128, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "hidden_act": "relu2",
          "attention_bias": False, "tie_word_embeddings": True, "bos_token_id": 262, "eos_token_id": 263,
          "torch_dtype": "bfloat16", "use_cache": True,
          "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                  "quantization_mode": "offline", "modules_to_not_convert": ["lm_head"],
                                  "use_rms_norm": False}}
MORE = {"bos_token": "<s>", "eos_token": {"content": "</s>", "special": True}, "pad_token": None,
        "add_bos_token": True, "add_eos_token": False, "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 128, "chat_template": TEMPLATE}
GENERATION = {"bos_token_id": 262, "eos_token_id": [263, 265], "pad_token_id": 263, "do_sample": True,
              "max_length": 128}


def tensors():
    """[(name, dtype, shape, bytes)] of the model of CONFIG."""
    rng = random.Random(7)
    out = []

    def floats(name, *shape):
        n = 1
        for d in shape:
            n *= d
        out.append((name, "F32", list(shape), struct.pack(f"<{n}f", *(rng.uniform(0.5, 1.5) for _ in range(n)))))

    def packed(name, rows, cols):
        codes = bytes(sum(rng.randrange(3) << 2 * k for k in range(4)) for _ in range(rows // 4 * cols))
        out.append((name + ".weight", "U8", [rows // 4, cols], codes))
        out.append((name + ".weight_scale", "F32", [1], struct.pack("<f", 0.05)))

    floats("model.embed_tokens.weight", 266, 64)
    floats("model.norm.weight", 64)
    for i in range(2):
        at = f"model.layers.{i}."
        for name, n in (("input_layernorm", 64), ("post_attention_layernorm", 64), ("self_attn.attn_sub_norm", 64),
                        ("mlp.ffn_sub_norm", 128)):
            floats(at + name + ".weight", n)
        for name, rows, cols in (("self_attn.q_proj", 64, 64), ("self_attn.k_proj", 32, 64),
                                 ("self_attn.v_proj", 32, 64), ("self_attn.o_proj", 64, 64),
                                 ("mlp.gate_proj", 128, 64), ("mlp.up_proj", 128, 64), ("mlp.down_proj", 64, 128)):
            packed(at + name, rows, cols)
    return out


def text(value):
    return json.dumps(value).encode()


def safetensors(rows, header=None):
    """The bytes of a file; `header` changes the directory before it is written."""
    entries, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, data in rows:
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    if header:
        header(entries)
    body = text(entries)
    return struct.pack("<Q", len(body)) + body + b"".join(row[3] for row in rows)


def hf_model():
    """The files of a sound directory."""
    return {"config.json": text(CONFIG), "tokenizer.json": text(tokenizer()), "tokenizer_config.json": text(MORE),
            "generation_config.json": text(GENERATION), "model.safetensors": safetensors(tensors())}


# ---- readers of our own: is it damaged?

def unique(pairs):
    if len({k for k, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def constant(name):
    raise ValueError(name)


def parse(data):
    """The JSON object in these bytes, by the letter of RFC 8259; ValueError if they are none."""
    value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def judge_json(sound, damaged):
    """What must come of random changes to a JSON file."""
    try:
        value = parse(damaged)
    except (ValueError, RecursionError):
        return REFUSED
    return SAME if value == parse(sound) else EITHER


BITS = {"F32": 32, "F16": 16, "BF16": 16, "U8": 8, "BOOL": 8, "I8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32,
        "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4}


def judge_safetensors(sound, damaged):
    """By the format's description: a header's length, an object, tensors that cover the rest without holes."""
    try:
        (n,) = struct.unpack_from("<Q", damaged)
        if n > len(damaged) - 8:
            return REFUSED
        entries = parse(damaged[8:8 + n])
        entries.pop("__metadata__", None)
        spans = []
        for entry in entries.values():
            bits = BITS[entry["dtype"]]
            for d in entry["shape"]:
                if type(d) is not int or d < 0:
                    return REFUSED
                bits *= d
            begin, end = entry["data_offsets"]
            if type(begin) is not int or type(end) is not int or bits % 8 or end - begin != bits // 8:
                return REFUSED
            spans.append((begin, end))
        at = 0
        for begin, end in sorted(spans):
            if begin != at:
                return REFUSED
            at = end
        if at != len(damaged) - 8 - n:
            return REFUSED
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
        return REFUSED
    return SAME if damaged == sound else EITHER


class Gguf:
    """Where everything stands in a GGUF file: keys [(name, at, value at, end)], tensors [(name, at, fields at,
    end)]; ValueError or struct.error if it cannot be walked."""
    SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def __init__(self, data):
        self.data, self.at = data, 0
        magic, self.version, n_tensors, n_keys = struct.unpack_from("<4sIQQ", data)
        if magic != b"GGUF" or self.version not in (2, 3) or n_tensors > 10**6 or n_keys > 10**6:
            raise ValueError("header")
        self.at = self.keys_at = 24
        self.keys, self.tensors = [], []
        for _ in range(n_keys):
            at, name, value = self.at, self.name(), self.at
            self.skip(self.u32())
            self.keys.append((name, at, value, self.at))
        self.tensors_at = self.at
        for _ in range(n_tensors):
            at, name, fields = self.at, self.name(), self.at
            n_dims = self.u32()
            if not 1 <= n_dims <= 4:
                raise ValueError("dimensions")
            self.need(8 * n_dims + 12)
            self.tensors.append((name, at, fields, self.at))
        for rows in (self.keys, self.tensors):
            if len({row[0] for row in rows}) != len(rows):
                raise ValueError("a name twice")
        self.data_at = (self.at + 31) // 32 * 32

    def need(self, n):
        if n > len(self.data) - self.at:
            raise ValueError("cut")
        self.at += n
        return self.data[self.at - n:self.at]

    def u32(self):
        return struct.unpack("<I", self.need(4))[0]

    def u64(self):
        return struct.unpack("<Q", self.need(8))[0]

    def name(self):
        name = self.need(self.u64())
        if not name or b"\0" in name:
            raise ValueError("a name")
        return name

    def skip(self, kind, inside=False):
        if kind == 8:
            self.need(self.u64())
        elif kind == 9 and not inside:
            kind, n = self.u32(), self.u64()
            if kind in self.SIZES:
                self.need(n * self.SIZES[kind])
            else:
                for _ in range(n):
                    self.skip(kind, True)
        elif kind in self.SIZES:
            if kind == 7 and self.data[self.at:self.at + 1] > b"\1":
                raise ValueError("a boolean")
            self.need(self.SIZES[kind])
        else:
            raise ValueError("a type")


def judge_gguf(sound, damaged):
    try:
        Gguf(damaged)
    except (ValueError, struct.error):
        return REFUSED
    return SAME if damaged == sound else EITHER


# ---- making variants

def replaced(data, at, new):
    return data[:at] + new + data[at + len(new):]


def random_bytes(data, n, rng, judge, first=0, last=None):
    """(name, bytes, expect): one to three bytes changed, taken out or put in."""
    for i in range(n):
        out = data
        for _ in range(rng.choice((1, 1, 2, 3))):
            at = rng.randrange(first, min(last or len(data), len(out)))
            value = rng.choice((0xFF, out[at] ^ 0x80, out[at] ^ 1, 0, rng.randrange(256)))
            how = rng.randrange(6)
            if how < 4:
                out = replaced(out, at, bytes([value]))
            else:
                out = out[:at] + (bytes([value]) if how == 4 else b"") + out[at + (how == 5):]
        yield f"random bytes {i}", out, judge(data, out)


def cuts(data, n):
    for i in range(n):
        yield f"cut at {i}/{n}", data[:len(data) * i // n], REFUSED


def changed(document, path, value):
    """A copy of the JSON document with the value at the path replaced; value DROP takes it away."""
    copy = json.loads(json.dumps(document))
    at = copy
    for step in path[:-1]:
        at = at[step]
    if value is DROP:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return copy


DROP = object()


def hostile_json(sound):
    """(name, bytes, expect) of any JSON file: no JSON, or JSON that is meant to hurt."""
    some = sound[:-1].rstrip()
    key = next(iter(parse(sound)))
    yield "empty", b"", ("empty",)
    yield "blank", b" \n\t", REFUSED
    yield "one NUL byte", b"\0", REFUSED
    yield "an array", b"[" + sound + b"]", ("object",)
    yield "a string", b'"x"', REFUSED
    yield "null", b"null", REFUSED
    yield "a byte order mark", b"\xef\xbb\xbf" + sound, REFUSED
    yield "UTF-16", sound.decode().encode("utf-16"), REFUSED
    yield "text behind", sound + b"x", REFUSED
    yield "another object behind", sound + b"{}", REFUSED
    yield "a NUL behind", sound + b"\0", REFUSED
    yield "spaces behind", sound + b" \n\r\t" * 100, SAME
    yield "spaces before", b" \n\r\t" * 100 + sound, SAME
    yield "a comma too many", some + b",}", REFUSED
    yield "a comment", b"/* x */" + sound, REFUSED
    yield "single quotes", sound.replace(b'"', b"'"), REFUSED
    yield "NaN", some + b',"zz":NaN}', REFUSED
    yield "Infinity", some + b',"zz":-Infinity}', REFUSED
    yield "a huge real", some + b',"zz":1e999}', REFUSED
    yield "a huge integer", some + b',"zz":' + b"9" * 400 + b"}", REFUSED
    yield "a leading zero", some + b',"zz":01}', REFUSED
    yield "hexadecimal", some + b',"zz":0x10}', REFUSED
    yield "a key twice", some + b',"' + key.encode() + b'":1}', ("duplicate",)
    yield "a new key twice", some + b',"zz":1,"zz":1}', ("duplicate",)
    yield "a key twice, spelt in two ways", some + b',"zz":1,"\\u007az":1}', ("duplicate",)
    yield "invalid UTF-8", some + b',"zz":"\xff"}', REFUSED
    yield "overlong UTF-8", some + b',"zz":"\xc0\xaf"}', REFUSED
    yield "a surrogate in UTF-8", some + b',"zz":"\xed\xa0\x80"}', REFUSED
    yield "half of a surrogate pair", some + b',"zz":"\\ud800"}', REFUSED
    yield "cut UTF-8", some + b',"zz":"\xe2\x96"}', REFUSED
    yield "a raw control character", some + b',"zz":"\x01"}', REFUSED
    yield "a raw line break in a text", some + b',"zz":"\n"}', REFUSED
    yield "an unknown escape", some + b',"zz":"\\x41"}', REFUSED
    yield "an open text", some + b',"zz":"', REFUSED
    yield "a NUL in a key", some + b',"z\\u0000z":1}', REFUSED
    yield "deep arrays", some + b',"zz":' + b"[" * 100000 + b"]" * 100000 + b"}", ("nested",)
    yield "deep objects", some + b',"zz":' + b'{"a":' * 50000 + b"1" + b"}" * 50001, ("nested",)
    yield "deep, without an end", b'{"a":[' * 200000, ("nested",)
    yield "depth hidden behind a quote", some + b',"zz\\"":' + b"[" * 50000 + b"]" * 50000 + b"}", ("nested",)
    yield "many values", some + b',"zz":[' + b"0," * (5 << 20) + b"0]}", ("values",)
    yield "a long text", some + b',"zz":"' + b"x" * (1 << 20) + b'"}', SAME
    yield "a file of over 64 MiB", some + b" " * (65 << 20) + b"}", ("bytes of JSON",)


# ---- a folder with one variant at a time, and the check

def fifo(path):
    os.mkfifo(path)


def folder(path):
    os.mkdir(path)


class Bench:
    """Runs variants of one sound model. `command` is run on each of them, with {m} for the model's path and {d}
    for a scratch folder; `more` on a sample of them as well: [(command, ranks, every)]; `shows` is compared with
    the sound model's where a change is harmless."""

    def __init__(self, kind, files, entry, command, more, shows, stdin=b""):
        self.kind, self.files, self.entry = kind, files, entry
        self.command, self.more, self.shows, self.stdin = command, more, shows, stdin
        self.counts = {"refused": 0, "accepted": 0, "runs": 0}
        self.seconds = []
        self.sound = None
        self.wrong = []

    def proof(self, tmp):
        """What the model gives: the output of a command, and the logits where it writes them."""
        logits = pathlib.Path(tmp, "x.npy")
        logits.unlink(missing_ok=True)
        done = self.run(tmp, self.shows, 1)
        return done.returncode, done.stdout, logits.read_bytes() if logits.exists() else b""

    def run(self, tmp, command, ranks):
        model = os.path.join(tmp, "model", self.entry)
        launcher = [] if ranks == 1 else trireme.MPIRUN + ["-n", str(ranks)]
        args = [a.format(m=model, d=tmp) for a in command]
        start = time.monotonic()
        done = subprocess.run(launcher + [trireme.BINARY] + args, input=self.stdin, capture_output=True,
                              timeout=LIMIT * (1 if ranks == 1 else 4))
        self.seconds.append(time.monotonic() - start)
        self.counts["runs"] += 1
        return done

    @staticmethod
    def lay(tmp, files):
        root = pathlib.Path(tmp, "model")
        for name, data in files.items():
            path = root / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
            if callable(data):
                data(path)
            elif data is not None:
                path.write_bytes(data)

    def judge(self, tmp, variant, command, ranks, done):
        name, files, expect = variant
        where = f"{self.kind}: {name}: {command[0]} on {ranks}"
        message = done.stderr.decode(errors="replace")
        assert done.returncode in (0, 3), f"{where}: exit status {done.returncode}\n{message[-3000:]}"
        for word in ("Sanitizer", "runtime error", "a bug"):
            assert word not in message, f"{where}:\n{message[-5000:]}"
        if done.returncode == 0:
            assert expect in (SAME, EITHER), f"{where}: accepted, want it refused ({expect})\n{message}"
            if expect == SAME:
                assert self.proof(tmp) == self.sound, f"{where}: another output"
            self.counts["accepted"] += 1
            return
        assert expect != SAME, f"{where}: refused, but harmless: {message}"
        ours = [line for line in message.splitlines() if "error:" in line]
        assert len(ours) == 1, f"{where}: {len(ours)} messages\n{message}"
        # a sound file that says something else may show in another: a shape that the numbers there contradict
        names = [*files] if expect == REFUSED else [*self.files, *files, "model/: "]
        assert any(n in ours[0] for n in names), f"{where}: the message names no file: {ours[0]}"
        if isinstance(expect, tuple):
            assert any(word in ours[0] for word in expect), f"{where}: none of {expect} is in: {ours[0]}"
        self.counts["refused"] += 1

    def some(self, numbered):
        """A thread's share of the variants, in a folder of its own."""
        with tempfile.TemporaryDirectory(prefix="damage-") as tmp:
            os.mkdir(os.path.join(tmp, "model"))
            self.lay(tmp, self.files)
            for i, variant in numbered:
                self.lay(tmp, variant[1])
                for command, ranks, every in [(self.command, 1, 1), *self.more]:
                    if i % every != 0:
                        continue
                    try:
                        self.judge(tmp, variant, command, ranks, self.run(tmp, command, ranks))
                    except (AssertionError, subprocess.TimeoutExpired) as e:
                        self.wrong.append(f"{variant[0]}: {e}" if not str(e).startswith(self.kind) else str(e))
                self.lay(tmp, {n: self.files.get(n) for n in variant[1]})

    def check(self, variants, threads=2):
        """All variants in the release build; each eighth under a sanitizer."""
        start = time.monotonic()
        variants = list(variants)
        assert len(variants) == COUNT, f"{self.kind}: {len(variants)} variants"
        names = [v[0] for v in variants]
        assert len(set(names)) == COUNT, f"{self.kind}: twice: {sorted(n for n in names if names.count(n) > 1)}"
        numbered = [v for v in enumerate(variants) if FULL or v[0] % 8 == 3]
        with tempfile.TemporaryDirectory(prefix="damage-") as tmp:
            os.mkdir(os.path.join(tmp, "model"))
            self.lay(tmp, self.files)
            for command, ranks in [(self.command, 1)] + [m[:2] for m in self.more]:
                done = self.run(tmp, command, ranks)
                assert done.returncode == 0, f"{self.kind}, sound: {command[0]}: {done.stderr.decode()}"
            self.sound = self.proof(tmp)
            assert self.sound[0] == 0
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            for job in [pool.submit(self.some, numbered[k::threads]) for k in range(threads)]:
                job.result()
        c = self.counts
        if self.wrong:
            raise SystemExit("\n".join(self.wrong[:40]) + f"\n{len(self.wrong)} of {c['runs']} runs ended wrongly, "
                             f"seed {SEED}")
        print(f"{self.kind}: {len(numbered)} variants from seed {SEED}, {c['runs']} runs: {c['refused']} refused, "
              f"{c['accepted']} accepted, the longest {max(self.seconds):.2f} s; {time.monotonic() - start:.1f} s",
              flush=True)


def fill(fixed, rest, rng):
    """COUNT variants: the fixed ones, and so many of the others, drawn."""
    fixed, rest = list(fixed), list(rest)
    assert len(fixed) <= COUNT <= len(fixed) + len(rest), (len(fixed), len(rest))
    picked = sorted(rng.sample(range(len(rest)), COUNT - len(fixed)))
    return fixed + [rest[i] for i in picked]
