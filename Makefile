# make train   environment, then one minute on the built-in corpus, then a sample
# make test    environment, then all tests        make test-long   the slow soaks
# make check   lint and types

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

CHROMIUMS := chromium chromium-browser google-chrome

.PHONY: train test test-long check browser clean

train: $(READY)
	$(BIN)/unrolled train --minutes 1
	@run=$$(ls -td runs/python* | head -n 1); printf '\n%s writes:\n\n' $$run; $(BIN)/unrolled sample $$run --length 600; \
	printf "\nnext: $(BIN)/unrolled sample %s --prompt 'def ' --temperature 0.5\n" $$run

test: $(READY) browser
	$(BIN)/pytest

test-long: $(READY) browser
	$(BIN)/pytest -m long

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt $(wildcard native/* native/*/*)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

# The tests look at pages in a Chromium: the machine's, or Debian's where it can be installed.
browser:
	@for name in $(CHROMIUMS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	else echo "no Chromium here: the tests of pages are skipped"; fi

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
