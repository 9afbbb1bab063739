#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# check-docs.sh: looks whether the documentation speaks of things that exist. In README.md and docs/: relative links, files in
# backquotes, tests named `file/function`, targets of make. In docs/abi.md: every hypercall, with its number. Prints
# what is wrong; exit status 1 if anything is.

set -uo pipefail
cd "$(dirname "$0")/.."
mapfile -t pages < <(find README.md docs -name '*.md' | sort)
wrong=0
complain() { echo "$1"; wrong=1; }

# Relative links, with their folder.
for page in "${pages[@]}"; do
    while read -r target; do
        file=${target%%#*}
        [ -z "$file" ] || [ -e "$(dirname "$page")/$file" ] || complain "$page: link to $target, which is not there"
    done < <(grep -oE '\]\([^) ]+\)' "$page" | sed 's/^](//; s/)$//' | grep -v '^[a-z]*:')
done

# Tests named file/function, in backquotes.
for page in "${pages[@]}"; do
    while read -r name; do
        file=${name%%/*} function=${name##*/}
        if [ -e "tests/unit/$file.c" ]; then
            grep -qE "^static void $function\(|[(]$function\)" "tests/unit/$file.c" || complain "$page: tests/unit/$file.c has no $function"
        elif [ -e "tests/system/$file.py" ]; then
            grep -qE "^def $function\(" "tests/system/$file.py" || complain "$page: tests/system/$file.py has no $function"
        else
            complain "$page: there is no test file $file"
        fi
    done < <(grep -oE '`test_[a-z0-9_]+/[a-z0-9_]+`' "$page" | tr -d '`' | sort -u)
done

# Files and folders of the repository in backquotes (build/ is made, so it is not looked for).
for page in "${pages[@]}"; do
    while read -r path; do
        [ -e "$path" ] || complain "$page: $path is not there"
    done < <(grep -oE '`(include|boot|arch|kernel|guest|vmx|svm|ept|drivers|dom0|tests|tools|docs)/[A-Za-z0-9_./-]*`' "$page" | tr -d '`' | grep -v NAME | sort -u)
done

# Targets of make.
for page in "${pages[@]}"; do
    while read -r target; do
        grep -qE "^$target:" Makefile || complain "$page: make has no target $target"
    done < <(grep -oE '(`|^ {4}(.*; )?)make [a-z][a-z-]*' "$page" | sed 's/.*make //' | sort -u)
done

# The hypercalls of the header, counted from 0, and their rows.
number=0
while read -r name; do
    grep -qE "^\| $number \| $name " docs/abi.md || complain "docs/abi.md: no row for call $number, $name"
    number=$((number + 1))
done < <(sed -n 's/^ *BASALT_HC_\([A-Z_]*\)\( = BASALT_HC_BASE\)\?,.*/\1/p' include/basalt/hypercall.h | grep -v '^END$')

[ $wrong -eq 0 ] && echo "docs: ${#pages[@]} pages, $number calls: nothing to complain about"
exit $wrong
