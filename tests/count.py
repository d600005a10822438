"""Counts the outcomes of one ctest run: python3 tests/count.py RESULTS.xml PRESET

Prints each failure and each skip with its reason, then a line "PASSED FAILED SKIPPED". A cmocka
case that skips inside a passing executable counts as one more skipped test: nothing that did not
run is called passed. With CI=true a skip for a "missing tool" is a failure.
"""

import os
import re
import sys
import xml.etree.ElementTree as ET


def cmocka_skips(output):
    """Names of skipped cmocka cases with the line printed before each, and how many passed."""
    reasons, last = [], ""
    for line in output.splitlines():
        started = re.match(r"\[ RUN +\] ", line)
        skip = re.match(r"\[  SKIPPED \] (\w+)$", line)
        if skip and not any(name == skip.group(1) for name, _ in reasons):
            reasons.append((skip.group(1), last))
        last = "" if started else line.strip()
    passed = re.search(r"\[  PASSED  \] (\d+) test", output)
    return reasons, int(passed.group(1)) if passed else 0


def main():
    path, preset = sys.argv[1:3]
    strict = os.environ.get("CI", "").lower() in ("1", "true", "yes")
    passed = failed = skipped = 0

    for case in ET.parse(path).getroot().iter("testcase"):
        name = f"{preset}: {case.get('name')}"
        output = case.findtext("system-out") or ""
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        if case.find("failure") is not None or case.get("status") == "fail":
            failed += 1
            print(f"failed: {name}")
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            why = case.find("skipped")
            if why is not None and "SKIP" not in (why.get("message") or "SKIP"):
                failed += 1  # not run although nobody asked for a skip: no executable, say
                print(f"failed: {name}: {why.get('message')}")
                continue
            reason = lines[-1] if lines else "no reason given"
            if strict and "missing tool" in reason:
                failed += 1
                print(f"failed: {name}: {reason}")
            else:
                skipped += 1
                print(f"skipped: {name}: {reason}")
        else:
            inner, ran = cmocka_skips(output)
            for case_name, reason in inner:
                skipped += 1
                print(f"skipped: {name} {case_name}: {reason or 'no reason given'}")
            passed += 0 if inner and ran == 0 else 1
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
