#!/usr/bin/env python3
"""Makes directories as transformers' own save_pretrained writes them, and what transformers answers.

Run by hand when a case is added; the outputs (small) are committed beside it, so the test needs no Python
packages. Needs: torch, transformers, accelerate, tokenizers, numpy.

    python3 make_saved.py                        writes saved/<case>/ and saved/<case>.json, .npy
    python3 make_saved.py --width 256 --out DIR  wider ones, whose rows fill the blocks of TQ1_0 and TQ2_0

Each model first learns a short text by heart, so that its greedy continuation hangs on no tie: the smallest
gap between the first two logits along the way, as transformers sees it, is kept in <case>.json. A directory
is loaded again by from_pretrained in float32 before it is asked, so the answers belong to the files.
"""
import argparse
import json
import os
import pathlib

os.environ["TORCHDYNAMO_DISABLE"] = "1"

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (AutoModelForCausalLM, BitNetConfig, BitNetForCausalLM, BitNetQuantConfig, LlamaConfig,
                          LlamaForCausalLM, PreTrainedTokenizerFast)
from transformers.integrations.bitnet import AutoBitLinear, BitLinear, pack_weights, replace_with_bitnet_linear

TEXT = ("The brown hen lived by the old barn. Every morning she walked down to the river to look at the boats. "
        "One day a small boat stopped, and a boy asked her for an egg. She gave him two, and he sang her a song.")
PROMPT = "The brown hen"
N_GREEDY = 48
N_LOGITS = 12
VOCAB = 280
# how: None dense | online | packed (BitLinear, the scale divides) | offline (AutoBitLinear, the scale multiplies)
CASES = {
    "bitnet-packed": dict(arch="bitnet", how="packed", dtype=torch.bfloat16, seed=1),
    "bitnet-offline": dict(arch="bitnet", how="offline", dtype=torch.bfloat16, seed=2, layers=1),
    "bitnet-online": dict(arch="bitnet", how="online", dtype=torch.bfloat16, seed=3, layers=1),
    "llama-packed": dict(arch="llama", how="packed", dtype=torch.float16, seed=4),
    "llama-dense-shards": dict(arch="llama", how=None, dtype=torch.bfloat16, seed=5, shard="20KB", layers=1),
}


def tokenizer():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>")


def config_of(case, width, tok):
    common = dict(
        vocab_size=len(tok), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=case.get("layers", 2),
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=tok.bos_token_id, eos_token_id=tok.eos_token_id, pad_token_id=None,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")
    if case["arch"] == "bitnet":  # SiLU, since llama.cpp's graph for the sub-norms knows no other
        return BitNetConfig(hidden_act="silu", **common)
    return LlamaConfig(hidden_act="silu", head_dim=width // 4, **common)


def learn(model, ids, steps=250):
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.OneCycleLR(opt, 6e-3, total_steps=steps)
    model.train()
    for _ in range(steps):
        loss = model(ids, labels=ids).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        rate.step()
    model.eval()
    return loss.item()


def ternary(model, how, dtype):
    """The online layers of a trained model, as the class that holds trits."""
    for name, old in list(model.named_modules()):
        if not isinstance(old, AutoBitLinear):
            continue
        weight = old.weight.detach().float()
        mean = weight.abs().mean().clamp(min=1e-5)
        trits = (weight / mean).round().clamp(-1, 1)
        rows, cols = weight.shape[0], weight.shape[1]
        if how == "packed":
            new = BitLinear(cols, rows, False, dtype=dtype)
            new.weight = pack_weights(trits)
            new.weight_scale = (1 / mean).reshape(1).to(dtype)
        else:
            new = AutoBitLinear(cols, rows, bias=False, dtype=dtype, online_quant=False)
            new.weight.data = trits.to(dtype)
            new.weight_scale = mean.reshape(1).to(dtype)
        model.set_submodule(name, new)


def make(case, width, tok, folder):
    torch.manual_seed(case["seed"])
    config = config_of(case, width, tok)
    model = (BitNetForCausalLM if case["arch"] == "bitnet" else LlamaForCausalLM)(config).float()
    how = case["how"]
    if how:
        online = BitNetQuantConfig(linear_class="autobitlinear", quantization_mode="online")
        masters = {n: m.weight.detach().clone() for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        replace_with_bitnet_linear(model, modules_to_not_convert=["lm_head"], quantization_config=online)
        for n, m in model.named_modules():
            if isinstance(m, AutoBitLinear):
                m.weight = torch.nn.Parameter(masters[n])
    ids = torch.tensor([tok.encode(TEXT)])
    loss = learn(model, ids)
    if how in ("packed", "offline"):
        ternary(model, how, case["dtype"])
    model = model.to(case["dtype"])
    model.config.dtype = case["dtype"]
    if how:
        model.config.quantization_config = BitNetQuantConfig(
            linear_class="bitlinear" if how == "packed" else "autobitlinear",
            quantization_mode="online" if how == "online" else "offline").to_dict()
    model.save_pretrained(folder, max_shard_size=case.get("shard", "5GB"))
    tok.save_pretrained(folder)
    return loss


def ask(folder, tok, out):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for m in model.modules():
        if isinstance(m, BitLinear):  # computes in the type that it was made with
            m.dtype = torch.float32
    for x in [*model.parameters(), *model.buffers()]:  # its trits and their scale stay as they lay in the file
        if x.is_floating_point():
            x.data = x.data.float()
    prompt = tok.encode(PROMPT)
    ids, gap = list(prompt), float("inf")
    with torch.no_grad():
        for _ in range(N_GREEDY):
            row = model(torch.tensor([ids])).logits[0, -1]
            top = row.topk(2)
            gap = min(gap, (top.values[0] - top.values[1]).item())
            ids.append(top.indices[0].item())
        logits = model(torch.tensor([ids[:N_LOGITS]])).logits[0].numpy().astype(np.float32)
    np.save(out.with_suffix(".npy"), logits)
    greedy = ids[len(prompt):]
    out.with_suffix(".json").write_text(json.dumps(
        {"ids": ids[:N_LOGITS], "prompt": PROMPT, "prompt_ids": prompt, "greedy": greedy,
         "text": tok.decode(greedy), "smallest_gap": round(gap, 3)}) + "\n")
    return gap, logits.std(), tok.decode(greedy)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--width", type=int, default=32)
    args.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "saved")
    args.add_argument("--case", choices=CASES)
    args = args.parse_args()
    tok = tokenizer()
    for name, case in CASES.items():
        if args.case in (None, name):
            loss = make(case, args.width, tok, args.out / name)
            gap, std, text = ask(args.out / name, tok, args.out / name)
            print(f"{name}: loss {loss:.3f}, logits std {std:.2f}, smallest gap {gap:.2f}: {text!r}", flush=True)


if __name__ == "__main__":
    main()
