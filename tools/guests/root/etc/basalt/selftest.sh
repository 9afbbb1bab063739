#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# The guest's test of itself: files of several sizes written, dropped from the cache and read back; what its clock, its
# interrupts and its processor look like. Lines that a test reads are `basalt-guest: key value`.

set -e
. /etc/basalt/functions
line() { echo "basalt-guest: $*"; }

dmesg -n 1 # a message of the kernel's would come in the middle of a line; what is wrong is looked for below

directory=/var/lib/basalt
mkdir -p $directory
boots=$(($(cat $directory/boots 2>/dev/null || echo 0) + 1))
echo $boots > $directory/boots
line "boots $boots"

if [ -f $directory/kept ]; then
    (cd $directory && md5sum -c -s kept.md5) && line "kept ok"
fi
for kib in 1 7 64 500; do
    dd if=/dev/urandom of=$directory/file$kib bs=1k count=$kib 2>/dev/null
    before=$(md5sum < $directory/file$kib)
    sync
    echo 3 > /proc/sys/vm/drop_caches
    after=$(md5sum < $directory/file$kib)
    [ "$before" = "$after" ] || { line "file of $kib KiB differs"; exit 1; }
done
mv $directory/file64 $directory/kept
(cd $directory && md5sum kept > kept.md5)
rm $directory/file*
sync
line "files ok"

if [ -c /dev/hwrng ]; then
    [ "$(dd if=/dev/hwrng bs=1 count=16 2>/dev/null | wc -c)" = 16 ] && line "hwrng ok $(cat /sys/class/misc/hw_random/rng_current)"
fi

t0=$(date +%s)
line "date $(date -u +%Y-%m-%dT%H:%M:%S)"
sleep 1
line "slept $(($(date +%s) - t0))"
line "clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
line "cpus $(grep -c ^processor /proc/cpuinfo)"
line "memory $(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
line "flags $(sed -n 's/^flags.*: //p;/^flags/q' /proc/cpuinfo | tr ' ' '\n' | grep -E '^(x2apic|hypervisor|tsc_deadline_timer|vmx|svm|avx.*|constant_tsc)$' | tr '\n' ' ')"
cat /proc/interrupts
dmesg | grep -E 'WARNING:|BUG:|Call Trace|unchecked MSR|blocked for more than' | head -5 | sed 's/^/basalt-guest: trouble /' || true
