"""What the tidy tests share: the files of the project, their rooms, the list of exceptions."""

import os
import re
import subprocess
import sys

ROOT = os.environ.get("TRIREME_SOURCE") or os.path.abspath(
    os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("TRIREME_BUILD") or os.path.join(ROOT, "build", "release")
EXCEPTIONS = "tests/tidy/exceptions.txt"

ROOMS = ["worker/kernels", "base", "proto", "model", "comm", "partition", "worker", "coordinator",
         "quantize", "launch", "tests", "default-model"]


def files(*suffixes):
    """Paths from the root of all files that are, or would be, in the repository."""
    try:
        out = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"],
                             capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        out = []
        for folder, folders, names in os.walk(ROOT):
            folders[:] = [d for d in folders if d not in ("build", ".git", "__pycache__")]
            out += [os.path.relpath(os.path.join(folder, n), ROOT) for n in names]
    return sorted({p for p in out
                   if p.endswith(suffixes) and os.path.isfile(os.path.join(ROOT, p))})


def sources():
    return files(".c", ".h", ".inc", ".def")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def room(path):
    for name in ROOMS:
        if path.startswith(name + "/"):
            return name
    return None


def code_only(text):
    """The text with comments and the insides of strings blanked, line breaks kept."""
    def blank(match):
        piece = match.group(0)
        if piece[0] in "\"'":
            return piece[0] + " " * (len(piece) - 2) + piece[0]
        return re.sub(r"[^\n]", " ", piece)
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


class Findings:
    """Collects findings of some rules; an exception that excuses nothing is a finding itself."""

    def __init__(self, *rules):
        self.rules = rules
        self.found = []
        self.excused = {}  # (rule, path, detail or None) -> used
        for number, line in enumerate(read(EXCEPTIONS).splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = re.match(r"(\w+)\s+([^\s:]+)(?::(\S+))?\s+(\S.*)$", line)
            if not match or len(match.group(4).split()) < 3:
                self.found.append(f"{EXCEPTIONS}:{number}: want: RULE PATH[:DETAIL] REASON")
            elif match.group(1) in rules:
                self.excused[match.group(1, 2, 3)] = False

    def add(self, rule, path, line, text, detail=None):
        for key in ((rule, path, detail), (rule, path, None)):
            if key in self.excused:
                self.excused[key] = True
                return
        self.found.append(f"{path}:{line}: {rule}: {text}")

    def finish(self, checked):
        for (rule, path, detail), used in self.excused.items():
            if not used:
                what = path + (":" + detail if detail else "")
                self.found.append(f"{EXCEPTIONS}: '{rule} {what}' excuses nothing; remove it")
        print("\n".join(self.found) if self.found else f"{checked}: clean")
        sys.exit(1 if self.found else 0)


def skip(reason):
    print(reason)
    sys.exit(77)
