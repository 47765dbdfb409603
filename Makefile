# Two commands matter: `make demo` and `make test`. Both install what they need into environments of their own.
PYTHON ?= python3
DEMO_ENV := .venv-demo
TEST_ENV := .venv
# What pip left uncompiled is compiled when it is first imported, and kept: each of many processes imports torch.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test check browser bench docs clean

demo: $(DEMO_ENV)/.installed
	$(DEMO_ENV)/bin/python examples/demo.py --output demo_output

test: check browser
	OMP_NUM_THREADS=1 $(TEST_ENV)/bin/python -m pytest -n 2 --dist loadfile

check: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/ruff format --check .
	$(TEST_ENV)/bin/mypy
	$(TEST_ENV)/bin/mypy --strict tests/typed
	$(TEST_ENV)/bin/lint-imports

# Debian's chromium for the tests of the explorer; where it cannot be installed they are skipped, and say so.
browser:
	@command -v chromium >/dev/null || apt-get install -y --quiet chromium || echo "chromium is not installed; the explorer's browser tests are skipped"

bench: $(TEST_ENV)/.installed
	cd kernels && ../$(TEST_ENV)/bin/python -m benchmarks

# The pages in build/site; a warning is an error. `make test` builds them too.
docs: $(TEST_ENV)/.installed
	$(TEST_ENV)/bin/mkdocs build --strict

$(DEMO_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO_ENV)
	$(DEMO_ENV)/bin/pip install --quiet --no-compile --editable '.[demo]'
	touch $@

$(TEST_ENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(TEST_ENV)
	$(TEST_ENV)/bin/pip install --quiet --no-compile --editable '.[test]'
	touch $@

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) demo_output
