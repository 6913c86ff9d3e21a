# Everything happens in .venv, from the locks; `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ACCOUNT ?=
BENCH ?=
WRITE ?=
# The locks name every package. pip's own resolver, as Python 3.11 brings it, stumbles over hashes and extras.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.DEFAULT_GOAL := help
.PHONY: help install demo dev test torture bench lint docs lock stop clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

install: $(VENV)/.installed ## everything that the pipeline needs, into .venv

demo: $(VENV)/.installed ## 90 days of a simulated account, into an embedded Postgres
	@$(BIN)/klaviyo-pipeline demo

dev: $(VENV)/.installed ## the Dagster UI and daemon on 127.0.0.1:3000 (ACCOUNT=demo for the demo's account)
	@$(BIN)/klaviyo-pipeline dev $(if $(filter demo,$(ACCOUNT)),--demo)

# Two processes, each with a Postgres of its own: most tests wait for a server or a worker process half of the time.
test: $(VENV)/.installed-dev ## all tests, on a throw-away Postgres of their own
	@$(BIN)/python -m pytest -n 2 --dist loadfile

torture: $(VENV)/.installed-dev ## every fault, a hundred kills, the database's trouble, pacing: the figures of docs/reliability.md
	@$(BIN)/python -m klaviyo_pipeline_tests.torture

# dlt is what the fetch path is compared with. It has an environment of its own: nothing of the project's rests on it.
bench: $(VENV)/.installed-dev $(VENV)-bench/.installed ## all benchmarks (BENCH=names of some, WRITE=1 into docs/performance.md)
	@$(BIN)/python -m benchmarks $(BENCH) $(if $(WRITE),--write)

$(VENV)-bench/.installed: Makefile
	@$(PYTHON) -m venv $(VENV)-bench
	@$(VENV)-bench/bin/python -m pip --disable-pip-version-check install --quiet 'dlt[postgres]==1.31.0'
	@touch $@

lint: $(VENV)/.installed-dev ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(VENV)/.installed-dev ## write docs/settings.md, docs/tables.md and the declared tables, from the code and the migrations
	@$(BIN)/python -m klaviyo_pipeline_tests.docs.reference

lock: $(VENV)/.installed-dev ## write the locks anew from pyproject.toml
	@$(PIP) uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra celery --extra k8s -c requirements.lock pyproject.toml -o requirements-deploy.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--extra dev -c requirements-deploy.lock pyproject.toml -o requirements-dev.lock

stop: ## stop the embedded Postgres
	@if [ -x $(BIN)/klaviyo-pipeline ]; then $(BIN)/klaviyo-pipeline database stop; fi

# Root's data may lie elsewhere: the embedded server leaves a note where a closed folder kept it out.
clean: stop ## stop it, and remove .venv and every embedded table
	@case "$$(cat .klaviyo/postgres/location 2>/dev/null)" in \
		/var/lib/klaviyo-pipeline-*) rm -rf "$$(cat .klaviyo/postgres/location)" ;; esac
	rm -rf $(VENV) $(VENV)-bench .klaviyo

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; set PYTHON=python3.12, say" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) …"
	@$(PIP) --no-deps -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@echo "installing what the tests need …"
	@$(PIP) --no-deps -r requirements-dev.lock
	@touch $@
