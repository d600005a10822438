#!/usr/bin/env python3
"""Write a training checkpoint as GGUF: TQ1_0 trits, float16 embedding, float32 norms.

    export.py --checkpoint RUN/checkpoint.pt --data DIR --out trireme-stories.gguf     (DIR as for train.py)

The blocks are packed here, from trits and the tensor's one scale. A quantiser fed with master
weights would take its scale from each block's largest weight and get other trits.

Many rounds over few real stories leave the model too sure of itself. One factor on all logits, the
best one on the validation stories, mends that; it is folded into the last norm.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F

from model import Config, Model
from train import validation_set

ARCH = "bitnet-b1.58"
LINEAR = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
NORMS = ("attn_norm", "attn_sub_norm", "ffn_norm", "ffn_sub_norm")
CONTROL, NORMAL = 3, 1


def absmean_trits(weight):
    """Trits and the float16 scale that the file holds; the trits are taken with that very scale."""
    scale = np.maximum(np.float32(np.float16(np.abs(weight).mean(dtype=np.float64))), np.float32(1e-5))
    return np.clip(np.rint(weight / scale), -1, 1).astype(np.int8), np.float16(scale)


def base3_bytes(digits):
    """Five base-3 digits, the first one most significant, as one byte: ceil(v * 256 / 243)."""
    value = np.zeros(digits.shape[:-2] + digits.shape[-1:], dtype=np.uint32)
    for n in range(5):
        value = value * 3 + (digits[..., n, :] if n < digits.shape[-2] else 0)
    return ((value * 256 + 242) // 243).astype(np.uint8)


def pack_tq1_0(trits, scale):
    """[rows, K] trits as [rows, K / 256 * 54] bytes."""
    rows, columns = trits.shape
    digits = (trits + 1).astype(np.uint32).reshape(rows, columns // 256, 256)
    shape = digits.shape[:2]
    low = base3_bytes(digits[..., :160].reshape(*shape, 5, 32))
    mid = base3_bytes(digits[..., 160:240].reshape(*shape, 5, 16))
    high = base3_bytes(digits[..., 240:].reshape(*shape, 4, 4))
    d = np.broadcast_to(np.array([scale], dtype="<f2").view(np.uint8), (*shape, 2))
    return np.concatenate([low, mid, high, d], axis=-1).reshape(rows, -1)


def checked_tq1_0(weight):
    """Packed bytes of a master weight, checked against the decoder of the gguf package."""
    trits, scale = absmean_trits(weight)
    packed = pack_tq1_0(trits, scale)
    decoded = gguf.dequantize(packed, gguf.GGMLQuantizationType.TQ1_0)
    if not np.array_equal(decoded, trits.astype(np.float32) * np.float32(scale)):
        raise SystemExit("the TQ1_0 packer and the gguf package disagree")
    return packed


def add_metadata(writer, config):
    writer.add_name("trireme-stories-5m")
    writer.add_description("Ternary story model bundled with Trireme")
    writer.add_license("MIT")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_TQ1_0)
    writer.add_context_length(config["context"])
    writer.add_embedding_length(config["width"])
    writer.add_block_count(config["layers"])
    writer.add_feed_forward_length(config["ffn"])
    writer.add_head_count(config["heads"])
    writer.add_head_count_kv(config["kv_heads"])
    writer.add_layer_norm_rms_eps(config["eps"])
    writer.add_rope_freq_base(config["rope_base"])
    writer.add_rope_dimension_count(config["width"] // config["heads"])
    writer.add_vocab_size(config["vocab_size"])


def add_tokenizer(writer, path):
    model = json.loads(path.read_text(encoding="utf8"))
    vocab = model["model"]["vocab"]
    special = {t["id"] for t in model["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([CONTROL if i in special else NORMAL for i in range(len(tokens))])
    writer.add_token_merges(merges)
    end = vocab["<|endoftext|>"]
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(True)


def add_tensors(writer, weights, layers):
    tq1_0 = gguf.GGMLQuantizationType.TQ1_0
    writer.add_tensor("token_embd.weight", weights["token_embd.weight"].astype(np.float16))
    for i in range(layers):
        for name in NORMS:
            writer.add_tensor(f"blk.{i}.{name}.weight", weights[f"blk.{i}.{name}.weight"])
        for name in LINEAR:
            packed = checked_tq1_0(weights[f"blk.{i}.{name}.weight"])
            writer.add_tensor(f"blk.{i}.{name}.weight", packed, raw_dtype=tq1_0)
    writer.add_tensor("output_norm.weight", weights["output_norm.weight"])


@torch.no_grad()
def logit_scale(state, data):
    """The factor on the logits that makes the validation stories likeliest."""
    model = Model(Config(**state["config"]))
    model.load_state_dict(state["model"])
    pairs = [(model(ids[None, :-1]).float(), ids[1:]) for ids, _ in validation_set(data, model.config.context)]
    logits, targets = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])
    return min((k / 100 for k in range(50, 121, 2)), key=lambda f: F.cross_entropy(logits * f, targets).item())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of tokenizer.json and valid.txt")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    state = torch.load(args.checkpoint, weights_only=True, map_location="cpu")
    weights = {n: t.float().numpy() for n, t in state["model"].items()}
    scale = logit_scale(state, args.data)
    weights["output_norm.weight"] = weights["output_norm.weight"] * np.float32(scale)
    temporary = args.out.with_suffix(".tmp")
    writer = gguf.GGUFWriter(temporary, ARCH)
    add_metadata(writer, state["config"])
    add_tokenizer(writer, args.data / "tokenizer.json")
    add_tensors(writer, weights, state["config"]["layers"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    temporary.replace(args.out)
    print(f"{args.out.name}: {args.out.stat().st_size} bytes, step {state['step']}, logits x {scale}")


if __name__ == "__main__":
    main()
