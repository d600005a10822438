#!/usr/bin/env bash
# timeout: 300
# labels: mpi
# serial: yes
# sanitize: no
# launch/demo tells a story that begins as asked, twice the same, and says how it went.
set -euo pipefail
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
if [ "$TRIREME_PRESET" != release ]; then
    echo "the demo builds and runs the release preset; this is $TRIREME_PRESET"
    exit 77
fi
export TRIREME_SETUP=no
cd "$out" # the demo must not depend on where it is called from

for round in 1 2; do
    "$TRIREME_SOURCE/launch/demo" A little dragon >"$round.txt" 2>"$round.err" </dev/null || {
        echo "demo: exit $?" && tail -n 20 "$round.err" && exit 1
    }
done
cmp 1.txt 2.txt
head -c 300 1.txt | grep -q "A little dragon" || { echo "no such beginning:" && cat 1.txt && exit 1; }
[ "$(wc -c <1.txt)" -gt 200 ] || { echo "a very short story:" && cat 1.txt && exit 1; }
grep -E '\b[0-9]+x[0-9]+\b' 1.err | grep -qE '[0-9] *(tokens|tok|t)/s' || {
    echo "no line with the layout and the speed on stderr:" && cat 1.err && exit 1
}
