# make train   environment, then one minute on the built-in corpus, then a sample
# make test    environment, then all tests        make test-long   the slow soaks
# make check   lint and types

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: train test test-long check clean

train: $(READY)
	$(BIN)/unrolled train --minutes 1
	@run=$$(ls -td runs/python* | head -n 1); printf '\n%s writes:\n\n' $$run; $(BIN)/unrolled sample $$run --length 600; \
	printf "\nnext: $(BIN)/unrolled sample %s --prompt 'def ' --temperature 0.5\n" $$run

test: $(READY)
	$(BIN)/pytest

test-long: $(READY)
	$(BIN)/pytest -m long

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
