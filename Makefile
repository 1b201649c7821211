# `make` alone lists the targets. Everything runs in .venv; nothing outside this folder changes,
# but for the models and recordings, which `setup` keeps in the user's cache folder.

BIN := .venv/bin
FLINK := .venv-flink/bin
BEAM := .venv-beam/bin
# Flink's threads load the library of the first `python` in the path.
ON_FLINK := PATH="$(CURDIR)/$(FLINK):$$PATH" $(FLINK)/python
# Visitors of demo-flink: each takes its real time, eight at once.
VISITS ?= 120
# The first that starts: a version manager may leave a python3.11 in the path that cannot run.
PYTHON ?= $(shell for name in python3.11 python3; do \
	"$$name" -c '' >/dev/null 2>&1 && { echo "$$name"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-aws demo-flink test check bench regret campaign-flink campaign-drift schemas clean

help:  ## this list
	@echo 'make setup    build .venv and fetch the models and recordings     next: make demo'
	@echo 'make demo     run the loop on recorded visitors, then report      next: the commands it prints'
	@echo 'make demo-aws  the same by way of S3, SQS, Kinesis, Rekognition, DynamoDB   next: docs/aws.md'
	@echo 'make demo-flink  the same on a Kafka and a Flink started for it   next: docs/deploy.md'
	@echo 'make test     run the whole test suite                            next: make check'
	@echo 'make check    ruff, format, mypy and tests: exactly what CI runs  next: git commit'
	@echo 'make campaign-flink  kill -9 everything, 10 times each, under load   next: read its report'
	@echo 'make campaign-drift  flip the taste, and watch quiet streams, on 20 seeds   next: read its report'
	@echo 'make regret   draw regret beside River and VowpalWabbit           next: docs/simulation.md'
	@echo 'make bench    run every benchmark, each beside an alternative     next: compare the ratios'
	@echo 'make schemas  write the .avsc of records that changed             next: make test, pin it'
	@echo 'make clean    remove the environments, build and what tools leave behind     next: make setup'

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
		--editable '.[vision,kafka,gateway,tables,aws,dev]'
	@touch $@

.venv/fetched.stamp: .venv/installed.stamp
	$(BIN)/pho doctor --fetch --fetch-kafka --fetch-pages
	@touch $@

setup: .venv/fetched.stamp
	@echo 'ready; next: make demo'

demo: .venv/fetched.stamp
	$(BIN)/pho demo --data build/demo-$$(date +%Y%m%d-%H%M%S)-$$$$

demo-aws: .venv/fetched.stamp
	$(BIN)/pho demo-aws --data build/demo-aws-$$(date +%Y%m%d-%H%M%S)-$$$$

# PyFlink and Beam exclude what the other one and the core want (docs/decisions), so each has an
# environment of its own. A Java, Kafka and Flink's connector are fetched where they are missing.
.venv-flink/installed.stamp: setup.py constraints-flink.txt .venv/fetched.stamp
	@$(BIN)/python -m venv .venv-flink
	$(FLINK)/python -m pip install --quiet --constraint constraints-flink.txt setuptools wheel
	$(FLINK)/python -m pip install --quiet --constraint constraints-flink.txt --no-build-isolation \
		--editable '.[flink,kafka,vision,aws]' pytest pytest-timeout hypothesis 'moto[s3]' flask flask-cors
	$(FLINK)/pho doctor --fetch-kafka
	@touch $@

.venv-beam/installed.stamp: setup.py constraints-beam.txt .venv/installed.stamp
	@$(BIN)/python -m venv .venv-beam
	$(BEAM)/python -m pip install --quiet --constraint constraints-beam.txt setuptools wheel
	$(BEAM)/python -m pip install --quiet --constraint constraints-beam.txt --no-build-isolation \
		--editable '.[beam,kafka]' pytest pytest-timeout hypothesis
	@touch $@

demo-flink: .venv-flink/installed.stamp .venv/fetched.stamp
	$(FLINK)/pho demo --engine flink --visits $(VISITS) --data build/demo-flink-$$(date +%Y%m%d-%H%M%S)-$$$$

test: .venv/fetched.stamp .venv-flink/installed.stamp .venv-beam/installed.stamp
	@tests/install_programs
	tests/run_core $(BIN)/python
	$(BEAM)/python -m pytest tests/beam
	$(ON_FLINK) -m pytest tests/flink tests/scenarios_flink
	@echo 'next: make check'

# All of them run even when one fails, so that one round shows everything there is to mend.
check: .venv/fetched.stamp .venv-flink/installed.stamp .venv-beam/installed.stamp
	@tests/install_programs
	@failed=''; \
	echo '== ruff check'; $(BIN)/ruff check . || failed="$$failed ruff-check"; \
	echo '== ruff format'; $(BIN)/ruff format --check . || failed="$$failed ruff-format"; \
	echo '== mypy'; $(BIN)/mypy || failed="$$failed mypy"; \
	echo '== pytest'; tests/run_core $(BIN)/python || failed="$$failed pytest"; \
	echo '== pytest on Beam'; $(BEAM)/python -m pytest tests/beam || failed="$$failed beam"; \
	echo '== pytest on Flink'; $(ON_FLINK) -m pytest tests/flink tests/scenarios_flink || failed="$$failed flink"; \
	if [ -n "$$failed" ]; then echo "make check failed in:$$failed"; exit 1; fi
	@echo 'all passed; next: git commit'

.venv-bytewax/installed.stamp: constraints.txt .venv/installed.stamp
	@$(BIN)/python -m venv .venv-bytewax
	.venv-bytewax/bin/python -m pip install --quiet --constraint constraints.txt bytewax==0.21.1 \
		numpy scipy fastavro msgspec river
	@touch $@

.venv-rivals/installed.stamp: constraints-rivals.txt .venv/installed.stamp
	@$(BIN)/python -m venv .venv-rivals
	.venv-rivals/bin/python -m pip install --quiet --constraint constraints-rivals.txt \
		numpy scipy msgspec fastavro river vowpalwabbit mabwiser
	@touch $@

bench: .venv/fetched.stamp .venv-flink/installed.stamp .venv-beam/installed.stamp .venv-bytewax/installed.stamp .venv-rivals/installed.stamp
	$(BIN)/python benchmarks/loop.py
	$(BIN)/python benchmarks/gateway.py --quick
	$(BIN)/python benchmarks/policies.py
	$(BIN)/python benchmarks/join.py
	$(BEAM)/python benchmarks/backfill.py
	$(ON_FLINK) benchmarks/flink.py
	@echo 'next: compare the ratios with those in docs'

campaign-flink: .venv-flink/installed.stamp
	KILLS=$${KILLS:-10} RATE=$${RATE:-200} CHECKPOINT_MS=10000 $(ON_FLINK) -m pytest -s tests/scenarios_flink/test_kills.py
	@echo 'next: read its report'

campaign-drift: .venv/fetched.stamp
	DRIFT_SEEDS=$${SEEDS:-20} $(BIN)/python -m pytest -s -o timeout=5000 tests/scenarios/test_drift.py
	@echo 'next: read its report'

regret: .venv/fetched.stamp .venv-rivals/installed.stamp
	$(BIN)/python benchmarks/regret.py --vw .venv-rivals/bin/python --seeds 3 --picture docs/regret.svg
	@echo 'next: look at docs/regret.svg'

schemas: .venv/installed.stamp
	$(BIN)/pho schemas --write
	@echo 'next: make test; its golden list names the fingerprints to pin'

clean:
	rm -rf .venv .venv-flink .venv-beam .venv-bytewax .venv-rivals build dist pho.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo 'next: make setup'
