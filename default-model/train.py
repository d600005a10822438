#!/usr/bin/env python3
"""Train the bundled story model on a CPU.

    train.py --data DIR --out DIR --minutes 100      (DIR as written by prepare.py)

The schedule runs on the clock (--minutes) or on steps (--steps): warm-up, a constant rate, then a
linear decay to zero. Hidden matrices learn by Muon, the embedding and the norms by Adam. A run
that was stopped (SIGTERM) or killed goes on from the last checkpoint in --out.
"""

import argparse
import json
import math
import os
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from heldback import split_stories
from model import Config, Model

TOKENS_PER_STEP = 8192
TOKENS_PER_PASS = 1024
LONG_ROWS_FROM = 0.70  # rows are 256 tokens long before this part of the run, 512 after it
DECAY_FROM = 0.60
WARM_UP = 0.015


def shares(progress):
    """The share of rows that each source gives; real stories grow until they begin to be learnt by heart."""
    late = max(0.0, (progress - 0.35) / 0.65)
    real = 0.12 + 0.26 * late
    plain = 0.10 * late
    prompted = 0.22
    if progress > 0.89:
        real, plain, prompted = 0.14, 0.05, 0.38
    books = 0.04 if progress < 0.55 else 0.0
    rest = 1 - real - plain - prompted - books
    return {"real": real, "plain": plain, "prompted": prompted, "books": books, "sampled": rest}


class Source:
    """Endless rows of whole stories, in a new order every epoch; a row begins with a story's start."""

    def __init__(self, ids, starts, rng):
        self.ids, self.starts, self.rng = ids, starts, rng
        self.order, self.epochs = [], 0

    def story(self):
        if not self.order:
            self.order = list(self.rng.permutation(len(self.starts) - 1))
            self.epochs += 1
        i = self.order.pop()
        return self.ids[self.starts[i]:self.starts[i + 1]]

    def row(self, length):
        parts, total = [], 0
        while total < length:
            parts.append(self.story())
            total += len(parts[-1])
        return np.concatenate(parts)[:length]


def load_sources(path, rng):
    data = np.load(path)
    names = [n for n in data.files if not n.endswith("_starts")]
    return {n: Source(data[n], data[n + "_starts"], rng) for n in names}


def batch(sources, progress, length, rng):
    """Ids [TOKENS_PER_STEP / length, length + 1]."""
    mix = {n: s for n, s in shares(progress).items() if n in sources}
    weights = np.array(list(mix.values())) / sum(mix.values())
    names = rng.choice(list(mix), TOKENS_PER_STEP // length, p=weights)
    rows = [sources[n].row(length + 1) for n in names]
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def orthogonalise(g):
    """Newton-Schulz iteration of Muon on a stack of matrices: singular values near 1."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True).bfloat16() + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


class Muon:
    """Momentum, orthogonalised per matrix; matrices of one shape are handled as one stack.

    The processes share out each stack; gradients are the sum of what all processes found.
    """

    def __init__(self, params, momentum=0.95, decay=0.05):
        self.momentum, self.decay, self.groups = momentum, decay, {}
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.velocity = {s: torch.zeros(len(ps), *s).share_memory_() for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate, gradient, rank, ranks):
        for shape, params in self.groups.items():
            params, v = params[rank::ranks], self.velocity[shape][rank::ranks]
            g = torch.stack([gradient(p) for p in params])
            v.lerp_(g, 1 - self.momentum)
            update = orthogonalise(g.lerp(v, self.momentum)) * max(1, shape[0] / shape[1]) ** 0.5
            for p, u in zip(params, update):
                p.mul_(1 - rate * self.decay).sub_(u, alpha=rate)


def rate_factor(progress):
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.02)
    return min(1.0, max(0.0, (1 - progress) / (1 - DECAY_FROM)))


def validation_set(folder, context):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [s.strip("\n") for s in split_stories((folder / "valid.txt").read_text(encoding="utf8"))]
    stories = []
    for text in filter(None, texts):
        ids = [0] + tokenizer.encode(text).ids
        if len(ids) <= context:
            stories.append((torch.tensor(ids), len(text.encode())))
    return stories


@torch.no_grad()
def bits_per_byte(model, stories):
    """Every story alone after BOS, a few at a time, padded at the end."""
    nats = size = 0
    for i in range(0, len(stories), 8):
        part = stories[i:i + 8]
        ids = torch.nn.utils.rnn.pad_sequence([s for s, _ in part], batch_first=True, padding_value=-100)
        logits = model(ids[:, :-1].clamp_min(0)).float()
        nats += F.cross_entropy(logits, ids[:, 1:].reshape(-1), reduction="sum").item()
        size += sum(n for _, n in part)
    return nats / math.log(2) / size


def save(path, state):
    """Write whole or not at all."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


class Crew:
    """What the processes of a run share: parameters, gradients, this step's rows and the queue of passes.

    One process per core, each single-threaded, and passes handed out as they are done: on a machine
    that others use too, threads that meet at every matrix product would mostly wait.
    """

    def __init__(self, model, ranks):
        self.model, self.ranks = model.share_memory(), ranks
        named = list(model.named_parameters())
        self.matrices = [p for n, p in named if p.ndim == 2 and "token_embd" not in n]
        self.others = [p for n, p in named if p.ndim == 1 or "token_embd" in n]
        self.muon = Muon(self.matrices)
        self.gradients = [[torch.zeros_like(p).share_memory_() for p in model.parameters()] for _ in range(ranks)]
        self.rows = {n: torch.zeros(TOKENS_PER_STEP // n, n + 1, dtype=torch.long).share_memory_() for n in (256, 512)}
        self.losses = torch.zeros(ranks).share_memory_()
        self.order = torch.zeros(2, dtype=torch.float64).share_memory_()  # row length, rate; length 0: stop
        context = torch.multiprocessing.get_context("spawn")
        self.queue, self.barrier = context.Value("i", 0), context.Barrier(ranks)

    def next_pass(self):
        with self.queue.get_lock():
            self.queue.value += 1
            return self.queue.value - 1

    def gradient(self, index):
        return sum(g[index] for g in self.gradients)

    def passes(self, rank, loss_of):
        """Take passes from the queue until none is left; leave loss and gradients."""
        length = int(self.order[0])
        parts = self.rows[length].split(TOKENS_PER_PASS // length)
        for p, g in zip(self.model.parameters(), self.gradients[rank]):
            p.grad = g.zero_()
        total, i = 0.0, self.next_pass()
        while i < len(parts):
            loss = loss_of(parts[i]) / len(parts)
            loss.backward()
            total, i = total + loss.item(), self.next_pass()
        self.losses[rank] = total

    def step(self, rank, loss_of, adam=None):
        """One step, called by every process at once; False when the run is over."""
        self.barrier.wait()
        if not self.order[0]:
            return False
        self.passes(rank, loss_of)
        self.barrier.wait()
        index = {id(p): i for i, p in enumerate(self.model.parameters())}
        self.muon.step(float(self.order[1]), lambda p: self.gradient(index[id(p)]), rank, self.ranks)
        if adam:
            for p in self.others:
                p.grad = self.gradient(index[id(p)])
            adam.step()
        self.barrier.wait()
        return True


def loss_function(model, compiled):
    def loss_of(ids):
        logits = model(ids[:, :-1])
        return F.cross_entropy(logits.float(), ids[:, 1:].reshape(-1))
    return torch.compile(loss_of, dynamic=False) if compiled else loss_of


def helper(crew, rank, compiled):
    """The life of a process other than the first."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    loss_of = loss_function(crew.model, compiled)
    while crew.step(rank, loss_of):
        pass


class Run:
    def __init__(self, args):
        self.args = args
        torch.manual_seed(args.seed)
        torch.set_num_threads(1)
        self.rng = np.random.default_rng(args.seed)
        self.sources = load_sources(args.data / "corpus.npz", self.rng)
        tokenizer = Tokenizer.from_file(str(args.data / "tokenizer.json"))
        self.model = Model(Config(vocab_size=tokenizer.get_vocab_size(), layers=args.layers, ffn=args.ffn))
        self.valid = validation_set(args.data, self.model.config.context)
        self.crew = Crew(self.model, args.processes)
        self.adam = torch.optim.Adam(self.crew.others, lr=args.adam_rate, betas=(0.9, 0.95), eps=1e-10)
        self.step, self.elapsed, self.stopped = 0, 0.0, False
        self.loss_of = loss_function(self.model, args.compile)
        self.path = args.out / "checkpoint.pt"
        if self.path.exists():
            self.resume()
        for rank in range(1, args.processes):
            process = torch.multiprocessing.get_context("spawn").Process(
                target=helper, args=(self.crew, rank, args.compile), daemon=True)
            process.start()

    def state(self):
        return {"model": self.model.state_dict(), "adam": self.adam.state_dict(), "muon": self.crew.muon.velocity,
                "config": self.model.config.as_dict(), "step": self.step, "elapsed": self.elapsed}

    def resume(self):
        state = torch.load(self.path, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        for shape, v in self.crew.muon.velocity.items():
            v.copy_(state["muon"][shape])
        self.step, self.elapsed = state["step"], state["elapsed"]
        self.rng.bit_generator.state = np.random.default_rng(self.args.seed + self.step).bit_generator.state
        print(f"resumed at step {self.step}", flush=True)

    def progress(self):
        if self.args.steps:
            return self.step / self.args.steps
        return self.elapsed / (60 * self.args.minutes)

    def one_step(self):
        progress = self.progress()
        length = 256 if progress < LONG_ROWS_FROM else 512
        self.crew.rows[length].copy_(batch(self.sources, progress, length, self.rng))
        factor = rate_factor(progress)
        self.crew.order.copy_(torch.tensor([length, self.args.muon_rate * factor]))
        self.crew.queue.value = 0
        for group in self.adam.param_groups:
            group["lr"] = self.args.adam_rate * factor
        self.crew.step(0, self.loss_of, self.adam)
        self.step += 1
        return float(self.crew.losses.sum())

    def report(self, loss, tokens_per_second):
        epochs = " ".join(f"{n} {s.epochs}" for n, s in self.sources.items())
        print(json.dumps({"step": self.step, "minutes": round(self.elapsed / 60, 2),
                          "progress": round(self.progress(), 4), "loss": round(loss, 4),
                          "tokens_per_second": round(tokens_per_second), "epochs": epochs}), flush=True)

    def validate(self):
        self.model.eval()
        print(json.dumps({"step": self.step, "valid_bits_per_byte": round(bits_per_byte(self.model, self.valid), 4)}),
              flush=True)
        self.model.train()

    def stop(self, *_):
        self.stopped = True

    def train(self):
        signal.signal(signal.SIGTERM, self.stop)
        saved = logged = time.monotonic()
        losses, start = [], time.monotonic() - self.elapsed
        while self.progress() < 1 and not self.stopped:
            losses.append(self.one_step())
            self.elapsed = time.monotonic() - start
            if len(losses) == 20:
                now = time.monotonic()
                self.report(sum(losses) / 20, 20 * TOKENS_PER_STEP / (now - logged))
                losses, logged = [], now
            if time.monotonic() - saved > 60 * self.args.save_minutes:
                self.validate()
                save(self.path, self.state())
                saved = time.monotonic()
        self.crew.order.zero_()
        self.crew.barrier.wait()
        self.validate()
        save(self.path, self.state())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--ffn", type=int, default=768)
    parser.add_argument("--muon-rate", type=float, default=0.03)
    parser.add_argument("--adam-rate", type=float, default=0.005)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    Run(args).train()


if __name__ == "__main__":
    main()
