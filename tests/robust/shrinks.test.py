# A model file that is cut while it is in use: a message and exit status 3, no core.
"""`tokenize` maps the file, then waits for its text: by then the file is gone."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

with tempfile.TemporaryDirectory() as tmp:
    path = os.path.join(tmp, "shrinks.gguf")
    shutil.copyfile(trireme.DEFAULT_MODEL, path)
    process = subprocess.Popen([trireme.BINARY, "tokenize", "-m", path, "--json"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while "pipe_read" not in pathlib.Path(f"/proc/{process.pid}/wchan").read_text() and \
            path not in pathlib.Path(f"/proc/{process.pid}/maps").read_text():
        assert time.monotonic() < until, "the file is not mapped"
        time.sleep(0.01)
    time.sleep(1)  # the tables are made, the text is awaited
    os.truncate(path, 0)
    out, err = process.communicate(b"Once upon a time", timeout=30)
    assert process.returncode == 3, f"exit status {process.returncode}: {err.decode()}"
    assert err.count(b"\n") == 1 and b"became shorter" in err, err.decode()
    print(err.decode().strip())
