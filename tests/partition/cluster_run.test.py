"""run and bench --cluster: ranks that are started already get the layout that the file makes fastest, and
the same text as without it."""
# ranks: 2
# labels: mpi
import json
import pathlib
import socket
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import trireme

ASK = ["run", "-m", trireme.DEFAULT_MODEL, "-p", "Once upon a time", "-n", "12", "--temp", "0", "-t", "1", "--json"]


def cluster(folder, name, **network):
    path = pathlib.Path(folder, name)
    node = {"mem": "4G", "membw_gbs": 5}
    path.write_text(json.dumps({"nodes": [{**node, "name": "a"}, {**node, "name": "b"}], **network}))
    return path


with tempfile.TemporaryDirectory() as tmp:
    fast = cluster(tmp, "fast.json", latency_us=0.01, net_gbit=100000)
    slow = cluster(tmp, "slow.json", latency_us=5000, net_gbit=1)
    plain = json.loads(trireme.run(ASK).stdout)
    for path, layout in ((fast, "1x2"), (slow, "2x1")):
        done = trireme.run([*ASK, "--cluster", path], ranks=2)
        got = json.loads(done.stdout)
        assert got["layout"] == layout, (path, got["layout"])
        assert b"it names no host of these ranks" in done.stderr, done.stderr
        assert got["tokens"] == plain["tokens"] and got["text"] == plain["text"], (path, got, plain)
    # What was asked for is kept.
    got = json.loads(trireme.run([*ASK, "--cluster", fast, "--layout", "2x1"], ranks=2).stdout)
    assert got["layout"] == "2x1" and got["tokens"] == plain["tokens"]
    # Ranks on a host that the file names, with fewer nodes and ranks than it has; and with another count of ranks.
    node = {"mem": "4G", "membw_gbs": 5}
    here = {**node, "name": socket.gethostname(), "ranks": 2}
    some = pathlib.Path(tmp, "some.json")
    some.write_text(json.dumps({"nodes": [{**node, "name": "other"}, here], "latency_us": 5000, "net_gbit": 1}))
    done = trireme.run([*ASK, "--cluster", some], ranks=2)
    assert json.loads(done.stdout)["tokens"] == plain["tokens"] and b"warning" not in done.stderr, done.stderr
    assert b"names no host" not in done.stderr, done.stderr
    done = trireme.run([*ASK, "--cluster", some], ranks=3, check=False)
    assert done.returncode == 0 and b"has 2 in it, and 3 here" in done.stderr, done.stderr
    here["ranks"] = 4
    some.write_text(json.dumps({"nodes": [here]}))
    done = trireme.run([*ASK, "--cluster", some], ranks=2, check=False)
    want = f"has 4 ranks, but 2 were started ({socket.gethostname()} has 4 in it, and 2 here)"
    assert done.returncode == 2 and want.encode() in done.stderr, done.stderr
    # One rank without mpirun has a host, too.
    here["ranks"] = 1
    some.write_text(json.dumps({"nodes": [{**node, "name": "other"}, here], "latency_us": 5000, "net_gbit": 1}))
    done = trireme.run([*ASK, "--cluster", some])
    assert json.loads(done.stdout)["tokens"] == plain["tokens"] and b"names no host" not in done.stderr, done.stderr
    # A file of another cluster, and none.
    done = trireme.run([*ASK, "--cluster", fast], check=False)
    assert done.returncode == 2 and b"has 2 ranks, but 1 was started" in done.stderr, done.stderr
    done = trireme.run([*ASK, "--cluster", pathlib.Path(tmp, "none.json")], check=False)
    assert done.returncode == 1 or done.returncode == 3, done.returncode
    assert b"none.json" in done.stderr, done.stderr
