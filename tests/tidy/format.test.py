# sanitize: no
"""clang-format would change nothing:  clang-format -i FILE  mends a finding."""

import re
import shutil
import subprocess

import tree

VERSION = 14  # versions differ in what they align; Debian 12 brings this one


def main():
    findings = tree.Findings("format")
    tool = shutil.which(f"clang-format-{VERSION}") or shutil.which("clang-format")
    text = subprocess.run([tool, "--version"], capture_output=True, text=True).stdout if tool else ""
    version = re.search(r"version (\d+)", text)
    if not version or int(version.group(1)) != VERSION:
        tree.skip(f"missing tool: clang-format {VERSION}")
    paths = tree.files(".c", ".h")
    for path in paths:
        run = subprocess.run([tool, "--dry-run", "--Werror", "--ferror-limit=1", path], text=True,
                             cwd=tree.ROOT, capture_output=True)
        if run.returncode != 0:
            line = re.match(r"[^:]+:(\d+):", run.stderr)
            findings.add("format", path, line.group(1) if line else 1, "clang-format differs")
    findings.finish(f"{len(paths)} files")


main()
