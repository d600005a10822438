# Ranks without the model's files get their weights from those that have them: the same bytes of logits.
# timeout: 600
# labels: mpi threads
"""`mpirun -n 1 trireme -m MODEL : -n K trireme -m NOTHING`: what one machine alone has, the others get. Layouts,
threads, stored types, directories and mixed groups of ranks; a bit flipped on the wire (tests/support/preload/flip.c) is
found and named, and asked for again, or ends the run when it comes wrong again and again."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme
from streams import NOTHING, alone, logits, start

SETTINGS = [(2, "1x2", 1), (2, "2x1", 2), (3, "1x3", 2), (4, "2x2", 1), (5, "1x5", 1), (3, "1x3 --split 3,1,1", 3)]


def check_model(model, tmp, settings):
    want = alone(model, tmp)
    for ranks, layout, threads in settings:
        got, report, text = logits([model] + [NOTHING] * (ranks - 1), tmp, "--layout", *layout.split(), "-t", threads)
        assert got == want, (model, layout, threads)
        assert report["weights_received_bytes"] > 0 and report["weights_cached_bytes"] == 0, report
        first = f"({'first ' if ranks > 2 else ''}rank 1 on {socket.gethostname()[:63]}): "
        assert f"{ranks - 1} rank" in text and "without the file " + first in text, text
    print(f"{pathlib.Path(model).name}: the same bytes on {len(settings)} layouts")


def check_means(model, tmp):
    """By whatever means ranks exchange scales: rank 0, done first with its small share, still serves the others."""
    want = alone(model, tmp)
    options = ("--layout", "1x3", "--split", "1,20,20", "-t", "1")
    for means in ("mpi", "messages", "shm"):
        for _ in range(3):
            got, report, _ = logits([model, NOTHING, NOTHING], tmp, *options, env=[f"TRIREME_COMM={means}"])
            assert got == want and report["weights_received_bytes"] > 0, (means, report)
        print(f"TRIREME_COMM={means}: the same bytes")


def check_spread(model, tmp):
    """Some have the file, under other names even; only those without it receive."""
    want = alone(model, tmp)
    shutil.copy(model, f"{tmp}/copy.gguf")
    _, report, _ = logits([model, model, f"{tmp}/copy.gguf"], tmp, "--layout", "1x3", "-t", "1")
    assert report["weights_received_bytes"] == 0, report
    for models in ([model, NOTHING, f"{tmp}/copy.gguf", NOTHING], [model, model, NOTHING, model]):
        got, report, _ = logits(models, tmp, "--layout", "2x2", "-t", "1")
        assert got == want and report["weights_received_bytes"] > 0, report
    # Another file under the name: said, and not used.
    data = bytearray(pathlib.Path(model).read_bytes())
    data[len(data) // 2] ^= 1
    other = f"{tmp}/other.gguf"
    for what, content in (("cut", data[:-4096]), ("one bit of the header", None)):
        if content is None:
            content = bytearray(pathlib.Path(model).read_bytes())
            content[100] ^= 1
        pathlib.Path(other).write_bytes(content)
        got, report, text = logits([model, other], tmp, "--layout", "1x2", "-t", "1")
        assert got == want and report["weights_received_bytes"] > 0, report
        assert "rank 1" in text and "other.gguf is another file here" in text, text
        print(f"another file ({what}): taken as absent")


def check_flips(model, tmp):
    library = trireme.preload("flip", tmp)
    want = alone(model, tmp)
    # the sanitizer wants to be the first library, unless told
    preload = (f"LD_PRELOAD={library}", f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0")
    env = (*preload, "FLIP_FROM=2", "FLIP_COUNT=1")
    got, _, text = logits([model, NOTHING], tmp, "--layout", "1x2", "-t", "1", env=env)
    said = [line for line in text.splitlines() if "came damaged" in line]
    assert got == want and len(said) == 1, text
    assert "from rank 0 to rank 1" in said[0] and "rows " in said[0] and "blk." in said[0], said
    print(said[0])
    env = (*preload, "FLIP_FROM=0", "FLIP_COUNT=1000000")
    done, text = start([model, NOTHING, NOTHING], ["--logits", f"{tmp}/no.npy", "--layout", "1x3", "-t", "1"], env, False)
    ours = [line for line in text.splitlines() if "error:" in line]
    assert done.returncode == 1 and len(ours) == 1 and "again and again" in ours[0], text
    print(ours[0])


def check_protocol(model, tmp):
    """Asks that are none and answers that cannot go end the run of all with one error, at once."""
    library = trireme.preload("fault", tmp)
    preload = (f"LD_PRELOAD={library}", f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0")
    for fault, words in (("FAULT_ASK=3", "rank 1 asked for weights by a message of "), ("FAULT_ANSWER=3", "MPI_Isend of weights")):
        done, text = start([model, NOTHING, NOTHING], ["--logits", f"{tmp}/no.npy", "--layout", "1x3", "-t", "1"],
                           (*preload, fault), False)
        ours = [line for line in text.splitlines() if "error:" in line]
        assert done.returncode == 1 and len(ours) == 1 and words in ours[0], (fault, done.returncode, text)
        print(ours[0])


def check_late(model, tmp):
    """Who waits for weights that do not come says from whom, and goes on when they do."""
    env = (f"LD_PRELOAD={trireme.preload('fault', tmp)}", f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0",
           "FAULT_LATE=2", "TRIREME_PATIENCE=1")
    got, _, text = logits([model, NOTHING], tmp, "--layout", "1x2", "-t", "2", env=env)
    said = [line for line in text.splitlines() if "has sent no weights for" in line]
    waited = [float(line.partition("no weights for ")[2].split()[0]) for line in said]
    assert got == alone(model, tmp) and len(said) >= 2, text  # after 1 s, after 2 s; after 4 s on a busy machine
    assert all(seconds >= 2**i for i, seconds in enumerate(waited)) and len(said) <= 4, text
    assert "[rank 1]" in said[0] and "rank 0 on host" in said[0], said
    print(said[0])


def check_hint(model, tmp):
    """Rank 0 has no file: all end, and the text says who has one."""
    done, text = start([NOTHING, model], ["--logits", f"{tmp}/no.npy", "-t", "1"], check=False)
    ours = [line for line in text.splitlines() if "error:" in line]
    assert done.returncode == 3 and len(ours) == 1 and "rank 1 on" in ours[0], text
    print(ours[0])


def check_text(model, tmp):
    """A text for a model without a vocabulary is refused before its weights are sent."""
    args = ["run", "-p", "x", "-n", "1", "-t", "1"]
    parts = [[trireme.BINARY, *args, "-m", m] for m in (model, NOTHING)]
    command = [*trireme.MPIRUN, *(word for part in parts for word in (":", "-n", "1", *part))]
    command.remove(":")
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=60 * trireme.PATIENCE)
    assert done.returncode == 3 and "holds no vocabulary" in done.stderr, (done.returncode, done.stderr)
    assert "weights of 1 rank" not in done.stderr, done.stderr


with tempfile.TemporaryDirectory() as tmp:
    main = trireme.GOLDEN / "transformers/silu-tq2.gguf"
    check_model(main, tmp, SETTINGS)
    others = sorted(m for m in (trireme.GOLDEN / "transformers").glob("*.gguf") if m != main)
    others += sorted((trireme.GOLDEN / "directories").iterdir())
    others += sorted(d for d in (trireme.GOLDEN / "saved").iterdir() if d.is_dir())
    assert len(others) >= 10, others
    for i, model in enumerate(others):
        stages = trireme.run_json(["inspect", "-m", model])["n_layers"]
        fitting = [s for s in SETTINGS if int(s[1][0]) <= stages]
        check_model(model, tmp, [fitting[i % len(fitting)]])
    check_means(main, tmp)
    check_spread(main, tmp)
    check_hint(main, tmp)
    check_text(main, tmp)
    check_flips(main, tmp)
    check_protocol(main, tmp)
    check_late(main, tmp)
