#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# loc.sh: counts lines of code by folder, as cloc does (no blank lines, no comments). loc.sh --kernel prints only the
# number that the project holds itself to: the kernel's folders together.

set -euo pipefail
cd "$(dirname "$0")/.."
kernel='boot arch kernel guest vmx svm ept iommu drivers include'

count() { # lines of code of C, headers and assembly below folder $1
    find "$1" -path boot/efi -prune -o -name '*.[chS]' -print > /tmp/basalt-loc.$$
    [ -s /tmp/basalt-loc.$$ ] || { echo 0; return; }
    cloc --quiet --csv --skip-uniqueness --list-file=/tmp/basalt-loc.$$ 2>/dev/null |
        awk -F, '$2 == "SUM" { sum = $5 } END { print sum + 0 }'
}
trap 'rm -f /tmp/basalt-loc.$$' EXIT

total=0
rows=()
for folder in $kernel; do
    lines=$([ -d "$folder" ] && count "$folder" || echo 0)
    total=$((total + lines))
    rows+=("$(printf '  %-10s %6d' "$folder" "$lines")")
done
if [ "${1:-}" = --kernel ]; then
    echo $total
    exit
fi
printf '%s\n' "${rows[@]}"
printf '%-12s %6d\n' "kernel" $total
for folder in dom0 tests boot/efi; do
    [ -d "$folder" ] || continue
    if [ "$folder" = boot/efi ]; then lines=$(cd boot && count efi); else lines=$(count "$folder"); fi
    printf '%-12s %6d\n' "$folder" "$lines"
done
