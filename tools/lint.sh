#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# lint.sh KERNEL_FLAGS DOM0_FLAGS FILE...: white space must be as clang-format sets it, every file must begin with its
# licence line, and clang-tidy and cppcheck must have nothing to say about the code of the kernel and dom0.

set -uo pipefail
cd "$(dirname "$0")/.."
kernel_flags=$1 dom0_flags=$2
shift 2
status=0

clang-format --dry-run -Werror "$@" || { echo "lint: make format would put the above right"; status=1; }

for file in "$@" $(git ls-files '*.py' '*.sh' '*.S' '*.ld' Makefile); do
    head -3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$file: no licence line"; status=1; }
done

for file in "$@"; do
    case $file in
    tests/* | *.h) continue ;;
    dom0/*) flags=$dom0_flags ;;
    *) flags=$kernel_flags ;;
    esac
    echo "$file $flags"
done | xargs -r -P 2 -L 1 sh -c 'file=$0; clang-tidy --quiet "$file" -- "$@" 2>/dev/null' || status=1

cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -j 2 --max-ctu-depth=2 \
    --suppress=missingInclude --suppress=unknownMacro --suppress=nullPointerArithmetic --suppress=comparePointers --suppress=arrayIndexOutOfBoundsCond \
    --suppress=internalAstError --suppress=syntaxError -Iinclude -I. \
    $(printf '%s\n' "$@" | grep -v -e '^tests/' -e '[.]h$') || status=1

[ $status -eq 0 ] && echo "lint: nothing to say"
exit $status
