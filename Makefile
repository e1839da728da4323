# Each target does all the set-up it needs; only Python >= 3.11 and make have to be there.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help demo test unit envtest integration soak soak-discovery matrix coverage lint types docs bench smoke package clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-15s %s\n", $$1, $$2}'

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kubelb needs Python 3.11 or later; give one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check 'uv>=0.6'
	$(VENV)/bin/uv pip install --quiet --python $(PY) --editable '.[all]' --group dev
	@touch $@

demo: $(READY) ## kubelb beside a kube-proxy, on loopback, within a minute
	$(VENV)/bin/kubelb demo

test: $(READY) ## everything that this machine can do
	$(PY) tests/everything.py

unit: $(READY) ## the quick loop: no Go, no root, under a minute
	$(PY) -m pytest --ignore=tests/integration -m "not slow" -n 3 --dist worksteal

envtest: $(READY) ## build the real control plane for the integration tests (about 10 minutes, once)
	$(PY) tests/envtest/build.py

integration: envtest ## the tests against the real control plane
	$(PY) -m tests.integration.netns -- $(PY) -m pytest tests/integration

soak: $(READY) ## every adapter at once against pods that fail all the time: make soak SOAK="--seconds 1200"
	$(PY) -m tests.soak $(SOAK)

soak-discovery: envtest ## 30 services against a control plane that fails all the time: SOAK="--seconds 600 --seed 2"
	$(PY) -m tests.integration.netns -- $(PY) -m tests.soak_discovery $(SOAK)

matrix: $(READY) ## the unit tests on each CPython there is, with the lowest and the newest dependencies
	$(PY) tests/matrix.py $(MATRIX)

coverage: $(READY) ## branch coverage of the core, which must be complete
	# CPython 3.11 does not always trace two threads that begin at the same moment, and says so; `make test` forbids that.
	$(PY) -m coverage run --branch --source=kubelb.core -m pytest -q -W default::pytest.PytestUnraisableExceptionWarning tests/core
	$(PY) -m coverage report --show-missing --fail-under=100

lint: $(READY) ## style, format, types, direction of imports
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/lint-imports
	$(MAKE) types

types: $(READY) ## mypy strict over src and the public API as users write it
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --strict tests/typing/api.py examples/*.py

docs: $(READY) ## the documentation, into site/
	$(VENV)/bin/mkdocs build --strict

bench: $(READY) ## every figure, and at the end each gate; ten minutes: make bench BENCH="core rpc" for some
	$(PY) benchmarks $(BENCH)

smoke: $(READY) ## the benchmarks in short, with bounds for a busy machine
	$(PY) benchmarks --smoke $(BENCH)

package: $(READY) ## wheel and sdist, tried in an empty environment
	rm -rf dist
	$(PY) -m build --quiet
	$(PY) tests/check_wheel.py dist

clean: ## remove what was built here
	rm -rf $(VENV) .venvs dist site .coverage
