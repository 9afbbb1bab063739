# SPDX-License-Identifier: Apache-2.0
#
# Builds Basalt and runs it. `make help` lists the targets. Everything goes to build/ (build-clang/ with CC=clang); what
# comes from elsewhere (newlib, cJSON, the guests' kernel) is fetched into build/ext once. Variables that may be given:
#   CC=clang          the other compiler            V=1    show the commands
#   CMDLINE=...       the kernel's command line     T=...  run only the tests whose name matches
#   DOM0_CMDLINE=...  dom0's command line

ifeq ($(origin CC),default)
CC := gcc
endif
B ?= $(if $(findstring clang,$(CC)),build-clang,build)
Q := $(if $(V),,@)
EXT := build/ext
GUEST := build/guest
PYTHON := /usr/bin/python3
LD := ld
NM := nm
READELF := readelf
MAKEFLAGS += --no-builtin-rules
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
MAKEFLAGS += -j2
endif
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

# The packages that the build needs are there before anything else happens (except where nothing needs them).
ifneq ($(if $(MAKECMDGOALS),$(filter-out help clean distclean,$(MAKECMDGOALS)),all),)
ifneq ($(BASALT_SETUP),done)
BASALT_SETUP := $(shell tools/setup.sh >&2 && echo done)
ifneq ($(BASALT_SETUP),done)
$(error the packages that Basalt needs could not be installed: see above)
endif
export BASALT_SETUP
endif
endif

# ---- The kernel -------------------------------------------------------------------------------------------------------

KERNEL_FOLDERS := $(wildcard boot arch kernel guest vmx svm ept iommu drivers)
KERNEL_SOURCES := $(sort $(shell find $(KERNEL_FOLDERS) -path boot/efi -prune -o -name '*.[cS]' -print))
KERNEL_OBJECTS := $(KERNEL_SOURCES:%=$(B)/obj/%.o) $(B)/version.o

WARNINGS := -Wall -Wextra -Werror -Wconversion -Wno-sign-conversion -Wshadow -Wvla -Wmissing-prototypes \
	-Wimplicit-fallthrough
COMMON_FLAGS := -std=gnu17 -O2 -g -fno-pic -fno-pie -mcmodel=kernel -mno-red-zone -fno-stack-protector \
	-fno-strict-aliasing -fno-asynchronous-unwind-tables -fno-omit-frame-pointer -fcf-protection=none -fno-common \
	-ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)/= $(WARNINGS)
KERNEL_FLAGS := $(COMMON_FLAGS) -ffreestanding -mgeneral-regs-only -I. -Iinclude
KERNEL_ASFLAGS := -g -I. -Iinclude -D__ASSEMBLER__ -fno-pic -fno-pie -ffile-prefix-map=$(CURDIR)/=
LINK := $(LD) -nostdlib -static --gc-sections -z max-page-size=4096 -z noexecstack --fatal-warnings --build-id=none

$(B)/obj/%.c.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(KERNEL_FLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/%.S.o: %.S Makefile
	@mkdir -p $(@D)
	@echo "  AS      $<"
	$(Q)$(CC) $(KERNEL_ASFLAGS) -MMD -MP -c -o $@ $<

# The list of objects is a file, so that removing a source links anew.
$(B)/kernel.list $(B)/dom0.list: FORCE
	@mkdir -p $(@D)
	@echo '$(if $(filter %kernel.list,$@),$(KERNEL_OBJECTS),$(DOM0_OBJECTS))' > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# The version string changes the image only when it changes itself.
$(B)/version.c: FORCE
	@mkdir -p $(@D)
	@printf '%s\nconst char basalt_version[] = "%s";\n' 'extern const char basalt_version[];' \
	    "$$(git describe --always --dirty --tags 2>/dev/null || echo unversioned)" > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

$(B)/version.o: $(B)/version.c
	$(Q)$(CC) $(KERNEL_FLAGS) -c -o $@ $<

# Two links: the first with an empty symbol table, from which the second's is made. No code moves between them, because
# the table comes after all code; the check compares.
$(B)/symtab0.S: tools/symtab.sh
	@mkdir -p $(@D)
	$(Q)tools/symtab.sh < /dev/null > $@

$(B)/symtab%.o: $(B)/symtab%.S
	$(Q)$(CC) -c -o $@ $<

$(B)/basalt.pass1: $(KERNEL_OBJECTS) $(B)/symtab0.o $(B)/kernel.list linker.ld
	$(Q)$(LINK) -T linker.ld -o $@ $(KERNEL_OBJECTS) $(B)/symtab0.o

$(B)/symtab1.S: $(B)/basalt.pass1 tools/symtab.sh
	$(Q)$(NM) -n $< | tools/symtab.sh > $@

$(B)/basalt.elf: $(B)/basalt.pass1 $(B)/symtab1.o linker.ld tools/check-elf.sh
	@echo "  LD      $@"
	$(Q)$(LINK) -T linker.ld -Map=$(B)/basalt.map -o $@ $(KERNEL_OBJECTS) $(B)/symtab1.o
	$(Q)tools/check-elf.sh $@ $(B)/basalt.pass1

# ---- dom0 -------------------------------------------------------------------------------------------------------------

DOM0_SOURCES := $(sort $(shell find dom0 -name '*.[cS]'))
DOM0_OBJECTS := $(DOM0_SOURCES:%=$(B)/obj/%.o) $(B)/obj/dom0-ext/cJSON.o
NEWLIB := $(EXT)/newlib/x86_64-elf
CJSON := $(EXT)/src/cjson
COMPILER_INCLUDE = $(shell $(CC) -print-file-name=include)
# The host's headers stay out: the compiler's own come first, then newlib's. SSE2 at most: the kernel gives no more state.
DOM0_LIBRARY_FLAGS = -nostdinc -isystem $(COMPILER_INCLUDE) -isystem $(NEWLIB)/include -isystem $(CJSON) \
	-U__linux__ -U__linux -Ulinux -U__gnu_linux__ -U__unix__ -U__unix -Uunix
DOM0_FLAGS = $(COMMON_FLAGS) -msse2 -mno-avx $(DOM0_LIBRARY_FLAGS) -Idom0 -Iinclude

$(NEWLIB)/lib/libc.a: tools/ext.sh tools/sources.lock
	$(Q)tools/ext.sh newlib
	@touch -c $@

$(CJSON)/cJSON.c: tools/ext.sh tools/sources.lock
	$(Q)tools/ext.sh cjson
	@touch -c $@

$(B)/obj/dom0/%.c.o: dom0/%.c Makefile | $(NEWLIB)/lib/libc.a $(CJSON)/cJSON.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(DOM0_FLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/dom0/%.S.o: dom0/%.S Makefile
	@mkdir -p $(@D)
	@echo "  AS      $<"
	$(Q)$(CC) $(KERNEL_ASFLAGS) -Idom0 -MMD -MP -c -o $@ $<

$(B)/obj/dom0-ext/cJSON.o: $(CJSON)/cJSON.c $(NEWLIB)/lib/libc.a Makefile
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(filter-out $(WARNINGS),$(DOM0_FLAGS)) -w -c -o $@ $<

$(B)/dom0.elf: $(DOM0_OBJECTS) $(NEWLIB)/lib/libc.a $(B)/dom0.list dom0/dom0.ld tools/check-elf.sh
	@echo "  LD      $@"
	$(Q)$(LINK) -T dom0/dom0.ld -Map=$(B)/dom0.map -o $@ $(DOM0_OBJECTS) \
	    --start-group $(NEWLIB)/lib/libc.a $(NEWLIB)/lib/libm.a $(shell gcc -print-libgcc-file-name) --end-group
	$(Q)tools/check-elf.sh $@

# ---- Guests and images ------------------------------------------------------------------------------------------------

GUEST_FILES := $(GUEST)/vmlinuz $(GUEST)/initrd.img $(GUEST)/root.img $(GUEST)/small.img
$(GUEST)/.stamp: tools/guests.py tools/ext.sh $(shell find tools/guests -type f ! -name "*.conf")
	$(Q)$(PYTHON) tools/guests.py all
	@touch $@
$(GUEST_FILES): $(GUEST)/.stamp ;

build/disk.img: $(GUEST)/.stamp tools/image.py $(wildcard tools/guests/*.conf)
	@echo "  DISK    $@"
	$(Q)$(PYTHON) tools/image.py disk --out $@

CMDLINE ?=
DOM0_CMDLINE ?=
CONFIGS := $(wildcard tools/guests/*.conf)
$(B)/basalt.iso: $(B)/basalt.elf $(B)/dom0.elf $(GUEST)/.stamp tools/image.py $(CONFIGS) $(wildcard tools/guests/bochs/*) FORCE
	@echo "  ISO     $@"
	$(Q)$(PYTHON) tools/image.py iso --out $@ --build $(B) --cmdline '$(CMDLINE)' --dom0-cmdline '$(DOM0_CMDLINE)'

# ---- What people type -------------------------------------------------------------------------------------------------

.PHONY: all kernel dom0 guests disk iso run run-bochs gdb unit system test test-long fuzz fuzz-corpus bench profile lint format \
	loc clean distclean help setup FORCE
FORCE:

all: $(B)/basalt.elf $(B)/dom0.elf ## build the kernel and dom0
kernel: $(B)/basalt.elf ## build the kernel only
dom0: $(B)/dom0.elf ## build dom0 only
guests: $(GUEST)/.stamp ## fetch the guests' kernel; make their initial RAM disk and root file system
disk: build/disk.img ## make the disk image that `make run` and the tests start from
iso: $(B)/basalt.iso ## make a CD image with Basalt, dom0 and the guests (boots from CD or USB stick)
setup: ; @tools/setup.sh ## install the packages that the build and the tests need

run: $(B)/basalt.iso build/disk.img ## boot it in QEMU (SVM) with two Linux guests; the disk is kept in build/run-disk.img
	@$(PYTHON) tools/machine.py run --iso $(B)/basalt.iso

run-bochs: $(B)/basalt.iso ## boot the same image in Bochs (VMX) with one Linux guest
	@$(PYTHON) tools/machine.py run-bochs --iso $(B)/basalt.iso

gdb: $(B)/basalt.iso build/disk.img ## the same machine as `run`, halted at its first instruction, with gdb attached
	@$(PYTHON) tools/machine.py gdb --iso $(B)/basalt.iso --kernel $(B)/basalt.elf

# Unit tests: each names the sources that it tests in a comment; tools/unit.py turns these into rules.
ifneq ($(filter unit test test-long fuzz fuzz-corpus unit-build fuzz-build,$(MAKECMDGOALS)),)
-include $(B)/unit/rules.mk
endif
$(B)/unit/rules.mk: tools/unit.py $(wildcard tests/unit/*.c tests/model/*.c tests/fuzz/*.c) Makefile
	@mkdir -p $(@D)
	$(Q)$(PYTHON) tools/unit.py rules --build $(B) > $@

UNIT_FLAGS = -std=gnu17 -O1 -g --coverage -fsanitize=address,undefined -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -mno-red-zone -DHOST_TEST $(WARNINGS) -Wno-missing-prototypes \
	-Itests/unit/shim -I. -Iinclude -Idom0 -isystem $(CJSON)
FUZZ_FLAGS = $(filter-out --coverage,$(UNIT_FLAGS))
.PHONY: unit-build fuzz-build
unit-build: $(UNIT_PROGRAMS)
fuzz-build: $(FUZZ_PROGRAMS)

unit: unit-build ## run the unit tests on this machine, under sanitizers, with line coverage (T=name for some)
	@$(PYTHON) tools/unit.py run --build $(B) --compiler $(CC) $(if $(T),--only '$(T)')

system: all guests disk ## boot whole machines and test them (T=expression for some)
	@$(PYTHON) tools/testrun.py --build $(B) --system $(if $(T),--only '$(T)')

test: all guests disk unit-build fuzz-build ## unit tests, fuzzers for a minute each, system tests; the last line says how many passed and failed
	@$(PYTHON) tools/testrun.py --build $(B) --compiler $(CC) --unit --fuzz --system $(if $(T),--only '$(T)')

test-long: all guests disk unit-build fuzz-build ## the same, with the tests marked `long`
	@$(PYTHON) tools/testrun.py --build $(B) --compiler $(CC) --unit --fuzz --system --long $(if $(T),--only '$(T)')

fuzz: fuzz-build ## replay the fuzzers' corpora and fuzz for T=60 seconds each (FUZZ=name for some)
	@$(PYTHON) tools/testrun.py --build $(B) --fuzz $(if $(T),--seconds '$(T)') $(if $(FUZZ),--only '$(FUZZ)')

fuzz-corpus: fuzz-build ## make tests/fuzz/corpus anew from all inputs that fuzzing found on this machine (FUZZ=name)
	@$(PYTHON) tools/testrun.py --build $(B) --keep-corpus $(if $(FUZZ),--only '$(FUZZ)')

mutants: all guests disk ## take one check out at a time and show that its test fails: half an hour (T=name for some)
	@$(PYTHON) tools/mutants.py $(if $(T),--only '$(T)')

bench: all guests disk ## measure; writes build/bench.tsv (T=exits for some)
	@$(PYTHON) tests/bench/bench.py --build $(B) $(if $(T),--only "$(T)")

profile: all guests ## list who spends the instructions of a path: T=hypercall_null[_nomit] [MACHINE=svm] [BITS=64]
	@$(PYTHON) tests/bench/profile.py --build $(B) $(if $(MACHINE),--machine $(MACHINE)) $(if $(BITS),--bits $(BITS)) $(T)

C_FILES = $(shell find $(KERNEL_FOLDERS) dom0 include tests -name '*.[ch]' | sort)
lint: $(CJSON)/cJSON.c $(NEWLIB)/lib/libc.a ## check white space (clang-format) and look for mistakes (clang-tidy, cppcheck): a minute
	@tools/lint.sh "$(KERNEL_FLAGS)" "$(DOM0_FLAGS)" $(C_FILES)

format: ## let clang-format set the white space of all C files
	@clang-format -i $(C_FILES)

loc: ## count lines of code, by folder
	@tools/loc.sh

clean: ## remove what was built; keeps what was fetched (build/ext) and the disk of `make run`
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name ext ! -name run-disk.img -exec rm -rf {} +; fi
	@rm -rf build-*

distclean: ## remove everything that is not in the repository, the disk of `make run` too
	@rm -rf build build-*

help: ## this list
	@echo "make TARGET [CC=clang] [V=1] [T=tests]"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)$$/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s%s\n", $$1, $$2 }'

-include $(KERNEL_OBJECTS:.o=.d) $(DOM0_OBJECTS:.o=.d)
