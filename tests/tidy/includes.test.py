# sanitize: no
"""Rooms form a DAG, and each foreign header has its home (docs/ARCHITECTURE.md)."""

import re

import tree

# The room and what it may include, besides itself. "kernels" stands for worker/kernels.
MAY_INCLUDE = {
    "base": "",
    "proto": "",
    "model": "base",
    "comm": "base",
    "worker/kernels": "base",
    "partition": "model proto base",
    "worker": "worker/kernels comm partition model proto base",
    "coordinator": "comm partition model proto base",
    "quantize": "worker worker/kernels model base",
    "launch": "base proto model comm partition worker coordinator quantize",
    "tests": " ".join(tree.ROOMS),
}

# A header's pattern, and the pattern of the files that may include it.
HOMES = [
    (r"mpi\.h$", r"comm/[^/]*\.c$|tests/(mpi|comm|support)/"),
    (r"hwloc(\.h$|/)", r"worker/topology\.c$"),
    (r"([a-z]mmintrin|immintrin|x86intrin)\.h$", r"worker/kernels/x86/"),
    (r"cpuid\.h$|sys/auxv\.h$", r"worker/kernels/"),
    (r"arm_(neon|sve|acle)\.h$", r"worker/kernels/arm/"),
    (r"\.pb-c\.h$|protobuf-c/", r"[^/]*/[^/]*_wire\.c$|tests/"),
    (r"pcre2\.h$", r"coordinator/"),
    (r"jansson\.h$", r"(model|coordinator|launch|partition|tests)/"),
    (r"xxhash\.h$", r"model/|tests/"),
    (r"cmocka\.h$", r"tests/"),
]


def main():
    findings = tree.Findings("dag", "home", "include")
    sources = tree.sources()
    for path in sources:
        own = tree.room(path)
        if own is None:
            findings.add("dag", path, 1, "C code outside the rooms")
            continue
        allowed = {own, *MAY_INCLUDE[own].split()}
        for number, line in enumerate(tree.read(path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if not match:
                continue
            kind, header = match.groups()
            for pattern, home in HOMES:
                if re.search("(^|/)" + pattern, header) and not re.match(home, path):
                    findings.add("home", path, number, f"{header} belongs to {home}", header)
            if kind == "<":
                continue
            other = tree.room(header)
            if other is None:
                if header != "build_info.h" and own != "tests":
                    findings.add("include", path, number,
                                 f'"{header}": want a path from the root', header)
            elif other == "tests" and own != "tests" or other not in allowed:
                findings.add("dag", path, number, f"{own} may not include {header}", header)
    findings.finish(f"{len(sources)} files")


main()
