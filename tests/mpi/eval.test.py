# Scores and logits of eval: several steps in flight over the stages, and the bytes of one rank that waits for each.
# timeout: 300
# labels: mpi
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

LAYOUTS = ("2x1", "3x1", "1x2", "2x2")
# Windows of 40 tokens end in steps of every length; the last is shorter. Documents of one window, of several, of none.
TEXT = "".join(f"Once there were {i} cats{', and a dog' * (i % 7)}.\n{chr(10) * (i % 3 == 1)}" for i in range(40))
OWN = ("layout", "ranks", "load_s", "tps", "steps_in_flight", "weights_received_bytes", "weights_cached_bytes")


def figures(layout, args):
    stages, shards = map(int, layout.split("x"))
    found = trireme.run_json(["eval", "-m", trireme.DEFAULT_MODEL, "-t", "1", "--layout", layout, *args], stages * shards)
    flights = found["steps_in_flight"]
    assert flights == (min(stages + 1, 7) if stages > 1 else 1), (layout, args, flights)
    return {key: value for key, value in found.items() if key not in OWN}


with tempfile.TemporaryDirectory() as folder:
    text, npy = pathlib.Path(folder, "text"), pathlib.Path(folder, "logits.npy")
    text.write_text(TEXT)
    ids = ",".join(str(3 + i * 7 % 90) for i in range(300))
    kinds = (("--perplexity", text, "-c", "40"),
             ("--perplexity", text, "-c", "300", "-b", "50"),
             ("--bits-per-byte", text, "-c", "40"),
             ("--bits-per-byte", text, "-c", "40", "--chunks", "3"),
             ("--bits-per-byte", text, "-c", "40", "--stories"),
             ("--logits", npy, "--ids", ids))
    for args in kinds:
        want = figures("1x1", args)
        rows = npy.read_bytes() if npy.exists() else b""
        for layout in LAYOUTS:
            got = figures(layout, args)
            assert got == want, (layout, args, got, want)
            assert not rows or npy.read_bytes() == rows, layout
        print(*args[:1], *args[2:][:3], f"the same on 1x1, {', '.join(LAYOUTS)}; ppl {want.get('ppl')}")
