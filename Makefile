# Each target needs a Python >= 3.11 and a package registry, nothing else: .venv is made when it is missing and brought
# up to date when pyproject.toml has changed. `make PYTHON=/path/to/python3.12 demo` chooses the interpreter.

SHELL := /bin/sh
bin := .venv/bin
export PYTHON

extras-demo  := plot,dot,cli,jit
extras-test  := dev
extras-docs  := docs,plot,dot,cli,sklearn
extras-bench := bench,jit

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu test-browser bench bench-parallel bench-predict bench-draw bench-gpu trace-gpu docs lint format types clean
.NOTPARALLEL:

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

demo: .venv/.ready-demo ## train LeNet on the real MNIST, then classify pictures in a fresh process
	@$(bin)/python examples/lenet_mnist.py

# pytest comes last, so that its summary is the last line.
test: lint types docs ## everything that must hold: style, types, documents, tests
	@echo "==> pytest"
	@$(bin)/python -m pytest -n auto --maxprocesses 8 --dist loadfile

test-slow: .venv/.ready-test ## the tests that take minutes
	@$(bin)/python -m pytest -m slow --timeout=1800

test-gpu: .venv/.ready-test ## the tests that need a CUDA device; install cuda12 or cuda13 first
	@$(bin)/python -m pytest -m gpu -rs

test-browser: .venv/.ready-test ## the tests of the HTML page in Chromium; apt install chromium chromium-driver first
	@$(bin)/python -m pytest -m browser -rs

bench: .venv/.ready-bench ## measure the workloads beside their rivals, into benchmarks/RESULTS.md
	@$(bin)/python -m benchmarks

bench-parallel: .venv/.ready-bench ## measure what more threads gain, into benchmarks/PARALLEL.md
	@$(bin)/python -m benchmarks.parallel

bench-predict: .venv/.ready-bench ## hold predictions of runs against measurements, into benchmarks/PREDICTIONS.md
	@$(bin)/python -m benchmarks.predictions

bench-draw: .venv/.ready-test ## time drawings of 300 to 100,000 nodes
	@$(bin)/python -m benchmarks.drawing

bench-gpu: .venv/.ready-bench ## measure on a GPU beside torch and JAX, into benchmarks/gpu/RESULTS.md; install cuda12 or cuda13 first
	@$(bin)/python -m benchmarks.gpu --output benchmarks/gpu

trace-gpu: .venv/.ready-bench ## trace steps on a GPU, into out/: how much of the copies lies beside kernels; install cuda12 or cuda13 first
	@$(bin)/python -m benchmarks.gpu.overlap --output out

docs: .venv/.ready-docs ## the documents, into docs/_build/html; warnings are errors
	@echo "==> sphinx"
	@$(bin)/python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "    docs/_build/html/index.html"

lint: .venv/.ready-test ## ruff: rules and format
	@echo "==> ruff"
	@$(bin)/ruff check
	@$(bin)/ruff format --check

types: .venv/.ready-test ## mypy, strict
	@echo "==> mypy"
	@$(bin)/mypy

format: .venv/.ready-test ## let ruff mend what it can
	@$(bin)/ruff check --fix
	@$(bin)/ruff format

clean: ## remove what make has made
	rm -rf .venv docs/_build docs/pictures docs/pages dist build out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp for each purpose that .venv serves. What the tests need includes what the demo and the documents need, so after
# `make test` those two install nothing and work without a network.
includes-test := .venv/.ready-demo .venv/.ready-docs
.venv/.ready-%: pyproject.toml
	@.ci/venv $(extras-$*) $@ $(includes-$*)
