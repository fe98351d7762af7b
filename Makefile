# The two commands of the README: `make run` and `make test`. Everything they need goes into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Options for `make run`, as `cilium-e2e run --help` lists them: make run ARGS="--topology single-node"
ARGS ?=

.PHONY: help venv run test lint format clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

venv: .venv/.complete ## a virtual environment with the console script in it

.venv/.complete: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: venv ## the main job: cluster up, Flux installs this tree's Cilium, the suites run, cluster gone
	$(BIN)/cilium-e2e run $(ARGS)

test: lint ## lint, types, all tests that need no container engine
	$(BIN)/python -m pytest -q -n 2

lint: venv ## ruff, mypy, import-linter, zizmor, and actionlint where it is installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --quiet --offline --no-progress .github/workflows
	@if command -v actionlint >/dev/null; then actionlint; else echo "actionlint is not installed: workflow syntax was not checked"; fi

format: venv ## let ruff format and fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and every cache; clusters are deleted by the runs that made them
	rm -rf .venv .cilium-e2e .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
