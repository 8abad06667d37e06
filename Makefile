# Two commands matter: `make demo` runs the desk, `make test` passes the tests. Each sets up what it needs from nothing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
export UV_PYTHON_DOWNLOADS = never
# uv takes the newest interpreter it finds; the locks cover 3.11 to 3.13 and PYTHON says which one is meant.
export UV_PROJECT_ENVIRONMENT = $(VENV)
# One thread per process: on small machines the second BLAS thread costs more than it brings.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: help demo test check bench soak stack lock docs wheel clean

help:
	@echo "make demo    run the desk on real ECB rates through Prometheus, Alertmanager and the receiver"
	@echo "make test    all tests; those that need real components say how to get them"
	@echo "make stack   fetch what tests start into .stack: Prometheus, Alertmanager, PostgreSQL, MariaDB, MLflow, Kafka (no root)"
	@echo "make check   ruff, mypy, import direction, generated files up to date"
	@echo "make bench   speed and memory beside peers       make soak   1,000 kills, 10,000 cycles of faults"
	@echo "make lock    renew requirements/*.lock           make docs   renew generated parts of the docs"
	@echo "make wheel   build dist/*.whl                    make clean  remove what was made here"

demo: $(VENV)/.run
	$(BIN)/deskwatch demo $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_repository.py tests/unit/test_docs.py

bench: $(VENV)/.dev
	@for bench in $(sort $(wildcard tests/bench/bench_*.py)); do \
	  echo; echo "== $$bench"; $(BIN)/python -m $$(echo $$bench | sed 's|/|.|g; s|\.py$$||') || exit 1; done

soak: $(VENV)/.dev
	DESKWATCH_KILLS=$(or $(KILLS),1000) $(BIN)/python -m pytest -q -s tests/flows/receiver/test_crash.py -k kills $(ARGS)
	$(BIN)/python -m tests.soak.fetching --cycles $(or $(CYCLES),10000)

stack:
	deploy/stack.sh --databases .stack
	deploy/stack.sh --suite trixie .stack
	deploy/mlflow.sh .stack
	deploy/kafka.sh .stack

docs: $(VENV)/.dev
	$(BIN)/python -m dashboards.generate
	$(BIN)/python -m rules.profile
	$(BIN)/python -m tests.docs --write

wheel: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel

# The locks hold hashes and no host: they work against whichever index the machine uses.
lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --no-emit-find-links pyproject.toml --extra demo --extra build -o requirements/run.lock --upgrade
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --no-emit-find-links -c requirements/run.lock pyproject.toml --extra demo --extra build --extra ccxt --extra mysql --group dev \
	  --no-emit-package deskwatch -o requirements/dev.lock --upgrade
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --no-emit-find-links requirements/mlflow.in -o requirements/mlflow.lock --upgrade

$(VENV)/.run: requirements/run.lock pyproject.toml | $(VENV)/.made
	$(call install,requirements/run.lock)
	@touch $@

$(VENV)/.dev: requirements/dev.lock pyproject.toml | $(VENV)/.made
	$(call install,requirements/dev.lock)
	@touch $@ $(VENV)/.run

# The locked packages by hash, then this checkout, editable, built by the locked hatchling.
define install
	@if command -v uv >/dev/null 2>&1; then \
	  VIRTUAL_ENV=$(VENV) uv pip install -q --require-hashes -r $(1) && \
	  VIRTUAL_ENV=$(VENV) uv pip install -q --no-deps --no-build-isolation -e .; \
	else \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $(1) && \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
endef

$(VENV)/.made:
	@if command -v uv >/dev/null 2>&1; then uv venv -q --allow-existing --python "$$(command -v $(PYTHON))" $(VENV); \
	elif $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv $(VENV); \
	else echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install -y python3-venv" >&2; exit 1; fi
	@touch $@

clean:
	rm -rf $(VENV) .stack build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
