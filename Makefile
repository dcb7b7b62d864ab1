# The commands of this repository. Each is a line or two that can be run by hand.
PYTHON ?= python3
PREFIX ?= /usr/local
DESTDIR ?=
SUDO ?= $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: help demo test proof conformance lint fmt fuzz coverage bench wheel npm header install uninstall deps-apt clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.* ## /  make \1	/p' Makefile | expand -t 20

demo: ## build everything, and let five languages talk in a chat room (KEEP=1 leaves it open)
	$(PYTHON) tools/demo.py

test: ## all tests; a missing tool makes its tests SKIP
	$(PYTHON) tools/test.py

conformance: ## all 517 Autobahn cases, both roles, from C, Python and Node.js, into conformance/README.md
	$(PYTHON) tools/test.py --proof --only conformance

proof: ## what takes long: all of Autobahn, a million simulations, 20,000 cut connections, …
	$(PYTHON) tools/test.py --proof

lint: ## formatting and clippy
	$(PYTHON) tools/test.py --only lint

fmt: ## format the Rust sources
	cargo fmt

fuzz: ## every fuzz target for SECONDS=60 each, two at a time
	$(PYTHON) fuzz/run.py --seconds $(or $(SECONDS),60)

coverage: ## which lines of the protocol no test runs; fails below 98 %
	$(PYTHON) tools/coverage.py

bench: ## server CPU per message as a ratio to the floor
	$(PYTHON) bench/run.py

wheel: ## the Python package for this interpreter, into target/wheels
	$(PYTHON) bindings/python/build.py

npm: ## the tarballs of the Node.js package, into target/npm
	bindings/node/pack.sh

header: ## write include/wsabi.h anew from ffi/
	WSABI_BLESS=1 cargo test -p wsabi-ffi --test header

install: ## header, libraries, pkg-config and CMake files into PREFIX (with DESTDIR before it)
	DESTDIR='$(DESTDIR)' ffi/install.sh install '$(PREFIX)'

uninstall: ## take them away again
	DESTDIR='$(DESTDIR)' ffi/install.sh uninstall '$(PREFIX)'

deps-apt: ## install the tools that tests need (Debian, Ubuntu)
	$(SUDO) apt-get update -q
	$(SUDO) apt-get install -q -y --no-install-recommends $$($(PYTHON) tools/test.py --apt-packages)

clean: ## remove what was built
	rm -rf target bench/build
