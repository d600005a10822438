# sanitize: no
"""Every header of a room compiles alone."""

import json
import os
import shlex
import subprocess

import tree


def commands():
    """The compiler of this build, and where each folder's files look for headers of libraries."""
    path = os.path.join(tree.BUILD, "compile_commands.json")
    compiler, folders = "cc", {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            for entry in json.load(f):
                words = shlex.split(entry["command"])
                compiler = words[0]
                flags = [f for i, w in enumerate(words) if w == "-isystem"
                         for f in words[i:i + 2]]
                folder = os.path.dirname(os.path.relpath(entry["file"], tree.ROOT))
                folders.setdefault(folder, flags)
    return compiler, folders


def main():
    findings = tree.Findings("header")
    compiler, folders = commands()
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
             "-Wstrict-prototypes", "-Wundef", "-Werror", "-fsyntax-only", "-I", tree.ROOT]
    headers = tree.files(".h")
    for path in headers:
        if "/arm/" in path or "/x86/" in path:
            continue  # wants the flags of its instruction set
        libraries = folders.get(os.path.dirname(path), [])
        run = subprocess.run([compiler, *flags, *libraries, "-x", "c", "-"], text=True,
                             capture_output=True,
                             input=f'#include "{path}"\ntypedef int tidy_not_empty;\n')
        if run.returncode != 0:
            findings.add("header", path, 1, "does not compile alone:\n" + run.stderr.strip())
    findings.finish(f"{len(headers)} headers")


main()
