# launch/systemd: systemd takes the installed unit, and its ExecStart with the example's file does the job.
# labels: mpi
# sanitize: no
import json
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
import launching
import trireme


def verify(unit, tmp):
    """What systemd says of the unit; nothing when all is well."""
    path = tmp / "units/trireme@bench.service"
    path.parent.mkdir(exist_ok=True)
    path.write_text(unit)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, timeout=60,
                          env=os.environ | {"SYSTEMD_LOG_LEVEL": "warning"})
    said = [line for line in done.stderr.splitlines() if "trireme@" in line]
    return said or ([done.stderr] if done.returncode != 0 else [])


def settings(text, key):
    return [line.split("=", 1)[1] for line in text.splitlines() if line.startswith(key + "=")]


def job(unit, conf, tmp):
    """The command line and the variables that systemd would make of them (systemd.service: ${NAME} is a word, $NAME
    is split, quotes are respected)."""
    variables = {}
    for line in settings(unit, "Environment") + [c for c in conf.splitlines() if c and not c.startswith("#")]:
        name, value = shlex.split(line)[0].split("=", 1)
        variables[name] = value
    (tmp / "hosts").write_text("localhost slots=2\n")
    variables |= {"SUBNET": "127.0.0.0/8", "HOSTS": str(tmp / "hosts")}
    for ours, theirs in ((str(trireme.DEFAULT_MODEL), "/srv/models/model.gguf"), ("-p 32", "-p 512"), ("-n 8", "-n 128"),
                         ("-r 2 -t 1", "-r 5")):
        assert theirs in variables["COMMAND"], variables["COMMAND"]
        variables["COMMAND"] = variables["COMMAND"].replace(theirs, ours)
    (start,) = settings(unit, "ExecStart")
    words = []
    for word in start.split():
        if word.startswith("${"):
            words.append(variables[word[2:-1]])
        elif word.startswith("$"):
            words += shlex.split(variables[word[1:]])
        else:
            words.append(word)
    return words, variables


def run(tmp):
    prefix = tmp / "prefix"
    launching.command(["cmake", "--install", launching.BUILD, "--prefix", prefix], "cmake --install")
    folder = prefix / "share/trireme/launch/systemd"
    unit = (folder / "trireme@.service").read_text()
    said = verify(unit, tmp)
    assert not said, said
    for old, new in (("ExecStart=", "ExecStrat="), ("mpirun-ethernet.sh", "no-such-file.sh"), ("KillMode=mixed", "KillMode=x"),
                     ("RestartSec=10", "RestartSec=ten"), ("LimitMEMLOCK=infinity", "LimitMEMLOCK=lots")):
        assert old in unit and verify(unit.replace(old, new), tmp), f"systemd finds nothing wrong with {new}"
    words, variables = job(unit, (folder / "bench.conf").read_text(), tmp)
    assert words[0].startswith(str(prefix)) and variables["TRIREME"].startswith(str(prefix)), (words, variables)
    out, err = launching.command(words, "ExecStart", launching.environment(**variables))
    assert [json.loads(line)["ranks"] for line in out.splitlines()] == [2, 2], out + err
    print(f"ExecStart: {shlex.join(words[1:])}: {out.count(chr(10))} lines")


launching.need("systemd", "systemd-analyze")
with tempfile.TemporaryDirectory() as folder:
    run(pathlib.Path(folder))
