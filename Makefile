# Penstock.  `make help` lists the targets; each installs what it needs, and is quick when that is there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup check test up secrets backup restore down demo bench soak compose-test lock golden clean

UV_VERSION := 0.13.9
PYTHON ?= python3
BIN := .venv/bin
SPEEDUP ?= 432000

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.venv/.synced: requirements.lock pyproject.toml
	@echo "setting up .venv (half a minute when nothing is cached)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

JAR_SOURCES := $(shell find infra/jars -type f -not -path '*/target/*' 2>/dev/null)
.penstock/jars/.built: $(JAR_SOURCES)
	@echo "fetching and building jars by Maven (a minute when nothing is cached)"
	@mvn --quiet --batch-mode -Dstyle.color=never --file infra/jars/pom.xml -DskipTests package
	@touch $@

setup: .venv/.synced .penstock/jars/.built ## virtual environment and jars

check: setup ## lint, types, unit and golden tests: no services
	@$(BIN)/ruff check src jobs dags tests bench examples
	@$(BIN)/ruff format --check --quiet src jobs dags tests bench examples
	@$(BIN)/mypy
	@$(BIN)/pytest -q -n 4 tests/unit tests/golden tests/dags

# Debian's; elsewhere `make soak CHROMEDRIVER=$$(which chromedriver)` with Chromium's own on PATH.
CHROMEDRIVER := /usr/bin/chromedriver
$(CHROMEDRIVER):
	@test "$$(id -u)" = 0 || { echo "the tests of Airflow's pages need Chromium: sudo apt-get install chromium chromium-driver"; exit 1; }
	@echo "installing Chromium for the tests of Airflow's pages (a minute)"
	@apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends chromium chromium-driver > /dev/null

# `make test STACK=containers`; with COMPOSE=compose.airgap.yml on images built here.
STACK ?= native
test: setup ## the whole suite, on a stack of its own
	@mvn --quiet --batch-mode -Dstyle.color=never --file infra/jars/pom.xml verify
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -q --penstock-stack=$(STACK) $(if $(COMPOSE),--penstock-compose=$(COMPOSE)) tests/e2e

up: setup ## start the native stack
	@$(BIN)/penstock up

secrets: ## write .env for docker-compose.yml: generated passwords, never overwritten
	@$(PYTHON) infra/compose/make_secrets.py

backup: ## archive the stack of docker-compose.yml as one set, stopped meanwhile: [TO=dir]
	@$(PYTHON) infra/compose/backup.py backup $(TO)

restore: ## bring such a set back, and verify it: FROM=dir [FORCE=1: remove what is there]
	@test -n "$(FROM)" || { echo "name the set: make restore FROM=dir"; exit 2; }
	@$(PYTHON) infra/compose/backup.py restore $(FROM) $(if $(FORCE),--force)

down: setup ## stop the native stack
	@$(BIN)/penstock down

demo: setup ## the real thing: stack, pipelines, a year of flights, proof
	@$(BIN)/python -m penstock.demo --speedup $(SPEEDUP) $(if $(FRESH),--fresh)

bench: setup ## measure, and print one table
	@$(BIN)/python -m bench

soak: setup $(CHROMEDRIVER) ## the long drills: kill everything, prove nothing is lost
	@for file in tests/soak/test_*.py; do $(BIN)/pytest -q -s $$file || exit 1; done
	@$(MAKE) --no-print-directory compose-test

compose-test: setup $(CHROMEDRIVER) ## docker compose on images built here: demo, replay, kills, backup (docs/airgap.md)
	@$(BIN)/pytest -q -s tests/compose

lock: .venv/.synced ## resolve requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --generate-hashes --all-extras --python-version 3.11 pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --generate-hashes --extra flink --extra airflow --extra postgres --extra demo \
		--python-version 3.11 --constraints requirements.lock pyproject.toml -o infra/images/requirements.lock

golden: setup ## write the golden files anew; read the diff
	@$(BIN)/pytest -q tests/golden --write-golden

clean: ## remove what was generated, the stack's data too
	@test ! -x $(BIN)/penstock || $(BIN)/penstock down
	@rm -rf .venv .penstock .pytest_cache .mypy_cache .ruff_cache
