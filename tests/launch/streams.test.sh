#!/usr/bin/env bash
# Standard streams that are closed: no message lands in a file that was given their number.
. "$TRIREME_SOURCE/tests/launch/common.sh"

# Progress is written while the .npy file is open.
"$T" eval -m "$MODEL" --ids 1,2,3 --logits "$tmp/want.npy" -t 1 --progress on 2>/dev/null || fail "eval"
for closed in "2>&-" ">&- 2>&-" "<&- >&- 2>&-"; do
    rm -f "$tmp/got.npy"
    eval "\"$T\" eval -m \"$MODEL\" --ids 1,2,3 --logits \"$tmp/got.npy\" -t 1 --progress on $closed" || fail "eval $closed: exit $?"
    cmp -s "$tmp/want.npy" "$tmp/got.npy" || fail "eval $closed: other bytes"
done

# A closed stream is an error where it is needed, and only there.
"$T" run -m "$MODEL" -p a -n 2 -s 1 >&- 2>"$tmp/err"
same "exit of a closed standard output" 1 $?
grep -q "standard output" "$tmp/err" || fail "the message lacks the stream: $(cat "$tmp/err")"
"$T" run -m "$MODEL" -f - -n 2 -s 1 >/dev/null 2>"$tmp/err" <&-
same "exit of a closed standard input" 3 $?
grep -q "standard input" "$tmp/err" || fail "the message lacks the stream: $(cat "$tmp/err")"
"$T" run -m "$MODEL" -p a -n 2 -s 1 >/dev/null 2>&- <&- || fail "run without standard error: exit $?"

finish
