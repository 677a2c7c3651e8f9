# make train   environment, then one minute on the built-in corpus, then a sample
# make test    environment, then the tests that take some minutes
# make test-slow   those that take longer, and those that measure time      make test-long   soaks, for hours
# make check   lint and types  make check-js    types of the pages' scripts alone (needs node)
# make test-instructions   which processor this is; determinism with each instruction set but the best, and with 2 and 3 threads
# make docs    the documentation, into docs/_build; a warning is an error

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
READY := .venv/ready
SOURCES := pyproject.toml constraints.txt $(wildcard native/* native/*/*)

CHROMIUMS := chromium chromium-browser google-chrome

.PHONY: train test test-slow test-long test-instructions check check-js docs browser clean

train: $(INSTALLED)
	$(BIN)/unrolled train --minutes 1
	@run=$$(ls -td runs/python* | head -n 1); printf '\n%s writes:\n\n' $$run; $(BIN)/unrolled sample $$run --length 600; \
	printf "\nnext: $(BIN)/unrolled sample %s --prompt 'def ' --temperature 0.5\n" $$run

test: $(READY) browser
	$(BIN)/pytest -n 2 --dist loadgroup -m 'not slow and not serial and not long'

# The files are named where few tests are wanted: to collect all of them takes longer.
test-slow: $(READY) browser
	$(BIN)/pytest -n 2 --dist loadgroup -m 'slow and not serial and not long' $$(grep -rl 'mark\.slow' tests)
	$(BIN)/pytest -m 'serial and not long' $$(grep -rl 'mark\.serial' tests)

# Tests of numbers that must not depend on the machine; OMP_NUM_THREADS is what torch takes for its threads. `make test` has
# run them with the best instruction set and one thread, and the tests that ask for each set (its name is in theirs) with each.
SAME_NUMBERS := golden or same or seed or equal
NUMBERS := tests/native/test_native_layer.py tests/native/test_norm_loss_optim.py tests/checkpoints/test_golden_files.py \
	tests/generation/test_sampling.py

test-instructions: $(READY)
	@sets=$$($(BIN)/python -c "import platform, sys, torch; from unrolled.nn.kernels.extension import native_module as m; \
	sets = m().available_isas(); print(*sets); \
	print('processor:', torch.backends.cpu.get_cpu_capability(), platform.processor() or platform.machine(), *sets, file=sys.stderr)"); \
	for isa in $${sets% *}; do [ $$isa != $${sets##* } ] || continue; echo "== instruction set $$isa, 1 thread"; \
		UNROLLED_INSTRUCTIONS=$$isa $(BIN)/pytest -m 'not long and not serial' \
			-k "($(SAME_NUMBERS)) and not ($$(echo $$sets | sed 's/ / or /g'))" $(NUMBERS) || exit 1; done
	@for threads in 2 3; do echo "== $$threads threads"; \
		UNROLLED_TEST_THREADS=$$threads $(BIN)/pytest -m 'not long and not serial' -k '$(SAME_NUMBERS)' $(NUMBERS) || exit 1; done

test-long: $(READY) browser
	$(BIN)/pytest -m long

check: $(READY) check-js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Only developers need node: the scripts are used as they are. In CI the check must not be skipped.
check-js:
	@if command -v npm >/dev/null; then \
		{ [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent; } && npx --no-install tsc --project tsconfig.json; \
	elif [ -n "$(CI)" ]; then echo "check-js needs node and npm" >&2; exit 1; \
	else echo "no npm here: the types of the pages' scripts are not checked"; fi

docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# To train, the package alone is enough, which is ready half a minute sooner than with all that tests and documentation need.
$(INSTALLED): $(SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $(INSTALLED)

$(READY): $(SOURCES)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(INSTALLED) $(READY)

# The tests look at pages in a Chromium: the machine's, or Debian's where it can be installed.
browser:
	@for name in $(CHROMIUMS); do command -v $$name >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	else echo "no Chromium here: the tests of pages are skipped"; fi

clean:
	rm -rf .venv build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
