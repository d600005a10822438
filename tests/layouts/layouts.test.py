# The exactness contract: any layout, thread count, chunking, packing and CPU variant, the same bytes.
# timeout: 600
# labels: mpi
"""Logits of one text are computed once, plainly (1 rank, 1 thread, ref kernels, one token a step), and
then in every other way; each must give the same bytes."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

QUICK = trireme.PRESET != "release"  # sanitizers: a part of the list
GQA5 = trireme.GOLDEN / "transformers/relu2-gqa5-tq1.gguf"


def compare(model, ids, cases, *always):
    with tempfile.TemporaryDirectory() as tmp:
        _, _, want = trireme.logits(model, ids, f"{tmp}/ref.npy", 1, "-t", "1", "-b", "1", "--cpu", "ref", *always)
        for ranks, options in cases:
            _, _, got = trireme.logits(model, ids, f"{tmp}/out.npy", ranks, *options, *always)
            same = got == want
            print(f"{model.name} {ranks} ranks {' '.join(options + always)}: {'same' if same else 'DIFFERENT'}")
            assert same


def layout(stages, shards, *options):
    return stages * shards, ("--layout", f"{stages}x{shards}", "-t", "1", *options)


def main():
    stages, shards = (1, 2, 3), (1, 2, 3, 4, 5, 8)
    if QUICK:
        stages, shards = (1, 2), (1, 3, 8)
    local = [(1, ("-t", t, "-b", b, "--cpu", cpu, "--pack", pack))
             for t in ("1", "2", "3") for b in ("1", "7", "64", "256")
             for cpu, pack in (("ref", "t2"), ("avx2", "t3"), ("avx512vnni", "t2"), ("avx512vnni", "t3"))
             if not QUICK or (t == "3" and b in ("1", "7"))]
    ids = ",".join(str(i * 37 % 251 + 4) for i in range(100))
    compare(trireme.DEFAULT_MODEL, ids, [layout(s, t) for s in stages for t in shards] + local)
    # Many pages, which threads share out; keys and values of other types.
    ids = ",".join(str(i * 41 % 251 + 4) for i in range(330))
    deep = [(1, ("-t", t, "-b", b)) for t, b in (("2", "1"), ("5", "1"), ("3", "3"), ("2", "256"))]
    compare(trireme.DEFAULT_MODEL, ids, deep + [layout(1, 3, "-b", "40"), layout(2, 2, "-b", "100")])
    for types in (("f16", "f16"), ("f16", "f32"), ("f32", "f16")):
        compare(trireme.DEFAULT_MODEL, ids, [(1, ("-t", "3", "-b", "1")), (1, ("-t", "2", "-b", "256", "--cpu", "avx2")),
                                             layout(1, 2, "-b", "100")], "-ctk", types[0], "-ctv", types[1])
    ids = ",".join(str(i * 37 % 251 + 4) for i in range(100))
    uneven = [layout(1, 3, "--split", "3,1,1"), layout(3, 1, "--split", "1,3,1"),
              layout(1, 2, "-b", "7", "--split", "1,9"), (4, ("--layout", "2x2", "-t", "2", "-b", "7"))]
    compare(trireme.DEFAULT_MODEL, ids, uneven)
    ids = (trireme.GOLDEN / "transformers/relu2-gqa5-tq1.ids").read_text().strip()
    compare(GQA5, ids, [layout(1, t) for t in (2, 3, 4, 7, 8)] + [layout(2, 5), layout(1, 16)])
    # Rank 0 has no rows of the head, no heads, no FFN; one token a step, and several.
    compare(GQA5, ids, [layout(1, 2, "--split", "1,1000"), layout(1, 3, "-b", "1", "--split", "1,1,1000000"),
                        layout(1, 3, "--split", "1,1000000,1"), layout(2, 2, "--split", "1,1000")])
    # Products of the other kinds: dense with biases, ternary with a scale for each block.
    for name in ("llama-f16", "llama-tq2-blocks"):
        ids = (trireme.GOLDEN / f"transformers/{name}.ids").read_text().strip()
        compare(trireme.GOLDEN / f"transformers/{name}.gguf", ids,
                [layout(1, t) for t in (2, 3, 7, 8)] + [layout(2, 3), layout(1, 3, "--split", "5,1,1"),
                 (1, ("-t", "3", "-b", "7")), (1, ("-t", "2", "-b", "256", "--cpu", "avx2")),
                 (2, ("-t", "2", "-b", "64", "--cpu", "avx512vnni"))])


main()
if trireme.SHARED and not QUICK:  # a model of other making, from both packings
    for kind in ("tq2", "tq1"):
        compare(pathlib.Path(trireme.shared(f"bitllama/bitllama-3m-{kind}.gguf")),
                ",".join(str(i * 31 % 500 + 3) for i in range(70)),
                [layout(s, t) for s, t in ((1, 2), (1, 3), (1, 5), (1, 8), (2, 1), (3, 2))]
                + [(1, ("-t", t, "-b", b)) for t in ("2", "3") for b in ("7", "64", "256")])
