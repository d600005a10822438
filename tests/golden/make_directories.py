#!/usr/bin/env python3
"""Makes tiny Hugging Face directories with settings that few published models have, and what transformers
answers to them: a norm of its own in front of every ternary matrix (use_rms_norm), biases of all matrices.

Run by hand when a case is added; the outputs (small) are committed, so the test needs neither Python packages
nor a network. Needs: torch, transformers, safetensors, numpy.

    python3 make_directories.py     writes directories/<case>/{config.json,model.safetensors,logits.npy,ids}

The layers are transformers' own AutoBitLinear and BitLinear in its Llama model, in float32.
"""
import os

os.environ["TORCHDYNAMO_DISABLE"] = "1"
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BitNetQuantConfig, LlamaConfig, LlamaForCausalLM
from transformers.integrations.bitnet import AutoBitLinear, BitLinear, pack_weights, replace_with_bitnet_linear

OUT = pathlib.Path(__file__).parent / "directories"
# An epsilon far from the model's own 1e-5, so that taking one for the other shows.
CASES = {
    "rms-online": dict(quant=dict(linear_class="autobitlinear", quantization_mode="online", use_rms_norm=True,
                                  rms_norm_eps=3e-3), bias=False, seed=1),
    "rms-packed": dict(quant=dict(linear_class="bitlinear", use_rms_norm=True, rms_norm_eps=3e-3), bias=True,
                       seed=2),
    "bias-offline": dict(quant=dict(linear_class="autobitlinear", quantization_mode="offline"), bias=True, seed=3),
}


def fill(model, c):
    """Random weights, and the tensors of the file where they differ from those of the model."""
    stored = {}
    with torch.no_grad():
        for name, p in list(model.named_parameters()):
            if "norm" in name:
                p.copy_((1 + 0.2 * torch.randn_like(p)).bfloat16().float())
            elif name.endswith("bias"):
                p.copy_((0.3 * torch.randn_like(p)).bfloat16().float())
            elif "proj" not in name:
                p.copy_((0.5 * torch.randn_like(p)).bfloat16().float())
        for name, m in model.named_modules():
            if not isinstance(m, (AutoBitLinear, BitLinear)):
                continue
            if isinstance(m, AutoBitLinear) and m.online_quant:
                m.weight.copy_((0.05 * torch.randn_like(m.weight)).bfloat16().float())
                continue
            trits = torch.randint(-1, 2, (m.out_features, m.in_features)).float()
            scale = 0.02 + 0.05 * torch.rand(1).item()
            packed = pack_weights(trits.clone())
            if isinstance(m, AutoBitLinear):
                m.weight.copy_(trits)
                m.weight_scale.fill_(scale)
                stored[f"{name}.weight"] = packed
            else:
                m.weight.copy_(packed)
                m.weight_scale.fill_(1 / scale)  # BitLinear divides by it
                if m.bias is not None:
                    m.bias.copy_((0.3 * torch.randn_like(m.bias)).bfloat16().float())
    return stored


def main():
    for case, c in CASES.items():
        torch.manual_seed(c["seed"])
        config = LlamaConfig(
            vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=False,
            attention_bias=c["bias"], mlp_bias=c["bias"], bos_token_id=1, eos_token_id=2,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")
        quant = BitNetQuantConfig(modules_to_not_convert=["lm_head"], **c["quant"])
        model = replace_with_bitnet_linear(LlamaForCausalLM(config), ["lm_head"], quant)
        for name, m in model.named_modules():  # made without memory
            if isinstance(m, (AutoBitLinear, BitLinear)):
                m.to_empty(device="cpu")
                m.dtype = torch.float32
        model = model.float().eval()
        stored = fill(model, c)
        tensors = {}
        for name, t in model.state_dict().items():
            t = stored.get(name, t)
            whole = t.dtype == torch.uint8 or name.endswith("weight_scale")
            assert whole or torch.equal(t, t.bfloat16().float()), name
            tensors[name] = t.contiguous() if whole else t.bfloat16().contiguous()
        folder = OUT / case
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(folder / "model.safetensors"))
        keys = config.to_dict()
        keys["architectures"] = ["LlamaForCausalLM"]
        keys["quantization_config"] = {"quant_method": "bitnet", "modules_to_not_convert": ["lm_head"], **c["quant"]}
        (folder / "config.json").write_text(json.dumps(keys, indent=1) + "\n")
        ids = torch.randint(0, 96, (1, 40), generator=torch.Generator().manual_seed(c["seed"]))
        with torch.no_grad():
            logits = model(ids).logits[0].numpy().astype(np.float32)
        np.save(folder / "logits.npy", logits)
        (folder / "ids").write_text(",".join(map(str, ids[0].tolist())) + "\n")
        print(case, "logits std", logits.std(), "top", logits.argmax(1)[:8])


if __name__ == "__main__":
    main()
