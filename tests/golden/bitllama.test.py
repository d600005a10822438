# The published story model continues as its own engine did, on every layout, from both packings.
# timeout: 300
# labels: mpi
"""Expected: greedy-3m.txt, the text of the original engine (first 80 words), which keeps keys and values as
floats, as we do unless told otherwise. With halves (-ctv f16) the text leaves it after 40 words: the weights
are such that activations sit on ties of the rounding to int8, so a relative change of 2^-12 moves codes."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

want = " ".join(pathlib.Path(trireme.shared("bitllama/greedy-3m.txt")).read_text().split()[:80])
for kind in ("tq2", "tq1"):
    model = trireme.shared(f"bitllama/bitllama-3m-{kind}.gguf")
    for ranks in (1, 2, 3, 5, 8):
        out = trireme.run_json(["run", "-m", model, "-p", "Once upon a time", "-n", "180",
                                "--temp", "0", "-t", "1"], ranks)
        text = "Once upon a time" + out["text"] if not out["text"].startswith("Once") else out["text"]
        got = " ".join(text.split()[:80])
        assert got == want, f"{kind} on {ranks} ranks:\n{got}\ninstead of\n{want}"
        print(f"{kind} on {ranks} ranks: the same 80 words, layout {out['layout']}")
