# The arithmetic of tests/bench/versus, with an invented peer of known speed.
# timeout: 180
# sanitize: no
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

VERSUS = trireme.SOURCE / "tests/bench/versus"
PEER = """#!/bin/sh
# 10 tokens/s with two threads, 40 with one, and a refusal of a model that is not there
case "$*" in *--version*) echo "version: 7 (invented)" && exit 0 ;; *missing*) echo "no such model" >&2 && exit 1 ;; esac
case "$*" in *"-t 2"*) ts=10 ;; *) ts=40 ;; esac
echo "[{\\"avg_ts\\": $ts}]"
"""

with tempfile.TemporaryDirectory() as tmp:
    peer = pathlib.Path(tmp, "llama-bench")
    peer.write_text(PEER)
    peer.chmod(0o755)
    common = [str(VERSUS), str(peer), str(trireme.DEFAULT_MODEL), "--trireme", trireme.BINARY]
    done = subprocess.run([*common, "-p", "8", "-n", "4", "-d", "0,16", "-t", "1,2", "-r", "3", "--json"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert value["llama_version"] == "version: 7 (invented)", value
    tests = sorted(r["test"] for r in value["results"])
    assert tests == ["pp8", "pp8 @ d16", "tg4", "tg4 @ d16"], value
    for r in value["results"]:
        assert r["llama_ts"] == 40 and r["llama_threads"] == 1, r
        ratios = sorted(s / 40 for s in r["trireme_samples"])
        assert len(ratios) == 3 and ratios[0] > 0, r
        assert (r["ratio_min"], r["ratio"], r["ratio_max"]) == tuple(ratios), r
    pathlib.Path(tmp, "missing.gguf").touch()  # there for versus, not for the peer
    done = subprocess.run([*common[:2], str(pathlib.Path(tmp, "missing.gguf")), *common[3:], "-r", "1"],
                          capture_output=True, text=True)
    assert done.returncode != 0 and "no such model" in done.stderr, (done.returncode, done.stderr)
    done = subprocess.run([str(VERSUS), os.path.join(tmp, "nothing"), "x.gguf"], capture_output=True, text=True)
    assert done.returncode == 2 and "no such program" in done.stderr, done.stderr
    for words in ("llama.cpp", "Debian", "--target llama-bench", "llama-cpp-python 0.3.36"):
        assert words in done.stderr, (words, done.stderr)
    done = subprocess.run([*common[:2], os.path.join(tmp, "nothing.gguf"), *common[3:]], capture_output=True, text=True)
    assert done.returncode == 2 and "no such model" in done.stderr, done.stderr
    done = subprocess.run([str(VERSUS), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--target llama-bench" in done.stdout, done.stdout
    # the version is the one that BENCH.md names
    assert "llama_cpp_python 0.3.36" in (trireme.SOURCE / "docs/BENCH.md").read_text()
