# sanitize: no
"""Small enough to read: lengths of lines, functions and files; no words that say unfinished;
nobody ends the process but launch, base_assert and tests."""

import re

import tree

FILE_LINES = 800
FUNCTION_LINES = 90
LINE_COLUMNS = 100
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
ENDS = re.compile(r"\b(_?exit|_Exit|quick_exit|abort)\s*\(")
TEXTS = (".c", ".h", ".inc", ".proto", ".py", ".sh", ".cmake", ".md", ".txt", ".json", "/run",
         "/demo", "/setup", "/build")


def functions(lines):
    """(name, first line, lines) of each body from a '{' to a '}' in column 0."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            first = start - 2  # back over the lines of the head
            while first > 0 and lines[first - 1] and lines[first - 1][-1] not in ";}/":
                first -= 1
            name = re.search(r"(\w+)\s*\(", " ".join(lines[first:start - 1]))
            yield (name.group(1) if name else "?"), start, number - start + 1
            start = None


def main():
    findings = tree.Findings("file", "function", "line", "word", "exit")
    sources = tree.sources()
    for path in sources:
        text = tree.read(path)
        lines = text.splitlines()
        if len(lines) > FILE_LINES:
            findings.add("file", path, len(lines), f"{len(lines)} lines, at most {FILE_LINES}")
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_COLUMNS:
                findings.add("line", path, number, f"{len(line)} columns, at most {LINE_COLUMNS}")
        for name, number, size in functions(lines):
            if size > FUNCTION_LINES:
                findings.add("function", path, number,
                             f"{name}: {size} lines, at most {FUNCTION_LINES}", name)
        if tree.room(path) not in ("launch", "base", "tests", "default-model"):
            for number, line in enumerate(tree.code_only(text).splitlines(), 1):
                if ENDS.search(line):
                    findings.add("exit", path, number, "ends the process; return a status")
    for path in tree.files(*TEXTS):
        for number, line in enumerate(tree.read(path).splitlines(), 1):
            if UNFINISHED.search(line):
                findings.add("word", path, number, "a word that says unfinished")
    findings.finish(f"{len(sources)} files")


main()
