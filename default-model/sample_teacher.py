#!/usr/bin/env python3
"""Inputs and outputs of sample_teacher.c.

    sample_teacher.py prepare --gguf bitllama-3m-tq2.gguf --spm tokenizer.model --slice SLICE.txt \\
                              --count 20000 --out DIR        writes DIR/teacher.bin, DIR/prompts.bin
    cc -O3 -march=native -ffast-math sample_teacher.c -lm -o sample_teacher
    sample_teacher DIR/teacher.bin DIR/prompts.bin DIR/out.bin 1
    sample_teacher.py decode --spm tokenizer.model --ids DIR/out.bin --out DIR/prompted.txt

Prompts are openings of real stories, of 0 to 30 words; held-back and validation stories are left out.
"""

import argparse
import random
import re
import struct
from pathlib import Path

import gguf
import numpy as np
import sentencepiece

from heldback import is_held_back, split_stories
from prepare import END, is_validation

PROMPT = 200
NORMS = ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")
LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def write_model(path, out):
    reader = gguf.GGUFReader(path)
    weights = {t.name: gguf.dequantize(t.data, t.tensor_type).astype("<f4") for t in reader.tensors}
    with out.open("wb") as f:
        f.write(weights["token_embd.weight"].tobytes() + weights["output_norm.weight"].tobytes())
        for i in range(8):
            for name in NORMS:
                f.write(weights[f"blk.{i}.{name}.weight"].tobytes())
            for name in LINEAR:
                w = weights[f"blk.{i}.{name}.weight"]
                f.write(struct.pack("<f", np.abs(w).max()) + np.sign(w).astype(np.int8).tobytes())


def opening(story, rng):
    u = rng.random()
    words = 0 if u < 0.06 else rng.randint(2, 8) if u < 0.5 else rng.randint(8, 30)
    return "".join(re.findall(r"\S+\s*", story.replace("\n\n", "\n"))[:words]).strip()


def write_prompts(args, spm, rng):
    stories = enumerate(split_stories(args.slice.read_text(encoding="utf8")))
    stories = [s for i, s in stories if not is_held_back(i) and not is_validation(i) and len(s) > 100 and s.isascii()]
    with (args.out / "prompts.bin").open("wb") as f:
        for _ in range(args.count):
            text = opening(rng.choice(stories), rng)
            ids = ([1] + (spm.encode(text) if text else []))[:PROMPT]
            f.write(struct.pack("<i", len(ids)) + np.array(ids + [0] * (PROMPT - len(ids)), "<i4").tobytes())
            f.write(struct.pack("<f", rng.uniform(0.75, 1.0)))


def decode(args, spm):
    data, at, count = np.fromfile(args.ids, "<i4"), 0, 0
    with args.out.open("w", encoding="utf8") as f:
        while at < len(data):
            n = int(data[at])
            text = spm.decode([int(t) for t in data[at + 1:at + 1 + n] if t > 2])
            paragraphs = [p.strip() for p in text.split("\n") if p.strip()]
            f.write("\n\n".join(paragraphs) + f"\n{END}\n")
            at, count = at + 1 + n, count + 1
    print(count, "stories", args.out.stat().st_size, "bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("prepare", "decode"))
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--spm", type=Path, required=True)
    parser.add_argument("--slice", type=Path)
    parser.add_argument("--ids", type=Path)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    spm = sentencepiece.SentencePieceProcessor(model_file=str(args.spm))
    if args.what == "decode":
        return decode(args, spm)
    args.out.mkdir(parents=True, exist_ok=True)
    write_model(args.gguf, args.out / "teacher.bin")
    write_prompts(args, spm, random.Random(args.seed))


if __name__ == "__main__":
    main()
