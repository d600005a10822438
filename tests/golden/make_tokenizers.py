#!/usr/bin/env python3
"""Makes tiny tokenizers and what the reference libraries answer to nasty texts.

Run by hand when a case is added; the outputs (small) are committed beside it, so the test needs
neither Python packages nor a network. Needs: tokenizers, sentencepiece, gguf, numpy.

    python3 make_tokenizers.py [forms|added]  writes tokenizers/NAME.gguf, NAME.cases

Those with a normalizer are folders, tokenizers/NAME/tokenizer.json: GGUF has no place for it.
"forms": only those; "added": only the one with added tokens.

The tokenizers are trained here, on the licence and a text of our own. A line of a .cases file is
"FLAGS HEX-OF-TEXT: IDS"; flags: p special tokens parsed, n not. Expected ids come from tokenizers
(byte-level BPE) and sentencepiece; nothing of this project takes part.
"""
import json
import pathlib
import random
import sys
import tempfile

import gguf
import sentencepiece
from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers,
                        pre_tokenizers, trainers)

HERE = pathlib.Path(__file__).parent / "tokenizers"
ROOT = pathlib.Path(__file__).parent.parent.parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
HAN_ETC = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
DEEPSEEK_LLM = [
    "[\r\n]",
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5"
    "\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba"
    "\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45"
    "\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe"
    "\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
    "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06"
    "\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", r"\s+$", HAN_ETC]
DEEPSEEK_V3 = [
    r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eot_id|><|eot_id|>"]
USER = ["<tool>", "<tool>></tool>", "Trireme"]

OURS = """
An ancient ship with three banks of oars, many rowers, one helmsman. It's fast; they're strong,
we'll win! Don't stop, I'm rowing: he'd said so, you've heard it. IT'S FAST. They'Re here.
Ein altes Schiff mit drei Ruderreihen, schöne Grüße aus Köln, Überfluss, ½ Zoll, 4½ Monate.
Un vieux navire à trois rangs de rames, déjà vu, cœur, garçon, l'été. Старый корабль с тремя рядами
вёсел, ещё раз. 三段櫂船は古代の船です。漢字とかな、カタカナ。 고대의 배는 빠르다.
سفينة قديمة ٣ صفوف ١٢٣٤. αβγ αρχαίο πλοίο με τρεις σειρές κουπιά. สวัสดีชาวโลก नमस्ते दुनिया.
🚣‍♀️🚣 🦙🦙 🇩🇪 👩🏽‍🚀 e\u0301 a\u0308\u0323
int main(void) { return 0; } /* 3.14159 2024-01-31 1000000 */ \t\tif (x != y) z += 0x7f;   // tabs\n
"""

TEXTS = [
    # white space
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\t", "\t\t\n", " \n", "\n ", " \n \n  x",
    "\r\n\r\n", "a", " a", "a ", "  a  b   c    d", " " * 300 + "x", "\n" * 200 + "x", "\t" * 77,
    "a\u00a0b \u00a0\u00a0c\u2003d\u3000e\u2028f\u2029g\u0085h\u180ei \u180e\u180ej",
    "x\x0by\x0cz\x1c\x1dw\x1f", "\u200b\u200d\ufeff\u2060x",
    # words, contractions, numbers, punctuation
    "Hello world", " Hello World!", "Hello, y'all! How're you 😁 ?我想在apple工作1314151天～",
    "It's they're we'll he'd I'm you've IT'S THEY'RE wE'Ll it'\u017f 'ſ' ''s '' ' 's", "don't.",
    "1 12 123 1234 12345 123456 1234567 ١٢٣٤٥ ½ ⅷ 4½ ² 三3", "3.14159e-10 0x7fffffff 1,000,000.00",
    "!!!!!!????....,,,,;;;; ....  ....\n....\n\n", "snake_case camelCase kebab-case __init__",
    "/* comment */ int main(void) { return 0; }\n\n\treturn x->y[0];\n",
    "https://example.org/a?b=c&d=%20#e user@example.org", "three banks of oars, many rowers",
    "\\n\\t\\\\ \"quoted\" `code` ~tilde~ ^caret^ $100 50%", "THE quick BROWN fox Jumps OVER",
    "'t'",
    # scripts
    "漢字とかなカタカナ。三段櫂船は", "고대의 배는 빠르다", "سفينة قديمة ٣ صفوف", "नमस्ते दुनिया",
    "สวัสดีชาวโลก", "Ελληνικά και ελληνικοί", "🚣‍♀️🚣 🦙 🇩🇪 👩🏽‍🚀🫠", "漢" * 200, "🦙" * 50,
    "e\u0301a\u0308\u0323 \u0301\u0302 n\u0303o", "ﬁ ﬂ Ⅷ Å Å",
    # odd bytes, long words
    "nul\x00in\x00\x00side\x00", "\x00", "\x01\x02\x7f\x80\x9f", "\U0010ffff\ue000\ufffd\uffff",
    "supercalifragilisticexpialidocious" * 20, "a" * 1000, "ab" * 400,
    # what looks like tokens
    "<|eot_id|>", "a<|eot_id|>b", "<|eot_id|><|eot_id|><|eot_id|>", "<|eot_id|",
    " <|begin_of_text|> x <|end_of_text|>\n", "<|eot_id<|eot_id|>|>", "<tool>x</tool>",
    "<tool>></tool> <tool>>", "Trireme Triremes aTrireme", "<s>", "</s> <unk> <s>x</s>", "<0x0A>",
    "\u0967\u0bf0<", "\u2581", "\u2581\u2581a \u2581b", "a\u2581b",
]


def texts():
    rng = random.Random(7)
    pool = " \n\t'aeiostrnAZ019.,<>|▁éßж漢🦙\u0301\u00a0\x00\r"
    yield from TEXTS
    for length in (5, 10, 20, 40, 80):
        for _ in range(8):
            yield "".join(rng.choice(pool) for _ in range(length))
    source = OURS + (ROOT / "LICENSE").read_text()[:4000]
    for _ in range(20):
        at = rng.randrange(len(source) - 200)
        yield source[at:at + rng.randrange(10, 200)]


def write_cases(name, flags, answer):
    with open(HERE / f"{name}.cases", "w", encoding="ascii") as f:
        for text in texts():
            for flag in flags:
                ids = " ".join(str(i) for i in answer(text, flag))
                f.write(f"{flag} {text.encode().hex()}: {ids}\n")


def write_gguf(name, kind, tokens, types, *, bos, eos, scores=None, merges=None, pre=None):
    w = gguf.GGUFWriter(HERE / f"{name}.gguf", "llama")
    w.add_tokenizer_model(kind)
    if pre:
        w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types(types)
    if scores is not None:
        w.add_token_scores(scores)
    if merges is not None:
        w.add_token_merges(merges)
    w.add_bos_token_id(bos)
    w.add_eos_token_id(eos)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def corpus():
    return [OURS * 3] + (ROOT / "LICENSE").read_text().splitlines(keepends=True)


def splits(*expressions):
    return [pre_tokenizers.Split(Regex(e), "isolated") for e in expressions]


def make_bpe(name, pre, ahead, gpt2, ignore_merges, vocab_size, flags="pn"):
    """ahead: what cuts before the byte level; gpt2: whether that cuts by GPT-2's expression
    (None: a byte level is among `ahead`)."""
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if gpt2 is not None:
        ahead = [*ahead, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=gpt2)]
    tok.pre_tokenizer = pre_tokenizers.Sequence(ahead)
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet,
                                  show_progress=False)
    tok.train_from_iterator(corpus(), trainer)
    base = tok.get_vocab_size()
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t in USER])
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    vocab = tok.get_vocab(with_added_tokens=True)
    tokens = sorted(vocab, key=vocab.get)
    assert list(range(len(tokens))) == [vocab[t] for t in tokens]
    types = [1 if i < base else 4 if t in USER else 3 for i, t in enumerate(tokens)]
    merges = [" ".join(m) for m in json.loads(tok.to_str())["model"]["merges"]]
    write_gguf(name, "gpt2", tokens, types, merges=merges, pre=pre, bos=vocab["<|begin_of_text|>"],
               eos=vocab["<|end_of_text|>"])

    def answer(text, flag):
        tok.encode_special_tokens = flag == "n"
        return tok.encode(text, add_special_tokens=False).ids

    write_cases(name, flags, answer)


def make_spm(name, byte_fallback, vocab_size):
    with tempfile.TemporaryDirectory() as tmp:
        path = pathlib.Path(tmp)
        (path / "text").write_text("".join(corpus()))
        sentencepiece.SentencePieceTrainer.train(
            input=str(path / "text"), model_prefix=str(path / "m"), model_type="bpe",
            vocab_size=vocab_size, byte_fallback=byte_fallback, character_coverage=0.995,
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            allow_whitespace_only_pieces=True, max_sentence_length=100000, minloglevel=2)
        sp = sentencepiece.SentencePieceProcessor(model_file=str(path / "m.model"))
    ids = range(sp.get_piece_size())
    types = [2 if sp.is_unknown(i) else 3 if sp.is_control(i) else 6 if sp.is_byte(i) else 1
             for i in ids]
    write_gguf(name, "llama", [sp.id_to_piece(i) for i in ids], types,
               scores=[sp.get_score(i) for i in ids], bos=sp.bos_id(), eos=sp.eos_id())
    write_cases(name, "n", lambda text, _: sp.encode(text))


# What normalisation changes: composed and not, out of order, compatible, Hangul, what has no form
# of its own, what composes with ASCII, excluded from composition, long runs of marks.
MARKED = [
    "e\u0301 \u00e9 a\u0323\u0308 a\u0308\u0323 \u1e69 s\u0307\u0323 q\u0323\u0307 \u0344",
    "\u212b \u00c5 A\u030a \u2126 \u03a9 \u1e9b\u0323 \ufb01 \ufb03 \u2460 \u00bd \u2163 \u3392 \ufdfa",
    "\uac00 \u1100\u1161 \u1100\u1161\u11a8 \uac01 \uac00\u11a8 \uffa1\uffc2", "=\u0338 <\u0338 >\u0338 <tool>\u0338",
    "\u0958 \u0915\u093c \ufb1d \u2adc \U0001d15e \U0001d158\U0001d165", "\u0301start \u0301",
    "\u00a0nbsp\u2003em\u3000wide\uff01\uff21\uff11 \ufe4f \u2026 \u2025\ufe30 \u00b2\u2082",
    "a" + "\u0301\u0323\u0308\u0327" * 30 + "b", "\u0323\u0301" * 50, "\u0340\u0341\u0343\u0374\u037e\u0387",
    "\u1e0b\u0323 d\u0323\u0307 d\u0307\u0323 D\u0307\u0323\u0301", "\U0002f800 \uf900 \ufa10 \U00011099\U000110ba",
    "\u30ab\u3099 \u30ac \uff76\uff9e \u304b\u3099", "e\u0301<|eot_id|>\u0301e", "\u0327\u0301c\u0327\u0301\n\u0301",
]


# Added tokens with normalized: true, as written and in other forms; others only as written.
ADDED = ["\ufb01x", "e\u0301t\u00e9", "<|\u00e9|>", "\u2460\u2461"]
ADDED_RAW = ["raw\u00e9", "<|\ufb02|>"]
WITH_ADDED = [
    "\ufb01x fix a\ufb01xb f\u200bix \ufb01\ufb01x", "e\u0301te\u0301 \u00e9t\u00e9 \u00e9te\u0301x ete\u0301",
    "<|\u00e9|> a<|e\u0301|>b <|e\u0301\u0323|>", "\u2460\u2461 12 1\u2461 \u00b92 121",
    "raw\u00e9 rawe\u0301 <|\ufb02|> <|fl|>", "fixraw\u00e9fix <|\u00e9|><|\ufb02|><|e\u0301|>", "raw\u00e9\u0301 fix\u0301",
]


def write_forms(name, tok, more=()):
    """tokenizer.json in a folder of its own, and its cases: all texts, the marked ones first."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(tok.to_str()), indent=None) + "\n")
    (folder / "config.json").write_text('{"model_type": "llama", "vocab_size": %d}\n' %
                                        tok.get_vocab_size())

    def answer(text, flag):
        tok.encode_special_tokens = flag == "n"
        return tok.encode(text, add_special_tokens=False).ids

    with open(HERE / f"{name}.cases", "w", encoding="ascii") as f:
        for text in [*more] + MARKED + [m + " " + n for m in MARKED for n in MARKED[:3]] + TEXTS:
            for flag in "pn":
                ids = " ".join(str(i) for i in answer(text, flag))
                f.write(f"{flag} {text.encode().hex()}: {ids}\n")


def make_form_bpe(name, normalizer, added=False):
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        splits(LLAMA3.replace("{1,3}", "")) + [pre_tokenizers.ByteLevel(False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tok.train_from_iterator(corpus() + MARKED * 3, trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tok.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    if added:
        tok.add_tokens([AddedToken(t, normalized=True) for t in ADDED if "|" not in t])
        tok.add_special_tokens([AddedToken(t, normalized=True) for t in ADDED if "|" in t])
        tok.add_tokens([AddedToken(t, normalized=False) for t in ADDED_RAW])
    write_forms(name, tok, WITH_ADDED if added else ())


def make_form_spm(name, normalizer):
    """SentencePiece's way in tokenizer.json: characters merged, bytes for what is unknown."""
    space = "\u2581"
    tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tok.normalizer = normalizers.Sequence([normalizer, normalizers.Prepend(space),
                                           normalizers.Replace(" ", space)])
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, limit_alphabet=150,
                                  special_tokens=["<unk>"] + [f"<0x{b:02X}>" for b in range(256)])
    words = [w for line in corpus() for w in line.split()]
    tok.train_from_iterator(words, trainer)
    data = json.loads(tok.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if t["content"] == "<unk>"]
    write_forms(name, Tokenizer.from_str(json.dumps(data)))


def make_forms():
    make_form_bpe("nfc", normalizers.NFC())
    make_form_bpe("nfd", normalizers.NFD())
    make_form_bpe("nfkc", normalizers.Sequence([normalizers.NFKD(), normalizers.NFC()]))
    make_form_bpe("nfkd", normalizers.Sequence([normalizers.NFKD()]))
    make_form_spm("spm-nfkc", normalizers.NFKC())
    make_added()


def make_added():
    make_form_bpe("nfkc-added", normalizers.NFKC(), added=True)


def main():
    HERE.mkdir(exist_ok=True)
    if sys.argv[1:] == ["forms"]:
        return make_forms()
    if sys.argv[1:] == ["added"]:
        return make_added()
    make_forms()
    make_bpe("llama3", "llama-bpe", splits(LLAMA3), False, True, 1000)
    make_bpe("gpt2", "gpt-2", [], True, False, 1000)
    # pre-tokenizers as the models' tokenizer.json has them
    digits = pre_tokenizers.Digits(individual_digits=True)
    make_bpe("qwen2", "qwen2", splits(LLAMA3.replace("{1,3}", "")), False, False, 700, "n")
    make_bpe("smollm", "smollm", [digits], True, False, 700, "n")
    make_bpe("deepseek-llm", "deepseek-llm", splits(*DEEPSEEK_LLM) + [digits], False, False, 700, "n")
    make_bpe("deepseek-coder", "deepseek-coder",
             splits("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_ETC) + [digits], False, False, 700, "n")
    make_bpe("deepseek-v3", "deepseek-v3", splits(*DEEPSEEK_V3), False, False, 700, "n")
    make_bpe("falcon", "falcon",
             [pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.ByteLevel(False),
              pre_tokenizers.Digits(individual_digits=False), *splits("[0-9][0-9][0-9]")],
             None, False, 700, "n")
    # no tokenizer.json: what llama.cpp takes where a file names nothing
    make_bpe("default", "default",
             splits(r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
             False, False, 700, "n")
    make_spm("spm", True, 1000)
    make_spm("spm-unk", False, 600)


main()
