# Two entry points: `make demo` shows what the project does, `make test` proves it.
# Both set up `.venv` themselves; PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint quick clean chromium

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: .venv/.installed
	$(BIN)/python examples/demo.py --out out

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two workers, one thread each: small models gain nothing from more. The tests of one file stay together as
# far as that keeps both busy.
test: lint chromium
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

# The studio's page is tested in the system's Chromium: installed where that needs no question, else the tests
# end by saying which of them did not run.
chromium:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null && [ "$$(id -u)" = 0 ] \
	  && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium) \
	  >/dev/null 2>&1 || echo "Chromium could not be installed: the browser tests will not run"; fi

quick: .venv/.installed
	$(BIN)/python -m pytest -m 'not slow'

clean:
	rm -rf .venv out build dist *.egg-info
