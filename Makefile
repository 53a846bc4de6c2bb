# Two commands, each doing all its own set-up: make demo, make test.
# PYTHON=python3.12 make demo   chooses the interpreter of .venv
# WORKERS=0 make test           runs the tests in one process

SHELL := /bin/sh
BIN := .venv/bin
WORKERS ?= 2
# mmdet runs from .venv alone, whatever else the shell points to, and pip
# installs into it.
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX

DEMO_CONFIG := configs/demo/lighthead_shufflenetv2_shapes.py
DEMO_DATA := data/shapes
DEMO := work_dirs/demo

# The Python to make .venv with: the named one, else that of an earlier .venv,
# else the newest. One with venv comes before one without.
quoted = '$(subst ','\'',$(1))'
NAMES := $(if $(PYTHON),$(call quoted,$(PYTHON)),.venv/bin/python \
	python3.13 python3.12 python3.11 python3.10 python3)
find = $(shell for name in $(NAMES); do "$$name" -c 'import sys; $(1) \
	sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	>/dev/null 2>&1 && echo "$$name" && break; done)
CHOSEN := $(or $(call find,import ensurepip; import venv;),$(call find))
SEEN := $(call quoted,$(or $(PYTHON),python3))

.PHONY: help install demo test lint format clean clean-demo
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

install:  ## make .venv, unless it is finished
	@test -n $(call quoted,$(CHOSEN)) || { \
	seen=$$($(SEEN) --version 2>/dev/null); \
	case $$seen in Python*) ;; *) seen='no Python' ;; esac; \
	echo 'setup: expected Python 3.10 to 3.13, got' $(SEEN) "($$seen):" \
	'install one, or choose one: PYTHON=/path/to/python3.12 make ...' \
	>&2; exit 1; }
	@$(call quoted,$(CHOSEN)) bootstrap/make_venv.py

test: lint  ## install, lint, whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

lint: install  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## ruff: rewrite in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Each stage leaves a file behind and is skipped while that file is there.
$(DEMO_DATA)/.made: | install
	$(BIN)/python -m mmdet_shufflenetv2 synthetic $(DEMO_DATA)
	@touch $@

$(DEMO)/.trained: | $(DEMO_DATA)/.made
	$(BIN)/python tools/train.py $(DEMO_CONFIG) --work-dir $(DEMO) --seed 0 \
	$(if $(wildcard $(DEMO)/last_checkpoint),--resume)
	@touch $@

$(DEMO)/.tested: $(DEMO)/.trained
	$(BIN)/python tools/test.py $(DEMO_CONFIG) \
	"$$(cat $(DEMO)/last_checkpoint)" --eval bbox \
	--show-dir $(DEMO)/pictures
	@touch $@

demo: install $(DEMO)/.tested  ## install, draw data, train, test, draw boxes
	@echo 'pictures with boxes: $(DEMO)/pictures'
	@echo 'loss and mAP curves: $(DEMO)/curves.png'

clean-demo:  ## forget the demo's data and training
	rm -rf $(DEMO_DATA) $(DEMO)

clean: clean-demo  ## and .venv and what builds and tools left
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
