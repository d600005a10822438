# sanitize: no
"""Every header of a room compiles alone."""

import json
import os
import subprocess

import tree


def compiler():
    """The compiler of this build."""
    path = os.path.join(tree.BUILD, "compile_commands.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            commands = json.load(f)
        if commands:
            return commands[0]["command"].split()[0]
    return "cc"


def main():
    findings = tree.Findings("header")
    flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion",
             "-Wstrict-prototypes", "-Wundef", "-Werror", "-fsyntax-only", "-I", tree.ROOT,
             "-isystem", os.path.join(tree.BUILD, "generated"), "-x", "c", "-"]
    headers = tree.files(".h")
    command = compiler()
    for path in headers:
        if "/arm/" in path or "/x86/" in path:
            continue  # wants the flags of its instruction set
        run = subprocess.run([command, *flags], text=True, capture_output=True,
                             input=f'#include "{path}"\ntypedef int tidy_not_empty;\n')
        if run.returncode != 0:
            findings.add("header", path, 1, "does not compile alone:\n" + run.stderr.strip())
    findings.finish(f"{len(headers)} headers")


main()
