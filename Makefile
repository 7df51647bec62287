# make demo | make test | make soak | make check | make clean.  Each one makes its environment first, in VENV.
#
#   make demo TORCH_OPTIONS="--index-url URL"     another build of torch (CPU, CUDA): see README.md
#   make test PYTHON=python3.13                   another interpreter (3.11 or later)
#   make test TESTS=tests/fusion                  a part of the tests

VENV          ?= .venv
PYTHON        ?=
TORCH         ?= torch==2.13.0
TORCH_OPTIONS ?=
PIP_OPTIONS   ?=
WORKERS       ?= 2
TESTS         ?= tests
KILLS         ?= 200
SOAK_GB       ?= 30
LLAMA_CPP     ?= llama-cpp-python==0.3.36

PY    := $(VENV)/bin/python
PIP   := $(PY) -m pip --disable-pip-version-check --quiet
PINS  := pyproject.toml constraints.txt
FRESH := import sys; sys.exit(sys.version_info < (3, 11))

.DELETE_ON_ERROR:
.PHONY: help demo test soak soak-kills soak-llama-cpp check environment clean

help:
	@echo "make demo    train, fuse and compare small language models (about 3 minutes on two cores); DEMO=\"--steps 200\" adds options"
	@echo "make test    run the tests (about 5 minutes on two cores)"
	@echo "make soak    kill a training and a fusion KILLS=200 times, fuse SOAK_GB=30 gigabytes within one (about 25 minutes);"
	@echo "             build llama.cpp from source (8 minutes, once) and compare its text with Lamoid's (1 minute)"
	@echo "make check   format, lint, check the types and the floors"
	@echo "make clean   remove the environment and what was built"

demo: $(VENV)/demo.ready
	@$(VENV)/bin/lamoid demo --overwrite $(DEMO)
	@echo "For these commands in this shell, first:  source $(VENV)/bin/activate"

test: $(VENV)/dev.ready
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) $(TESTS)

# The moments of the kills follow from SEED: another one is another test.
soak: soak-kills soak-llama-cpp

soak-kills: $(VENV)/dev.ready
	@LAMOID_KILLS=$(KILLS) LAMOID_SEED=$(or $(SEED),$$(date +%s)) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -s tests/training/test_kills.py tests/fusion/test_resume.py
	@LAMOID_SOAK_GB=$(SOAK_GB) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -s tests/fusion/test_large.py

soak-llama-cpp: $(VENV)/llama-cpp/ready
	@LAMOID_LLAMA_CPP=$(abspath $(VENV))/llama-cpp/bin/python OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest tests/soak

# CI only looks; a person's files are put in order.
check: $(VENV)/dev.ready
	@$(VENV)/bin/ruff format --quiet $(if $(CI),--check) .
	@$(VENV)/bin/ruff check --quiet $(if $(CI),,--fix) .
	@$(if $(CI),,$(PY) tests/house/test_documents.py)
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(VENV)/bin/pyright --pythonpath $(PY)
	@$(VENV)/bin/lint-imports --no-logo

environment: $(VENV)/dev.ready

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/demo.ready: $(PINS)
	@$(call install,.[eval$(comma)track],demo.ready)

$(VENV)/dev.ready: $(PINS)
	@$(call install,.[dev],demo.ready dev.ready)

# An environment of its own: nothing in Lamoid needs it, and it wants a C++ compiler and cmake.
$(VENV)/llama-cpp/ready: $(VENV)/dev.ready
	@echo "Building $(LLAMA_CPP) from source in $(VENV)/llama-cpp ..."
	@$(PY) -m venv --clear $(VENV)/llama-cpp
	@$(VENV)/llama-cpp/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_OPTIONS) --no-binary llama-cpp-python "$(LLAMA_CPP)"
	@touch $@

comma := ,

# $(call install,REQUIREMENT,STAMPS): torch goes first, so that its build can be chosen; everything else by the pins.
define install
	set -e; began=$$(date +%s); \
	if ! $(PY) -c '$(FRESH)' 2>/dev/null; then \
	  python=$$(for name in $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14 python); do \
	    if "$$name" -c '$(FRESH)' 2>/dev/null; then echo "$$name"; break; fi; done); \
	  if [ -z "$$python" ]; then \
	    echo "Lamoid needs Python 3.11 or later; none of $(or $(PYTHON),python3 python3.11 ... python) is. Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; fi; \
	  echo "Making $(VENV) with $$($$python --version). This is done once."; \
	  "$$python" -m venv --clear $(VENV) || { echo "Python's venv module does not work here; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	fi; \
	echo "Installing $(TORCH), then $(1), by constraints.txt ..."; \
	$(PIP) install $(PIP_OPTIONS) $(TORCH_OPTIONS) --constraint constraints.txt "$(TORCH)"; \
	$(PIP) install $(PIP_OPTIONS) --constraint constraints.txt setuptools; \
	$(PIP) install $(PIP_OPTIONS) --constraint constraints.txt --no-build-isolation --editable "$(1)"; \
	cd $(VENV) && touch $(2) && cd - >/dev/null; \
	echo "Environment: $$(( $$(date +%s) - began )) s, $$(du -sm $(VENV) | cut -f1) MB in $(VENV)."
endef
