#!/usr/bin/env python3
"""Blocks of the dense types and what the gguf package makes of them, for tests/kernels/ref.c.

    python3 -m venv v && v/bin/pip install gguf==0.19.0 && v/bin/python tests/golden/dense/make.py

writes beside itself TYPE.bin (stored bytes) and TYPE.f32 (their values, little-endian floats). Any bytes are a block, so
these are random but for the halves: scales and minima of every size, either sign, subnormal and zero."""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

OUT = pathlib.Path(__file__).resolve().parent
HALVES = np.array([0.0123, -0.37, 1.0, 6e-8, 65504, -3e-5, 0.0, 2.71], dtype=np.float16).view(np.uint8).reshape(-1, 2)
AT = {  # bytes of a block where its halves begin
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "TQ1_0": [52], "TQ2_0": [64],
}


def main():
    rng = np.random.default_rng(20261122)
    for name, at in AT.items():
        block, size = gguf.GGML_QUANT_SIZES[T[name]]
        n = 8 if block == 256 else 24
        stored = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for i, byte in enumerate(at):
            stored[:, byte:byte + 2] = HALVES[(np.arange(n) * (1 + 2 * i) + i) % len(HALVES)]
        values = gguf.dequantize(stored.reshape(1, -1), T[name]).astype("<f4")
        stored.tofile(OUT / f"{name}.bin")
        values.tofile(OUT / f"{name}.f32")


main()
