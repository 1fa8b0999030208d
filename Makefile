# `make demo` and `make test` do all the setup.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export GOMP_SPINCOUNT ?= 20000

.PHONY: demo test lint types unit docs site bench break notebooks clean

demo: $(VENV)/.ready ## train and audit a model with known memorization: demo/run/report.html
	$(BIN)/auditor demo demo

test: lint types site unit ## run everything that CI checks

lint: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.ready-dev
	$(BIN)/mypy

unit: $(VENV)/.ready-dev
	@sh tests/browser.sh
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

docs: $(VENV)/.ready-dev ## write the generated pages and build the site: build/site/index.html
	$(BIN)/python -m auditor.cli.reference > docs/cli.md
	$(BIN)/python -m auditor.config.settings_reference > docs/audit_file.md
	$(BIN)/python -m benchmarks.conformance > docs/conformance.md
	$(BIN)/python -m benchmarks.scale > docs/scale.md
	$(BIN)/python -m reports.analysis.columns_page > docs/columns.md
	$(MAKE) site

# Broken links and unknown names in the API pages are errors.
site: $(VENV)/.ready-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

notebooks: $(VENV)/.ready ## execute the notebooks: notebooks/pages/*.html
	$(INSTALL) '.[gguf,corpora,index,finetune,notebooks]'
	$(BIN)/python -m nbconvert --execute --to html --HTMLExporter.mathjax_url= \
	  --HTMLExporter.require_js_url= --output-dir notebooks/pages notebooks/*.ipynb

bench: $(VENV)/.ready-dev ## run all benchmarks, print tables, write bench.json
	$(BIN)/python -m benchmarks --json bench.json
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.index
	$(BIN)/python -m benchmarks.extraction
	$(BIN)/python -m benchmarks.scores
	$(BIN)/python -m benchmarks.membership
	$(BIN)/python -m benchmarks.hooks

break: $(VENV)/.ready-dev ## stress tests, 20 times what CI runs: 200 kills, 100,000 broken files with each of two engines
	$(INSTALL) '.[fuzz]'
	$(BIN)/python -m benchmarks.killtest --kills 200
	$(BIN)/python -m benchmarks.fuzz --inputs 100000
	$(BIN)/python -m benchmarks.fuzz --inputs 100000 --engine atheris

# bertviz is installed without its dependencies (boto3 and others): its views do not need them.
WITHOUT_MORE = $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-deps
INSTALL = $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable

# The virtual environment, rebuilt when the dependencies change.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; got $$($(PYTHON) --version). Set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) '.[gguf,corpora,index,finetune,schedule]'
	touch $@

# The same environment with the development tools.
$(VENV)/.ready-dev: $(VENV)/.ready
	$(INSTALL) '.[gguf,corpora,index,finetune,schedule,notebooks,names,ray,docs,dev]'
	$(WITHOUT_MORE) bertviz mpld3 xstatic-jquery
	touch $@

clean:
	rm -rf $(VENV) demo notebooks/work notebooks/pages .mypy_cache .ruff_cache .pytest_cache .hypothesis
