# Hugging Face directories with norms in front of each ternary matrix and biases of all, against transformers.
# timeout: 180
# labels: mpi
"""The directories and the logits were made by make_directories.py. The difference's root mean square stays below
a thousandth of the logits' standard deviation; layouts, threads and CPU variants give the same bytes; conversion
keeps the biases, and refuses the norms, for which GGUF has no form."""
import json
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme


def distance(want, got):
    want, got = trireme.floats(want), trireme.floats(got)
    assert len(want) == len(got)
    n = len(want)
    mean = sum(want) / n
    return (sum((a - b) ** 2 for a, b in zip(want, got)) / sum((v - mean) ** 2 for v in want)) ** 0.5


def refused(args, *words):
    done = trireme.run(args, check=False)
    text = done.stderr.decode()
    assert done.returncode == 3 and all(w in text for w in words), (args, done.returncode, text)


cases = sorted((trireme.GOLDEN / "directories").iterdir())
assert len(cases) == 3, cases
with tempfile.TemporaryDirectory() as tmp:
    out = f"{tmp}/out.npy"
    for folder in cases:
        ids = (folder / "ids").read_text().strip()
        want = trireme.read_npy(folder / "logits.npy")[2]
        got = trireme.logits(folder, ids, out, 1, "-t", "1")[2]
        print(f"{folder.name}: rms difference {distance(want, got):.1e} of the standard deviation")
        assert distance(want, got) < 1e-3, folder.name
        for ranks, options in ((1, ("-t", "3", "-b", "7")), (1, ("-t", "1", "--cpu", "ref")),
                               (3, ("-t", "1", "--layout", "1x3")), (4, ("-t", "2", "--layout", "2x2"))):
            assert trireme.logits(folder, ids, out, ranks, *options)[2] == got, (folder.name, options)
        if folder.name.startswith("rms"):
            refused(["convert", folder, f"{tmp}/no.gguf"], "no architecture of GGUF")
            continue
        report = trireme.run_json(["convert", folder, f"{tmp}/out.gguf"])
        assert report["arch"] == "llama" and report["f16_tensors"] == 14, report
        far = distance(got, trireme.logits(f"{tmp}/out.gguf", ids, out, 1, "-t", "1")[2])
        print(f"{folder.name}, converted: {far:.1e}")
        assert far < 0.1, folder.name

    # What would change the result is never passed over: a norm that is missing, one that nobody announced.
    rms = trireme.GOLDEN / "directories/rms-online"
    config = json.loads((rms / "config.json").read_text())
    shutil.copytree(rms, f"{tmp}/plain")
    config["quantization_config"]["use_rms_norm"] = False
    pathlib.Path(tmp, "plain/config.json").write_text(json.dumps(config))
    refused(["inspect", "-m", f"{tmp}/plain"], "rms_norm", "does not belong")
    shutil.copytree(trireme.GOLDEN / "directories/bias-offline", f"{tmp}/more")
    config = json.loads(pathlib.Path(tmp, "more/config.json").read_text())
    config["quantization_config"]["use_rms_norm"] = True
    pathlib.Path(tmp, "more/config.json").write_text(json.dumps(config))
    refused(["inspect", "-m", f"{tmp}/more"], "rms_norm.weight is missing")
