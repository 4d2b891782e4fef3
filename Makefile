# The commands of the house. `make up` and `make test` are all a new user needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Modules are compiled once, not at each start of each process, whatever the caller is used to.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: up down reset test check unit lint types imports generate bench venv system clean

$(VENV)/.ready: pyproject.toml tools/venv.sh
	@bash tools/venv.sh $(PYTHON)

venv: $(VENV)/.ready

system: venv
	@$(BIN)/python -m kybern.cli.system

up: system
	@$(BIN)/kybern up --demo

down: venv
	@$(BIN)/kybern down

reset: venv
	@$(BIN)/kybern reset

test: venv
	@$(BIN)/python -m kybern.cli.system --tests
	@bash tools/test.sh

check: venv
	@bash tools/check.sh

unit: venv
	@$(BIN)/python -m pytest tests/unit tests/conformance -n 2

bench: venv
	@$(BIN)/python -m kybern.cli.system --bench
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@$(BIN)/python -m bench

generate: venv
	@$(BIN)/python tools/generate_api.py $(or $(DISCOVERY),../shared/reference/discovery)

clean:
	@rm -rf $(VENV) .cache build src/*.egg-info
