# `make` alone lists the targets. Everything runs in .venv; nothing outside this folder changes,
# but for the models and recordings, which `setup` keeps in the user's cache folder.

BIN := .venv/bin
# The first that starts: a version manager may leave a python3.11 in the path that cannot run.
PYTHON ?= $(shell for name in python3.11 python3; do \
	"$$name" -c '' >/dev/null 2>&1 && { echo "$$name"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench schemas clean

help:  ## this list
	@echo 'make setup    build .venv and fetch the models and recordings     next: make demo'
	@echo 'make demo     run the loop on recorded visitors, then report      next: the commands it prints'
	@echo 'make test     run the whole test suite                            next: make check'
	@echo 'make check    ruff, format, mypy and tests: exactly what CI runs  next: git commit'
	@echo 'make bench    run every benchmark, each beside an alternative     next: compare the ratios'
	@echo 'make schemas  write the .avsc of records that changed             next: make test, pin it'
	@echo 'make clean    remove .venv, build and what tools leave behind     next: make setup'

.venv/installed.stamp: setup.py constraints.txt
	@if [ -z '$(PYTHON)' ]; then \
		echo 'No Python found. Install Python 3.11 (Debian: apt-get install python3.11-venv).'; \
		exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "PHO needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
		echo 'Install python3.11, or name one: make PYTHON=/path/to/python3.11 setup'; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo 'The venv module is incomplete (Debian: apt-get install python3.11-venv).'; exit 1; }
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation \
		--editable '.[vision,dev]'
	@touch $@

.venv/fetched.stamp: .venv/installed.stamp
	$(BIN)/pho doctor --fetch
	@touch $@

setup: .venv/fetched.stamp
	@echo 'ready; next: make demo'

demo: .venv/fetched.stamp
	$(BIN)/pho demo --data build/demo-$$(date +%Y%m%d-%H%M%S)-$$$$

test: .venv/fetched.stamp
	$(BIN)/python -m pytest
	@echo 'next: make check'

# All four run even when one fails, so that one round shows everything there is to mend.
check: .venv/fetched.stamp
	@failed=''; \
	echo '== ruff check'; $(BIN)/ruff check . || failed="$$failed ruff-check"; \
	echo '== ruff format'; $(BIN)/ruff format --check . || failed="$$failed ruff-format"; \
	echo '== mypy'; $(BIN)/mypy || failed="$$failed mypy"; \
	echo '== pytest'; $(BIN)/python -m pytest || failed="$$failed pytest"; \
	if [ -n "$$failed" ]; then echo "make check failed in:$$failed"; exit 1; fi
	@echo 'all passed; next: git commit'

bench: .venv/fetched.stamp
	@for file in benchmarks/*.py; do \
		[ -e "$$file" ] || { echo 'benchmarks/ holds no benchmark'; exit 1; }; \
		echo "== $$file"; $(BIN)/python "$$file" || exit 1; done
	@echo 'next: compare the ratios with those in docs'

schemas: .venv/installed.stamp
	$(BIN)/pho schemas --write
	@echo 'next: make test; its golden list names the fingerprints to pin'

clean:
	rm -rf .venv build dist pho.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo 'next: make setup'
