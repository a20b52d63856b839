# Two commands do everything: `make demo` and `make test`. Windows: see README.md for the plain lines.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DURATION ?=
# As many test processes as there are cores, but never fewer than two.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -lt 2 ] && echo 2 || echo $$n)

.PHONY: demo test check tests coverage fuzz bench format install clean
.DEFAULT_GOAL := demo

demo: $(VENV)/installed-demo
	$(BIN)/python -m dreamrelay demo $(if $(DURATION),--duration=$(DURATION))

test: check tests

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

tests: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -q $(ARGS)

# The same, counting lines and branches; that takes half as long again.
coverage: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -q --cov=dreamrelay --cov-report=term:skip-covered $(ARGS)

# For so many seconds on each door of the relay, each time with other messages.
SECONDS ?= 60
fuzz: $(VENV)/installed-dev
	FUZZ_SECONDS=$(SECONDS) $(BIN)/python -m pytest -n $(JOBS) -q -s tests/fuzz $(ARGS)

# One table, about ten minutes; ARGS=--quick only shows that it runs. `python -m benchmarks report` then
# keeps the figures and writes the tables of docs/performance.md.
bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks all $(ARGS)

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/installed

# The demo's part alone: seconds, and no torch.
$(VENV)/installed-demo: requirements-demo.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-demo.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -e .
	@touch $@

$(VENV)/installed: $(VENV)/installed-demo requirements.txt requirements-streamdiffusion.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps -r requirements-streamdiffusion.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt requirements-training.txt
	$(BIN)/python -m pip install --disable-pip-version-check -q -r requirements-dev.txt
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
