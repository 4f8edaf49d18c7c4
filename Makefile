# Needs Python 3.11 or later, make, and a package index that pip can reach. Everything else is installed into .venv,
# pinned and hashed in requirements/: dev.txt for working on Recollect, all.txt for the library with every extra.
# PYTHON says which interpreter .venv is made from; `make test PYTHON=python3.13` on an existing .venv needs
# `make clean` first.

PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python
PIP_INSTALL = -m pip install --quiet --progress-bar off
# Without UPGRADE=1, `make lock` keeps every version that still satisfies pyproject.toml. UV=uv takes a uv of your own.
UV ?= $(BIN)/uv
LOCK = $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)

# What the peers of bench/peers need, each alone; matplotlib, for the plots, is one of them.
PEERS = $(basename $(wildcard bench/peers/requirements/*.in))

# .venv holds the absolute path of this folder, so a copied or moved folder makes its own.
HERE := $(shell pwd | cksum | cut -d ' ' -f 1)
LOCKED := .venv/.locked-$(HERE)
INSTALLED := .venv/.installed-$(HERE)

# Packages come from .venv alone, questions are never asked, and tools that keep a cache have a home to keep it in.
unexport PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
ifeq ($(strip $(HOME)),)
export HOME := $(CURDIR)/.home
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup pooler browser agno demo test check cover wheel docs bench bench-check bench-peers torture load format lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile | awk -F ': ' '{ printf "make %-11s %s\n", $$1, $$2 }'

setup: $(INSTALLED) ## make .venv and fill it; done once, and again when requirements or pyproject.toml change

demo: setup ## set up, then hold a few conversations and show them, last in the inbox: on a terminal, until Ctrl-C
	$(PY) examples/demo.py

# The wheel first, so that the last lines are those of pytest.
test: setup pooler browser agno wheel check ## set up, then everything that CI checks

# Some tests speak to Postgres through a pooler. Where root may install the distribution's, it is; elsewhere those tests
# are skipped, and pytest says so.
pooler:
	@PATH="$$PATH:/usr/sbin"; if ! command -v pgbouncer > /dev/null && [ "$$(id -u)" = 0 ] \
		&& command -v apt-get > /dev/null; then \
		echo "pooler: install pgbouncer"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer; } \
			> /dev/null 2>&1 || echo "pooler: it cannot be installed; its tests are skipped"; \
	fi

# The inbox is looked at in a Chromium: this machine's, else the distribution's where root may install it. That of Ubuntu
# only tells one to install a snap, so whatever is there is asked whether it runs.
browser:
	@if [ -z "$$RECOLLECT_TEST_CHROMIUM" ] && ! chromium --version > /dev/null 2>&1 \
		&& ! chromium-browser --version > /dev/null 2>&1 && ! google-chrome --version > /dev/null 2>&1 \
		&& [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "browser: install chromium"; \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
			> /dev/null 2>&1 || echo "browser: it cannot be installed; its tests are skipped"; \
	fi

# Agno, which writes the databases that the tests of moving in from it read: the last release of 2 and one of 3, each in
# an environment of its own, and the first release of all, on what the last one needs.
agno: $(LOCKED) .venv/agno2/.locked .venv/agno3/.locked .venv/agno2-first/.locked

# Most tests wait for a server or a process, so more of them run at once than there are processors; a file's together, and
# in the order that conftest.py gives them.
WORKERS ?= 3
SIDE_BY_SIDE = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

check: | $(PY) ## format, lint, types, layers, tests; without setting up
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/basedpyright --pythonpath $(PY)
	$(PY) scripts/public_types.py
	$(PY) -m pytest $(SIDE_BY_SIDE)

# Apart from the checks: before Python 3.12 counting lines makes the tests take half as long again.
cover: | $(PY) ## the tests once more, counting which lines and branches they reach; nine in ten at least
	$(PY) -m pytest --cov $(SIDE_BY_SIDE)

# pip takes hashes only for what is named with its version, so the pinned requirements of [all] go in first; the wheel
# must then find everything it asks for already there.
wheel: | $(PY) ## build the wheel, install it with [all] into an empty environment, run the README's first block there
	@set -eu; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; trap 'exit 1' HUP INT TERM; \
	echo "wheel: build"; \
	$(PY) -m build --wheel --no-isolation --outdir "$$tmp" . > "$$tmp/log" 2>&1 || { cat "$$tmp/log"; exit 1; }; \
	echo "wheel: install into an empty environment"; \
	$(PY) -m venv "$$tmp/env"; \
	"$$tmp/env/bin/python" $(PIP_INSTALL) --no-deps --require-hashes -r requirements/all.txt; \
	"$$tmp/env/bin/python" $(PIP_INSTALL) --isolated --no-index "recollect[all] @ file://$$(echo "$$tmp"/*.whl)"; \
	"$$tmp/env/bin/python" -m pip check; \
	echo "wheel: run the first block of README.md there"; \
	$(PY) scripts/first_block.py README.md "$$tmp/env/bin/python"

# mkdocs-material advertises its successor in each build unless it is told not to.
docs: setup ## set up, then build the documentation into site/; site/index.html is where it begins
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: | $(PY) ## measure, and print the ratios of bench/README.md
	$(PY) -m bench

bench-check: | $(PY) ## count the instructions of what is called often; fail where they are more than bench/baseline.json says
	$(PY) -m bench.check

# Each peer in an environment of its own under build/peers; a peer that cannot be installed is named and left out.
bench-peers: | $(PY) ## compare Recollect with its peers, half an hour; writes bench/RESULTS.md: make bench-peers ARGS=--quick
	$(PY) -m bench.peers $(ARGS)

torture: | $(PY) ## many processes on one database, killed and stopped at random: make torture SECONDS=60 DB=postgres
	$(PY) tests/torture/torture.py --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED)) $(if $(DB),--db $(DB))

load: | $(PY) ## streams, idle listeners, slow readers and vanishing clients on one server: make load SECONDS=60
	$(PY) tests/load/load.py --seconds $(or $(SECONDS),60)

format: | $(PY) ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: ## pin requirements/*.txt anew from pyproject.toml; UPGRADE=1 takes the newest versions
	$(LOCK) pyproject.toml --extra all --group dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra all -c requirements/dev.txt -o requirements/all.txt
	$(LOCK) --group agno2 -o requirements/agno2.txt
	$(LOCK) --group agno3 -o requirements/agno3.txt
	$(LOCK) --group agno2-first --no-deps -o requirements/agno2-first.txt
	for peer in $(PEERS); do $(LOCK) --python-version 3.11 $$peer.in -o $$peer.txt || exit 1; done
	@! grep -n '://' requirements/*.txt bench/peers/requirements/*.txt

clean: ## remove .venv and everything the tools left
	rm -rf .venv .home build dist site htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache \
		.pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The pinned file is whole, so nothing is looked up beside it: where a package is asked for with an extra, pip would look
# at the newest release first, and refuse it because its hash is not there.
$(LOCKED): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed; name one: make PYTHON=...")'
	$(PYTHON) -m venv --clear .venv
	$(PY) $(PIP_INSTALL) --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

$(INSTALLED): $(LOCKED) pyproject.toml
	$(PY) $(PIP_INSTALL) --no-deps --no-build-isolation --no-index -e .
	$(PY) -m pip check
	@touch $@

AGNO_INSTALL = install --quiet --progress-bar off --no-compile --no-deps --require-hashes

.venv/%/.locked: requirements/%.txt $(LOCKED)
	@echo "agno: install $*"
	@$(PY) -m venv --clear --without-pip .venv/$*
	@$(PY) -m pip --python .venv/$*/bin/python $(AGNO_INSTALL) -r $<
	@touch $@

.venv/agno2-first/.locked: requirements/agno2-first.txt $(LOCKED)
	@echo "agno: install agno2-first"
	@rm -rf .venv/agno2-first
	@$(PY) -m pip $(AGNO_INSTALL) --target .venv/agno2-first -r $<
	@touch $@

$(PY):
	@echo 'There is no .venv yet: make setup' >&2; exit 1
