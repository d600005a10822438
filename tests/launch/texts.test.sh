#!/usr/bin/env bash
# --help, --man, --completion-bash and --version: complete, and sound to the programs that read them.
. "$TRIREME_SOURCE/tests/launch/common.sh"
commands="run eval tokenize inspect bench synth plan convert verify"
complete_script=$tmp/complete

"$T" --completion-bash >"$complete_script" || fail "--completion-bash: exit $?"
bash -n "$complete_script" || fail "the completion is not bash"
# shellcheck disable=SC1090
. "$complete_script"
compopt() { :; } # only the shell's own completion may call it

# completed WORDS...: what Tab offers after them
completed() {
    COMP_WORDS=(trireme "$@")
    COMP_CWORD=$#
    COMPREPLY=()
    _trireme
    echo "${COMPREPLY[*]}"
}
same "commands" "tokenize" "$(completed t)"
same "options" "--perplexity" "$(completed eval --perp)"
same "choices" "t2 t3" "$(completed run --pack t)"
same "choices after =" "bitnet-2b-4t bitnet-3b bitnet-100b" "$(completed synth --shape = bitnet)"
(cd "$tmp" && touch story.gguf && same "files" "story.gguf" "$(completed run -m sto)"; exit "$failures") ||
    fail "files"

want 0 "" --help
for command in $commands; do
    grep -qE "^  $command " "$tmp/out" || fail "--help does not list $command"
done
for command in $commands; do
    "$T" "$command" --help >"$tmp/help" 2>"$tmp/err" || fail "$command --help: exit $?"
    [ ! -s "$tmp/err" ] || fail "$command --help writes to stderr"
    "$T" --help "$command" | cmp -s - "$tmp/help" || fail "--help $command differs from $command --help"
    grep -q '^Examples:' "$tmp/help" || fail "$command --help: no examples"
    [ "$(awk '{ if (length($0) > n) n = length($0) } END { print n }' "$tmp/help")" -le 110 ] ||
        fail "$command --help: lines over 110 columns"
    # the completion's words of a command are the table's spellings: each has its line
    for option in $(completed "$command" -); do
        grep -qE "^  (-.*, )?$option(,| |$)" "$tmp/help" || fail "$command --help: no $option"
    done
    "$T" --man "$command" >"$tmp/page" || fail "--man $command: exit $?"
    "$T" "$command" --man | cmp -s - "$tmp/page" || fail "$command --man differs from --man $command"
    pages="${pages:-} $command"
    if command -v groff >/dev/null; then
        groff -man -ww -Tascii -P-cbou "$tmp/page" >"$tmp/text" 2>"$tmp/err"
        [ ! -s "$tmp/err" ] || fail "--man $command: $(head -n 3 "$tmp/err")"
        for option in $(completed "$command" --); do
            grep -qF -- "$option" "$tmp/text" || fail "--man $command: no $option"
        done
    fi
done
"$T" --man >"$tmp/page" || fail "--man: exit $?"
if command -v groff >/dev/null; then
    groff -man -ww -Tutf8 "$tmp/page" 2>&1 >/dev/null | grep . && fail "--man has warnings"
fi
"$T" run --help=temp | grep -q -- --temp || fail "--help=temp finds nothing"
"$T" run --help=temp | grep -q -- --layout && fail "--help=temp finds too much"
"$T" --version | grep -qE '^trireme [0-9]+\.[0-9]+\.[0-9]+ \(' || fail "--version"
"$T" run --version | grep -q '^trireme ' || fail "run --version"
"$T" --help | head -n 1 >/dev/null || true
finish
