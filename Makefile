# make reproduce [PROFILE=demo] [DATA=folder]   make redraw [PROFILE=real]   make lab [LAB=--no-browser]   make test
# make bench   make faults   make clean
# All set-up happens here: Python 3.11+ with venv and pip is all that is needed. PYTHON=python3.13 picks another one.
PYTHON ?= python3
PROFILE ?= demo
DATA ?=
PARTS ?=
LAB ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
READY := .venv/ready-$(VERSION)
BIN := .venv/bin

.PHONY: reproduce redraw test lab bench faults clean

reproduce: $(READY)
	@echo "== Reproducing RoS-KD, profile $(PROFILE): train what is missing, run the notebooks, print Table I =="
	@$(BIN)/python -m rosutils reproduce $(PROFILE) $(if $(DATA),--data "$(DATA)")

redraw: $(READY)
	@$(BIN)/python -m rosutils redraw $(PROFILE) $(if $(DATA),--data "$(DATA)")

test: $(READY)
	@echo "== Lint =="
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "== Tests: modules, then the notebooks end to end on the smoke profile =="
	@$(BIN)/python -m pytest

bench: $(READY)
	@echo "== Side-by-side timings (about half an hour; PARTS=\"loop bank\" for some), written to benchmarks/results.md =="
	@DATA="$(DATA)" $(BIN)/python benchmarks/run.py $(PARTS)

faults: $(READY)
	@echo "== Broken on purpose (about 40 minutes; PARTS=\"prepare full\" for some), written to benchmarks/faults.md =="
	@$(BIN)/python tests/faults/faults.py $(PARTS)
	@FUZZ=long $(BIN)/python -m pytest tests/test_fuzz.py -n 0

lab: $(READY)
	@$(BIN)/python -m rosutils lab $(if $(filter-out file,$(origin PROFILE)),--profile $(PROFILE)) -- $(LAB)

clean:
	rm -rf .venv runs figures/demo build *.egg-info .pytest_cache .ruff_cache .hypothesis

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found %d.%d; try make PYTHON=python3.12 ..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "== Setting up .venv with Python $(VERSION) (once: about 6 GB, minutes on a fast line) =="
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
