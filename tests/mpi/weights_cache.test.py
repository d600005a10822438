# --cache: a second start sends no weights, a changed plan only what is missing, damage is found and mended.
# timeout: 400
# labels: mpi threads
"""Ranks without the model's file keep what they get in stored form, in units that do not depend on the plan."""
import os
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme
import streams


def warnings(text):
    return [line for line in text.splitlines() if "warning:" in line and "thread" not in line]


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 16]))


def check(model, tmp):
    cache = f"{tmp}/cache"
    shutil.rmtree(cache, ignore_errors=True)
    want = streams.alone(model, tmp)

    def begin(ranks, *options):
        got, report, text = streams.logits([model] + [streams.NOTHING] * (ranks - 1), tmp, "--cache", cache, *options)
        assert got == want, (model, options)
        return report["weights_received_bytes"], report["weights_cached_bytes"], text

    cold, kept, text = begin(3, "--layout", "1x3", "-t", "1")
    assert cold > 0 and kept == 0 and not warnings(text), text
    again, kept, text = begin(3, "--layout", "1x3", "-t", "1")
    assert again == 0 and kept == cold and not warnings(text), (again, kept, cold, text)
    # More threads cut the tasks elsewhere: still nothing is sent.
    again, kept, _ = begin(3, "--layout", "1x3", "-t", "2")
    assert again == 0, again
    # Another plan: its slices overlap those that are kept.
    other, kept, _ = begin(3, "--layout", "1x3", "--split", "2,3,3", "-t", "1")
    assert 0 < other < cold / 2 and kept > cold / 2, (other, kept, cold)
    other, _, _ = begin(3, "--layout", "1x3", "--split", "2,3,3", "-t", "1")
    assert other == 0, other
    two, kept, _ = begin(2, "--layout", "1x2", "-t", "1")
    assert kept > 0, (two, kept)
    print(f"{pathlib.Path(model).name}: {cold} bytes sent at first, {other} again, {two} on 1x2 ({kept} kept)")
    return cold, begin


def check_secret(source, tmp):
    """What is kept counts for this file, as it was last changed, and under rank 0's secret."""
    model, cache = f"{tmp}/model.gguf", f"{tmp}/kept"
    shutil.copy(source, model)
    want = streams.alone(model, tmp)

    def begin(home):
        got, report, _ = streams.logits([model, streams.NOTHING], tmp, "--layout", "1x2", "-t", "1", "--cache", cache,
                                        env=(f"XDG_CACHE_HOME={tmp}/{home}",))
        assert got == want
        return report["weights_received_bytes"]

    cold = begin("ours")
    secret = pathlib.Path(tmp, "ours/trireme/cache.secret")
    assert cold > 0 and begin("ours") == 0
    assert secret.stat().st_mode & 0o777 == 0o600 and secret.stat().st_size == 16
    assert begin("theirs") == cold, "what was kept under another secret was used"
    assert begin("ours") == 0
    os.utime(model, (1, 1))
    assert begin("ours") == cold, "what was kept of the file before its change was used"
    # No file of the folder gives weights under another's name: every one takes the place of every other.
    names = sorted(f.name for f in pathlib.Path(cache).iterdir())
    assert len(names) == 3, names
    for name in names:
        for other in names:
            if name != other:
                shutil.rmtree(f"{tmp}/mixed", ignore_errors=True)
                os.mkdir(f"{tmp}/mixed")
                shutil.copy(f"{cache}/{name}", f"{tmp}/mixed/{other}")
                got, report, _ = streams.logits([model, streams.NOTHING], tmp, "--layout", "1x2", "-t", "1", "--cache",
                                                f"{tmp}/mixed", env=(f"XDG_CACHE_HOME={tmp}/ours",))
                assert got == want and report["weights_received_bytes"] == cold, (name, other)
    # A secret that others may read is none: told, by one error.
    secret.chmod(0o640)
    done, text = streams.start([model, streams.NOTHING], ["--logits", f"{tmp}/no.npy", "--cache", cache],
                               (f"XDG_CACHE_HOME={tmp}/ours",), False)
    ours = [line for line in text.splitlines() if "error:" in line]
    assert done.returncode != 0 and len(ours) == 1 and "cache.secret" in ours[0] and "rank 0" in ours[0], text
    print(ours[0])


with tempfile.TemporaryDirectory() as tmp:
    golden = trireme.GOLDEN
    check(golden / "saved/bitnet-online", tmp)
    cold, begin = check(golden / "transformers/silu-tq2.gguf", tmp)
    begin = lambda *options, begin=begin: begin(3, "--layout", "1x3", "-t", "1", *options)
    files = sorted(pathlib.Path(tmp, "cache").iterdir())
    mine = next(f for f in files if f.name.endswith("-0001.units"))

    # Nothing but what this rank keeps for this plan, in one file for each rank.
    shutil.rmtree(f"{tmp}/cache")
    assert begin()[0] == cold
    size = mine.stat().st_size
    flip(mine, size - 100)  # among the units of the last record
    sent, _, text = begin()
    said = [line for line in warnings(text) if str(mine) in line and "damaged" in line]
    assert 0 < sent < cold / 2 and len(said) == 1, (sent, cold, text)
    print(said[0])
    assert begin()[0] == 0, "what came again is not kept"
    flip(mine, 20)  # in the first record's head: all of the file is lost, and only that
    sent, _, text = begin()
    assert 0 < sent < cold and any(str(mine) in line and "byte 0" in line for line in warnings(text)), text
    assert begin()[0] == 0
    # Cut in the middle of a record, as by a full disk or a crash.
    os.truncate(mine, mine.stat().st_size * 2 // 3)
    sent, _, text = begin()
    assert 0 < sent < cold and any("cut" in line for line in warnings(text)), text
    assert begin()[0] == 0

    # Another model does not mix with it.
    got, report, _ = streams.logits([golden / "transformers/table-tq2.gguf", streams.NOTHING], tmp, "--layout", "1x2",
                                    "-t", "1", "--cache", f"{tmp}/cache")
    assert report["weights_received_bytes"] > 0 and report["weights_cached_bytes"] == 0, report
    check_secret(golden / "transformers/silu-tq2.gguf", tmp)
    # A cache that cannot be made: all ranks end with the text of the one.
    done, text = streams.start([golden / "transformers/silu-tq2.gguf", streams.NOTHING],
                               ["--logits", f"{tmp}/no.npy", "--cache", "/proc/none/x"], check=False)
    ours = [line for line in text.splitlines() if "error:" in line]
    assert done.returncode == 3 and len(ours) == 1 and "rank 1" in ours[0] and "/proc/none/x" in ours[0], text
    print(ours[0])

    # A folder that nobody may write into is read, and what it lacks is sent; each rank says it once. /sys/kernel is one for
    # root, too.
    if os.path.isdir("/sys/kernel"):
        got, report, text = streams.logits([golden / "transformers/silu-tq2.gguf", streams.NOTHING], tmp, "--layout", "1x2",
                                           "-t", "1", "--cache", "/sys/kernel")
        said = [line for line in warnings(text) if "cannot write" in line]
        assert got == streams.alone(golden / "transformers/silu-tq2.gguf", tmp) and len(said) == 1, text
        assert report["weights_received_bytes"] > 0, report
        print(said[0])
