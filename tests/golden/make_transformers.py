#!/usr/bin/env python3
"""Makes tiny ternary checkpoints and what transformers answers to them.

Run by hand when a case is added; the outputs (small) are committed beside it, so the test needs
neither Python packages nor a network. Needs: torch, transformers, gguf, numpy.

    python3 make_transformers.py [CASE...]  writes transformers/<case>.gguf, .ids, .npy

The linear layers are transformers' own BitLinear (packed trits, int8 activations, float32), the rest is
its BitNet model: nothing of this project takes part. The GGUF files are written with the gguf
package, whose TQ quantizers get exact trits times the scale.
"""
import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"
import pathlib
import sys

import gguf
import numpy as np
import torch
from transformers import BitNetConfig, BitNetForCausalLM
from transformers.integrations.bitnet import BitLinear, pack_weights
from transformers.models.bitnet.modeling_bitnet import BitNetRMSNorm

HERE = pathlib.Path(__file__).parent / "transformers"
LINEAR = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.attn_sub_norm": "attn_sub_norm", "mlp.ffn_sub_norm": "ffn_sub_norm",
}
CASES = {
    # 5 KV heads, head width that is not width / heads, squared ReLU, base-3 weights
    "relu2-gqa5-tq1": dict(arch="bitnet-b1.58", act="relu2", qtype="TQ1_0", width=256, ffn=256, layers=2,
                           heads=20, kv=5, hd=64, vocab=320, theta=500000.0, seed=1),
    # SiLU as llama.cpp's bitnet graph, 2-bit weights
    "silu-tq2": dict(arch="bitnet", act="silu", qtype="TQ2_0", width=256, ffn=512, layers=2, heads=8,
                     kv=2, hd=32, vocab=320, theta=10000.0, seed=2),
    # an embedding (and so a head) in a ternary type, a scale for each block, as llama-quantize --pure makes
    "table-tq1": dict(arch="bitnet", act="silu", qtype="TQ1_0", width=256, ffn=256, layers=1, heads=4,
                      kv=2, hd=64, vocab=320, theta=10000.0, seed=3, table="TQ1_0"),
    "table-tq2": dict(arch="bitnet", act="silu", qtype="TQ2_0", width=256, ffn=256, layers=1, heads=4,
                      kv=2, hd=64, vocab=320, theta=10000.0, seed=4, table="TQ2_0"),
}


def build(c):
    torch.manual_seed(c["seed"])
    config = BitNetConfig(
        vocab_size=c["vocab"], hidden_size=c["width"], intermediate_size=c["ffn"],
        num_hidden_layers=c["layers"], num_attention_heads=c["heads"], num_key_value_heads=c["kv"],
        head_dim=c["hd"], hidden_act=c["act"], max_position_embeddings=256, rms_norm_eps=1e-5,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": c["theta"]},
        attn_implementation="eager")
    model = BitNetForCausalLM(config).float().eval()
    for layer in model.model.layers:  # the model's own is made for heads * hd == width
        layer.self_attn.attn_sub_norm = BitNetRMSNorm(c["heads"] * c["hd"], eps=1e-5)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(
            torch.randn(c["vocab"], c["width"]).mul(0.5).half().float())
        if "table" in c:
            scales = (0.2 + torch.rand(c["vocab"], 1)).half().float()
            model.model.embed_tokens.weight.copy_(
                scales * torch.randint(-1, 2, (c["vocab"], c["width"])).float())
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
    ternary = {}
    for i, layer in enumerate(model.model.layers):
        for path in LINEAR:
            parent = layer.get_submodule(path.rsplit(".", 1)[0])
            leaf = path.rsplit(".", 1)[1]
            old = getattr(parent, leaf)
            trits = torch.randint(-1, 2, old.weight.shape).float()
            scale = float(np.float16(0.01 + 0.05 * torch.rand(1).item()))
            new = BitLinear(old.in_features, old.out_features, False, dtype=torch.float32)
            new.weight.copy_(pack_weights(trits.clone()))
            new.weight_scale.fill_(1.0 / scale)  # BitLinear divides by it
            setattr(parent, leaf, new)
            ternary[f"blk.{i}.{LINEAR[path]}.weight"] = (trits.numpy(), scale)
    return model, ternary


def write_gguf(path, c, model, ternary):
    w = gguf.GGUFWriter(path, c["arch"])
    w.add_name(path.stem)
    w.add_context_length(256)
    w.add_embedding_length(c["width"])
    w.add_block_count(c["layers"])
    w.add_feed_forward_length(c["ffn"])
    w.add_head_count(c["heads"])
    w.add_head_count_kv(c["kv"])
    w.add_key_length(c["hd"])
    w.add_value_length(c["hd"])
    w.add_rope_dimension_count(c["hd"])
    w.add_rope_freq_base(c["theta"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(c["vocab"])
    table = model.model.embed_tokens.weight.detach().numpy()
    if "table" in c:
        kind = gguf.GGMLQuantizationType[c["table"]]
        data = gguf.quantize(table, kind)
        assert np.array_equal(gguf.dequantize(data, kind), table)
        w.add_tensor("token_embd.weight", data, raw_dtype=kind)
    else:
        w.add_tensor("token_embd.weight", table.astype(np.float16))
    w.add_tensor("output_norm.weight", model.model.norm.weight.detach().numpy())
    for i, layer in enumerate(model.model.layers):
        for ours, theirs in NORMS.items():
            w.add_tensor(f"blk.{i}.{theirs}.weight",
                         layer.get_submodule(ours).weight.detach().numpy())
    kind = gguf.GGMLQuantizationType[c["qtype"]]
    for name, (trits, scale) in ternary.items():
        data = gguf.quantize((trits * np.float32(scale)).astype(np.float32), kind)
        assert np.array_equal(gguf.dequantize(data, kind), trits * np.float32(scale))
        w.add_tensor(name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    HERE.mkdir(exist_ok=True)
    for name, c in CASES.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        model, ternary = build(c)
        ids = torch.randint(0, c["vocab"], (1, 40), generator=torch.Generator().manual_seed(c["seed"]))
        with torch.no_grad():
            logits = model(ids).logits[0].numpy().astype(np.float32)
        write_gguf(HERE / f"{name}.gguf", c, model, ternary)
        np.save(HERE / f"{name}.npy", logits)
        (HERE / f"{name}.ids").write_text(",".join(map(str, ids[0].tolist())) + "\n")
        print(name, "logits std", logits.std(), "top", logits.argmax(1)[:8])


if __name__ == "__main__":
    main()
