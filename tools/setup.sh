#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Makes sure that the Debian packages Basalt is built and tested with are installed, and says what each is for. Does
# nothing (in a few hundredths of a second) when they are. Asks nothing. Make runs it by itself.
#
#   setup.sh            install what is missing
#   setup.sh --list     print the packages and their purposes
#   setup.sh --check    only say what is missing; exit status 1 if something is

set -euo pipefail

packages='
gcc                 compiles the kernel, dom0 and their tests
libc6-dev           the C library of the tests that run on this machine
make                the build
binutils            linker, nm, readelf
git                 the version that the console shows
clang               second compiler: everything must build with both; sanitizers of the unit tests
clang-format        make format, make lint
clang-tidy          make lint
libclang-rt-14-dev  AddressSanitizer and UBSan for clang
cppcheck            make lint
dpkg-dev            unpacks the pinned sources of newlib and cJSON
xz-utils            the same
qemu-system-x86     the machine with SVM
seabios             its firmware
bochs               the machine with VMX
bochs-term          its text display
bochsbios           its firmware
vgabios             its video firmware
ovmf                UEFI firmware
grub-pc-bin         the boot loader of the CD image
grub-common         grub-mkimage
xorriso             writes the CD image
mtools              writes FAT images
gdisk               checks the partition tables that the tests make
e2fsprogs           mke2fs: the guests root file systems, debugfs: looks into them from outside
cpio                the guests initial RAM disk
kmod                dependencies of the guest kernel modules
libcmocka-dev       unit tests
libcapstone-dev     an independent disassembler to test the decoder against
acpica-tools        iasl: an independent reader of the ACPI tables that guests see
python3             the tools and the system tests
python3-pytest      system tests
python3-pytest-xdist  two system tests at a time
python3-pexpect     system tests
cloc                make loc
gdb                 make gdb
'

missing=()
while read -r name purpose; do
    [ -n "$name" ] && missing+=("$name")
done <<< "$packages"

if [ "${1:-}" = --list ]; then
    echo "$packages" | sed '/^$/d'
    exit
fi

# One query for all: of the packages wanted, drop those that are installed.
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${missing[@]}" 2>/dev/null | awk '$1 == "installed" { print $2 }' || true)
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | grep -vxF -f <(printf '%s\n' "$installed") || true)
[ ${#missing[@]} -eq 0 ] && exit 0

echo "setup: these packages are needed and not installed:"
for name in "${missing[@]}"; do
    echo "$packages" | grep "^$name " | sed 's/^/  /'
done
[ "${1:-}" = --check ] && exit 1

sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null || { echo "setup: run this as root, or install sudo" >&2; exit 1; }
    sudo=sudo
fi
echo "setup: installing them with apt-get${sudo:+ (through sudo)}"
export DEBIAN_FRONTEND=noninteractive
install=($sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${install[@]}" update > "$log" 2>&1 || { cat "$log" >&2; echo "setup: apt-get update failed; trying to install all the same" >&2; }
if ! "${install[@]}" install --no-install-recommends "${missing[@]}" > "$log" 2>&1 < /dev/null; then
    tail -30 "$log" >&2
    echo "setup: apt-get could not install them; the lines above say why" >&2
    exit 1
fi
echo "setup: done"
