# SPDX-License-Identifier: GPL-2.0
#
# Host targets; each is a script in scripts/, and `make help` lists them.  Called
# by kbuild (M=), this is the entry for the modules that the series adds;
# those are built inside the patched kernel.

ifneq ($(KERNELRELEASE),)

obj-m :=

else

.NOTPARALLEL:
.DEFAULT_GOAL := help

# what may be said on the command line, for the scripts
export KERNEL_SRC V DISK SUITE VARIANT REF FULL VERSION JOBS

S := scripts

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  KERNEL_SRC=DIR  your own 6.12 tree instead of the package (only read)"
	@echo "  DISK=FILE       run: read this file through the SMMU, read-only"
	@echo "  VARIANT= SUITE= kunit: which kernel, which suite (a glob)"
	@echo "  V=1             show everything that the logs get"

run: ready ## boot the patched kernel, read a disk through the SMMUv3 (the main job)
	@$(S)/run.sh

check: ## all tests that CI runs, with setup and tree
	@$(S)/check.sh check

check-full: ## check, and the long ones; writes tools/testing/last-check-full.txt
	@$(S)/check.sh full

check-quick: ## UML suites and one arm64 boot, on the build tree as it is
	@$(S)/check.sh quick

setup: ## install what is missing (shows its commands and asks)
	@bash $(S)/setup.sh

unsetup: ## take back setup's changes to the apt configuration
	@$(S)/unsetup.sh

tree: setup ## build/linux-6.12: the kernel source with the series
	@$(S)/tree.sh

# the tree as it is, if there is work in it
ready: setup
	@$(S)/tree.sh --use

kernel: ready ## build one kernel: VARIANT=arm64 (default), uml, arm64-debug, ...
	@$(S)/kernel.sh $(or $(VARIANT),arm64)

kunit: ready ## KUnit suites: VARIANT=uml (default), SUITE=
	@$(S)/kunit.sh $(or $(VARIANT),uml) $(SUITE)

shell: ready ## a shell in the guest
	@$(S)/shell.sh

gdb: ready ## gdb on the guest's kernel
	@$(S)/gdb.sh

bench: ready ## instructions per operation, base and ours
	@$(S)/bench.sh

check-series: ready ## git am on the pristine source; patches, tree and copies agree
	@$(S)/check-series.sh

check-static: ready ## checkpatch, sparse, W=1, kernel-doc, coccinelle: nothing new
	@$(S)/check-static.sh

check-models: ## spin: every order of the page tables' races, and seeded mistakes
	@$(S)/check-models.sh

check-kunit: ready ## KUnit suites on every kernel of `make check`
	@$(S)/check.sh kunit

check-boot: ready ## boots: strict, lazy, disk read, seeded bug
	@$(S)/check.sh boot

check-bisect: ready ## build and test every patch in turn
	@$(S)/check-bisect.sh

check-host: ## these scripts themselves: bad input, determinism
	@$(S)/check-host.sh

export: ## write the tree's commits to patches/ and the added files
	@$(S)/export.sh

diff: ## range-diff: the series of REF (default HEAD) against the tree
	@$(S)/diff.sh

rebase-base: setup ## adopt a newer kernel source package: VERSION= (default newest)
	@$(S)/rebase-base.sh

clean: ## remove what was built; the tree with its commits stays
	@$(S)/clean.sh

.PHONY: help run check check-full check-quick setup unsetup tree ready kernel kunit shell gdb \
	bench check-series check-static check-models check-kunit check-boot check-bisect check-host \
	export diff rebase-base clean

endif
