"""Figures of `trireme plan` that README.md and docs/BENCH.md quote: the commands there are run, and what stands
beside them is what they say. Plans are arithmetic: no machine, no speed decides."""
# sanitize: no
import json
import pathlib
import re
import shlex
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

README = (trireme.SOURCE / "README.md").read_text()
BENCH = (trireme.SOURCE / "docs/BENCH.md").read_text()
FORMATS = ("fp16", "int8", "2 bits", "1.6 bits")


def run(words):
    done = subprocess.run([trireme.BINARY, *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.returncode, done.stderr)
    return done.stdout


def quoted(text, value, what):
    """A figure as it is quoted is the value, rounded to as many digits."""
    digits = len(text.partition(".")[2])
    assert abs(value - float(text)) <= 0.5000001 * 10**-digits, (what, "says", text, "is", value)


def blocks(page):
    return re.findall(r"^```\n(.*?)^```$", page, re.M | re.S)


# README: commands with "$" in front and the output behind them, "..." for what is left out.
shown = 0
for block in blocks(README):
    command, *lines = block.splitlines()
    if not command.startswith("$ trireme plan "):
        continue
    said = run(shlex.split(command)[2:]).splitlines()
    at = 0
    for line in lines:
        if line != "...":
            assert line in said[at:], (command, "does not say:", line, said)
            at = said.index(line, at) + 1
            shown += 1
assert shown >= 6, shown
# README: the other commands of plan; those with a model or a cluster file of the reader's are left out.
plain = [shlex.split(c, comments=True)[1:] for b in blocks(README) for c in b.splitlines() if c.startswith("trireme plan ")]
assert plain
for words in plain:
    assert "layout " in run(words), words

# BENCH: the table of predictions; "..." stands for the first command up to its nodes.
section = BENCH[BENCH.index("## Predicted, not measured"):]
rows = re.findall(r"^\|[^|]*\| `((?:plan|\.\.\.) [^`]*)` \| (\d+x\d+) \| ([\d.]+) \| ([\d.]+) \|$", section, re.M)
assert len(rows) == 3, rows
first = rows[0][0][:rows[0][0].index(" --nodes")]
full = [shlex.split(command.replace("...", first, 1)) for command, *_ in rows]
for words, (command, layout, decode, prompt) in zip(full, rows):
    plan = json.loads(run([*words, "--json"]))
    assert plan["fits"] and plan["layout"] == layout, (command, plan["layout"])
    quoted(decode, plan["predicted"]["decode_tps"], command)
    quoted(prompt, plan["predicted"]["prefill_tps"], command)

# BENCH: machines needed, of the same context.
rows = re.findall(r"^\| (llama\S+), (\d+) GiB \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", section, re.M)
assert len(rows) == 3, rows
for shape, gib, *counts in rows:
    plan = json.loads(run(["plan", "--shape", shape, "-c", "4096", "--mem", f"{gib}G", "--nodes", "40", "--json"]))
    assert [plan["machines_needed"][f] for f in FORMATS] == [int(c) for c in counts], (shape, gib, plan["machines_needed"])

# BENCH: strong scaling on the nodes of the second row.
text = re.search(r"Strong scaling .*?\(`\.\.\. (--scale [^`]*)`\): (.*?): at", section, re.S)
words = [w for i, w in enumerate(full[1]) if w != "--nodes" and full[1][i - 1] != "--nodes"]
points = json.loads(run([*words, *shlex.split(text[1]), "-o", "json"]))["points"]
pairs = re.findall(r"(\d+)(?: nodes)?\s+([\d.]+)(?: tokens/s)?(?:,|$)", " ".join(text[2].split()))
assert [int(n) for n, _ in pairs] == [p["nodes"] for p in points if p["fits"]], (pairs, points)
for (n, speed), p in zip(pairs, [p for p in points if p["fits"]]):
    quoted(speed, p["tokens_s"], f"{n} nodes")

# README's measured speeds are rows of BENCH.
table = re.search(r"\| llama\.cpp, 2 threads \| ([\d.]+) \| ([\d.]+) \|\n\| trireme, 1 rank of 2 threads \| ([\d.]+) \| ([\d.]+) \|", README)
for peer, ours, row in ((table[1], table[3], "2B prompt 512"), (table[2], table[4], "2B decode, whole head")):
    assert re.search(rf"^\| {row}[^|]*\|[^|]*\| {re.escape(peer)} \| {re.escape(ours)} \|", BENCH, re.M), (row, peer, ours)
