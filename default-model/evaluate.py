#!/usr/bin/env python3
"""A plain float32 numpy reading of the bundled model, independent of the engine.

    evaluate.py MODEL.gguf --bits TEXT [-c 512]      bits per byte of a text file, two ways
    evaluate.py MODEL.gguf --golden TEXT OUT.json    what the engine's tests expect
    evaluate.py MODEL.gguf --samples [--seed 1]      the stories of the model card

Bits per byte is the total negative log likelihood, over ln 2, over the UTF-8 bytes of the text:

    stories  the text is split at its story separators; each story is scored alone: BOS, then its
             tokens, in windows of at most the context if it is longer; no EOS is scored
    stream   the whole file is tokenised at once; each window is BOS and the next c - 1 tokens, all
             of which are scored; the last window may be shorter
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from heldback import split_stories

F32 = np.float32
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GOLDEN_PROMPTS = ("Once upon a time", "Anna had a cat.", "Tom and his dog")
OPENINGS = (
    "Once upon a time, there was a little fox who",
    "One day, a boy named Tom went to the park with his mom.",
    "Anna and Ben were playing in the garden.",
    "There was an old boat by the sea.",
    "Mia had a red ball.",
)


def tokenizer_of(fields):
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, ignore_merges=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Model:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        get = lambda key: reader.fields["bitnet-b1.58." + key].contents()
        self.layers, self.context = get("block_count"), get("context_length")
        self.heads, self.kv_heads = get("attention.head_count"), get("attention.head_count_kv")
        self.head_dim = get("embedding_length") // self.heads
        self.eps = F32(get("attention.layer_norm_rms_epsilon"))
        self.bos = reader.fields["tokenizer.ggml.bos_token_id"].contents()
        self.tokenizer = tokenizer_of(reader.fields)
        self.weights, self.ternary = {}, {}
        for t in reader.tensors:
            values = gguf.dequantize(t.data, t.tensor_type).astype(F32)
            if t.tensor_type == gguf.GGMLQuantizationType.TQ1_0:
                scale = np.abs(values).max()
                self.ternary[t.name] = (np.sign(values).T.copy(), scale)
            else:
                self.weights[t.name] = values
        half = self.head_dim // 2
        frequency = get("rope.freq_base") ** (-np.arange(half) / half)
        angle = np.outer(np.arange(self.context), frequency)
        self.cos, self.sin = np.cos(angle).astype(F32)[:, None], np.sin(angle).astype(F32)[:, None]

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weights[name + ".weight"]

    def linear(self, x, name):
        """int8 codes times trits; the sums are integers below 2^24, exact in float32."""
        trits, g = self.ternary[name + ".weight"]
        a = np.maximum(np.abs(x).max(-1, keepdims=True), F32(1e-5))
        codes = np.clip(np.rint(x * (F32(127) / a)), -128, 127)
        return codes @ trits * (g * a / F32(127))

    def rotate(self, x):
        a, b = np.split(x, 2, -1)
        cos, sin = self.cos[:len(x)], self.sin[:len(x)]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, x, blk):
        n, group = len(x), self.heads // self.kv_heads
        q = self.rotate(self.linear(x, blk + "attn_q").reshape(n, self.heads, -1))
        k = self.rotate(self.linear(x, blk + "attn_k").reshape(n, self.kv_heads, -1))
        v = self.linear(x, blk + "attn_v").reshape(n, self.kv_heads, -1)
        k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
        q, k, v = (t.transpose(1, 0, 2) for t in (q, k, v))
        scores = q @ k.transpose(0, 2, 1) / F32(self.head_dim ** 0.5)
        scores += np.triu(np.full((n, n), -np.inf, F32), 1)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        y = (p @ v).transpose(1, 0, 2).reshape(n, -1)
        return self.linear(self.norm(y, blk + "attn_sub_norm"), blk + "attn_output")

    def feed_forward(self, x, blk):
        gate = np.maximum(self.linear(x, blk + "ffn_gate"), 0)
        hidden = gate * gate * self.linear(x, blk + "ffn_up")
        return self.linear(self.norm(hidden, blk + "ffn_sub_norm"), blk + "ffn_down")

    def logits(self, ids):
        """Logits [len(ids), vocab] of one sequence."""
        x = self.weights["token_embd.weight"][ids]
        for i in range(self.layers):
            blk = f"blk.{i}."
            x = x + self.attention(self.norm(x, blk + "attn_norm"), blk)
            x = x + self.feed_forward(self.norm(x, blk + "ffn_norm"), blk)
        return self.norm(x, "output_norm") @ self.weights["token_embd.weight"].T

    def encode(self, text):
        return self.tokenizer.encode(text).ids

    def token_nats(self, window):
        """Negative log likelihood of window[1:], token by token."""
        logits = self.logits(window[:-1]).astype(np.float64)
        peak = logits.max(-1)
        total = np.log(np.exp(logits - peak[:, None]).sum(-1)) + peak
        return total - logits[np.arange(len(logits)), window[1:]]

    def windows_nats(self, ids, size):
        """Windows of BOS and size - 1 tokens."""
        step = size - 1
        return sum(self.token_nats([self.bos] + ids[i:i + step]).sum() for i in range(0, len(ids), step))


def story_bits(model, text):
    stories = [s.strip("\n") for s in split_stories(text)]
    stories = [s for s in stories if s]
    nats = sum(model.windows_nats(model.encode(s), model.context) for s in stories)
    size = sum(len(s.encode()) for s in stories)
    return {"stories": len(stories), "bytes": size, "bits_per_byte": nats / np.log(2) / size}


def stream_bits(model, text, context):
    ids = model.encode(text)
    nats = model.windows_nats(ids, context)
    size = len(text.encode())
    return {"context": context, "tokens": len(ids), "bytes": size, "nll": nats, "mean_nll": nats / len(ids),
            "bits_per_byte": nats / np.log(2) / size}


def llama_cpp_perplexity(model, text, context):
    """llama.cpp's count: BOS before the text, whole windows, first token replaced by BOS, second half scored."""
    ids = [model.bos] + model.encode(text)
    first, nats = context // 2, []
    for i in range(0, len(ids) - context + 1, context):
        nats.extend(model.token_nats([model.bos] + ids[i + 1:i + context])[first:])
    mean = float(np.mean(nats))
    return {"context": context, "tokens": len(nats), "nll": mean, "ppl": float(np.exp(mean))}


def generate(model, prompt, count, choose):
    """Continue a prompt; stops at EOS."""
    ids = [model.bos] + model.encode(prompt)
    start = len(ids)
    while len(ids) < start + count and len(ids) < model.context:
        token = choose(model.logits(ids)[-1])
        if token == model.bos:
            break
        ids.append(token)
    return ids[:start], ids[start:]


def greedy(logits):
    return int(logits.argmax())


def top_p(rng, temperature, p):
    def choose(logits):
        order = np.argsort(-logits, kind="stable")
        z = logits[order].astype(np.float64) / temperature
        probability = np.exp(z - z[0])
        probability /= probability.sum()
        keep = int(np.searchsorted(probability.cumsum(), p)) + 1
        return int(rng.choice(order[:keep], p=probability[:keep] / probability[:keep].sum()))
    return choose


def golden(model, text):
    continuations = []
    for prompt in GOLDEN_PROMPTS:
        head, tail = generate(model, prompt, 64, greedy)
        best = np.sort(model.logits(head + tail[:-1])[len(head) - 1:], -1)
        continuations.append({"prompt": prompt, "prompt_ids": head, "ids": tail, "text": model.tokenizer.decode(tail),
                              "smallest_lead": float((best[:, -1] - best[:, -2]).min())})
    return {
        "made_by": "evaluate.py: float32 numpy, read from the GGUF file; prompt_ids begin with BOS; smallest_lead is the least "
                   "distance in logits between the first and the second choice",
        "greedy": continuations,
        "sample_text_ids": model.encode(text),
        "sample_text_stream": stream_bits(model, text, 256),
        "sample_text_llama_cpp": llama_cpp_perplexity(model, text, 256),
    }


def print_samples(model, seed, temperature, p):
    for i, prompt in enumerate(OPENINGS * 2):
        rng = np.random.default_rng(seed + i)
        tail = generate(model, prompt, 400, top_p(rng, temperature, p))[1]
        print(f"### {i + 1}. seed {seed + i}, temperature {temperature}, top-p {p}\n")
        print(f"**{prompt}**{model.tokenizer.decode(tail)}\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--bits", type=Path, metavar="TEXT")
    parser.add_argument("-c", type=int, default=512, metavar="TOKENS")
    parser.add_argument("--golden", type=Path, nargs=2, metavar=("TEXT", "OUT"))
    parser.add_argument("--samples", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--top-p", type=float, default=0.9)
    args = parser.parse_args()
    model = Model(args.model)
    if args.bits:
        text = args.bits.read_text(encoding="utf8")
        print(json.dumps({"stories": story_bits(model, text), "stream": stream_bits(model, text, args.c)}, indent=1))
    if args.golden:
        expected = golden(model, args.golden[0].read_text(encoding="utf8"))
        args.golden[1].write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    if args.samples:
        print_samples(model, args.seed, args.temperature, args.top_p)


if __name__ == "__main__":
    main()
