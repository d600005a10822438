#!/usr/bin/env python3
"""Makes tiny GGUF files of architecture llama and what transformers answers to them.

As make_transformers.py: run by hand, outputs committed under transformers/. Needs torch, transformers, gguf.

llama-f16        dense, float16 weights, attention biases, 5 KV heads: transformers' LlamaForCausalLM as it is
llama-tq2-blocks Gaussian weights through the gguf package's TQ2_0 quantizer, so that blocks truly differ in
                 scale; the reference multiplies the package's dequantised weights with int8 activations
                 (per-token absmax) in float64
"""
import pathlib

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent / "transformers"
LINEAR = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
CASES = {
    "llama-f16": dict(width=160, ffn=96, layers=2, heads=10, kv=5, hd=24, vocab=300, bias=True, qtype="F16",
                      theta=10000.0, seed=3),
    "llama-tq2-blocks": dict(width=256, ffn=512, layers=2, heads=8, kv=4, hd=32, vocab=300, bias=False,
                             qtype="TQ2_0", theta=500000.0, seed=4),
}


class Int8Linear(torch.nn.Module):
    """y = W q * a / 127 with q the int8 codes of x: exact but for the last rounding."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight.double()

    def forward(self, x):
        a = x.abs().amax(-1, keepdim=True).clamp_min(1e-5)
        q = torch.round(x / (a / 127)).clamp(-128, 127)
        return ((q.double() @ self.weight.T) * (a / 127).double()).float()


def pairs(rows, heads):
    """llama.cpp's order of q and k rows: the halves of a head interleaved."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def build(c):
    torch.manual_seed(c["seed"])
    config = LlamaConfig(
        vocab_size=c["vocab"], hidden_size=c["width"], intermediate_size=c["ffn"],
        num_hidden_layers=c["layers"], num_attention_heads=c["heads"], num_key_value_heads=c["kv"],
        head_dim=c["hd"], max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=False,
        attention_bias=c["bias"], rope_parameters={"rope_type": "default", "rope_theta": c["theta"]},
        bos_token_id=None, eos_token_id=None, attn_implementation="eager")
    model = LlamaForCausalLM(config).float().eval()
    kind = gguf.GGMLQuantizationType[c["qtype"]]
    data = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name:
                p.copy_(1 + 0.2 * torch.randn_like(p))
            else:
                p.copy_((torch.randn_like(p) * (0.3 if p.dim() == 1 else 1.5 / p.shape[1] ** 0.5)).half().float())
        for i, layer in enumerate(model.model.layers):
            for path, theirs in LINEAR.items():
                parent = layer.get_submodule(path.rsplit(".", 1)[0])
                leaf = path.rsplit(".", 1)[1]
                linear = getattr(parent, leaf)
                heads = {"q_proj": c["heads"], "k_proj": c["kv"]}.get(leaf)
                order = (lambda v: pairs(v, heads)) if heads else (lambda v: v)
                weight = linear.weight.detach().numpy()
                if c["qtype"] == "F16":
                    data[f"blk.{i}.{theirs}.weight"] = order(weight).astype(np.float16), None
                else:
                    packed = gguf.quantize(weight, kind)
                    setattr(parent, leaf, Int8Linear(torch.from_numpy(gguf.dequantize(packed, kind).copy())))
                    data[f"blk.{i}.{theirs}.weight"] = gguf.quantize(order(weight).copy(), kind), kind
                if c["bias"] and linear.bias is not None:
                    data[f"blk.{i}.{theirs}.bias"] = order(linear.bias.detach().numpy()).copy(), None
    return model, data


def write_gguf(path, c, model, data):
    w = gguf.GGUFWriter(path, "llama")
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
    w.add_tensor("token_embd.weight", model.model.embed_tokens.weight.detach().half().numpy())
    w.add_tensor("output_norm.weight", model.model.norm.weight.detach().numpy())
    w.add_tensor("output.weight", model.lm_head.weight.detach().half().numpy())
    for i, layer in enumerate(model.model.layers):
        for ours, theirs in NORMS.items():
            w.add_tensor(f"blk.{i}.{theirs}.weight", layer.get_submodule(ours).weight.detach().numpy())
    for name, (values, kind) in data.items():
        w.add_tensor(name, values, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    for name, c in CASES.items():
        model, data = build(c)
        ids = torch.randint(0, c["vocab"], (1, 40), generator=torch.Generator().manual_seed(c["seed"]))
        with torch.no_grad():
            logits = model(ids).logits[0].numpy().astype(np.float32)
        write_gguf(HERE / f"{name}.gguf", c, model, data)
        np.save(HERE / f"{name}.npy", logits)
        (HERE / f"{name}.ids").write_text(",".join(map(str, ids[0].tolist())) + "\n")
        print(name, "logits std", logits.std())


if __name__ == "__main__":
    main()
