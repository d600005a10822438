#!/usr/bin/env python3
"""How long a 2B-4T-shaped Hugging Face directory takes to load on two ranks, and what each rank holds.

    python3 load_2b.py TRIREME DIR [--rounds N] [--cold]        DIR as make_hf_2b.py writes it

In turns: two processes read half of the file each into fresh memory, the floor of any loader; then
`trireme bench` on 2 ranks of one thread. --cold drops the file from the page cache before each (posix_fadvise).
Packing is the processor time of the load in user mode (page faults and reads count as system time); MPI's start
is part of it. Prints medians and the bound 1.5 x (reading + packing), by the clock and in processor time, which
a busy machine does not stretch, and each rank's peak memory beside its share.
"""
import argparse
import json
import mmap
import os
import pathlib
import resource
import shlex
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

MIB = 1 << 20


def forget(file):
    with open(file, "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_part(file, begin, end):
    with open(file, "rb", buffering=0) as f, mmap.mmap(-1, end - begin) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        f.seek(begin)
        view, done = memoryview(memory), 0
        while done < end - begin:
            done += f.readinto(view[done:done + 16 * MIB])
        view.release()


def used():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime, u.ru_stime


def read_time(file):
    """Seconds by the clock, and of the processor."""
    size = os.path.getsize(file)
    before, begin = sum(used()), time.monotonic()
    children = []
    for half in range(2):
        pid = os.fork()
        if pid == 0:
            read_part(file, size * half // 2, size * (half + 1) // 2)
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    return time.monotonic() - begin, sum(used()) - before


def load(binary, folder):
    """What bench says, and seconds of the processor: user, user and system."""
    command = trireme.MPIRUN + ["-n", "2", binary, "bench", "-m", folder, "-p", "1", "-n", "0", "-r", "1", "-t", "1",
                                "--no-warmup", "-o", "json"]
    before = used()
    done = subprocess.run(command, capture_output=True, text=True)
    after = used()
    if done.returncode != 0:
        sys.exit(f"{shlex.join(command)}\n{done.stderr}")
    value = json.loads(done.stdout)
    return (value[0] if isinstance(value, list) else value), after[0] - before[0], sum(after) - sum(before)


def verdict(what, read, pack, took):
    bound = 1.5 * (read + pack)
    print(f"{what}: reading {read:.2f} s + packing {pack:.2f} s, times 1.5: {bound:.2f} s; load {took:.2f} s: "
          f"{'PASS' if took <= bound else 'FAIL'}")


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("trireme")
    args.add_argument("dir")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--cold", action="store_true")
    args = args.parse_args()
    file = os.path.join(args.dir, "model.safetensors")
    rows = []
    for _ in range(args.rounds):
        if args.cold:
            forget(file)
        read, read_cpu = read_time(file)
        if args.cold:
            forget(file)
        result, user, cpu = load(args.trireme, args.dir)
        rows.append((read, read_cpu, result["load_s"], user, cpu))
        print("read {:.2f} s (processor {:.2f})   load {:.2f} s (user {:.2f}, processor {:.2f})".format(*rows[-1]),
              flush=True)
    read, read_cpu, took, user, cpu = (statistics.median(column) for column in zip(*rows))
    verdict("by the clock", read, user / 2, took)
    verdict("processor time", read_cpu, user, cpu)
    for rank, peak in enumerate(result["memory_per_rank"]):
        share = result["weight_bytes"] / 2
        print(f"rank {rank}: peak {peak / MIB:.0f} MiB, half of the weights {share / MIB:.0f} MiB, "
              f"{100 * (peak / share - 1):+.1f} %: {'PASS' if peak <= 1.1 * share + 64 * MIB else 'FAIL'}")


if __name__ == "__main__":
    main()
