# `make` lists the targets. Everything that a target needs is set up by itself, below build/ and in ~/.cache/plumised.
.DEFAULT_GOAL := help
SHELL := /bin/bash

ENV := build/env
DEV := $(ENV)/dev
ENGINE := $(ENV)/engine
ENGINE_TEST := $(ENV)/engine-test
WORKERS ?= 2
PYTEST_ARGS ?=
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: env
env: ## make the Python environments
	@requirements/debian-packages env shipped
	@requirements/make-env dev $(DEV)
	@requirements/make-env engine $(ENGINE)
	@requirements/make-env engine+dev $(ENGINE_TEST)

.PHONY: demo
demo: env ## two nodes serve a real model on a devnet; ARGS="--prompt '…' --max-new-tokens N"
	@$(DEV)/bin/python -m tests.devnet.demo $(ARGS)

.PHONY: check
check: env ## style, types, import contracts
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/mypy --python-executable $(ENGINE_TEST)/bin/python --cache-dir .mypy_cache/engine \
		plumised/petals/*.py plumised/petals/fast/*.py plumised/petals/guard/*.py plumised/petals/sandbox/*.py plumised/petals/client/*.py \
		tests/petals/*.py tests/petals/fast/*.py tests/petals/guard/*.py tests/petals/lean/*.py
	$(DEV)/bin/mypy --strict --cache-dir .mypy_cache/debian debian/tools/bundled.py
	$(DEV)/bin/lint-imports --no-cache

# What boots hosts in containers.
ON_HOSTS := tests/hosts tests/packaging tests/e2e

.PHONY: test
test: env ## every test that needs no containers
	$(DEV)/bin/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/petals \
		$(ON_HOSTS:%=--ignore %) $(PYTEST_ARGS)
	$(ENGINE_TEST)/bin/pytest tests/petals $(PYTEST_ARGS)

.PHONY: test-packaging
test-packaging: deb ## the packages, on hosts with systemd in containers
	@requirements/debian-packages hosts
	$(DEV)/bin/pytest -n $(WORKERS) --dist loadfile tests/hosts tests/packaging $(PYTEST_ARGS)

.PHONY: test-e2e
test-e2e: deb ## the packages on hosts with systemd: suites and fault matrix; writes build/e2e/
	@requirements/debian-packages hosts
	$(DEV)/bin/pytest -n $(WORKERS) --dist loadfile tests/e2e $(PYTEST_ARGS)

.PHONY: e2e
e2e: ## the same and more from nothing, with docker-compose, a verdict for each step; COMPOSE_ONLY=1 SKIP_DEB=1
	@tests/e2e/run_e2e.sh

HISTORIES ?= 20000
.PHONY: histories
histories: env ## the crediting property over HISTORIES=20000 random histories that no test has seen
	HISTORIES=$(HISTORIES) FIRST_SEED=$${FIRST_SEED:-$$(date +%s)} $(DEV)/bin/pytest -n $(WORKERS) --dist load \
		tests/integration/test_histories_*.py $(PYTEST_ARGS)

.PHONY: crediting
crediting: env ## 200 sessions while engines, daemons and the Oracle are killed; writes build/crediting.json
	@$(DEV)/bin/python -m tests.e2e.live_crediting $(ARGS)

HOURS ?= 0.25
.PHONY: soak
soak: env deb ## two nodes under load and random faults: nothing grows, nothing is lost; HOURS=0.25 SEED=N; writes build/soak/
	@requirements/debian-packages hosts
	@$(DEV)/bin/python -m tests.soak --hours $(HOURS) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: bench
bench: env ## what daemon and nodes cost and serve; writes build/bench.json; ARGS="--rounds 2 --only one sessions8"
	@$(DEV)/bin/python -m tests.bench.daemon
	@$(DEV)/bin/python -m tests.bench.engine --plot docs/performance.svg $(ARGS)
	@$(DEV)/bin/python -m tests.bench.engine --model bloom560 --rounds 3 --only one

.PHONY: deb
deb: ## both Debian packages and dist/apt, a repository of them
	@requirements/debian-packages env deb
	@debian/tools/make-deb dist

.PHONY: deb-reproducible
deb-reproducible: ## build plumise-node twice and compare
	@requirements/debian-packages env deb
	@debian/tools/check-reproducible

.PHONY: deb-lint
deb-lint: ## lintian on the packages in dist/
	@requirements/debian-packages deb
	@debian/tools/lint dist

UV := $(ENV)/lock/bin/uv
COMPILE = cd requirements && ../$(UV) pip compile --quiet --python-version 3.11 --upgrade --no-header \
	--no-emit-find-links --no-emit-index-url

$(UV):
	@/usr/bin/python3.11 -m venv $(ENV)/lock
	@$(ENV)/lock/bin/pip install --quiet uv

.PHONY: lock-node
lock-node: $(UV) ## renew requirements/node.lock
	$(COMPILE) --generate-hashes node.in -o node.lock

.PHONY: lock-engine
lock-engine: $(UV) ## renew requirements/engine.lock
	$(COMPILE) --no-annotate --override engine-overrides.in engine.in -o engine.lock \
		$$(sed -n 's/^# without //p' engine.in | tr ' ' '\n' | sed 's/^/--no-emit-package /')

.PHONY: lock-dev
lock-dev: $(UV) ## renew requirements/dev.lock, with the daemon's packages as node.lock has them
	$(COMPILE) --generate-hashes -c node.lock dev.in -o dev.lock

.PHONY: lock-sbom
lock-sbom: $(UV) ## renew requirements/sbom.lock
	$(COMPILE) --generate-hashes sbom.in -o sbom.lock

.PHONY: clean
clean: ## remove what was built here; the cache stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
