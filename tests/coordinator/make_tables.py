#!/usr/bin/env python3
"""Makes the tables that exact_math.c and sampler.c are tested with, in plain Python with 60 digits.

    python3 make_tables.py                  writes exact_math.table, sampler.table

exact_math.table: "exp|log X Y", hexadecimal floats, Y the double nearest to the true value.
sampler.table, a case:
    case TEMP TOP_K TOP_P MIN_P REPEAT PRESENCE FREQUENCY LAST_N
    logits V...         float32, hexadecimal
    history ID...
    left ID:PROBABILITY ...    the candidates of the chain, in order
Penalties are rounded to float32, as sampler.h says; everything after that is exact.
"""
import decimal
import pathlib
import random
import struct

HERE = pathlib.Path(__file__).parent
D = decimal.Decimal
decimal.getcontext().prec = 60


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def exact_math():
    rng = random.Random(1)
    with open(HERE / "exact_math.table", "w", encoding="ascii") as f:
        xs = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-300, -1e-18, 709.7, -708.0, 0.34657359, -0.34657359]
        xs += [rng.uniform(-708, 709) for _ in range(200)]
        xs += [rng.uniform(-2, 2) for _ in range(200)] + [-abs(rng.gauss(0, 8)) for _ in range(200)]
        for x in xs:
            f.write(f"exp {x.hex()} {float(D(x).exp()).hex()}\n")
        xs = [1.0, 2.0, 0.5, 1e-308, 5e-324, 1.7e308, 1 + 2**-52, 1 - 2**-53, 1.4142135623730951]
        xs += [rng.uniform(0.5, 2) for _ in range(200)] + [rng.uniform(0, 3e5) for _ in range(200)]
        xs += [10 ** rng.uniform(-300, 300) for _ in range(200)]
        for x in xs:
            f.write(f"log {x.hex()} {float(D(x).ln()).hex()}\n")


def chain(logits, history, temp, top_k, top_p, min_p, repeat, presence, frequency, last_n):
    recent = history[-last_n:] if last_n > 0 else history if last_n < 0 else []
    adjusted = []
    for i, v in enumerate(logits):
        count = recent.count(i)
        if count:
            v = v / repeat if v > 0 else v * repeat
            v = f32(v - (count * frequency + presence))
        adjusted.append(v)
    order = sorted(range(len(logits)), key=lambda i: (-adjusted[i], i))
    if temp <= 0:
        return [(order[0], D(1))]
    if top_k > 0:
        order = order[:top_k]
    top = D(adjusted[order[0]])
    weight = {i: (D(adjusted[i]) - top).exp() for i in order}
    if top_p < 1:
        total, running, kept = sum(weight.values()), D(0), []
        for i in order:
            kept.append(i)
            running += weight[i]
            if running >= D(top_p) * total:
                break
        order = kept
    if min_p > 0:
        order = [i for n, i in enumerate(order) if n == 0 or weight[i] >= D(min_p)]
    weight = {i: ((D(adjusted[i]) - top) / D(temp)).exp() for i in order}
    total = sum(weight.values())
    return [(i, weight[i] / total) for i in order]


def sampler():
    rng = random.Random(2)
    params = [(0.8, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 64), (1.0, 0, 1.0, 0.0, 1.0, 0.0, 0.0, 64),
              (0.0, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 64), (0.0, 40, 0.95, 0.05, 1.5, 0.5, 0.25, -1),
              (1.0, 5, 1.0, 0.0, 1.0, 0.0, 0.0, 64), (1.0, 0, 0.5, 0.0, 1.0, 0.0, 0.0, 64),
              (1.0, 0, 1.0, 0.2, 1.0, 0.0, 0.0, 64), (2.5, 10, 0.9, 0.01, 1.1, 0.0, 0.0, 8),
              (0.3, 0, 0.99, 0.0, 1.3, 0.7, 0.2, -1), (1.0, 1, 0.9, 0.0, 1.0, 0.0, 0.0, 0),
              (1.5, 300, 0.999, 0.001, 1.2, -0.3, 0.1, 16), (1.0, 0, 0.0, 0.0, 1.0, 0.0, 0.0, 0)]
    with open(HERE / "sampler.table", "w", encoding="ascii") as f:
        for row in params:
            row = tuple(f32(v) if isinstance(v, float) else v for v in row)
            for n, spread, step in ((30, 3, 0), (120, 2, 0), (60, 2, 0.5)):  # the last: ties
                logits = [f32(rng.gauss(0, spread)) for _ in range(n)]
                if step:
                    logits = [round(v / step) * step for v in logits]
                history = [rng.randrange(n // 2) for _ in range(30)]
                left = chain(logits, history, *row)
                f.write("case " + " ".join(str(v) for v in row) + "\n")
                f.write("logits " + " ".join(v.hex() for v in logits) + "\n")
                f.write("history " + " ".join(str(i) for i in history) + "\n")
                f.write("left " + " ".join(f"{i}:{float(p)!r}" for i, p in left) + "\n")


exact_math()
sampler()
