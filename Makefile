# What a person types: make up, make test, make setup.
PYTHON ?= python3
BIN := .venv/bin
SPREAD := --numprocesses=auto --dist=loadgroup
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-header --quiet

.PHONY: setup up notebook test test-full test-clients test-readers test-engines soak soak-up fuzz mutate bench lint docs lock release clean

setup: .venv/.ready

.venv/.ready: requirements/runtime.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

.venv/.ready-notebook: .venv/.ready requirements/notebook.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/notebook.txt
	touch $@

.venv/.ready-dev: .venv/.ready requirements/dev.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@

.venv/.ready-fuzz: .venv/.ready-dev requirements/fuzz.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/fuzz.txt
	touch $@

.venv/.ready-release: .venv/.ready-dev requirements/release.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/release.txt
	touch $@

.venv/.ready-clients: .venv/.ready-dev requirements/clients.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/clients.txt
	touch $@

# In an environment of their own, since they need older versions of some libraries.
.venv-readers/.ready: requirements/readers.txt pyproject.toml
	$(PYTHON) -m venv .venv-readers
	.venv-readers/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/readers.txt
	.venv-readers/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

.venv-engines/.ready: requirements/engines.txt pyproject.toml
	$(PYTHON) -m venv .venv-engines
	.venv-engines/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements/engines.txt
	.venv-engines/bin/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

up: setup
	$(BIN)/auditlake up

# A tour of the lake in data/, in Jupyter, on the address 127.0.0.1 alone.
notebook: .venv/.ready-notebook
	$(BIN)/jupyter notebook --ServerApp.ip=127.0.0.1 notebooks/tour.ipynb

test: .venv/.ready-dev lint
	$(BIN)/python -m pytest $(SPREAD) -m "not clients and not readers and not engines"

# Everything `make test` samples, in full: also on simulated object stores, of which npm installs Azure's.
test-full: .venv/.ready-dev lint
	AUDITLAKE_FULL=1 $(BIN)/python -m pytest $(SPREAD) -m "not clients and not readers and not engines"

# The vendors' official clients read the sandbox; a group of its own, since they are many.
test-clients: .venv/.ready-clients
	$(BIN)/python -m pytest $(SPREAD) -m clients

# Engines read every table: Dask, Daft and, through Spark's API, Sail.
test-readers: .venv-readers/.ready
	.venv-readers/bin/python -m pytest -q tests/readers

# Workers of Ray and Dask derive, count, export and verify what one process does, and are killed meanwhile.
test-engines: .venv-engines/.ready
	.venv-engines/bin/python -m pytest -q -m engines tests/engines

# A thousand rounds are killed, at random and at named points; then the two ledgers are compared. After
# them, signing is killed 200 times between any two steps, histories, 10,000 searches and 2,000 views of
# the dashboard are made up at random, and the receiver is killed a hundred times while it is pushed to. Rounds
# restart from 2,000 disks that a power cut may leave. Last, a busy lake is verified a thousand times: no alarm but that of a planted rollback. `make soak-up` watches `auditlake up` and all its checks
# for an hour.
KILLS ?= 1000
POWER_CUTS ?= 2000
VERIFICATIONS ?= 1000
MINUTES ?= 60
soak: .venv/.ready-dev
	$(BIN)/python -c "from tests.promises import kills; kills.main($(KILLS))"
	AUDITLAKE_SIGNING_KILLS=200 AUDITLAKE_WORLDS=60 $(BIN)/python -m pytest -q \
	  tests/integrity/test_crashes.py tests/integrity/test_model.py
	AUDITLAKE_KILLS=100 $(BIN)/python -m pytest -q tests/webhooks/test_server.py \
	  tests/integrity/test_killed_retention.py tests/detections/alerts/test_killed_passes.py -k killed
	AUDITLAKE_KILLS=20 $(BIN)/python -m pytest -q -m "not engines" tests/engines -k killed
	AUDITLAKE_FRESH_LAKES=20 $(BIN)/python -m pytest -q tests/objects/test_machines.py
	AUDITLAKE_HISTORIES=500 $(BIN)/python -m pytest -q tests/promises/test_one_truth.py
	AUDITLAKE_SEARCHES=10000 $(BIN)/python -m pytest -q tests/search/test_language.py
	AUDITLAKE_VIEWS=2000 $(BIN)/python -m pytest -q tests/dashboard/test_random_views.py
	AUDITLAKE_RULES=3000 $(BIN)/python -m pytest -q tests/detections/test_compiler.py
	$(BIN)/python -c "from tests.promises import restarts; restarts.main($(POWER_CUTS))"
	$(BIN)/python -c "from tests.promises import alarms; alarms.main($(VERIFICATIONS))"

soak-up: .venv/.ready-dev
	$(BIN)/python -c "from tests.promises import alarms; alarms.up($(MINUTES))"

# A coverage-guided fuzzer drives each function of tests/fuzz/targets.py for FUZZ_SECONDS; TARGET is the start of the
# names to run. Inputs that violate a property are kept in tests/fuzz/inputs, and replayed by the tests.
FUZZ_SECONDS ?= 300
TARGET ?=
fuzz: .venv/.ready-fuzz
	$(BIN)/python -c "from tests.fuzz import coverage_guided; raise SystemExit(coverage_guided.main($(FUZZ_SECONDS), '$(TARGET)'))"

# Changes a comparison, condition, number or statement of a module that holds the promises, MUTANTS times, and runs the
# module's own tests, which should notice. Survivors are printed; docs/mutation.md explains those that change nothing.
MUTANTS ?= 300
SEED ?= 1
JOBS ?= 2
MUTANT_SECONDS ?= 300
mutate: .venv/.ready-dev
	$(BIN)/python -c "from tests import mutants; raise SystemExit(mutants.main($(MUTANTS), $(SEED), $(JOBS), $(MUTANT_SECONDS)))"

# A small form of every benchmark, about seven minutes on an idle machine. BASE compares all with a commit, for twice the
# time; WRITE=1 puts the table into benchmarks/README.md.
bench: .venv/.ready-dev
	$(BIN)/python benchmarks/small.py $(if $(BASE),--base $(BASE)) $(if $(WRITE),--write)

lint: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The documentation as a site, in site/index.html.
docs: .venv/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Needs uv; run after a change to the dependencies in pyproject.toml.
lock:
	$(COMPILE) --extra build --extra objects --extra postgres pyproject.toml -o requirements/runtime.txt
	$(COMPILE) --extra build --extra objects --extra postgres --extra docs --extra dev -c requirements/runtime.txt pyproject.toml -o requirements/dev.txt
	$(COMPILE) --extra build --extra objects --extra postgres --extra docs --extra dev --extra clients -c requirements/dev.txt pyproject.toml -o requirements/clients.txt
	$(COMPILE) --extra build --extra objects --extra postgres --extra docs --extra dev --extra readers pyproject.toml -o requirements/readers.txt
	$(COMPILE) --extra build --extra objects --extra postgres --extra docs --extra dev --extra ray --extra dask pyproject.toml -o requirements/engines.txt
	$(COMPILE) --extra build --extra objects --extra postgres --extra docs --extra dev --extra fuzz -c requirements/dev.txt pyproject.toml -o requirements/fuzz.txt
	$(COMPILE) --extra build --extra objects --extra postgres --extra notebook -c requirements/dev.txt pyproject.toml -o requirements/notebook.txt
	$(COMPILE) --extra build --extra objects --extra postgres --extra docs --extra dev --extra release -c requirements/dev.txt pyproject.toml -o requirements/release.txt

# The wheel, the source archive, the bill of materials (CycloneDX) and their checksums, in dist/. Whoever builds the
# same commit gets the same bytes, since the only time in them is that of the commit.
release: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
release: .venv/.ready-release
	@test -z "$$(git status --porcelain)" || { echo "a release is made from a commit: commit or stash the changes"; exit 1; }
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml -o dist/auditlake.cdx.json requirements/runtime.txt
	cd dist && sha256sum * > SHA256SUMS

clean:
	rm -rf .venv .venv-readers .venv-engines .dagster dist site test-artifacts
