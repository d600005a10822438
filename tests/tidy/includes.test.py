# sanitize: no
"""Rooms form a DAG, each foreign header has its home, and no room shows one to its neighbours
(docs/ARCHITECTURE.md)."""

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
    "default-model": "",  # how the bundled model was made: stands alone
}

# A header's pattern, and the pattern of the files that may include it.
HOMES = [
    (r"mpi\.h$", r"comm/|tests/(mpi|comm|support)/"),
    (r"hwloc(\.h$|/)", r"worker/topology\.c$"),
    (r"([a-z]mmintrin|immintrin|x86intrin)\.h$", r"worker/kernels/x86/"),
    (r"cpuid\.h$|sys/auxv\.h$", r"worker/kernels/"),
    (r"arm_(neon|sve|acle)\.h$", r"worker/kernels/arm/"),
    (r"\.pb-c\.h$|protobuf-c/", r"[^/]*/[^/]*_wire\.c$|tests/"),
    (r"pcre2\.h$", r"coordinator/"),
    (r"uninorm\.h$", r"coordinator/normalise\.c$"),
    (r"jansson\.h$", r"(model|coordinator|launch|partition|tests)/"),
    (r"xxhash\.h$", r"model/|tests/"),
    (r"cmocka\.h$", r"tests/"),
]


def includes(path):
    """(line, kind, header) of each #include."""
    for number, line in enumerate(tree.read(path).splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match.group(1), match.group(2)


def home(header):
    for pattern, where in HOMES:
        if re.search("(^|/)" + pattern, header):
            return where
    return None


def check_direction(findings, path, own):
    allowed = {own, *MAY_INCLUDE[own].split()}
    for number, kind, header in includes(path):
        where = home(header)
        if where and not re.match(where, path):
            findings.add("home", path, number, f"{header} belongs to {where}", header)
        if kind == "<":
            continue
        other = tree.room(header)
        if other is None:
            if header != "build_info.h" and own != "tests":
                findings.add("include", path, number, f'"{header}": want a path from the root',
                             header)
        elif other not in allowed:
            findings.add("dag", path, number, f"{own} may not include {header}", header)


def check_doors(findings, sources):
    """A header that other rooms include reaches no foreign header."""
    reached = {path: list(includes(path)) for path in sources}
    doors = {header for path in sources if tree.room(path) != "tests"
             for _, kind, header in reached[path]
             if kind == '"' and header in reached and tree.room(header) != tree.room(path)}
    for door in sorted(doors):
        seen, queue = {door}, [door]
        while queue:
            for _, _, header in reached[queue.pop()]:
                if home(header):
                    findings.add("door", door, 1, f"shows {header} to other rooms", header)
                if header in reached and header not in seen:
                    seen.add(header)
                    queue.append(header)


def main():
    findings = tree.Findings("dag", "home", "include", "door")
    sources = tree.sources()
    for path in sources:
        own = tree.room(path)
        if own is None:
            findings.add("dag", path, 1, "C code outside the rooms")
        else:
            check_direction(findings, path, own)
    check_doors(findings, sources)
    findings.finish(f"{len(sources)} files")


main()
