# timeout: 300
# labels: mpi
# sanitize: no
"""--pack auto: what was measured is kept and used again, a damaged file is not, and nothing of it is an error."""

import json
import os
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme  # noqa: E402

IDS = "1,5,9,2"


def run(ranks=1, options=(), **more):
    env = {**os.environ, "XDG_CACHE_HOME": home, "TRIREME_CALIBRATION": "always", **more}
    env = {k: v for k, v in env.items() if v is not None}
    value = trireme.run_json(["run", "-m", trireme.DEFAULT_MODEL, "-p", "Once", "-n", 4, "--temp", 0, "-t", 1, "-c", 64,
                              *options], ranks, env=env)
    assert value["pack"] in ("t2", "t3"), value
    return value


def files():
    return sorted(pathlib.Path(home).glob("**/*.*")) + sorted(pathlib.Path(home).glob("trireme/*"))


with tempfile.TemporaryDirectory() as home:
    first = run()
    assert first["pack_reason"].startswith("measured: t2 "), first
    (kept,) = files()
    before = kept.read_bytes()
    second = run()
    assert second["pack_reason"].startswith("measured before: t2 "), second
    assert second["pack"] == first["pack"] and kept.read_bytes() == before
    assert second["tokens"] == first["tokens"]

    kept.write_bytes(before.replace(b"t2 ", b"t2 9", 1))
    assert run()["pack_reason"].startswith("measured: "), "a changed figure was believed"
    assert run()["pack_reason"].startswith("measured before: "), "the file was not written anew"

    # The figures of one rank are none of two, and two agree.
    two = run(2)
    assert two["pack_reason"].startswith("measured: ") and len(files()) == 2, (two, files())
    assert run(2)["pack_reason"].startswith("measured before: ")
    assert two["tokens"] == first["tokens"]

    for pack in ("t2", "t3"):
        asked = run(options=("--pack", pack))
        assert (asked["pack"], asked["pack_reason"]) == (pack, "asked for"), asked
        assert asked["tokens"] == first["tokens"]
    small = run(TRIREME_CALIBRATION=None)
    assert small["pack"] == "t2" and "few ternary weights" in small["pack_reason"], small

    # Where nothing can be kept it is measured each time.
    shutil.rmtree(f"{home}/trireme")
    pathlib.Path(f"{home}/trireme").write_text("in the way")
    assert run()["pack_reason"].startswith("measured: ")
    assert run()["pack_reason"].startswith("measured: ")
    os.remove(f"{home}/trireme")
    assert run(XDG_CACHE_HOME=None, HOME=None)["pack_reason"].startswith("measured: ")
    assert files() == []

    done = trireme.run(["run", "-m", trireme.DEFAULT_MODEL, "-p", "Once", "-n", 1, "-v"],
                       env={**os.environ, "XDG_CACHE_HOME": home}).stderr.decode()
    assert done.count("packed as ") == 1, done


# plan: t2 where it fits, t3 where only that does, and what was asked for in any case. The ternary weights of a 70B are
# 15.9 GiB in 2 bits, 12.7 in base 3.
def plan(mem, *options, check=True):
    done = trireme.run(["plan", "--shape", "llama-70b", "--mem", mem, "-c", 512, "--json", *options], check=False)
    value = json.loads(done.stdout)
    return value["pack"], value["pack_reason"], value["fits"]


assert plan("32G") == ("t2", "it fits; run takes the faster one", True)
assert plan("16G") == ("t3", "t2 does not fit", True)
assert plan("16G", "--pack", "t2") == ("t2", "asked for", False)
assert plan("8G")[2] is False
