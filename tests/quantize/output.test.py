# Where convert and synth may write: never over the model that is read, nor over what is no file; and
# nothing half-written stays behind.
# timeout: 120
import os
import pathlib
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

GOLDEN = trireme.GOLDEN / "transformers/silu-tq2.gguf"


def refused(args, word, left, **kwargs):
    done = trireme.run(args, check=False, **kwargs)
    said = done.stderr.decode()
    assert done.returncode == 3 and word in said, f"{args}: {done.returncode} {said}"
    assert sorted(os.listdir(left[0])) == sorted(left[1]), (args, os.listdir(left[0]))


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 10, 100 << 10))


with tempfile.TemporaryDirectory() as tmp:
    model, here = f"{tmp}/m.gguf", lambda *names: (tmp, ["m.gguf", *names])
    shutil.copyfile(GOLDEN, model)
    for name in (model, f"{tmp}/./m.gguf"):
        refused(["convert", model, name], "is the model that is read", here())
    for link in (os.symlink, os.link):
        link(model, f"{tmp}/l.gguf")
        refused(["convert", model, f"{tmp}/l.gguf"], "is the model that is read", here("l.gguf"))
        os.remove(f"{tmp}/l.gguf")
    assert pathlib.Path(model).read_bytes() == GOLDEN.read_bytes()

    os.mkfifo(f"{tmp}/pipe")
    os.mkdir(f"{tmp}/folder")
    synth = ["synth", "--shape", "tiny-mha", "-o"]
    for args in (["convert", model], synth):
        refused(args + [f"{tmp}/pipe"], "is no regular file", here("folder", "pipe"))
        refused(args + [f"{tmp}/folder"], "is a directory", here("folder", "pipe"))
        refused(args + [f"{tmp}/none/x.gguf"], "No such file", here("folder", "pipe"))
    assert stat.S_ISFIFO(os.stat(f"{tmp}/pipe").st_mode) and os.listdir(f"{tmp}/folder") == []
    os.remove(f"{tmp}/pipe")
    os.rmdir(f"{tmp}/folder")

    for args in (["convert", model, f"{tmp}/o.gguf"], synth + [f"{tmp}/o.gguf"],
                 ["eval", "-m", model, "--ids", ",".join(["1"] * 100), "--logits", f"{tmp}/o.npy"]):
        refused(args, "File too large", here(), preexec_fn=small_files)

    # Ctrl-C as soon as the beginning of the file is there
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen([trireme.BINARY, "synth", "--shape", "bitnet-2b-4t", "-o", f"{tmp}/o.gguf"],
                                   stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while len(os.listdir(tmp)) == 1 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(timeout=60) == 128 + number, process.returncode
        assert os.listdir(tmp) == ["m.gguf"], os.listdir(tmp)
