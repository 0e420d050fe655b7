# Every target that runs Python first makes .venv and installs Segscape into it, once.

PYTHON ?= python3
# The torch to install where .venv has none yet, for example TORCH='torch==2.13.0 --index-url ...' for one CUDA version.
TORCH ?= torch==2.13.0
TEST_WORKERS ?= 2

BIN := .venv/bin
INSTALLED := .venv/.installed
LAYOUT := examples/layouts/tree-lined-road.png

.PHONY: help install demo test browser frontend lint format typecheck layouts site wheel clean

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  \1\t/' | expand -t 14

install: $(INSTALLED)  ## make .venv and install Segscape with everything that development needs

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing Segscape into .venv (once; a few minutes)"
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/pip install --quiet $(TORCH)
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## turn one of the example layouts into a photograph
	@$(BIN)/segscape generate $(LAYOUT) --out out/demo --size 192x256 --colour-preview --force
	@echo "The photograph: $(CURDIR)/out/demo/$(notdir $(LAYOUT))"

test: $(INSTALLED) browser  ## run every test
	@OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(TEST_WORKERS) --dist loadgroup

browser:  # the tests of the studio drive a Chromium; without one they are skipped
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 \
	       && { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } >/dev/null 2>&1; } \
	  || echo "WARNING: there is no Chromium: the tests of the studio in a browser are SKIPPED (apt-get install chromium)"

frontend:  ## build the studio's page from frontend/ (needs node)
	@cd frontend && npm ci && npm run build && npm test

lint: $(INSTALLED)  ## check style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED)  ## mend style and format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck: $(INSTALLED)  ## check types
	@$(BIN)/mypy

layouts: $(INSTALLED)  ## draw the example layouts again
	@$(BIN)/python examples/draw_layouts.py
	@$(BIN)/python examples/draw_layouts.py src/segscape/studio/examples

site: $(INSTALLED)  ## build the documentation into out/site
	@$(BIN)/mkdocs build --quiet
	@echo "The documentation: $(CURDIR)/out/site/index.html"

wheel: $(INSTALLED)  ## build the wheel into dist/
	@$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove what the other targets made, .venv included
	rm -rf .venv out dist .pytest_cache .mypy_cache .ruff_cache
