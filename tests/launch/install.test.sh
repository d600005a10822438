#!/usr/bin/env bash
# sanitize: no
# `cmake --install` leaves a program that runs, its manual pages, completion, pages and recipes.
set -euo pipefail
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$TRIREME_BUILD" --prefix "$prefix" >"$prefix/log" 2>&1 || { cat "$prefix/log"; exit 1; }

missing=0
want() {
    [ -s "$prefix/$1" ] || { echo "not installed, or empty: $1"; missing=1; }
}
want bin/trireme
# every command that --help names
commands=$("$prefix/bin/trireme" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(wc -l <<<"$commands")" -ge 10 ] || { echo "commands: $commands"; exit 1; }
for command in $commands; do
    want "share/man/man1/trireme-$command.1"
done
want share/bash-completion/completions/trireme
want share/doc/trireme/README.md
want share/doc/trireme/NUMERICS.md
[ "$missing" -eq 0 ] || exit 1

bash -n "$prefix/share/bash-completion/completions/trireme"
! grep -L '^\.TH ' "$prefix"/share/man/man1/*.1 | grep . || { echo "not a manual page"; exit 1; }
version=$("$prefix/bin/trireme" --version)
case "$version" in *0.1.0*) ;; *) echo "--version: $version" && exit 1 ;; esac
if find "$prefix" -name '*.[ch]' | grep .; then echo "sources installed" && exit 1; fi
