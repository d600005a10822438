#!/usr/bin/env python3
"""Writes a random Hugging Face directory of the shape and storage of microsoft/bitnet-b1.58-2B-4T (1.2 GB).

    python3 make_hf_2b.py DIR [--layers N] [--seed N]

Trits packed four to a byte (rows r, r + n/4, ...), one bfloat16 weight_scale a layer that multiplies, and
bfloat16 embedding and norms, in one model.safetensors: for timing a load, so there is no tokenizer.
Only the standard library; the weights come from a seed, so a directory can be made again.
"""
import argparse
import json
import pathlib
import random
import struct

WIDTH, FFN, HEADS, KV, HEAD, VOCAB = 2560, 6912, 20, 5, 128, 128256
LINEAR = {"self_attn.q_proj": (HEADS * HEAD, WIDTH), "self_attn.k_proj": (KV * HEAD, WIDTH),
          "self_attn.v_proj": (KV * HEAD, WIDTH), "self_attn.o_proj": (WIDTH, HEADS * HEAD),
          "mlp.gate_proj": (FFN, WIDTH), "mlp.up_proj": (FFN, WIDTH), "mlp.down_proj": (WIDTH, FFN)}
NORMS = {"input_layernorm": WIDTH, "post_attention_layernorm": WIDTH, "self_attn.attn_sub_norm": WIDTH,
         "mlp.ffn_sub_norm": FFN}


def bf16(x):
    return struct.pack("<f", x)[2:]


def tensors(layers):
    """Name, dtype, shape in the order of the file."""
    yield "model.embed_tokens.weight", "BF16", [VOCAB, WIDTH]
    for i in range(layers):
        for name, (rows, columns) in LINEAR.items():
            yield f"model.layers.{i}.{name}.weight", "U8", [rows // 4, columns]
            yield f"model.layers.{i}.{name}.weight_scale", "BF16", [1]
        for name, width in NORMS.items():
            yield f"model.layers.{i}.{name}.weight", "BF16", [width]
    yield "model.norm.weight", "BF16", [WIDTH]


class Noise:
    """Random bytes seen through a table, as fast as the standard library goes."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        codes = [sum(c << 2 * k for k, c in enumerate(q)) for q in
                 [(a, b, c, d) for a in range(3) for b in range(3) for c in range(3) for d in range(3)]]
        self.trits = bytes(codes[i % 81] for i in range(256))
        # the upper byte of a bfloat16: sign, and an exponent that gives 2^-7 .. 2^-4 or so
        self.upper = bytes((0x80 if i & 1 else 0) | (0x3C + (i >> 7)) for i in range(256))

    def packed(self, n):
        return self.random.randbytes(n).translate(self.trits)

    def embedding(self, n):
        raw = bytearray(self.random.randbytes(n))
        raw[1::2] = bytes(raw[1::2]).translate(self.upper)
        return raw


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("dir", type=pathlib.Path)
    args.add_argument("--layers", type=int, default=30)
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    (args.dir / "config.json").write_text(json.dumps({
        "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "hidden_act": "relu2", "hidden_size": WIDTH,
        "intermediate_size": FFN, "num_hidden_layers": args.layers, "num_attention_heads": HEADS,
        "num_key_value_heads": KV, "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
        "bos_token_id": 128000, "eos_token_id": 128001, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "vocab_size": VOCAB, "quantization_config": {
            "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}}, indent=1))
    size = {"U8": 1, "BF16": 2}
    head, at = {}, 0
    for name, dtype, shape in tensors(args.layers):
        n = size[dtype]
        for d in shape:
            n *= d
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    noise = Noise(args.seed)
    with open(args.dir / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, dtype, shape in tensors(args.layers):
            begin, end = head[name]["data_offsets"]
            if dtype == "U8":
                out.write(noise.packed(end - begin))
            elif name.endswith("_scale"):
                out.write(bf16(0.02 if "mlp.down" in name else 0.03))
            elif name.endswith("embed_tokens.weight"):
                for done in range(begin, end, 1 << 24):
                    out.write(noise.embedding(min(1 << 24, end - done)))
            else:
                out.write(bf16(1.0) * shape[0])
    print(f"{args.dir}/model.safetensors: {8 + len(text) + at} bytes")


if __name__ == "__main__":
    main()
