"""Container files and Apptainer definitions: read into stages, and run in chroots over overlays."""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


class Stage:
    """steps: ("run", SCRIPT, FOLDER), ("copy", STAGE or None, SOURCES, TARGET), in order. Other facts: a dictionary."""

    def __init__(self, base):
        self.base, self.name, self.steps, self.facts = base, None, [], {}

    def scripts(self):
        return [step[1] for step in self.steps if step[0] == "run"]

    def packages(self):
        """What its steps install by apt-get."""
        found = re.search(r"apt-get install(.*?)&&", " ".join(self.scripts()), re.S)
        return {w for w in found[1].replace("\\\n", " ").split() if not w.startswith("-")}


def containerfile(text):
    """The instructions that ours use, and no others."""
    stages, folder = [], "/"
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "FROM":
            stages.append(Stage(rest.split()[0]))
            stages[-1].name = rest.split()[2] if " AS " in rest else None
            folder = "/"
        elif word == "RUN":
            stages[-1].steps.append(("run", rest, folder))
        elif word == "COPY":
            source = re.match(r"--from=(\S+)\s+", rest)
            *what, target = rest[source.end() if source else 0:].split()
            stages[-1].steps.append(("copy", source and source[1], what, os.path.join(folder, target)))
        elif word == "WORKDIR":
            folder = stages[-1].facts["WORKDIR"] = rest
        elif word == "ENV":
            stages[-1].facts.setdefault("ENV", {}).update([rest.split("=", 1)])
        elif word in ("USER", "CMD"):
            stages[-1].facts[word] = rest
        else:
            raise ValueError(f"Containerfile: instruction {word}")
    return stages


def definition(text):
    """Header keys and sections as Apptainer's manual lists them."""
    stages, section = [], None
    for line in text.splitlines():
        if line.startswith("%"):
            section, *words = line[1:].split()
            if section not in ("files", "post", "environment", "runscript", "test", "help", "labels"):
                raise ValueError(f"definition: section %{section}")
            stages[-1].facts[section] = (words, [])
        elif line.startswith("Bootstrap:"):
            stages.append(Stage(None))
            section = None
            if line.split()[1] != "docker":
                raise ValueError(f"definition: {line}")
        elif section is None and line.strip() and not line.startswith("#"):
            key, _, value = line.partition(": ")
            if key not in ("From", "Stage"):
                raise ValueError(f"definition: header {key}")
            setattr(stages[-1], {"From": "base", "Stage": "name"}[key], value)
        elif section is not None and line.strip():
            stages[-1].facts[section][1].append(line.strip())
    for stage in stages:
        words, lines = stage.facts.get("files", ([], []))
        if words and (words[0] != "from" or len(words) != 2):
            raise ValueError(f"definition: %files {words}")
        stage.steps = [("copy", words[1] if words else None, [line.split()[0]], line.split()[1]) for line in lines]
        stage.steps.append(("run", "\n".join(["set -e", *stage.facts["post"][1]]), "/")) # after all files
    return stages


class Root:
    """A folder to chroot into: an overlay over `lower`, with /proc, /dev, /sys. In a mount namespace of our own."""

    def __init__(self, folder, lower):
        self.upper, self.path = folder / "upper", folder / "root"
        for part in (self.upper, self.path, folder / "work"):
            part.mkdir(parents=True)
        options = f"lowerdir={lower},upperdir={self.upper},workdir={folder}/work"
        mount("-t", "overlay", "-o", options, "overlay", self.path)
        mount("-t", "proc", "proc", self.path / "proc")
        mount("--rbind", "/dev", self.path / "dev")
        mount("--rbind", "/sys", self.path / "sys")
        policy = self.path / "usr/sbin/policy-rc.d" # as in container images: packages start no daemons
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        accounts = [line.split(":") for line in (self.path / "etc/passwd").read_text().splitlines()]
        people = {a[0] for a in accounts if 1000 <= int(a[2]) < 65000} # images have none
        for name in ("passwd", "group", "shadow", "gshadow"):
            file = self.path / "etc" / name
            if file.exists():
                lines = file.read_text().splitlines(True)
                file.write_text("".join(line for line in lines if line.split(":")[0] not in people))
        shutil.copy("/etc/resolv.conf", self.path / "etc/resolv.conf") # this and hosts: from what runs containers
        (self.path / "etc/hosts").write_text("127.0.0.1 localhost\n")

    def command(self, args, user=None, folder="/", env=None):
        """The command line that runs args in it; the network is the loopback alone for users other than root."""
        inside = ["chroot", *([f"--userspec={user}"] if user else []), self.path, "env", "-i", "-C", folder,
                  *(f"{k}={v}" for k, v in (CLEAN | (env or {})).items()), *args]
        if user is None:
            return list(map(str, inside))
        return ["unshare", "--net", "sh", "-c", "ip link set lo up && exec " + shlex.join(map(str, inside))]

    def run(self, *args, seconds=600, **how):
        """Run it; both outputs together. Another status than 0 ends the test."""
        done = subprocess.run(self.command(args, **how), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds, text=True)
        if done.returncode != 0:
            sys.exit(f"exit status {done.returncode} of {shlex.join(map(str, args))}\n{done.stdout[-4000:]}")
        return done.stdout

    def build(self, stage, others, sources, contents):
        """The steps of a stage. others: roots by stage. sources: where the files lie. contents: whether a copied folder's
        contents go into the target, as COPY has it, or the folder becomes it."""
        for kind, *step in stage.steps:
            if kind == "run":
                script, folder = step
                self.run("sh", "-c", script, folder=folder)
                print(f"ran: {script.splitlines()[-1][:90]}", flush=True)
                continue
            origin, what, target = step
            base = others[origin].path if origin else sources
            for name in what:
                source, to = pathlib.Path(base, name.lstrip("/")), self.path / target.lstrip("/")
                to.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir() and to.is_dir() and not contents:
                    raise ValueError(f"{target} is there before {name} is copied: a folder in a folder")
                if source.is_dir():
                    shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)
                else:
                    shutil.copy(source, to)


def mount(*args):
    subprocess.run(["mount", *map(str, args)], check=True)
