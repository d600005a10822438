# tests/bench/memory: a line for each rank, limits as plan counts them, and status 1 where a rank is over.
# timeout: 180
# ranks: 4
# labels: mpi
# sanitize: no
import shlex
import subprocess
import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme


def table(*options):
    command = [trireme.SOURCE / "tests/bench/memory", trireme.DEFAULT_MODEL, "-p", "64", "--layouts", "1x2", "--trireme",
               trireme.BINARY, "--mpirun", shlex.join(trireme.MPIRUN), *options]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()[2:]]
    assert [r[:2] for r in rows] == [["1x2", "0"], ["1x2", "1"]], done.stdout + done.stderr
    return done.returncode, [list(map(float, r[2:])) for r in rows], done.stderr


status, rows, err = table()
assert status == 0, err
for shard, kv, limit, peak, anonymous, share in rows:
    assert abs(limit - (1.05 * (shard + kv) + 64)) < 0.2 and abs(share - peak / limit) < 0.01, rows
    assert kv == 0.2, rows # 5 layers, 64 positions, 2 of the 4 heads of 32 floats, keys and values: 0.16 MiB
    assert anonymous < peak, rows
status, rows, err = table("--slack-mib", "0")  # no process is as small as these shards
assert status == 1 and "2 over the limit" in err and all(r[-1] > 1 for r in rows), (status, rows, err)
