"""Prints the table of tests/model/rope.c: the formulas of transformers 5.23 (modeling_rope_utils.py) in double.

    python3 tests/model/rope_values.py > tests/model/rope_values.inc"""

import math


def default(dims, base):
    return [base ** (-2 * j / dims) for j in range(dims // 2)]


def llama3(dims, base, factor, original, low, high):
    out = []
    for freq in default(dims, base):
        wavelen = 2 * math.pi / freq
        if wavelen < original / high:
            out.append(freq)
        elif wavelen > original / low:
            out.append(freq / factor)
        else:
            smooth = (original / wavelen - low) / (high - low)
            out.append((1 - smooth) * freq / factor + smooth * freq)
    return out


def yarn(dims, base, factor, original, fast=32, slow=1, truncate=True):
    def pair(turns):
        return dims * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = pair(fast), pair(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    if low == high:
        high += 0.001
    out = []
    for j, freq in enumerate(default(dims, base)):
        extra = 1 - min(max((j - low) / (high - low), 0), 1)
        out.append(freq / factor * (1 - extra) + freq * extra)
    return out


def row(name, dims, base, scaling, freq, magnitude=1.0):
    picks = [freq[i] for i in (0, dims // 8, dims // 4, 3 * dims // 8, dims // 2 - 1)]
    print(f'{{"{name}", {dims}, {base!r}, {{{scaling}}},\n '
          f'{{{", ".join(f"{v:.17g}" for v in picks)}}}, {magnitude:.17g}}},')


row("default", 128, 500000.0, ".kind = MODEL_SCALING_NONE", default(128, 500000))
row("heads of 96", 96, 10000.0, ".kind = MODEL_SCALING_NONE", default(96, 10000))
row("linear", 64, 10000.0, ".kind = MODEL_SCALING_LINEAR, .factor = 4",
    [f / 4 for f in default(64, 10000)])
for original in (128, 8192):
    row(f"llama3 {original}", 32, 500000.0, f".kind = MODEL_SCALING_LLAMA3, .factor = 8, "
        f".original_context = {original},\n .low_freq_factor = 1, .high_freq_factor = 4",
        llama3(32, 500000, 8, original, 1, 4))
row("yarn", 128, 1000000.0, ".kind = MODEL_SCALING_YARN, .factor = 4, .original_context = 32768",
    yarn(128, 1000000, 4, 32768), 0.1 * math.log(4) + 1)
row("yarn, numbers", 64, 10000.0, ".kind = MODEL_SCALING_YARN, .factor = 16, .original_context = 2048,\n"
    " .beta_fast = 24, .beta_slow = 2, .magnitude = 1.5, .untruncated = true",
    yarn(64, 10000, 16, 2048, 24, 2, False), 1.5)
