#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Fetches and builds what Basalt takes from elsewhere, all of it under build/ext, outside the tracked tree:
#
#   ext.sh source NAME   fetch and unpack a source package pinned in tools/sources.lock into build/ext/src/NAME
#   ext.sh newlib        build newlib for dom0 into build/ext/newlib/x86_64-elf/{include,lib}
#   ext.sh cjson         the JSON library's source in build/ext/src/cjson (the Makefile compiles it into dom0)
#   ext.sh deb NAME      download a binary package of the archive (newest) and print the path of the .deb
#
# Nothing is installed and the machine's own package lists are not used: a sources list and a lists directory of the
# build's own are kept in build/ext/apt. Every step is skipped when its result is already there.

set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
ext=${BASALT_EXT:-$top/build/ext}
lock=$top/tools/sources.lock
mirror=${BASALT_MIRROR:-http://deb.debian.org/debian}
security=${BASALT_SECURITY_MIRROR:-http://deb.debian.org/debian-security}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "ext: $*" >&2; }
die() { say "$*"; exit 1; }

apt_options=(-qq -o Dir::Etc::sourcelist="$ext/apt/sources.list" -o Dir::Etc::sourceparts=-
    -o Dir::State::lists="$ext/apt/lists" -o Dir::Cache="$ext/apt/cache" -o APT::Sandbox::User=root
    -o Acquire::Retries=3)

apt_lists() { # fetch the archive's lists once; again when they are older than a day and $1 is "fresh"
    mkdir -p "$ext/apt/lists/partial" "$ext/apt/cache/archives/partial"
    local stamp=$ext/apt/updated
    if [ -e "$stamp" ] && { [ "${1:-}" != fresh ] || [ -n "$(find "$stamp" -mtime -1)" ]; }; then return; fi
    {
        for kind in deb deb-src; do
            echo "$kind [signed-by=$keyring] $mirror bookworm main"
            echo "$kind [signed-by=$keyring] $security bookworm-security main"
        done
    } > "$ext/apt/sources.list"
    say "fetching the package lists of Debian 12 into $ext/apt"
    apt-get "${apt_options[@]}" update >&2 || die "the Debian archive at $mirror cannot be reached"
    touch "$stamp"
}

locked() { # the lock's lines for source package $1: "version", then "sha256  file" lines
    awk -v name="$1" '$1 == "source" { on = ($2 == name); if (on) print $3; next } on && /^[0-9a-f]+ / { print }' "$lock"
}

fetch_source() {
    local name=$1 version directory=$ext/src/$1 lines
    lines=$(locked "$name")
    [ -n "$lines" ] || die "$name is not in $lock"
    version=$(head -1 <<< "$lines")
    [ "$(cat "$directory/.basalt-version" 2>/dev/null)" = "$version" ] && return
    apt_lists
    mkdir -p "$ext/download"
    cd "$ext/download"
    if ! tail -n +2 <<< "$lines" | sha256sum --check --status 2>/dev/null; then
        say "fetching the source of $name $version from the Debian archive"
        apt-get "${apt_options[@]}" source --download-only "$name=$version" >&2 ||
            { apt_lists fresh; apt-get "${apt_options[@]}" source --download-only "$name=$version" >&2; } ||
            die "$name $version is not to be had from $mirror (a newer one may be: see $lock)"
    fi
    tail -n +2 <<< "$lines" | sha256sum --check --status || die "$name $version: checksum differs from $lock"
    rm -rf "$directory" "$directory.new"
    mkdir -p "$ext/src"
    dpkg-source --no-check -x "$(awk '/[.]dsc$/ { print $2 }' <<< "$lines")" "$directory.new" > /dev/null
    echo "$version" > "$directory.new/.basalt-version"
    mv "$directory.new" "$directory"
}

build_newlib() {
    local out=$ext/newlib stamp
    stamp="$(locked newlib | sha256sum) $(sed -n '/^build_newlib/,/^}/p' "$top/tools/ext.sh" | sha256sum)"
    [ "$(cat "$out/.stamp" 2>/dev/null)" = "$stamp" ] && return
    fetch_source newlib
    say "building newlib for dom0 (about half a minute)"
    rm -rf "$out" "$ext/newlib-build"
    mkdir -p "$ext/newlib-build"
    cd "$ext/newlib-build"
    # The complete stdio (all of C99's formats, long long, floating point), the full allocator, and no system calls: dom0
    # brings those. The flags are those of dom0 itself: the kernel code model, no red zone, SSE2 but nothing newer.
    local flags=(-O2 -ffreestanding -fno-stack-protector -mno-red-zone -mcmodel=kernel -fno-pic -fno-pie -msse2
        -fcf-protection=none -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fno-common -ffunction-sections
        -fdata-sections -U__linux__ -Ulinux -U__gnu_linux__ -U__unix__ -Uunix -w)
    {
        "$ext/src/newlib/newlib/configure" --host=x86_64-elf --prefix="$out" \
            CC=gcc AR=ar RANLIB=ranlib AS=as \
            CFLAGS="${flags[*]}" \
            --disable-newlib-supplied-syscalls --disable-multilib --disable-newlib-multithread \
            --disable-newlib-wide-orient --enable-newlib-io-c99-formats --enable-newlib-io-long-long
        make -j2
        make install
    } > "$ext/newlib-build.log" 2>&1 || { tail -20 "$ext/newlib-build.log" >&2; die "newlib did not build"; }
    rm -rf "$ext/newlib-build"
    [ -e "$out/x86_64-elf/lib/libc.a" ] || die "newlib left no libc.a"
    echo "$stamp" > "$out/.stamp"
}

fetch_deb() {
    apt_lists
    mkdir -p "$ext/download"
    cd "$ext/download"
    local have
    have=$(ls -t "$1"_*.deb 2>/dev/null | head -1 || true)
    if [ -z "$have" ]; then
        say "downloading the package $1 (to be unpacked, not installed)"
        apt-get "${apt_options[@]}" download "$1" >&2 ||
            { apt_lists fresh; apt-get "${apt_options[@]}" download "$1" >&2; } || die "$1 cannot be downloaded"
        have=$(ls -t "$1"_*.deb | head -1)
    fi
    echo "$ext/download/$have"
}

mkdir -p "$ext"
exec 9> "$ext/.lock"
flock 9
case "${1:-}" in
source) fetch_source "${2:?a name}" ;;
newlib) build_newlib ;;
cjson) fetch_source cjson ;;
deb) fetch_deb "${2:?a name}" ;;
*) sed -n '5,12s/^# \?//p' "$0" ;;
esac
