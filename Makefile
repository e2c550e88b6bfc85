# `make demo` and `make test` set up .venv by themselves; `make setup` alone is idempotent.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo docs test test-slow test-device test-export test-lowest test-wheel tutorials coverage weights check parity compare-small evidence fuzz clean
setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "foveate needs Python 3.11 or newer, and $(PYTHON) is older; say make $(MAKECMDGOALS) PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	$(BIN)/foveate demo --out demo

# A file of tests stays with one worker, so that what its tests share is made once.
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

# What the suite leaves out: more forms of what it looks at already.
test-slow: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow

# A quarter of an hour and more on two cores: every method and command on a pretended CUDA device; needs a C++ compiler, no GPU.
test-device: setup
	$(BIN)/python -m pytest -n 2 -m device tests/device

# A quarter of an hour, after a first download of some hundred megabytes: torchvision, MONAI and its bundles, nnU-Net,
# onnxruntime and torch.export read what was exported, in processes without foveate; nnU-Net trains from it, on the
# hippocampus where FOVEATE_DATA is the folder with msd_hippocampus. EXPORTS: where; what is there goes. NNUNET, not set
# by default: nnU-Net's git version as pip names it (git+https://github.com/MIC-DKFZ/nnUNet), which trains as well.
EXPORTS ?= build/exports
test-export: .venv-export/.installed
	rm -rf $(EXPORTS) && mkdir -p $(EXPORTS)
	.venv-export/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --target $(EXPORTS)/foveate .
	PYTHONPATH=$(EXPORTS)/foveate .venv-export/bin/python -W ignore tests/foreign/write.py $(EXPORTS)
	PYTHONPATH=$(EXPORTS)/foveate .venv-export/bin/python -W ignore tests/foreign/read_hub.py $(EXPORTS)
	.venv-export/bin/python -I -W ignore tests/foreign/judge.py $(EXPORTS)
	@test -z "$(NNUNET)" || .venv-export/bin/python -m pip install --disable-pip-version-check --quiet --no-deps \
	  --target $(EXPORTS)/nnunet-git "$(NNUNET)"
	.venv-export/bin/python -I -W ignore tests/foreign/train_nnunet.py $(EXPORTS)/resenc-nnunet $(EXPORTS)/nnunet/raw \
	  $(if $(NNUNET),$(EXPORTS)/nnunet-git)

.venv-export/.installed: requirements.lock tests/foreign/requirements.txt
	@test -x .venv-export/bin/python || $(PYTHON) -m venv .venv-export
	.venv-export/bin/python -m pip install --disable-pip-version-check --quiet -r requirements.lock -r tests/foreign/requirements.txt
	@touch $@

# Encoders from virtual brains, with cards and where they are from: half an hour on two quiet cores, and as much again for
# what they are worth on the hippocampus, where FOVEATE_DATA is the folder with msd_hippocampus. WEIGHTS: where.
WEIGHTS ?= build/weights
weights: setup
	$(BIN)/python benchmarks/weights/make.py $(WEIGHTS) $(STEPS)

# The lowest versions that pyproject.toml promises (torch stays at that of the lock), in an environment of their own.
test-lowest: .venv-lowest/.installed
	.venv-lowest/bin/python -m pytest -n 2 --dist loadfile tests/contracts tests/core tests/losses tests/nets tests/train tests/views \
	  tests/commands/prepare tests/commands/pretrain tests/commands/finetune tests/commands/evaluate

.venv-lowest/.installed: requirements.lock pyproject.toml tests/lowest/pins.py
	@test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/lowest/pins.py > .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip install --disable-pip-version-check --quiet -r .venv-lowest/pins.txt
	.venv-lowest/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The sdist, the wheel made of it, each built in isolation, and what they hold; then the wheel in an environment that has what
# it asks for, in the versions of the lock, and no more: from images to scores, and a sentence for each missing extra.
W := build/wheel
test-wheel:
	rm -rf $(W) && $(PYTHON) -m venv $(W)/backend && $(PYTHON) -m venv $(W)/clean
	$(W)/backend/bin/python -m pip install --disable-pip-version-check --quiet -c requirements.lock hatchling
	$(W)/backend/bin/python -m hatchling build -t sdist -d $(W)/dist
	$(W)/backend/bin/python -m pip wheel --disable-pip-version-check --quiet --no-deps -w $(W)/dist $(W)/dist/*.tar.gz
	$(PYTHON) tests/wheel/contents.py $(W)/dist
	$(W)/clean/bin/python -m pip install --disable-pip-version-check --quiet --no-compile -c requirements.lock $(W)/dist/*.whl
	$(W)/clean/bin/python -I -W ignore tests/wheel/work.py $(W)/work

# The documentation as a site in build/site, with a search that needs no server; a warning is an error.
docs: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r docs/requirements.txt
	$(BIN)/python -m sphinx -W --keep-going --quiet -c docs/site . build/site
	@echo "build/site/index.html"

# The pages of docs/tutorials as they are written, one after the other, in build/tutorials: minutes each on two cores.
# PAGE: only the one of this name, such as first_pretraining.
tutorials: setup
	$(BIN)/python -m pytest -m tutorial --durations=0 tests/tutorials $(if $(PAGE),-k "$(PAGE)")

# Lines and branches that the suite runs, by package: twice as long as `make test`. TESTS: a part of it.
coverage: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r benchmarks/code/requirements.txt
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov=foveate --cov-branch --cov-report=json:build/coverage.json $(TESTS)
	$(BIN)/python benchmarks/code/coverage_by_package.py build/coverage.json

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@if test -x $(BIN)/biome; then $(BIN)/biome ci --error-on-warnings src/foveate/pages/assets; \
	  else echo "JavaScript and CSS were not checked: there is no biome for this kind of machine"; fi

parity: setup
	$(BIN)/python benchmarks/methods/parity.py $(FOLDER)

# Half an hour on two quiet cores; FOVEATE_DATA is the folder with msd_hippocampus. Stop it as you like: it goes on.
compare-small: setup
	@test -d "$$FOVEATE_DATA/msd_hippocampus" || { echo "set FOVEATE_DATA to the folder with msd_hippocampus"; exit 2; }
	$(BIN)/foveate compare --config benchmarks/evidence/fewlabel/small.yaml --out compare-small
	$(BIN)/python benchmarks/evidence/fewlabel/agree.py compare-small/table.csv benchmarks/evidence/fewlabel/small/table.csv

# Many hours: the grids of benchmarks/evidence. FOVEATE_DATA, FOVEATE_EVIDENCE and OUT as the script says; goes on after a stop.
evidence: setup
	PYTHON=$(CURDIR)/$(BIN)/python benchmarks/evidence/run.sh $(GRIDS)

fuzz: setup
	$(BIN)/python -W ignore benchmarks/data/fuzz.py $(or $(COUNT),20000) $(or $(SEED),0)

clean:
	rm -rf .venv demo build dist
