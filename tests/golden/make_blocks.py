#!/usr/bin/env python3
"""Blocks of every stored type and what the gguf package makes of them, for tests/model/types.c.

    python3 -m venv v && v/bin/pip install gguf==0.19.0 && v/bin/python tests/golden/make_blocks.py

writes tests/golden/blocks/: TYPE.bin (stored bytes), TYPE.f32 (their values, little-endian floats), and
halves.{f32,f16,bf16}: floats and their rounding to half precision and to bfloat16."""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

OUT = pathlib.Path(__file__).resolve().parent / "blocks"


def save(name, stored):
    stored = np.ascontiguousarray(stored, dtype=np.uint8).reshape(-1)
    values = gguf.dequantize(stored.reshape(1, -1), T[name]).astype("<f4").reshape(-1)
    stored.tofile(OUT / f"{name}.bin")
    values.tofile(OUT / f"{name}.f32")


def main():
    OUT.mkdir(exist_ok=True)
    rng = np.random.default_rng(20261122)
    normal = rng.standard_normal(512).astype(np.float32)
    trits = rng.integers(-1, 2, (3, 256)).astype(np.float32)
    trits[1] = 0
    scaled = (trits * np.array([[0.0123], [1.0], [3.5]], dtype=np.float32)).astype(np.float32)

    save("F32", normal[:32].view(np.uint8))
    save("F16", normal[:32].astype(np.float16).view(np.uint8))
    save("BF16", gguf.quantize(normal[:32], T.BF16))
    save("Q8_0", gguf.quantize(normal[:96], T.Q8_0))
    save("TQ1_0", gguf.quantize(scaled, T.TQ1_0))
    save("TQ2_0", gguf.quantize(scaled, T.TQ2_0))
    q6 = rng.integers(0, 256, (3, 210)).astype(np.uint8)  # any bytes are a block, given a sane scale
    q6[:, 208:] = np.array([[0.01], [-2.0], [6e-8]], dtype=np.float16).view(np.uint8)
    save("Q6_K", q6)

    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        save(name, gguf.quantize(normal[96:192], T[name]))
    # Any bytes are a block; scales (half precision, by their places) must be sane.
    for name, size, places in (("Q2_K", 84, (80, 82)), ("Q3_K", 110, (108,)), ("Q4_K", 144, (0, 2)),
                               ("Q5_K", 176, (0, 2))):
        blocks = rng.integers(0, 256, (3, size)).astype(np.uint8)
        for at in places:
            scale = rng.standard_normal((3, 1)) * np.array([[0.01], [2.0], [1e-7]])
            blocks[:, at:at + 2] = scale.astype(np.float16).view(np.uint8)
        save(name, blocks)
    # bitnet.cpp's layouts of one row; the scale is kept apart.
    for name, block in (("I2_S", 128), ("I2_S_64", 64)):
        codes = (trits.reshape(-1, 4, block // 4) + 1).astype(np.uint8)  # [block][pair of bits][byte]
        stored = codes[:, 0] << 6 | codes[:, 1] << 4 | codes[:, 2] << 2 | codes[:, 3]
        stored.tofile(OUT / f"{name}.bin")
        (trits * np.float32(0.75)).astype("<f4").tofile(OUT / f"{name}.f32")

    halves = np.concatenate([
        normal[:64], normal[64:96] * 1e-5, normal[96:112] * 3e-8, normal[112:128] * 4e4,
        np.array([0.0, -0.0, 1.0, 65504, 65519.99, 65520, 1e38, -1e38, np.inf, -np.inf, 2.0**-24,
                  2.0**-25, 2.0**-25 * 1.0001, 2.0**-14, 2.0**-14 - 2.0**-25, 2049, 2051, 1e-40,
                  1 + 2.0**-8, 1 + 3 * 2.0**-8], dtype=np.float32)]).astype("<f4")
    halves.tofile(OUT / "halves.f32")
    with np.errstate(over="ignore"):
        halves.astype("<f2").tofile(OUT / "halves.f16")
    finite = halves.copy()
    finite[1e-38 > np.abs(finite)] = 0  # the test leaves these out: the package flushes subnormals
    gguf.quantize(finite, T.BF16).tofile(OUT / "halves.bf16")


main()
