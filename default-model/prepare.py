#!/usr/bin/env python3
"""Make the training corpus and the tokenizer of the bundled story model.

Reads the story texts of --data, writes to --out:

    tokenizer.json   byte-level BPE, llama-3 pre-tokenizer, one special token
    corpus.npz       per source: token ids (uint16) and where each story starts
    valid.txt        the small validation set that training watches

The held-back tenth (stories with index % 10 == 9, see heldback.py) is used for nothing here.
"""

import argparse
import random
import re
import zlib
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from heldback import is_held_back, split_stories

END = "<|endoftext|>"
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BOOKS = ("bryant-stories.txt", "burgess-busterbrown.txt", "grimm.txt")
GIRLS = "Mia Sara Anna Lucy Emma Amy Jane Kate Molly Rosie Ella Nina Ruby Lola Daisy Sue Mary Lily".split()
BOYS = "Tom Ben Sam Max Jack Bob Leo Joe Dan Fred Bill Mark Finn Oscar Tim Timmy".split()
OPENINGS = ("There was once", "Once there was", "One day, there was", "Long ago, there was", "In a small town, there was")


def is_validation(index):
    """A fortieth of the slice steers the training; it is neither trained on nor part of the test."""
    return index % 40 == 8


def repair(text):
    """Undo the common mis-decoded quotation marks of the slice."""
    for bad, good in (("â€™", "'"), ("â€œ", '"'), ("â€\x9d", '"'), ("â€", '"'), ("“", '"'), ("”", '"'), ("’", "'")):
        text = text.replace(bad, good)
    return text


def degenerate(story):
    """True for sampled stories that loop, stop midway or hardly vary their words."""
    if not 250 <= len(story) <= 2200 or story[-1] not in '.!?"' or not story.isascii():
        return True
    sentences = [s.strip() for s in re.split(r"[.!?\n]+", story) if len(s.strip()) > 8]
    if len(set(sentences)) < len(sentences):
        return True
    words = re.findall(r"[a-z']+", story.lower())
    triples = list(zip(words, words[1:], words[2:]))
    if len(triples) < 40 or len(set(triples)) < 0.91 * len(triples):
        return True
    if any(a == b and a not in ("very", "had", "that") for a, b in zip(words, words[1:])):
        return True
    return len(set(words)) < 4.7 * len(words) ** 0.5


def rename(story, rng):
    """The sampling model calls nearly everyone Lily or Tim: give most of them other names."""
    for name, pool in (("Lily", GIRLS), ("Timmy", BOYS), ("Tim", BOYS)):
        if name in story and rng.random() < 0.75:
            free = [n for n in pool if n not in story]
            story = re.sub(rf"\b{name}\b", rng.choice(free), story)
    return story


def vary_opening(story, rng):
    """All low-temperature samples begin "Once upon a time": change half of them."""
    if rng.random() < 0.5:
        return story
    return re.sub(r"^Once upon a time,? there was", rng.choice(OPENINGS), story)


def sampled_stories(path, rng, vary):
    """Stories parted by END lines, one paragraph a line; cleaned and filtered."""
    kept = []
    for raw in path.read_text(encoding="utf8").split(END):
        story = "\n\n".join(line.strip() for line in raw.split("\n") if line.strip())
        story = re.sub(r" +", " ", story)
        if not story or degenerate(story):
            continue
        story = rename(story, rng)
        kept.append(vary_opening(story, rng) if vary else story)
    return kept


def book_pieces(path):
    """A book as pieces of some 1,500 characters, lines joined, verse and headings left out."""
    pieces, piece = [], []
    for block in re.split(r"\n\s*\n", path.read_text(encoding="utf8")):
        lines = block.split("\n")
        text = re.sub(r"\s+", " ", block).strip().replace("_", "")
        if len(text) < 40 or text.isupper() or lines[0].startswith("   "):
            continue
        piece.append(text)
        if sum(map(len, piece)) > 1500:
            pieces.append("\n\n".join(piece))
            piece = []
    return pieces


def train_tokenizer(texts, vocab_size):
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def real_stories(stories):
    """Stories with odd characters count twice: as they are, since others like them will be read, and repaired."""
    return [repair(s) for s in stories] + [s for s in stories if not s.isascii()]


def plain_text_windows(tokenizer, stories, rng, orders=6, size=513):
    """Windows of a plain text file: stories parted by newlines, cut anywhere, END before each window."""
    end, windows = tokenizer.token_to_id(END), []
    for _ in range(orders):
        ids = tokenizer.encode("\n".join(rng.sample(stories, len(stories)))).ids
        windows += [[end] + ids[i:i + size - 1] for i in range(0, len(ids) - size, size - 1)]
    starts = np.arange(len(windows) + 1, dtype=np.int64) * size
    return np.array(windows, dtype=np.uint16).reshape(-1), starts


def new_tokenizer(sources, args, rng):
    """Learnt mostly from real stories, so that their words get the tokens."""
    some = rng.sample(sources["sampled"], min(1000, len(sources["sampled"])))
    return train_tokenizer(sources["real"] * 3 + some + sources["books"][:60], args.vocab)


def encode(tokenizer, stories):
    """One long id array and the start of each story in it; every story begins with END."""
    end = tokenizer.token_to_id(END)
    ids, starts, total = [], [], 0
    for encoding in tokenizer.encode_batch(stories):
        starts.append(total)
        ids.append(np.array([end] + encoding.ids, dtype=np.uint16))
        total += len(ids[-1])
    return np.concatenate(ids), np.array(starts + [total], dtype=np.int64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the story texts")
    parser.add_argument("--teacher-samples", type=Path, nargs="*", default=[], help="output of sample_teacher.py")
    parser.add_argument("--tokenizer", type=Path, help="use this tokenizer.json, do not learn one")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    stories = list(enumerate(split_stories((args.data / "tinystories-slice.txt").read_text(encoding="utf8"))))
    seen = [(i, s) for i, s in stories if not is_held_back(i)]
    valid = [s for i, s in seen if is_validation(i)]
    real = [s for i, s in seen if not is_validation(i) and s]
    sources = {
        "real": real_stories(real),
        "sampled": sampled_stories(args.data / "sampled-3m.txt", rng, vary=True),
        "prompted": [s for p in args.teacher_samples for s in sampled_stories(p, rng, vary=False)],
        "books": [p for b in BOOKS for p in book_pieces(args.data / b)],
    }
    sources = {name: texts for name, texts in sources.items() if texts}

    tokenizer = Tokenizer.from_file(str(args.tokenizer)) if args.tokenizer else new_tokenizer(sources, args, rng)
    tokenizer.save(str(args.out / "tokenizer.json"))
    (args.out / "valid.txt").write_text("\n".join(valid) + "\n", encoding="utf8")

    arrays = {}
    for name, texts in sources.items():
        arrays[name], arrays[name + "_starts"] = encode(tokenizer, texts)
        size = sum(len(t.encode()) for t in texts)
        print(f"{name:9} {len(texts):6} stories {size:9} bytes {len(arrays[name]):8} tokens "
              f"{size / len(arrays[name]):.3f} bytes/token crc {zlib.crc32(arrays[name].tobytes()):08x}")
    arrays["plain"], arrays["plain_starts"] = plain_text_windows(tokenizer, real, rng)
    np.savez(args.out / "corpus.npz", **arrays)


if __name__ == "__main__":
    main()
