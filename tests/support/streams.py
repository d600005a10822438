"""Ranks of one run with models of their own: some have the file, others none."""
import json
import os
import subprocess

import trireme

NOTHING = "/nowhere/model.gguf"
IDS = "1,5,9,17,3,8,2,6"


def start(models, args, env=(), check=True):
    """One rank for each of `models`, with its own -m; what rank 0 printed as JSON, and all of stderr."""
    command = list(trireme.MPIRUN)
    for i, model in enumerate(models):
        command += [":"] * (i > 0) + ["-n", "1"] + [a for e in env for a in ("-x", e)]
        command += [trireme.BINARY, "eval", "-m", str(model), "--ids", IDS, *map(str, args)]
    done = subprocess.run(command, capture_output=True, timeout=120 * trireme.PATIENCE, stdin=subprocess.DEVNULL)
    text = done.stderr.decode(errors="replace")
    assert not check or done.returncode == 0, f"exit status {done.returncode} of {command}\n{text}"
    return done, text


def logits(models, tmp, *options, env=()):
    out = f"{tmp}/out.npy"
    if os.path.exists(out):
        os.remove(out)
    done, text = start(models, ["--logits", out, "--json", *options], env)
    return trireme.read_npy(out)[2], json.loads(done.stdout), text


def alone(model, tmp):
    return trireme.logits(model, IDS, f"{tmp}/one.npy", 1, "-t", "1")[2]
