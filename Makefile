# Every target works in a fresh clone: it sets up .venv first if necessary.

PYTHON ?= python3
# Not the environment's: the demo must not record its run in a production Dagster.
DAGSTER_HOME := $(CURDIR)/.dagster
UI_PORT ?= 3000
export DAGSTER_DISABLE_TELEMETRY := yes
demo ui: export DAGSTER_HOME := $(DAGSTER_HOME)
# Otherwise each worker and each process of a test compiles all that it imports.
test test-all: export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test test-all lint types definitions docs check format pages structure readme notebook bench bench-peers bench-refresh simulate concurrency daemon fuzz audit clean

help: ## show these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv, and install the package and its tools at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is not Python 3.11 or newer: try make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "$(PYTHON) can't make $(VENV): on Debian and Ubuntu, install python3-venv"; exit 1; }
	@echo "installing into $(VENV): about 2 minutes, once"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY) $(DAGSTER_HOME)/dagster.yaml ## play 30 days of two accounts in fast time, and compare the archive with the truth
	@$(BIN)/email-archive demo

# The demo's archive, if it is the only one here.
SHOWN = $(if $(wildcard data/lake.json),,$(if $(wildcard data/demo/lake.json),EMAIL_ARCHIVE_DATA=data/demo,))

ui: $(READY) $(DAGSTER_HOME)/dagster.yaml ## Dagster on http://127.0.0.1:3000
	$(SHOWN) $(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(UI_PORT)

$(DAGSTER_HOME)/dagster.yaml:
	@mkdir -p $(DAGSTER_HOME)
	@cp deploy/dagster.yaml $@

test: $(READY) ## run the tests
	$(BIN)/pytest -n auto --dist worksteal

test-all: $(READY) ## run also the tests that take a minute or more
	$(BIN)/pytest -n auto --dist worksteal -m ''

lint: $(READY) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy --strict
	$(BIN)/mypy pipeline assets

definitions: $(READY) ## validate Dagster's definitions
	env -u DAGSTER_HOME $(BIN)/dagster definitions validate -w workspace.yaml

docs: $(READY) ## build docs/ as a site in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "python3 -m http.server --bind 127.0.0.1 --directory build/site 8000   # then open http://127.0.0.1:8000"

COG := $(BIN)/cog -r -P -I . -p 'from tests.support.pages import *' --verbosity=1
pages: $(READY) ## generate the reference in docs/: commands, settings, tables
	$(COG) docs/commands.md docs/settings.md docs/tables.md

structure: $(READY) ## draw the imports between packages in docs/images/packages.svg; needs Graphviz
	$(BIN)/python -m tests.support.structure | dot -Tsvg -o docs/images/packages.svg

check: lint types definitions docs test ## all of these

format: $(READY) ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

EXAMPLES := build/examples
readme: pages ## play the demo, and generate every example of the README and docs/, the pictures and the notebook
	rm -f $(EXAMPLES)/demo.txt
	$(MAKE) notebook
	$(COG) README.md docs/*.md
	$(BIN)/python -m tests.support.pictures $(EXAMPLES)

notebook: $(EXAMPLES)/demo.txt ## execute the notebook on the demo's archive in build/examples, and store its outputs
	$(BIN)/python -m tests.support.notebook $(EXAMPLES)

$(EXAMPLES)/demo.txt: | $(READY)
	@rm -rf $(EXAMPLES) && mkdir -p $(EXAMPLES)
	@cd $(EXAMPLES) && $(CURDIR)/$(BIN)/email-archive demo --no-dagster > said.txt && mv said.txt demo.txt

ONLY ?=
SCALE ?= 1
bench: $(READY) ## measure costs against a floor and targets; write docs/performance.md
	$(BIN)/python -m tests.benchmarks.speed --only "$(ONLY)" --scale $(SCALE)

bench-peers: $(READY) ## measure dlt in its own environment; write docs/performance.md
	$(BIN)/python -m tests.benchmarks.peers --scale $(SCALE)

bench-refresh: $(READY) ## measure what the refresh policy costs and misses; write docs/refresh.md and its picture
	$(BIN)/python -m tests.benchmarks.refresh

SEEDS ?= 200
simulate: $(READY) ## simulate archives with faults, crashes and power cuts, from SEEDS=200 seeds; SEED=17 repeats one
	$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS))

SECONDS ?= 60
concurrency: $(READY) ## 4 syncs, Dagster runs and 8 readers at once on one archive, for SECONDS=60
	$(BIN)/python -m tests.end_to_end.busy --seconds $(SECONDS)

daemon: $(READY) ## let a Dagster daemon keep an archive for an hour of the emulator's time: 7 minutes
	$(BIN)/python -m tests.end_to_end.daemon

AUDIT := $(VENV)/audit
audit: $(READY) ## check the pinned versions for known vulnerabilities; needs the network
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) \
		&& $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit; }
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt

fuzz: $(VENV)/.fuzzing ## fuzz the parsers of API responses for SECONDS=60; needs Linux, for atheris
	$(BIN)/python -m tests.fuzzing --seconds $(SECONDS)

$(VENV)/.fuzzing: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,fuzz]'
	@touch $@

clean: ## remove .venv, caches and the demo's archive; never data/ itself
	rm -rf $(VENV) .venv-peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzzing data/demo build dist
	find pipeline assets tests -name __pycache__ -type d -prune -exec rm -rf {} +
