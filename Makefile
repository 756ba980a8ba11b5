# The commands of this project. `make` alone lists them.
#
# Paths are relative throughout: make splits its words at spaces, and a checkout may well lie
# in a folder that has one. Programs are started as modules (python -m), because a script's
# first line holds the absolute path of .venv, which goes stale when the checkout is moved.

PYTHON ?= python3
ARGS ?=
SOAK ?= 1
DAY ?= 1

SHELL := /bin/sh
.SHELLFLAGS := -euc
.ONESHELL:
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help install run test check chaos soak day torch judges wheel lock clean FORCE

python := .venv/bin/python
uv := $(python) -m uv
extras :=
compiled :=
first :=

help: ## list the targets
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile
	echo "  PYTHON=python3.12 picks the interpreter, ARGS='-k name' goes to pytest or the demo."

install: .venv/installed-run ## make .venv and install what `make run` needs

run: .venv/installed-run ## the demo: embed a catalogue, ask three questions (ARGS=--keep stays up)
	exec $(python) -m gifty_compute.commands demo $(ARGS)

# tests/conftest.py says how many processes share the whole; a part that ARGS names stays in one.
test: .venv/installed-test ## unit, integration, e2e and docs tests
	exec $(python) -m pytest -n auto --max-worker-restart 0 $(ARGS)

check: .venv/installed-test ## format, lint, types, import directions
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	$(lint_imports)

chaos: .venv/installed-test ## processes and stores are killed under load: nothing is lost
	exec $(python) -m pytest tests/chaos $(ARGS)

soak: .venv/installed-test ## the long form of chaos, SOAK=0..1 of it; prints what became of all tasks
	SOAK=$(SOAK) exec $(python) -m pytest tests/chaos $(ARGS)

day: .venv/installed-test ## an hour of scripted clients, providers that misbehave, edits and restarts; DAY=0 is a minute
	DAY=$(DAY) exec $(python) -m pytest tests/day $(ARGS)

torch: .venv/installed-torch ## models run by PyTorch: tiny ones of the real architectures, nothing downloaded
	exec $(python) -m pytest tests/torch $(ARGS)

judges: .venv/installed-judges ## other people's programs judge ours: clients, servers, schemas, installers
	exec $(python) -m pytest tests/judges -n 2 --max-worker-restart 0 $(ARGS)

wheel: .venv/installed-uv ## build the wheel into dist/
	rm -rf build  # setuptools would pack what an older build left there
	$(uv) build -q --wheel --out-dir dist
	rm -rf build

lock: .venv/installed-uv ## pin the deployed set ([server,worker]) with hashes; UPGRADE=1 takes newer versions
	$(uv) pip compile -q $(if $(UPGRADE),--upgrade) setup.cfg --extra server --extra worker \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--custom-compile-command "make lock" --output-file requirements.lock

clean: ## remove .venv and everything built
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

# import-linter has no __main__, and its script may carry a stale path (see above).
lint_imports = $(python) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'

# What is installed: one stamp for each set of extras, made anew when setup.cfg changes.
stamps := .venv/installed-uv .venv/installed-run .venv/installed-test .venv/installed-torch .venv/installed-judges
.venv/installed-run: extras := server,worker,local
.venv/installed-test: extras := server,worker,local,onnx,dev
.venv/installed-torch: extras := server,worker,local,onnx,torch,dev
# By pip, before the rest: it can be told of a build without CUDA, which is a tenth of the other.
.venv/installed-torch: first := torch==2.13.0
.venv/installed-judges: extras := server,worker,local,onnx,dev,judges
# Compiled once here, not by each process at its start (1.3 s of CPU) where PYTHONDONTWRITEBYTECODE is set. Of what
# the judges bring, most is never imported.
.venv/installed-run .venv/installed-test: compiled := --compile-bytecode

$(stamps): setup.cfg $(if $(shell test -x $(python) -a ! -e .venv/unfinished || echo stale),FORCE)
	$(lock)
	if test -e .venv/unfinished || ! $(uv) --version >/dev/null 2>&1; then
		$(find_python)
		echo "Making .venv with $(PYTHON)"
		$(make_venv)
		$(python) -m pip install -qq --disable-pip-version-check uv
	fi
	if test -n "$(extras)"; then
		echo "Installing gifty-compute[$(extras)] into .venv"
		test -w "$${HOME:-}" || export UV_CACHE_DIR=.venv/cache
		# uv cannot repair what a kill in the middle of it left: .venv is made anew then.
		touch .venv/unfinished
		test -z "$(first)" || $(python) -m pip install -qq --disable-pip-version-check "$(first)"
		$(uv) pip install -q $(compiled) --python $(python) --editable ".[$(extras)]"
		rm .venv/unfinished
	fi
	touch $@

# `make run` and `make test` at once, in two terminals, install one after the other.
define lock
	if command -v flock >/dev/null; then exec 9<Makefile; flock 9; fi
endef

define find_python
	say() { printf '%s\n' "gifty-compute needs $$1" >&2; exit 1; }
	name="$(PYTHON)"
	bring="sudo apt-get install $${name##*/}-venv"  # which brings that Python, too
	found=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) ||
		say "Python 3.11 or newer, and no $(PYTHON) runs here: $$bring"
	case "$$found" in
	3.1[1-9] | 3.[2-9][0-9]) ;;
	*) say "Python 3.11 or newer, and $(PYTHON) is $$found: sudo apt-get install python3.11-venv, then make PYTHON=python3.11" ;;
	esac
	# Debian packs these two apart from Python itself.
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || say "Python's venv: $$bring"
endef

define make_venv
	if ! told=$$("$(PYTHON)" -m venv --clear .venv 2>&1); then
		rm -rf .venv
		say "Python's venv, and $(PYTHON) -m venv failed ($$(printf '%s' "$$told" | tail -n 1)): $$bring"
	fi
endef

FORCE:
