# timeout: 900
# sanitize: no
"""The published vocabularies of Llama 3 and Qwen: our ids against those of tiktoken.

The vocabularies come from packages of the Python index (llama-models, dashscope: their own licences, so they are not
committed), tiktoken from there too; all into a folder of the build directory, once. Llama 3's is written as GGUF,
Qwen's as tokenizer.json, which also normalises. Texts: those of llama.cpp's vocabulary tests where the reference data
is here, those of the committed cases, and random ones. Without a package index that can be reached: skipped.
Without Python's venv: skipped, a failure under CI=true."""
import base64
import json
import os
import pathlib
import random
import re
import shutil
import struct
import subprocess
import sys
import unicodedata
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
BUILD = pathlib.Path(os.environ.get("TRIREME_BUILD", HERE.parent.parent / "build/release"))
FOLDER = BUILD / "vocabs"
SHARED = os.environ.get("TRIREME_SHARED", "")
PACKAGES = ("llama-models==0.3.0", "dashscope==2.0.2")  # pure Python: one file for all machines
REFERENCE = ("tiktoken", "regex")  # tiktoken's other needs are for downloading
MEMBERS = ("llama_models/llama3/tokenizer.model", "llama_models/llama3/tokenizer.py",
           "dashscope/resources/qwen.tiktoken", "dashscope/tokenizers/qwen_tokenizer.py")
RANDOM_TEXTS = 3000


# ---- fetching: python3 of the system

def command(args, seconds):
    """The last line that it wrote if it failed, None if all is well."""
    try:
        done = subprocess.run(args, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"no end after {seconds} s"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return None if done.returncode == 0 else (lines or [f"exit status {done.returncode}"])[-1]


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def fetch():
    """FOLDER/venv with tiktoken, and MEMBERS in FOLDER; done once."""
    if (FOLDER / "ready").exists():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    failed = command([sys.executable, "-m", "venv", str(FOLDER / "venv")], 120)
    if failed:
        skip(f"missing tool: python3 -m venv ({failed})")
    pip = [str(FOLDER / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "--timeout", "20",
           "--retries", "2"]
    failed = command([*pip, "install", "--quiet", "--no-deps", *REFERENCE], 240) or \
        command([*pip, "download", "--quiet", "--no-deps", "--dest", str(FOLDER / "packages"), *PACKAGES], 240)
    if failed:
        skip(f"no package index gives {', '.join(REFERENCE + PACKAGES)} ({failed})")
    for package in (FOLDER / "packages").iterdir():
        with zipfile.ZipFile(package) as z:
            for member in set(MEMBERS) & set(z.namelist()):
                z.extract(member, FOLDER)
    for member in MEMBERS:
        assert (FOLDER / member).exists(), f"no {member} in {PACKAGES}"
    shutil.rmtree(FOLDER / "packages")
    (FOLDER / "ready").write_text("\n".join(PACKAGES + REFERENCE))


# ---- texts

def shared_texts():
    """[(text, its ids as llama.cpp's test has them)] of Llama 3's; the other vocabularies have the same texts."""
    root = pathlib.Path(SHARED, "vocabs")
    if not SHARED or not root.is_dir():
        return []
    found = []
    for path in sorted(root.glob("*.inp")):
        texts = path.read_bytes().decode().split("\n__ggml_vocab_test__\n")
        lines = path.with_suffix(".out").read_text().splitlines()
        assert texts.pop() == "" and len(texts) == len(lines), path
        own = "llama-bpe" in path.name
        found += [(text, [int(i) for i in line.split()] if own else None) for text, line in zip(texts, lines)]
    assert any(ids for _, ids in found), f"{root}: no texts of llama-bpe"
    return found


def committed_texts():
    found = {}
    for name in ("llama3", "qwen2", "nfc"):
        for line in (HERE / f"tokenizers/{name}.cases").read_text().splitlines():
            found[bytes.fromhex(line[2:line.index(":")]).decode()] = True
    assert len(found) > 100
    return list(found)


def random_texts():
    rng = random.Random(11)
    ranges = [(0x20, 0x7f)] * 6 + [(0, 0x20), (0x80, 0x250), (0x300, 0x370), (0x370, 0x530), (0x590, 0x700),
                                   (0x900, 0xe80), (0x1100, 0x1200), (0x2000, 0x2070), (0x2100, 0x2200),
                                   (0x3000, 0x3100), (0x4e00, 0x9fff), (0xac00, 0xd7a4), (0xf900, 0xfb00),
                                   (0xfe00, 0xffff), (0x1d400, 0x1d800), (0x1f300, 0x1f700)]
    pieces = ["<|eot_id|>", "<|im_end|>", "<|", "|>", "'s", "'LL", "\r\n", "   ", "\n\n", "\t", "1234567", "é", "e\u0301"]
    for _ in range(RANDOM_TEXTS):
        own = rng.sample(ranges, 3)
        text = ""
        for _ in range(rng.choice((3, 10, 40))):
            kind = rng.random()
            if kind < 0.2:
                text += rng.choice(pieces)
            elif kind < 0.3:
                text += chr(rng.randrange(*rng.choice(own))) * rng.randrange(1, 30)
            else:
                text += chr(rng.randrange(*rng.choice(own)))
        # characters younger than the Unicode tables of one side or the other are not the question
        yield "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs"))


# ---- tables

def byte_letters():
    """GPT-2's printable character of each byte."""
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def merges_of(ranks):
    """The two parts that each token is merged from, by rank."""
    found = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        parts = [token[i:i + 1] for i in range(len(token))]
        while len(parts) > 2:
            best, at = min((ranks.get(parts[i] + parts[i + 1], rank), i) for i in range(len(parts) - 1))
            if best >= rank:
                break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            found.append(parts)
    return found


def read_table(path):
    pairs = (line.split() for line in pathlib.Path(path).read_bytes().splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def expression_of(path):
    """The regular expression in a package's source."""
    (found,) = re.findall(r'r"{1,3}(\(\?i:.*?\\s\+)"', path.read_text())
    return found


def write_gguf(path, tokens, types, merges, pre):
    def text(s):
        data = s.encode()
        return struct.pack("<Q", len(data)) + data

    def key(name, kind, value):
        return text(name) + struct.pack("<I", kind) + value

    def array(kind, items):
        return struct.pack("<IQ", kind, len(items)) + b"".join(items)

    pairs = [key("general.architecture", 8, text("llama")), key("tokenizer.ggml.model", 8, text("gpt2")),
             key("tokenizer.ggml.pre", 8, text(pre)),
             key("tokenizer.ggml.tokens", 9, array(8, [text(t) for t in tokens])),
             key("tokenizer.ggml.token_type", 9, array(5, [struct.pack("<i", t) for t in types])),
             key("tokenizer.ggml.merges", 9, array(8, [text(m) for m in merges]))]
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(pairs)) + b"".join(pairs))


def write_directory(path, vocab, special, merges, expression):
    path.mkdir(exist_ok=True)
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for t, i in special.items()]
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": len(vocab) + len(added)}))
    (path / "tokenizer.json").write_text(json.dumps({
        "added_tokens": added, "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges}}))


# ---- the reference: python3 of the venv

def write_cases(path, encoding, special, form):
    """Both ways: special tokens as text (n), and as tokens (p)."""
    texts = {}
    for text, ids in shared_texts():
        texts[text] = ids or texts.get(text)
    n_shared = len(texts)
    for text in [*committed_texts(), *random_texts()]:
        texts.setdefault(text, None)
    cut = re.compile("(" + "|".join(re.escape(t) for t in special) + ")")
    with open(path, "w", encoding="ascii") as f:
        for text, known in texts.items():
            plain = encoding.encode_ordinary(form(text))
            if known is not None and "llama" in path.name:
                assert plain == known, (text, plain, known)
            whole = []
            for part in cut.split(text):  # special tokens are cut out before a text is normalised
                whole += [special[part]] if part in special else encoding.encode_ordinary(form(part))
            for flag, ids in (("n", plain), ("p", whole)):
                f.write(f"{flag} {text.encode().hex()}: {' '.join(str(i) for i in ids)}\n")
    print(f"{path.name}: {len(texts)} texts, {n_shared} of the reference data")


def reference():
    import tiktoken

    letters = byte_letters()

    def spelled(token):
        return "".join(letters[b] for b in token)

    ranks = read_table(FOLDER / "llama_models/llama3/tokenizer.model")
    special = {t: len(ranks) + i for i, t in enumerate(("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"))}
    expression = expression_of(FOLDER / "llama_models/llama3/tokenizer.py")
    tokens = [spelled(t) for t in sorted(ranks, key=ranks.get)]
    merges = [" ".join(map(spelled, pair)) for pair in merges_of(ranks)]
    write_gguf(FOLDER / "llama3.gguf", tokens + list(special), [1] * len(tokens) + [3] * len(special), merges,
               "llama-bpe")
    encoding = tiktoken.Encoding("llama3", pat_str=expression, mergeable_ranks=ranks, special_tokens=special)
    write_cases(FOLDER / "llama3.cases", encoding, special, lambda text: text)

    ranks = read_table(FOLDER / "dashscope/resources/qwen.tiktoken")
    special = {t: len(ranks) + i for i, t in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))}
    expression = expression_of(FOLDER / "dashscope/tokenizers/qwen_tokenizer.py")
    merges = [" ".join(map(spelled, pair)) for pair in merges_of(ranks)]
    assert len(merges) == len(ranks) - 256, len(merges)
    write_directory(FOLDER / "qwen", {spelled(t): i for t, i in ranks.items()}, special, merges, expression)
    encoding = tiktoken.Encoding("qwen", pat_str=expression, mergeable_ranks=ranks, special_tokens=special)
    write_cases(FOLDER / "qwen.cases", encoding, special, lambda text: unicodedata.normalize("NFC", text))


def main():
    if sys.argv[1:] == ["reference"]:
        return reference()
    program = BUILD / "tests/bin/test_coordinator_tokenizer_golden"
    assert program.exists(), f"{program} is not built"
    fetch()
    subprocess.run([FOLDER / "venv/bin/python", "-B", __file__, "reference"], check=True, timeout=400)
    for model, cases, lossless in (("llama3.gguf", "llama3.cases", "lossless"), ("qwen", "qwen.cases", "")):
        subprocess.run([program, FOLDER / model, FOLDER / cases, lossless], check=True, timeout=200)


main()
