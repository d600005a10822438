# Damaged tokenizer.json, tokenizer_config.json, chat templates, generation_config.json: exit status 3.
# timeout: 300
# labels: mpi
"""300 variants of each (tests/support/damage.py) of a small BitNet directory made there."""
import json
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme
import damage
from damage import DROP, EITHER, REFUSED, SAME, changed, text

TOKENIZE = ["tokenize", "-m", "{m}"]
CHAT = ["run", "-m", "{m}", "-cnv", "-p", "hello", "-t", "1", "--dump-prompt", "-q"]
INSPECT = ["inspect", "-m", "{m}", "--json"]
EVAL = ["eval", "-m", "{m}", "--ids", "1,2,3", "--logits", "{d}/x.npy", "-t", "1", "-q"]
TOKENIZER, MORE, GENERATION, JINJA = ("tokenizer.json", "tokenizer_config.json", "generation_config.json",
                                      "chat_template.jinja")
INPUT = "<s>hello world, hell or <|im_start|>\u00e9\n".encode()


class Maker:
    """Collects variants of one JSON file."""

    def __init__(self, file, sound):
        self.file, self.sound, self.document = file, sound, json.loads(sound)
        self.out = []

    def add(self, path, value, expect, note=""):
        shown = "gone" if value is DROP else repr(value)[:100]
        name = f"{'.'.join(map(str, path))} = {shown}{note}"
        self.out.append((name, {self.file: text(changed(self.document, path, value))}, expect))

    def fixed(self, rng, cuts, random_bytes):
        every = [*damage.cuts(self.sound, cuts), *damage.hostile_json(self.sound),
                 *damage.random_bytes(self.sound, random_bytes, rng, damage.judge_json)]
        return [(name, {self.file: body}, expect) for name, body, expect in every] + [
            ("a folder", {self.file: damage.folder}, REFUSED), ("a named pipe", {self.file: damage.fifo}, REFUSED),
            ("a device", {self.file: lambda p: p.symlink_to("/dev/zero")}, REFUSED),
            ("a link to itself", {self.file: lambda p: p.symlink_to(p.name)}, REFUSED)]


def tokenizer_variants(sound):
    rng = random.Random(damage.SEED)
    m = Maker(TOKENIZER, sound)
    model, vocab = ["model"], ["model", "vocab"]
    for value in (DROP, None, 5, "x", [], True, {}):
        m.add(model, value, ("model",))
    for value in (DROP, None, 5, [], {}, True, "", "WordPiece", "Unigram", "bpe", "BPE\0", "x" * 10000):
        m.add(model + ["type"], value, ("model.type",))
    for value in (DROP, None, 5, [], {}, True, "x"):
        m.add(vocab, value, ("model.vocab", "tokens", "merge"))
    for key in ("a", "hello", "\u0120w"):
        for value in (None, "5", [], {}, True, 1.5, -1, -2**63, 2**21, 2**31, 2**62):
            m.add(vocab + [key], value, ("the id of a token", "has the id"))
        m.add(vocab + [key], 7, ("same id",))
        m.add(vocab + [key], 300, EITHER)  # beyond the model, which `tokenize` does not open
        m.add(vocab + [key], DROP, EITHER if key != "a" else SAME)
    for value in ("", "x" * 70000, "\u0120" * 40000):
        m.add(vocab + [value], 259, ("same id", "too long"))
    m.add(vocab + ["zz"], 266, EITHER)
    m.add(vocab + ["zz"], 2**21 - 1, EITHER)
    for value in (DROP, None, 5, "x", {}, True):
        m.add(model + ["merges"], value, ("model.merges",))
    for i in (0, 3, 5):
        for value in (None, 5, True, {}, [], "", " ", "h", "he", "h ", " e", "h  e", "h e l", "hx e", "h ex", "x y",
                      "h\0 e", ["h"], ["h", "e", "l"], ["h", 5], [None, "e"], ["", "e"], ["h", ""], ["h e", ""],
                      ["hx", "e"], ["h\0", "e"], ["x", "y"], [["h"], ["e"]], "x" * 200000, ["x" * 70000, "y" * 70000]):
            m.add(model + ["merges", i], value, ("merge",))
    for key in ("byte_fallback", "ignore_merges"):
        for value in ("false", 0, 1, [], {}, 1.5):
            m.add(model + [key], value, (key,))
    m.add(model + ["byte_fallback"], True, ("pre_tokenizer",))
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        for value in (5, [], {}, True) + (("##",) if key != "unk_token" else ()):
            m.add(model + [key], value, (key,))
    for value in (5, "x", {}, True, [5], [None], [[]], [{}], [{"id": 262}], [{"content": "x"}]):
        m.add(["added_tokens"], value, ("added", "token"))
    for i in (0, 3):
        for value in (DROP, None, "262", [], {}, True, 1.5, -1, 2**21, 2**62):
            m.add(["added_tokens", i, "id"], value, ("token",))
        m.add(["added_tokens", i, "id"], 263, ("same id",), " (another's)")
        for value in (DROP, None, 5, [], {}, True, "x" * 70000):
            m.add(["added_tokens", i, "content"], value, ("content",))
        for value in ("yes", 1, [], {}):
            m.add(["added_tokens", i, "special"], value, ("special",))
            m.add(["added_tokens", i, "single_word"], value, ("single_word",))
        m.add(["added_tokens", i, "single_word"], True, ("single_word",))
        m.add(["added_tokens", i, "content"], "", EITHER)
    for value in (DROP, None, 5, "x", [], {}, True, {"type": "Odd"}, {"type": "Whitespace"}, {"type": 5},
                  {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated"},
                  {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}, {"type": "Sequence"},
                  {"type": "Sequence", "pretokenizers": []}, {"type": "Sequence", "pretokenizers": [5]},
                  {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 1000}):
        m.add(["pre_tokenizer"], value, ("pre_tokenizer",))
    for key in ("add_prefix_space", "use_regex"):
        for value in ("true", 1, 0, [], {}):
            m.add(["pre_tokenizer", key], value, ("pre_tokenizer",))
    m.add(["pre_tokenizer", "add_prefix_space"], True, ("pre_tokenizer",))
    m.add(["pre_tokenizer", "use_regex"], False, ("pre_tokenizer",))
    for value in (5, "x", [], {}, True, {"type": "Lowercase"}, {"type": 5}, {"type": "Sequence"},
                  {"type": "Sequence", "normalizers": 5}, {"type": "Sequence", "normalizers": [5]},
                  {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}, {"type": "NFC5"}):
        m.add(["normalizer"], value, ("normalizer",))
    m.add(["normalizer"], {"type": "NFC"}, SAME)
    for value in (5, "x", [], {}, True, {"type": "BertProcessing"}, {"type": 5}, {"type": "Sequence"},
                  {"type": "Sequence", "processors": 5}, {"type": "Sequence", "processors": [{"type": "Odd"}]},
                  {"type": "TemplateProcessing"}, {"type": "TemplateProcessing", "single": "x"}):
        m.add(["post_processor"], value, ("post_processor",))
    for value in (5, None, "x", [], {}, {"SpecialToken": 5}, {"SpecialToken": {}}, {"SpecialToken": {"id": 5}},
                  {"SpecialToken": {"id": "<no such>"}}, {"SpecialToken": {"id": ""}}, {"Sequence": 5}):
        m.add(["post_processor", "single", 0], value, ("post_processor",))
    m.add(["post_processor", "single"], [{"SpecialToken": {"id": "<s>"}}] * 3, ("second special token",))
    for key in ("version", "truncation", "padding", "a_key_of_the_future"):
        for value in (5, "x", None, {}):
            m.add([key], value, SAME)
    return damage.fill(m.fixed(rng, 24, 40), m.out, rng)


def more_variants(sound):
    rng = random.Random(damage.SEED)
    m = Maker(MORE, sound)
    for key in ("bos_token", "eos_token", "pad_token"):
        for value in (5, 0, -1, 1.5, [], {}, True, False, ["<s>"], {"content": 5}, {"content": None}, {"text": "<s>"},
                      {"content": {"content": "<s>"}}, [[]], 2**62):
            m.add([key], value, (key,))
        for value in ("", "<no such>", "\0", "x" * 100000, None, DROP, "\ud83d\ude00"):
            m.add([key], value, EITHER)
    for key in ("add_bos_token", "add_eos_token"):
        for value in ("true", 1, 0, 1.5, [], {}, "", [True]):
            m.add([key], value, (key,))
    for value in (5, True, [], {}, 1.5, ["LlamaTokenizer"]):
        m.add(["tokenizer_class"], value, ("tokenizer_class",))
    for value in (5, True, {}, 1.5, [5], [None], [[]], [{}], ["x"], [{"name": "default"}], [{"template": "x"}],
                  [{"name": 5, "template": "x"}], [{"name": "default", "template": 5}],
                  [{"name": "default", "template": None}]):
        m.add(["chat_template"], value, ("chat_template",))
    none = ("/model/: the model has no chat template", "/model/: the model has a chat template")
    for value in ("", " ", "x", "{{", "{% for", "{% raise %}", "{{ 7 * 7 }}", "\0", "{{ ''.__class__.__mro__ }}",
                  "{% for i in range(10**9) %}{{ i }}{% endfor %}", "{% include '/etc/passwd' %}", "x" * 1000000,
                  "{{ messages }}", "\x1b[2J", "%s%n%n", "{" * 100000, "\ud83d\ude00", DROP, None, [],
                  [{"name": "tool_use", "template": "x"}]):
        m.add(["chat_template"], value, none)
    half = damage.TEMPLATE
    for i in range(12):  # cut before what it is recognised by, or after: then it is that template for us
        m.add(["chat_template"], half[:len(half) * i // 12], EITHER, f" (cut at {i}/12)")
    for key in ("model_max_length", "clean_up_tokenization_spaces", "added_tokens_decoder", "a_key_of_the_future"):
        for value in (5, "x", None, [], {}, 1e30):
            m.add([key], value, SAME)
    for name, body, expect in (("empty", b"", ("empty",)), ("blank", b" \n", none), ("a NUL", b"\0", none),
                               ("invalid UTF-8", b"\xff\xfe\xfd", none), ("a program", b"{{ x }}", none),
                               ("64 MiB", b"x" * (64 << 20), none), ("65 MiB", b"x" * (65 << 20), (JINJA,)),
                               ("a folder", damage.folder, (JINJA,)), ("a named pipe", damage.fifo, (JINJA,)),
                               ("a link to itself", lambda p: p.symlink_to(p.name), (JINJA,)),
                               ("a device", lambda p: p.symlink_to("/dev/zero"), (JINJA,))):
        m.out.append((f"{JINJA} is {name}", {JINJA: body}, expect))
    m.out.append(("missing", {MORE: None}, none))
    rest = [(f"more {name}", {MORE: body}, expect) for name, body, expect in
            damage.random_bytes(sound, 150, rng, damage.judge_json)]
    return damage.fill(m.fixed(rng, 24, 40) + m.out, rest, rng)


def generation_variants(sound):
    rng = random.Random(damage.SEED)
    m = Maker(GENERATION, sound)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        for value in ("<s>", "", {}, True, False, 1.5, 262.0, -2, -2**63, ["x"], [None], [1.5], [[]], [{}], [True],
                      [262, "x"], [262, None], [262, -2], {"id": 262}, [[262]]):
            m.add([key], value, (key,))
        m.add([key], 2**63, REFUSED)
        for value in (-1, 266, 2**31, 2**63 - 1, [], [-1], [266, 263], None, DROP, [1] * 100000):
            m.add([key], value, EITHER)
    for key in ("do_sample", "max_length", "temperature", "top_p", "transformers_version", "a_key_of_the_future"):
        for value in (5, "x", None, [], {}, 1e30, -1, True):
            m.add([key], value, SAME)
    m.out.append(("missing", {GENERATION: None}, EITHER))
    rest = [(f"more {name}", {GENERATION: body}, expect) for name, body, expect in
            damage.random_bytes(sound, 200, rng, damage.judge_json)]
    return damage.fill(m.fixed(rng, 40, 40) + m.out, rest, rng)


files = damage.hf_model()
bench = damage.Bench(TOKENIZER, files, "", TOKENIZE, [(EVAL, 1, 6), (EVAL, 3, 40)], TOKENIZE, INPUT)
bench.check(tokenizer_variants(files[TOKENIZER]))
bench = damage.Bench(MORE, files, "", CHAT, [(CHAT, 3, 40)], CHAT)
bench.check(more_variants(files[MORE]))
bench = damage.Bench(GENERATION, files, "", INSPECT, [(EVAL, 1, 6), (EVAL, 3, 40)], INSPECT)
bench.check(generation_variants(files[GENERATION]))
