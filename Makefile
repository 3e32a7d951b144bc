# Every target makes .venv with what it needs, from python3 alone.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# xdist: the tests mostly wait on processes and disks, so a few more workers than cores pay off.
PYTEST := $(BIN)/python -m pytest -n 4 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help demo test test-full check audit format docs lock bench soak clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/'

$(VENV)/.run: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing zoomrelay into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	@echo "installing the tools for tests and checks ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.run  ## see it work: the real relay against the built-in Zoom simulator (Ctrl-C ends it)
	@$(BIN)/zoomrelay demo

test: $(VENV)/.dev  ## the tests, as any user can run them (under 5 minutes)
	@$(PYTEST) -m "not full and not soak"

test-full: $(VENV)/.dev  ## more kills, more schedules, and what needs root (under 15 minutes)
	@$(PYTEST) -m full

check: $(VENV)/.dev  ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

audit: $(VENV)/.run  ## known vulnerabilities of the locked packages, where osv.dev can be reached
	@$(BIN)/python -m tools.audit requirements.lock requirements-dev.lock requirements-build.lock

format: $(VENV)/.dev  ## format and mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.run  ## write the tables of docs/troubleshooting.md out of zoomrelay/causes.py
	@$(BIN)/python -m zoomrelay.doctor.handbook docs/troubleshooting.md

lock: $(VENV)/.dev  ## pin the dependencies anew, with hashes
	@$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade --output-file requirements.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade --allow-unsafe --extra dev --output-file requirements-dev.lock pyproject.toml
	@$(BIN)/pip-compile --quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --upgrade --only-build-deps --build-deps-for wheel --output-file requirements-build.lock pyproject.toml

bench: $(VENV)/.dev  ## measure, side by side with bare loops
	@$(BIN)/python -m bench

soak: $(VENV)/.dev  ## one relay, a fault a minute, for MINUTES minutes (default 30), then fresh schedules
	@ZOOMRELAY_TEST_SOAK_MINUTES=$${MINUTES:-30} $(BIN)/python -m pytest -m soak -s tests/fault

clean:  ## remove what the targets above made
	@rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
