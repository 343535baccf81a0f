# One command each, from nothing: a virtual environment in .venv, pinned dependencies, the wheel built from this
# checkout and installed into it. What is up to date is not done again. The checkout's path may hold spaces,
# so every path here is relative.

# Without it, Python finds folders of the checkout (kernels, store, …) where it looks for installed packages.
export PYTHONSAFEPATH = 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done)
PY := .venv/bin/python
PIP := $(PY) -m pip --quiet
FOLDERS := draftproof kernels drafting verifiers provers pipelines store
# Folders are listed too: removing a file changes nothing but the time of its folder.
SOURCES := $(shell find $(FOLDERS) -name __pycache__ -prune -o \( -type f -o -type d \) -print)
DEMO_FILES := examples/processbench_gsm8k.jsonl examples/gsm8k_model_solutions.jsonl
DEMO_STORE := sqlite:///.demo/demo.db

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test slow lint types bench docs clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' Makefile

demo: .venv/demo.stamp ## Verify bundled solutions of real models; ends with a wrong step and its evidence.
	@mkdir -p .demo
	@$(PY) -m draftproof verify $(DEMO_FILES) --store $(DEMO_STORE)
	@echo
	@$(PY) -m draftproof verdicts show gsm8k-2 --store $(DEMO_STORE)
	@$(PY) -m draftproof verdicts query --trace gsm8k-2 --outcome reject --store $(DEMO_STORE)
	@echo "The command draftproof is .venv/bin/draftproof here."

# A process for each core and one thread in each: tests are many and small, and threads of several processes that wait
# for each other take many times as long.
test: .venv/dev.stamp ## Run the tests against the installed wheel.
	@$(PY) .ci/is_wheel.py
	@OMP_NUM_THREADS=1 .venv/bin/pytest -n auto --dist loadfile

slow: .venv/dev.stamp ## Run the tests that take minutes.
	@$(PY) .ci/is_wheel.py
	@.venv/bin/pytest -m slow

lint: .venv/dev.stamp ## Check style and formatting.
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: .venv/dev.stamp ## Type-check the installed wheel, every module of it.
	@$(PY) .ci/is_wheel.py
	@cd .venv && bin/python -m mypy --config-file ../pyproject.toml --cache-dir ../.mypy_cache --strict -p draftproof

bench: .venv/dev.stamp ## Run every benchmark; JSON lines go to benchmarks/results/.
	@$(PY) .ci/is_wheel.py
	@mkdir -p benchmarks/results
	@status=0; for each in benchmarks/bench_*.py; do \
		name=$$(basename "$$each" .py); result=benchmarks/results/$${name#bench_}.jsonl; echo "$$each"; \
		if $(PY) "$$each" > "$$result.part"; then mv "$$result.part" "$$result"; cat "$$result"; \
		else rm -f "$$result.part"; status=1; fi; \
	done; $(PY) benchmarks/make_readme.py; exit $$status

docs: .venv/dev.stamp ## Write anew what the docs take from the program: the references and the picture.
	@$(PY) docs/make_cli_reference.py
	@$(PY) docs/make_engine_reference.py
	@$(PY) docs/make_picture.py

clean: ## Remove what the other targets made.
	rm -rf .venv .demo dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/made.stamp:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed, and no python3 here is one." >&2; exit 2; }
	@"$(PYTHON)" -m venv --clear .venv || { \
		echo "No virtual environment could be made. On Debian and Ubuntu, install the package python3-venv." >&2; exit 2; }
	@touch $@

.venv/tools.stamp: .venv/made.stamp constraints.txt
	@$(PIP) install -c constraints.txt build setuptools
	@touch $@

# Through an sdist, in folders of its own: nothing left over from an earlier build can slip into the wheel.
.venv/wheel.stamp: .venv/tools.stamp pyproject.toml README.md LICENSE $(SOURCES)
	@rm -rf dist
	@$(PY) -m build --no-isolation --outdir dist . > .venv/build.log 2>&1 || { cat .venv/build.log >&2; exit 1; }
	@touch $@

.venv/demo.stamp: .venv/wheel.stamp
	@$(PIP) uninstall --yes draftproof 2>/dev/null
	@$(PIP) install -c constraints.txt "$$(echo ./dist/draftproof-*.whl)[lean]" || { \
		echo "The Lean kernel cannot be installed here: the demo goes on with arithmetic alone." >&2; \
		$(PIP) install -c constraints.txt ./dist/draftproof-*.whl; }
	@touch $@

.venv/dev.stamp: .venv/wheel.stamp
	@$(PIP) uninstall --yes draftproof 2>/dev/null
	@$(PIP) install -c constraints.txt "$$(echo ./dist/draftproof-*.whl)[dev]"
	@touch $@
