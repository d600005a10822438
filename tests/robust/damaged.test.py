# Damaged GGUF files and split sets: exit status 3, a message that names file and field.
# timeout: 300
# labels: mpi
"""300 variants of each (tests/support/damage.py): cut, fields of header, keys and directory aimed at, random bytes."""
import os
import pathlib
import random
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme
import damage
from damage import EITHER, REFUSED, SAME, Gguf, replaced

MODEL = trireme.GOLDEN / "transformers/silu-tq2.gguf"
NAME = "damaged.gguf"
EVAL = ["eval", "-m", "{m}", "--ids", "1,2,3", "--logits", "{d}/x.npy", "-t", "1", "-q"]
INSPECT = ["inspect", "-m", "{m}", "--tensors", "--json"]


def u64(value):
    return struct.pack("<Q", value)


def u32(value):
    return struct.pack("<I", value)


def header(data):
    for at, what in ((8, "number of tensors"), (16, "number of keys")):
        for value in (2**64 - 1, 2**63 - 1, 2**63, 2**32, 2**31 - 1, 2**20):
            yield f"{what} = {value}", replaced(data, at, u64(value)), (what,)
    for value in (0, 1, 4, 99, 2**31, 2**32 - 1, 0x03000000):
        yield f"version = {value}", replaced(data, 4, u32(value)), ("version",)
    for magic in (b"FUGG", b"GGML", b"PK\3\4", b"tjgg", b"<htm", b"vers", b"\0\0\0\0", b"gguf"):
        yield f"magic = {magic}", replaced(data, 0, magic), ("GGUF",)


def keys(data, g):
    """Each key damaged in each way."""
    other = g.keys[0]
    for name, at, value, end in g.keys:
        shown = name.decode()
        kind = struct.unpack_from("<I", data, value)[0]
        for n in (0, 2**64 - 1, 2**32, 70000):
            yield f"{shown}: name of {n} bytes", replaced(data, at, u64(n)), ("key",)
        yield f"{shown}: NUL in the name", replaced(data, at + 9, b"\0"), ("NUL",)
        for t in (13, 255, 2**32 - 1):
            yield f"{shown}: type {t}", replaced(data, value, u32(t)), (shown,)
        if len(name) == len(other[0]) and name != other[0]:
            yield f"{shown}: a name twice", replaced(data, at + 8, other[0]), ("twice",)
        if kind == 8:
            for n in (2**64 - 1, 2**63, 2**28 + 1):
                yield f"{shown}: text of {n} bytes", replaced(data, value + 4, u64(n)), ("string",)
        if kind == 9:
            for n in (2**64 - 1, 2**63, 2**61, 2**32):
                yield f"{shown}: array of {n}", replaced(data, value + 8, u64(n)), (shown, "string")
            yield f"{shown}: array of arrays", replaced(data, value + 4, u32(9)), (shown,)
        if kind in (4, 5) and b"block_count" in name:
            for n in (0, 3, 1025, 2**31, 2**32 - 1):
                yield f"{shown} = {n}", replaced(data, value + 4, u32(n)), ("blk.", "block_count", "layers")
        if kind == 4 and (b"head_count" in name or b"_length" in name) and b"context" not in name:
            for n in (0, 2**31, 2**32 - 1, 7):
                yield f"{shown} = {n}", replaced(data, value + 4, u32(n)), damage_words(shown)
        if kind == 6 and (b"epsilon" in name or b"freq_base" in name):
            for text in ("nan", "inf", "-inf", "-1", "1e30"):
                yield f"{shown} = {text}", replaced(data, value + 4, struct.pack("<f", float(text))), \
                    damage_words(shown)
        if b"_token_id" in name and kind == 4:
            for n in (2**31, 2**32 - 1, 2**21):
                yield f"{shown} = {n}", replaced(data, value + 4, u32(n)), (shown,)


def damage_words(key):
    """What a message may call a key: its name, what it counts, or a tensor that contradicts it."""
    return (key, key.split(".")[-1], "tensor", "head", "norm epsilon", "RoPE", "dimension", "width")


def directory(data, g):
    """Each tensor's entry damaged in each way."""
    for i, (name, at, fields, end) in enumerate(g.tensors):
        shown = name.decode().removesuffix(".weight")
        n_dims = struct.unpack_from("<I", data, fields)[0]
        dims = fields + 4
        kind = dims + 8 * n_dims
        offset = struct.unpack_from("<Q", data, kind + 4)[0]
        for n in (0, 2**64 - 1, 256, 2**40):
            yield f"{shown}: name of {n} bytes", replaced(data, at, u64(n)), ("tensor's name",)
        yield f"{shown}: NUL in the name", replaced(data, at + 9, b"\0"), ("NUL",)
        yield f"{shown}: another name", replaced(data, at + 8, b"X"), (shown, "X" + shown[1:])
        for n in (0, 5, 2**31, 2**32 - 1):
            yield f"{shown}: {n} dimensions", replaced(data, fields, u32(n)), (shown,)
        for n in (0, 1, 2**63, 2**64 - 1, 2**40):
            yield f"{shown}: first dimension {n}", replaced(data, dims, u64(n)), (shown,)
        for n in (4, 37, 38, 64, 255, 2**32 - 1):
            yield f"{shown}: type {n}", replaced(data, kind, u32(n)), (shown,)
        for n in (offset + 1, 2**64 - 32, 2**63, 2**40):
            yield f"{shown}: offset {n}", replaced(data, kind + 4, u64(n)), (shown,)
        for k in (1, 2, 5):
            there = g.tensors[(i + k) % len(g.tensors)]
            n = struct.unpack_from("<Q", data, there[3] - 8)[0]
            yield f"{shown}: offset of {there[0].decode()}", replaced(data, kind + 4, u64(n)), ("overlap",)


def gguf_variants(data):
    g = Gguf(data)
    rng = random.Random(damage.SEED)
    fixed = [*damage.cuts(data, 64), *header(data)]
    fixed += rng.sample(list(keys(data, g)), 70)
    fixed += rng.sample(list(directory(data, g)), 69)
    fixed += damage.random_bytes(data, 60, rng, damage.judge_gguf, 0, g.data_at)
    fixed += damage.random_bytes(data, 10, random.Random(damage.SEED + 1),
                                 lambda a, b: EITHER, g.data_at)
    names = set()
    for name, body, expect in fixed:
        name += " (again)" if name in names else ""
        names.add(name)
        yield name, {NAME: body}, expect


# ---- a set of three files

PARTS = [f"damaged-{i + 1:05d}-of-00003.gguf" for i in range(3)]


def key_u16(key, value):
    return u64(len(key)) + key + u32(2) + struct.pack("<H", value)


def key_i32(key, value):
    return u64(len(key)) + key + u32(5) + struct.pack("<i", value)


def part(data, g, no, count, chosen, n_tensors):
    """One file: the keys (all in the first), those tensors, and their bytes."""
    mine = key_u16(b"split.no", no) + key_u16(b"split.count", count) + key_i32(b"split.tensors.count", n_tensors)
    body = data[24:g.tensors_at] if no == 0 else b""
    entries, blob = b"", b""
    starts = sorted(struct.unpack_from("<Q", data, t[3] - 8)[0] for t in g.tensors) + [len(data) - g.data_at]
    for i in chosen:
        name, at, fields, end = g.tensors[i]
        offset = struct.unpack_from("<Q", data, end - 8)[0]
        upto = starts[starts.index(offset) + 1]
        entries += data[at:end - 8] + u64(len(blob))
        blob += data[g.data_at + offset:g.data_at + upto]
        blob += b"\0" * (-len(blob) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(chosen), 3 + (len(g.keys) if no == 0 else 0)) + body + mine + entries
    return head + b"\0" * (-len(head) % 32) + blob


def split(data):
    g = Gguf(data)
    n = len(g.tensors)
    cut = [range(0, n // 3), range(n // 3, 2 * n // 3), range(2 * n // 3, n)]
    return {PARTS[i]: part(data, g, i, 3, cut[i], n) for i in range(3)}


def split_variants(data, sound):
    g = Gguf(data)
    n = len(g.tensors)
    rng = random.Random(damage.SEED + 2)
    whole = list(range(n))

    for i in (1, 2):
        p = PARTS[i]
        yield f"{p} is missing", {p: None}, (p,)
        yield f"{p} is empty", {p: b""}, (p,)
        yield f"{p} is a folder", {p: damage.folder}, (p,)
        yield f"{p} is a named pipe", {p: damage.fifo}, (p,)
        yield f"{p} is a link to nothing", {p: lambda path: path.symlink_to("nowhere.gguf")}, (p,)
        yield f"{p} is a link to itself", {p: lambda path: path.symlink_to(path.name)}, (p,)
        yield f"{p} is a device", {p: lambda path: path.symlink_to("/dev/zero")}, (p,)
        yield f"{p} is a link to its copy", {p: lambda path, b=sound[p]: linked(path, b)}, SAME
        yield f"{p} is the first part", {p: sound[PARTS[0]]}, ("split.no", "number")
        yield f"{p} is the whole model", {p: data}, ("split.no",)
        yield f"{p} is the other part", {p: sound[PARTS[3 - i]]}, ("number",)
        yield f"{p} has no tensors", {p: part(data, g, i, 3, [], n)}, ("split.tensors.count",)
        yield f"{p} has all tensors", {p: part(data, g, i, 3, whole, n)}, ("twice",)
        yield f"{p} has one of the first's", {p: part(data, g, i, 3, [0], n)}, ("twice",)
        for no in (0, 3 - i, 3, 1023, 65535):
            if no != i:
                yield f"{p} says it is number {no}", {p: part(data, g, no or 9, 3, [n - 1], n)}, \
                    ("split.no", "number")
        for count in (0, 1, 2, 4, 65535):
            yield f"{p} says there are {count}", {p: part(data, g, i, count, *split_rest(n, i))}, ("split.count",)
        for k in range(16):
            yield f"{p} cut at {k}/16", {p: sound[p][:len(sound[p]) * k // 16]}, (p,)
        gi = Gguf(sound[p])
        for name, body, expect in rng.sample(list(directory(sound[p], gi)), 32):
            yield f"{p}: {name}", {p: body}, expect
        for name, body, expect in damage.random_bytes(sound[p], 32, rng, damage.judge_gguf, 0, gi.data_at):
            yield f"{p}: {name}", {p: body}, expect
    p = PARTS[0]
    cut = list(range(n // 3))
    for count in (1, 2, 4, 1024, 1025, 65535):
        yield f"{p} says there are {count}", {p: part(data, g, 0, count, cut, n)}, \
            ("split.count", "set of", "missing", "of-000")
    for no in (1, 2, 65535):
        body = sound[p].replace(key_u16(b"split.no", 0), key_u16(b"split.no", no))
        yield f"{p} says it is number {no}", {p: body}, ("first", "split.no")
    body = sound[p].replace(key_u16(b"split.count", 3), u64(11) + b"split.count" + u32(7) + b"\1\0")
    yield f"{p}: split.count is a boolean", {p: body[:len(body)]}, REFUSED
    for total in (0, n - 1, n + 1, -1, 2**31 - 1):
        body = sound[p].replace(key_i32(b"split.tensors.count", n), key_i32(b"split.tensors.count", total))
        yield f"{p} says there are {total} tensors", {p: body}, ("split.tensors.count",)
    for k in range(16):
        yield f"{p} cut at {k}/16", {p: sound[p][:len(sound[p]) * k // 16]}, (p,)
    g0 = Gguf(sound[p])
    rest = [(f"{p}: {name}", {p: body}, expect) for name, body, expect in
            [*directory(sound[p], g0), *keys(sound[p], g0)] if b"split" not in name.encode()]
    seen = set()
    rest = [v for v in rest if not (v[0] in seen or seen.add(v[0]))]
    yield from rng.sample(rest, 61)


def split_rest(n, i):
    return (range(n // 3, 2 * n // 3) if i == 1 else range(2 * n // 3, n)), n


def linked(path, data):
    copy = path.with_name("copy.of.part")
    copy.write_bytes(data)
    path.symlink_to(copy.name)


data = MODEL.read_bytes()
bench = damage.Bench("GGUF", {NAME: data}, NAME, INSPECT, [(EVAL, 1, 4), (EVAL, 3, 25)], EVAL)
bench.check(gguf_variants(data))
parts = split(data)
bench = damage.Bench("split GGUF", parts, PARTS[0], INSPECT, [(EVAL, 1, 6), (EVAL, 3, 40)], EVAL)
with_rest = list(split_variants(data, parts))
bench.check(with_rest)
