#!/usr/bin/env bash
# The ARM kernels, cross-built and run by qemu's user mode: every row of the list for three
# processors (NEON alone, with dotprod, with i8mm), byte for byte what ref/ gives.
# timeout: 900
# sanitize: no
set -euo pipefail
src=$TRIREME_SOURCE
cc=aarch64-linux-gnu-gcc
for tool in $cc qemu-aarch64; do
    command -v $tool >/dev/null || {
        echo "$tool is missing (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)"
        exit 77
    }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# The flags of cmake/Room.cmake, read from there so that they cannot differ.
flags() { # FILE
    local isa
    isa=$(sed -n 's/.*_\(dotprod\|i8mm\)\.c$/\1/p' <<<"$1")
    [ -z "$isa" ] || sed -n "s/^ *set($isa \(.*\))$/\1/p" "$src/cmake/Room.cmake"
}

objects=()
for file in "$src"/base/*.c "$src"/worker/kernels/*.c "$src"/worker/kernels/{ref,arm}/*.c \
    "$src"/tests/kernels/check.c; do
    object=$dir/$(basename "$(dirname "$file")")-$(basename "$file" .c).o
    # shellcheck disable=SC2046
    $cc -std=c11 -O2 -D_GNU_SOURCE -ffp-contract=off -Wall -Wextra -Werror -I"$src" \
        -I"$src/tests/support/cross" $(flags "$file") -c "$file" -o "$object"
    objects+=("$object")
done
$cc -static "${objects[@]}" -o "$dir/check" -lm -lpthread

# The least processor that has each; what each row is compared with, ref/, is the same everywhere.
for variant in neon:cortex-a57 dotprod:cortex-a76 i8mm:max; do
    name=${variant%:*}
    want=$(grep -c ", $name, KERN_CPU_" "$src/worker/kernels/kernel_list.inc")
    TRIREME_TEST_VARIANT=$name qemu-aarch64 -cpu "${variant#*:}" "$dir/check" >"$dir/out"
    ran=$(grep -c "\.$name: [1-9][0-9]* cases" "$dir/out")
    echo "$name on ${variant#*:}: $ran rows of $want, byte for byte"
    [ "$want" -gt 0 ] && [ "$ran" -eq "$want" ]
done
