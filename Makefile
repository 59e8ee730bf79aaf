# Two entry points: `make demo` shows what the project does, `make test` proves it.
# Both set up `.venv` themselves; PYTHON chooses the interpreter (3.10 or newer).
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint quick clean chromium model

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

# GOMP_SPINCOUNT: quick beside busy programs, too (docs/speed.md)
demo: .venv/.installed
	GOMP_SPINCOUNT=3000 $(BIN)/python examples/demo.py --out out

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two workers, one thread each: small models gain nothing from more. The tests of one file stay together as
# far as that keeps both busy. In two runs, each with workers of its own: of those that had run both, one was five
# times killed near the end, by what is not known.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
test: lint chromium
	$(PYTEST) tests/unit tests/conformance
	$(PYTEST) tests/e2e tests/browser

# The studio's page is tested in the system's Chromium: installed where that needs no question, else the tests
# end by saying which of them did not run.
chromium:
	@if ! command -v chromium chromium-browser google-chrome >/dev/null && [ "$$(id -u)" = 0 ] \
	  && command -v apt-get >/dev/null; then \
	  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium) \
	  >/dev/null 2>&1 || echo "Chromium could not be installed: the browser tests will not run"; fi

quick: .venv/.installed
	$(BIN)/python -m pytest -m 'not slow'

# The packaged model again, from random weights, edition after edition; in one go it was run only in miniature, two
# steps a phase (each recipe says how long it took). Begun again, it goes on where it was. Cutouts must lie where
# mini_memory.yaml says. The packaged edition is then runs/fifth.safetensors; what was trained on from it,
# runs/sixth.safetensors.
PHASES := $(BIN)/python -m sam2.training.pretrain_dense sam2/training/recipes
MIX := $(BIN)/python -m sam2.training.mix
model: .venv/.installed
	$(PHASES)/mini.yaml
	$(PHASES)/mini_more.yaml --start runs/mini/phase7/model.safetensors
	$(PHASES)/mini_zoom.yaml --start runs/mini_more/phase2/model.safetensors
	$(PHASES)/mini_clips.yaml --start runs/mini_zoom/phase2/model.safetensors
	$(PHASES)/mini_memory.yaml --start runs/mini_clips/phase1/model.safetensors
	$(MIX) runs/mini_clips/phase1/model.safetensors runs/mini_memory/phase3/model.safetensors runs/fifth.safetensors \
	  --share 0.2 --only sam_mask_decoder sam_prompt_encoder no_mem_embed obj_ptr_proj --half
	$(PHASES)/mini_whole.yaml --start runs/fifth.safetensors
	$(MIX) runs/fifth.safetensors runs/mini_whole/phase2/model.safetensors runs/sixth.safetensors --share 0.3 --half

clean:
	rm -rf .venv out build dist *.egg-info
