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
    run = subprocess.run([tool, "--dry-run", "--Werror", "--ferror-limit=0", *paths], text=True,
                         cwd=tree.ROOT, capture_output=True)
    seen = set()
    for path, line in re.findall(r"^([^:\n]+):(\d+):\d+: error", run.stderr, flags=re.M):
        if path not in seen:
            seen.add(path)
            findings.add("format", path, line, "clang-format differs")
    if run.returncode != 0 and not seen:
        findings.found.append(run.stderr)
    findings.finish(f"{len(paths)} files")


main()
