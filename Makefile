# Every target uses .venv, which is installed from the lock files. `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ACCOUNT ?=
BENCH ?=
WRITE ?=
# The oldest Dagster that pyproject.toml allows.
VERSION ?= 1.11.0
# Used with --no-deps, because the lock files list every package: the pip of Python 3.11 cannot resolve requirements
# that have both hashes and extras.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help install demo dev test test-fast test-dagster torture bench lint docs lock stop clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

install: $(VENV)/.installed ## install the pipeline into .venv

demo: $(VENV)/.installed ## sync 90 days of a simulated account into an embedded Postgres
	@$(BIN)/klaviyo-pipeline demo

dev: $(VENV)/.installed ## start the Dagster UI and daemon on 127.0.0.1:3000 (ACCOUNT=demo for the demo's account)
	@$(BIN)/klaviyo-pipeline dev $(if $(filter demo,$(ACCOUNT)),--demo)

# The tests run in three processes, each with its own Postgres, because most tests wait for a server or a worker half of
# the time. Compiled modules are kept even if the environment forbids it, because hundreds of processes import them.
test: $(VENV)/.installed-dev ## run all tests, on a temporary Postgres
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.installed-dev ## run the tests that do not have the marker slow, while you work
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile -m "not slow"

test-dagster: $(VENV)/.installed-dev ## test the examples with a wheel and another Dagster (VERSION=1.11.0, or newest)
	@DAGSTER_VERSION=$(VERSION) $(BIN)/python -m pytest klaviyo_pipeline_tests/examples

torture: $(VENV)/.installed-dev ## run the reliability tests: faults, kills, database failures, pacing (docs/reliability.md)
	@$(BIN)/python -m klaviyo_pipeline_tests.torture

# The benchmarks compare with dlt, which has a separate environment because the project does not depend on it.
bench: $(VENV)/.installed-dev $(VENV)-bench/.installed ## run the benchmarks (BENCH="names", WRITE=1 writes docs/performance.md)
	@$(BIN)/python -m benchmarks $(BENCH) $(if $(WRITE),--write)

$(VENV)-bench/.installed: Makefile
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip --disable-pip-version-check install --quiet 'dlt[postgres]==1.31.0'
	@touch $@

lint: $(VENV)/.installed-dev ## run ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(VENV)/.installed-dev ## generate docs/settings.md, docs/tables.md and declarations.json from code and migrations
	@$(BIN)/python -m klaviyo_pipeline_tests.docs.reference

lock: $(VENV)/.installed-dev ## regenerate the lock files from pyproject.toml
	@$(PIP) uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group build \
		--extra embedded --extra ui --extra report --extra sandbox pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group build \
		--extra all -c requirements.lock pyproject.toml -o requirements-deploy.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group build \
		--extra dev -c requirements-deploy.lock pyproject.toml -o requirements-dev.lock

stop: ## stop the embedded Postgres
	@if [ -x $(BIN)/klaviyo-pipeline ]; then $(BIN)/klaviyo-pipeline database stop; fi

# If root runs the embedded server, its data may be in another folder. The file `location` has the path.
clean: stop ## stop the embedded Postgres, and delete it and .venv
	@case "$$(cat .klaviyo/postgres/location 2>/dev/null)" in \
		/var/lib/klaviyo-pipeline-*) rm -rf "$$(cat .klaviyo/postgres/location)" ;; esac
	rm -rf $(VENV) $(VENV)-bench .klaviyo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is required; set for example PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml setup.py | $(BIN)/python
	@echo "installing into $(VENV) …"
	@$(PIP) --no-deps -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "installing the test dependencies …"
	@$(PIP) --no-deps -r requirements-dev.lock
	@touch $@
