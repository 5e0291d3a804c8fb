# Every command works from a clean clone with nothing but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install check audit test contract docs screenshots bench plot simulate chaos demo demo-stop
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

check: install ## format, lint, types, layers, and what bandit knows of insecure code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml flows tasks mavedb_audit deployments

audit: install ## known vulnerabilities of what is pinned; asks PyPI
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

test: install ## every test; those on captured data where it is at hand
	$(BIN)/pytest -n 2 --dist loadfile

contract: install ## the main job on the real tables of MaveDB's current release
	$(BIN)/pytest tests/contract

docs: install ## the reference pages that are made from code
	PYTHONPATH=. $(BIN)/python docs/generate

screenshots: install ## docs/pages/*.png, where a Chromium is at hand
	$(BIN)/python docs/screenshots.py

bench: install ## speed beside a baseline of the same run; SIZE=small or full, ONLY=pages,starts
	$(BIN)/python -m deployments.local bench

plot: install ## docs/reference/cost-by-size.svg, measured anew up to a million variants
	$(BIN)/python -m deployments.local plot

simulate: install ## workers against the services' limits; MEASURE=1 measures the costs anew first
	$(BIN)/python -m deployments.simulation

# SCORES=file.csv [COUNTS=file.csv] TARGET=file.fasta runs a real export; KEEP=1 leaves all up;
# STATE=folder holds everything, .demo by default.
demo: install ## one score set from its upload to the account of every variant
	$(BIN)/python -m deployments.local demo

demo-stop: ## end what `make demo KEEP=1` left up, with the same STATE
	$(BIN)/python -m deployments.local stop

chaos: install ## pipelines while the parts they run on are killed; N=pipelines SEED=n KEEP=1 TOPOLOGY=production
	$(BIN)/python -m tests.chaos
