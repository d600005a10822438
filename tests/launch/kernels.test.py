# sanitize: no
# timeout: 300
"""bench --kernels: valid JSON, every heavy row of kernel_list.inc that this CPU runs, figures that
agree with each other and with the layouts' bits per weight."""

import csv
import json
import math
import os
import platform
import re
import subprocess

TRIREME = os.environ["TRIREME"]
SOURCE = os.environ["TRIREME_SOURCE"]
# Bits a weight with its scales: the blocks of GGUF, the layouts of kernel.h and screen.h at 2560 columns.
BITS = {"t2": 2, "t3": 1.6, "t2b": 2 + 32 / 256, "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5,
        "q6_k": 6.5625, "q4_0": 4.5, "q4_1": 5, "q5_0": 5.5, "q5_1": 6, "q2_k": 2.625,
        "q3_k": 3.4375, "q4_k": 4.5, "q5_k": 5.5, "tq1_0": 1.6875, "tq2_0": 2.0625,
        "6": 6 + 8 * (3 * 4 / 2560 + 40 / 2560)}
TOKENS = {"gemv": [1], "gemm": [4, 16, 64, 512], "dense": [1, 64], "screen": [1], "attn": [4, 64]}


def run(*args, status=0):
    env = {k: v for k, v in os.environ.items() if not k.startswith("TRIREME_")}
    out = subprocess.run([TRIREME, "bench", "--kernels", *args], env=env, capture_output=True,
                         text=True)
    assert out.returncode == status, (args, out.returncode, out.stderr[-400:])
    return out.stdout


def variants():
    """Those of this CPU, as /proc/cpuinfo tells."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        info = f.read()
    flags = set(re.search(r"^(?:flags|Features)\s*:(.*)$", info, re.M).group(1).split())
    if re.search(r"^vendor_id\s*: AuthenticAMD$", info, re.M) and \
            re.search(r"^cpu family\s*: 25$", info, re.M):
        flags.add("family25")
    needs = {"ref": "", "avx2": "avx2 fma f16c", "neon": "asimd", "dotprod": "asimddp",
             "avx512vnni": "avx2 avx512f avx512bw avx512vl avx512dq avx512_vnni",
             "avx512vbmi": "avx512_vnni avx512vbmi",
             "zen4": "avx512_vnni avx512vbmi family25", "i8mm": "asimddp i8mm"}
    return {v for v, n in needs.items() if set(n.split()) <= flags}


def expected():
    have = variants()
    with open(f"{SOURCE}/worker/kernels/kernel_list.inc", encoding="utf-8") as f:
        listed = re.findall(r"^KERN\((\w+), (\w+),", f.read(), re.M)
    return {(slot, variant, n) for slot, variant in listed if variant in have
            for n in TOKENS.get("attn" if re.match("attn_(scores|values)", slot)
                                else slot.split("_")[0], []) if slot != "attn_merge_f32"}


def bits(slot):
    words = slot.split("_")
    return BITS[words[1] if words[0] in ("gemv", "gemm") else
                words[-1] if words[0] in ("attn", "screen") else "_".join(words[1:])]


def near(a, b):
    return math.isclose(a, b, rel_tol=1e-9)


def check_row(row, probes):
    threads = row["n_threads"]
    assert row["gb_s"] > 0 and row["gproducts_s"] > 0, row
    assert near(row["bits_per_weight"], bits(row["kernel"])), row
    assert near(row["gb_s"] * 8 / row["bits_per_weight"], row["gweights_s"]), row
    assert near(row["gweights_s"] * row["n_tokens"], row["gproducts_s"]), row
    assert near(row["gb_s"] / row["read_gb_s"], row["bandwidth_fraction"]), row
    # The probe's loop in other moments of a machine that others use too: a wrong unit is far outside.
    assert 1e-3 < row["read_gb_s"] / probes["probe_read", threads]["gb_s"] < 1e3, row
    ints = row["kernel"].startswith(("gem", "screen"))
    peak = probes["probe_mac" if ints else "probe_fma", threads]["gproducts_s"]
    assert near(row["gproducts_s"] / peak, row["peak_fraction"]), row


def all_rows():
    rows = json.loads(run("--kernel-ms", "1", "-t", "2", "--no-pin", "--json", "-q"))
    probes = {(r["kernel"], r["n_threads"]): r for r in rows if r["kernel"].startswith("probe")}
    assert len(probes) == 6, probes.keys()
    for (name, _), row in probes.items():
        assert row["gb_s" if name == "probe_read" else "gproducts_s"] > 0, row
    rows = rows[6:]
    found = [(r["kernel"], r["variant"], r["n_tokens"]) for r in rows]
    assert len(found) == len(set(found)) and set(found) == expected(), set(found) ^ expected()
    for row in rows:
        assert row["n_threads"] == 2
        check_row(row, probes)
    print(f"{len(rows)} rows of {len({r['variant'] for r in rows})} variants")


def forms():
    some = ("--kernel-ms", "1", "-t", "1", "--filter", "gemv_t2_i8.ref", "-q")
    lines = [json.loads(line) for line in run(*some, "-o", "jsonl").splitlines()]
    names = ["probe_read", "probe_mac", "probe_fma", "gemv_t2_i8"]
    assert [r["kernel"] for r in lines] == names, lines
    rows = list(csv.DictReader(run(*some, "-o", "csv").splitlines()))
    assert [r["kernel"] for r in rows] == names and float(rows[3]["gb_s"]) > 0, rows
    table = run(*some).splitlines()
    assert len(table) == 6 and len({line.count("|") for line in table}) == 1, table
    lines = json.loads(run(*some, "--cpu", "ref", "--json"))
    assert {r["variant"] for r in lines} == {"ref"}, lines


def refusals():
    run("-m", "model.gguf", status=2)
    run("--kernel-ms", "0", status=2)


def foreign_cpu():
    """Variants of another architecture leave the reference alone, and a word about it."""
    foreign = "avx2" if platform.machine() == "aarch64" else "neon"
    for name, said in ((foreign, True), ("ref", False)):
        done = subprocess.run([TRIREME, "bench", "--shape", "tiny-gqa5", "-p", "2", "-n", "0", "-r", "1", "--cpu", name],
                              capture_output=True, text=True, check=True)
        assert (f"no kernels that '{name}' allows" in done.stderr) == said, done.stderr


all_rows()
forms()
refusals()
foreign_cpu()
