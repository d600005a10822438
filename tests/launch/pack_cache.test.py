# timeout: 600
# labels: mpi
# sanitize: no
"""--pack-cache: logits are the same bytes with and without, a second start reads the file, and a file that is damaged,
cut, of another model or of another layout is never used."""

import os
import pathlib
import resource
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme  # noqa: E402

IDS = "1,5,9,2,7"
OTHERS = [trireme.GOLDEN / name for name in (
    "transformers/llama-tq2-blocks.gguf", "transformers/llama-f16.gguf", "saved/bitnet-online", "saved/llama-dense-shards",
    "directories/rms-online", "directories/bias-offline")]


def evaluate(model, *options, ranks=1, cached=True, **more):
    """Bytes of the logits, and what was said on the way."""
    out = f"{tmp}/out.npy"
    options = [*options, "-t", "1", "-v"] + (["--pack-cache", cache] if cached else [])
    done = trireme.run(["eval", "-m", model, "--ids", IDS, "--logits", out, *options], ranks, **more)
    return pathlib.Path(out).read_bytes(), done.stderr.decode()


def files():
    return sorted(os.listdir(cache)) if os.path.isdir(cache) else []


def same(model, *options, ranks=1):
    """Without, written, read: the same bytes."""
    want, _ = evaluate(model, *options, ranks=ranks, cached=False)
    before = len(files())
    got, said = evaluate(model, *options, ranks=ranks)
    assert got == want and said.count("packed weights kept in") == ranks, said
    assert len(files()) == before + ranks, files()
    got, said = evaluate(model, *options, ranks=ranks)
    assert got == want and said.count("weights read from") == ranks and "kept" not in said, said
    assert len(files()) == before + ranks, files()
    print(f"{pathlib.Path(model).name} {ranks} ranks {' '.join(options)}: the same")
    return want


with tempfile.TemporaryDirectory() as tmp:
    cache = f"{tmp}/cache"
    model = f"{tmp}/model.gguf"
    shutil.copy(trireme.GOLDEN / "transformers/relu2-gqa5-tq1.gguf", model)
    want = same(model, "--pack", "t2")
    (name,) = files()
    path = pathlib.Path(cache, name)
    sound = path.read_bytes()

    # Bytes all over the file (worker.shard_cache flips each of the head); cut at many places; another file of that name.
    start = int.from_bytes(sound[24:32], "little")
    places = list(range(0, 128, 8)) + list(range(128, start, 1999)) + list(range(start, len(sound) - 64, len(sound) // 20))
    damaged = [bytes(sound[:at]) + bytes([sound[at] ^ 1]) + bytes(sound[at + 1:]) for at in places]
    damaged += [sound[:n] for n in (0, 1, 127, 128, start - 1, start, len(sound) - 64)]
    damaged += [sound + b"\0", os.urandom(5000)]
    for i, bad in enumerate(damaged):
        path.write_bytes(bad)
        got, said = evaluate(model, "--pack", "t2")
        assert got == want, f"damage {i} went through"
        if path.read_bytes() == bad:  # a byte between two pieces, which nothing reads
            assert "read from" in said and i < len(places) and sound[places[i]] == 0 and places[i] >= start, (i, said)
            continue
        assert said.count(name) == 2 and "packed anew" in said and "kept in" in said, (i, said)
        assert path.read_bytes() == sound, "it was not written as before"
    print(f"{len(damaged)} damaged files found")

    # The model changes: its time, its bytes.
    os.utime(model, ns=(1, 1))
    _, said = evaluate(model, "--pack", "t2")
    assert "kept in" in said and len(files()) == 2, said
    other = bytearray(pathlib.Path(model).read_bytes())
    stamp = os.stat(model).st_mtime_ns
    other[-540:] = other[-1080:-540]  # ten blocks of TQ1_0 over ten others
    pathlib.Path(model).write_bytes(other)
    os.utime(model, ns=(stamp, stamp))
    plain, _ = evaluate(model, "--pack", "t2", cached=False)
    got, said = evaluate(model, "--pack", "t2")
    assert got == plain and "kept in" in said and len(files()) == 3, said

    # A file of another model under this one's name: stale, though sound.
    names = files()
    paths = [pathlib.Path(cache, n) for n in names]
    (mine,) = [p for p in paths if p.name in said]
    theirs = next(p for p in paths if p != mine)
    shutil.copy(theirs, mine)
    got, said = evaluate(model, "--pack", "t2")
    assert got == plain and "another model" in said and "packed anew" in said, said

    # Layouts and formats have files of their own; in a group where one is damaged, none is used.
    default = trireme.DEFAULT_MODEL
    same(default, "--pack", "t3")
    before = set(files())
    want = same(default, "--pack", "t2", "--layout", "1x2", ranks=2)
    one = pathlib.Path(cache, sorted(set(files()) - before)[0])
    broken = bytearray(one.read_bytes())
    broken[len(broken) // 2] ^= 255
    one.write_bytes(broken)
    got, said = evaluate(default, "--pack", "t2", "--layout", "1x2", ranks=2)
    assert got == want and said.count("packed anew") == 1 and "read from" not in said, said
    assert said.count("kept in") == 2, said
    got, said = evaluate(default, "--pack", "t2", "--layout", "1x2", ranks=2)
    assert got == want and said.count("read from") == 2, said
    same(default, "--pack", "t2", "--layout", "2x1", ranks=2)
    same(default, "--pack", "t2", "--layout", "1x3", "--split", "2,1,1", ranks=3)

    # Scales by block, dense layers, weights made ternary at load, files in several parts, norms and biases.
    for which in OTHERS:
        same(which, "--pack", "t3")
    same(OTHERS[0], "--pack", "t3", "--layout", "1x2", ranks=2)

    # Where nothing can be kept: a warning, and the run goes on.
    cache = f"{tmp}/none/below"
    got, said = evaluate(default, "--pack", "t2")
    assert got == want and "not kept" in said and not os.path.exists(cache), said
    cache = f"{tmp}/full"

    def little():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    got, said = evaluate(default, "--pack", "t2", preexec_fn=little)
    assert got == want and "no room for" in said and "not kept" in said and files() == [], said

    value = trireme.run_json(["run", "-m", default, "-p", "a", "-n", 1, "--pack-cache", f"{tmp}/json", "-t", 1])
    assert value["pack_cache"] == "written", value
    value = trireme.run_json(["run", "-m", default, "-p", "a", "-n", 1, "--pack-cache", f"{tmp}/json", "-t", 1])
    assert value["pack_cache"] == "read", value
