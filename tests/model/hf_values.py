"""Prints the table of tests/model/hf.c: what numpy reads from ../shared/data/golden, by methods.md 1.1 and 2.1.

    python3 tests/model/hf_values.py ../shared/data/golden > tests/model/hf_values.inc     (numpy, safetensors, torch)"""

import json
import pathlib
import sys

import numpy as np
from safetensors import safe_open

ROOT = pathlib.Path(sys.argv[1])
PARTS = (("MODEL_ATTN_Q", "self_attn.q_proj"), ("MODEL_ATTN_OUT", "self_attn.o_proj"),
         ("MODEL_FFN_DOWN", "mlp.down_proj"))


def checksum(values):
    """Position-dependent, exact in double: sum of v * (1 + (7 row + 3 col) % 11) over integers."""
    rows, cols = np.indices(values.shape)
    return int((values.astype(np.int64) * (1 + (7 * rows + 3 * cols) % 11)).sum())


def trits_of(file, name, quant):
    w = file.get_tensor(name + ".weight")
    if quant is None:
        return None, 0.0, w.float().numpy()
    if quant["quantization_mode"] == "online":
        w = w.float().numpy()
        g = np.float32(max(np.abs(w.astype(np.float64)).mean(), 1e-5))
        return np.clip(np.rint(w / g), -1, 1), g, w
    packed = w.numpy()
    trits = np.concatenate([(packed >> 2 * i & 3).astype(np.int8) - 1 for i in range(4)])
    scale = float(file.get_tensor(name + ".weight_scale").float())
    return trits, np.float32(scale if quant["linear_class"] == "autobitlinear" else 1 / scale), None


for path in sorted(ROOT.iterdir()):
    config = json.loads((path / "config.json").read_text())
    with safe_open(path / "model.safetensors", "pt") as file:
        last = config["num_hidden_layers"] - 1
        for which, part in PARTS:
            trits, scale, floats = trits_of(file, f"model.layers.{last}.{part}",
                                            config.get("quantization_config"))
            total = 0 if trits is None else checksum(trits)
            corner = 0.0 if floats is None else float(floats[-1, -1])
            shape = trits.shape if trits is not None else floats.shape
            print(f'{{"{path.name}", {last}, {which}, {shape[0]}, {shape[1]}, {float(scale).hex()}, '
                  f'{total}, {corner.hex()}}},')
