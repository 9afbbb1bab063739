#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# check-elf.sh IMAGE [FIRST_PASS]: fails if a segment or a section of the image is both writable and executable, if dom0 does not lie in its
# file as in memory, if a Multiboot2 header
# that exists is not within the first 32 KiB, or if code moved between the two links of the kernel.

set -eu
if readelf -lW "$1" | grep -E '^ *LOAD .* (RWE|WE|RW E) '; then
    echo "$1: a segment is writable and executable" >&2
    exit 1
fi
if readelf -SW "$1" | sed 's/^ *\[ *[0-9]*\] *//' | awk '$7 ~ /W/ && $7 ~ /X/' | grep .; then
    echo "$1: a section is writable and executable" >&2
    exit 1
fi
if [ $# -lt 2 ]; then # dom0
    readelf -lW "$1" | grep '^ *LOAD ' | while read -r _ offset _ physical _; do
        if [ $((offset - physical)) -ne 4096 ]; then
            echo "$1: it does not lie in the file, from the second page on, as in memory" >&2
            exit 1
        fi
    done
    exit 0
fi

code() { nm -n "$1" | grep -E '^ffffffff[0-9a-f]{8} [tTwW] '; }
if [ "$(code "$1" | sha256sum)" != "$(code "$2" | sha256sum)" ]; then
    echo "$1: code moved between the links, so the symbol table would lie" >&2
    exit 1
fi
if ! head -c 32768 "$1" | od -An -v -tx4 -w8 | grep -q '^ e85250d6'; then
    echo "$1: no Multiboot2 header in the first 32 KiB" >&2
    exit 1
fi
