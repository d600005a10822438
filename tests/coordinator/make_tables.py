#!/usr/bin/env python3
"""Makes the tables that detmath.c and sampler.c are tested with, in plain Python with 60 digits.

    python3 make_tables.py                  writes ../base/detmath.table, sampler.table

detmath.table: "exp|log X Y", hexadecimal floats, Y the double nearest to the true value.
sampler.table, a case:
    case TEMP TOP_K TOP_P MIN_P REPEAT PRESENCE FREQUENCY LAST_N TYPICAL ORDER
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


def detmath():
    rng = random.Random(1)
    with open(HERE.parent / "base/detmath.table", "w", encoding="ascii") as f:
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


DEFAULT = "penalties;top_k;typ_p;top_p;min_p;temperature"


def penalties(logits, history, p):
    recent = history[-p["last_n"]:] if p["last_n"] > 0 else history if p["last_n"] < 0 else []
    out = {}
    for i, v in logits.items():
        count = recent.count(i)
        if count:
            v = D(v) / D(p["repeat"]) if v > 0 else D(v) * D(p["repeat"])
            v -= count * D(p["frequency"]) + D(p["presence"])
        out[i] = f32(float(v))
    return out


def softmax(logits):
    """Probabilities, and the candidates in order."""
    order = sorted(logits, key=lambda i: (-logits[i], i))
    weight = {i: (D(logits[i]) - D(logits[order[0]])).exp() for i in order}
    total = sum(weight.values())
    return order, {i: w / total for i, w in weight.items()}


def cut(stage, logits, p):
    order, prob = softmax(logits)
    running, kept = D(0), []
    if stage == "top_k":
        kept = order[:p["top_k"]] if p["top_k"] > 0 else order
    elif stage == "typ_p":
        entropy = -sum(q * q.ln() for q in prob.values() if q > 0)
        near = sorted(order, key=lambda i: (abs(-prob[i].ln() - entropy), order.index(i)))
        for i in near:
            kept.append(i)
            running += prob[i]
            if running > D(p["typical"]):
                break
    elif stage == "top_p":
        for i in order:
            kept.append(i)
            running += prob[i]
            if running >= D(p["top_p"]):
                break
    else:
        kept = [i for n, i in enumerate(order)
                if n == 0 or prob[i] >= D(p["min_p"]) * prob[order[0]]]
    return {i: logits[i] for i in kept}


def chain(logits, history, p):
    logits = dict(enumerate(logits))
    for stage in p["order"].split(";"):
        if stage == "penalties":
            logits = penalties(logits, history, p)
        elif stage == "temperature":
            if p["temp"] <= 0:
                best = softmax(logits)[0][0]
                logits = {best: logits[best]}
            else:
                logits = {i: D(v) / D(p["temp"]) for i, v in logits.items()}
        elif (p["typical"] < 1 if stage == "typ_p" else p["top_p"] < 1 if stage == "top_p"
              else True):
            logits = cut(stage, logits, p)
    order, prob = softmax(logits)
    return [(i, prob[i]) for i in order]


NAMES = ("temp", "top_k", "top_p", "min_p", "repeat", "presence", "frequency", "last_n", "typical",
         "order")


def sampler():
    rng = random.Random(2)
    params = [(0.8, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 64), (1.0, 0, 1.0, 0.0, 1.0, 0.0, 0.0, 64),
              (0.0, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 64), (0.0, 40, 0.95, 0.05, 1.5, 0.5, 0.25, -1),
              (1.0, 5, 1.0, 0.0, 1.0, 0.0, 0.0, 64), (1.0, 0, 0.5, 0.0, 1.0, 0.0, 0.0, 64),
              (1.0, 0, 1.0, 0.2, 1.0, 0.0, 0.0, 64), (2.5, 10, 0.9, 0.01, 1.1, 0.0, 0.0, 8),
              (0.3, 0, 0.99, 0.0, 1.3, 0.7, 0.2, -1), (1.0, 1, 0.9, 0.0, 1.0, 0.0, 0.0, 0),
              (1.5, 300, 0.999, 0.001, 1.2, -0.3, 0.1, 16), (1.0, 0, 0.0, 0.0, 1.0, 0.0, 0.0, 0)]
    params = [row + (1.0, DEFAULT) for row in params]
    typical = [(1.0, 0, 1.0, 0.0, 1.0, 0.0, 0.0, 64), (0.8, 40, 0.95, 0.05, 1.2, 0.0, 0.0, 64),
               (0.0, 40, 0.95, 0.05, 1.0, 0.0, 0.0, 64), (2.0, 20, 0.8, 0.0, 1.0, 0.5, 0.1, -1)]
    params += [row + (t, DEFAULT) for row in typical for t in (0.2, 0.5, 0.9, 0.0)]
    orders = ["temperature;min_p;top_p;typ_p;top_k;penalties", "top_k;penalties;temperature",
              "temperature;penalties;top_p", "min_p;top_k;penalties;temperature;typ_p",
              "top_p;temperature;top_k", "temperature", "top_k", "penalties;typ_p;min_p",
              "top_k;typ_p;top_p;min_p;temperature"]
    params += [(0.7, 12, 0.8, 0.02, 1.3, 0.2, 0.1, 16, 0.7, order) for order in orders]
    params += [(0.0, 12, 0.8, 0.02, 1.3, 0.2, 0.1, 16, 0.7, order) for order in orders]
    with open(HERE / "sampler.table", "w", encoding="ascii") as f:
        for row in params:
            row = tuple(f32(v) if isinstance(v, float) else v for v in row)
            sizes = ((30, 3, 0), (120, 2, 0), (60, 2, 0.5))  # the last: ties
            for n, spread, step in sizes if row[8:] == (1.0, DEFAULT) else ((30, 2, 0), (24, 2, 0.5)):
                logits = [f32(rng.gauss(0, spread)) for _ in range(n)]
                if step:
                    logits = [round(v / step) * step for v in logits]
                history = [rng.randrange(n // 2) for _ in range(30)]
                left = chain(logits, history, dict(zip(NAMES, row)))
                f.write("case " + " ".join(str(v) for v in row) + "\n")
                f.write("logits " + " ".join(v.hex() for v in logits) + "\n")
                f.write("history " + " ".join(str(i) for i in history) + "\n")
                f.write("left " + " ".join(f"{i}:{float(p)!r}" for i, p in left) + "\n")


detmath()
sampler()
