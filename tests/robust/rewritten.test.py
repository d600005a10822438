# labels: mpi
# ranks: 2
"""A model file that is written into while ranks load it is refused: its weights may be of two models. A file that takes its
name meanwhile, as `mv` does, is another one and does not matter."""
import os
import pathlib
import shutil
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import streams
import trireme


def meanwhile(work, run):
    """run() while work() is repeated."""
    over = threading.Event()

    def repeat():
        while not over.wait(0.0005):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        return run()
    finally:
        over.set()
        thread.join()


def main(tmp):
    model, other = f"{tmp}/model.gguf", f"{tmp}/other.gguf"
    shutil.copyfile(trireme.DEFAULT_MODEL, model)
    byte = pathlib.Path(model).read_bytes()[-1:]
    want = streams.alone(model, tmp)

    def write():
        with open(model, "r+b") as f:
            f.seek(-1, os.SEEK_END)
            f.write(byte)

    def replace():
        shutil.copyfile(trireme.DEFAULT_MODEL, other)
        os.replace(other, model)

    for models in ([model], [model, streams.NOTHING], [model, model]):
        options = ["--logits", f"{tmp}/out.npy", "-t", "1", "--layout", f"1x{len(models)}"]
        done, said = meanwhile(write, lambda: streams.start(models, options, check=False))
        ours = [line for line in said.splitlines() if "error:" in line]
        assert done.returncode == 3 and len(ours) == 1 and f"{model}: was written while it was read" in ours[0], said
        assert sorted(os.listdir(tmp)) == ["model.gguf", "one.npy"], os.listdir(tmp)
        print(ours[0])
        got, _, said = meanwhile(replace, lambda: streams.logits(models, tmp, *options[2:]))
        assert got == want, said
        os.remove(f"{tmp}/out.npy")


with tempfile.TemporaryDirectory() as tmp:
    main(tmp)
