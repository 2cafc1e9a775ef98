# Every target sets up what it needs first; a second run reuses it.
.PHONY: help setup quickstart test test-quick check format bench docs clean
help:           ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16
setup:          ## .venv with the constrained packages, a GL library
	@scripts/setup.sh
quickstart: setup ## demonstrations, training, evaluation and a page in ten minutes on two cores
	.venv/bin/handeye quickstart
test: check     ## format, lint, types, and the whole test suite
	.venv/bin/python -m pytest -q -n 2 --dist worksteal --durations 15
test-quick: setup ## the tests that take less than ten seconds each
	.venv/bin/python -m pytest -q -n 2 -m "not slow"
check: setup    ## formatting, lint and types
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
format: setup   ## rewrite the sources in the house format
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
bench: setup    ## the simulator against its floor (and, with REFERENCE=PYTHON, against the reference)
	.venv/bin/handeye bench sim $(if $(REFERENCE),--reference $(REFERENCE))
docs: setup     ## regenerate docs/cli.md from --help
	.venv/bin/python scripts/make_cli_docs.py
clean:          ## remove what make made
	rm -rf .venv .venv.part build dist src/*.egg-info src/handeye/sim/*.so
