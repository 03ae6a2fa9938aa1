# make demo            set up .venv once, then run the notebooks in order into runs/demo (PRESET=name for another preset)
# make test            set up .venv once, then the tests and every notebook again, outputs compared (SLOW=1 adds the
#                      long ones; JOBS=1 for one after the other)
# make lab | app       JupyterLab | the label map explorer as a web page, both on this machine only
#                      (make app CHECKPOINT=folder DATA=folder PORT=8900 HOST=0.0.0.0; or DPSIMS_PORT=... in the environment)
# make refresh | lint  execute the committed notebooks again, in place | ruff
PYTHON ?= python3
VENV ?= .venv
PRESET ?= demo
OUT ?= runs/$(PRESET)
EXTRAS ?= test,app
JOBS ?= 2
NOTEBOOKS ?= $(sort $(wildcard notebooks/[0-9]*.ipynb))

BIN := $(VENV)/bin
STAMP := $(VENV)/.dpsims-installed
# uv is used when it is there; `make UV= demo` keeps to venv and pip
UV := $(shell command -v uv 2>/dev/null)
# the committed outputs are those of a CPU with two threads and no network, as in conftest.py
REFERENCE := CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1
VOLATILE := metadata.papermill metadata.widgets metadata.language_info.version cell.metadata.papermill cell.metadata.execution
# from make's command line alone: some shells export a HOST, and many machines a PORT or DATA of their own
asked = $(if $(filter command,$(origin $(1))),$(2) "$($(1))")
export SLOW

.PHONY: demo test lab app refresh lint
.DEFAULT_GOAL := demo

demo: $(STAMP)
	$(BIN)/python -m dpsims reproduce --preset $(PRESET) --out $(OUT)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS)

lab: $(STAMP)
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks

app: $(STAMP)
	$(BIN)/python -m dpsims app $(call asked,CHECKPOINT,--checkpoint) $(call asked,DATA,--data) \
	  $(call asked,HOST,--host) $(call asked,PORT,--port)

refresh: $(STAMP)
	set -e; for notebook in $(NOTEBOOKS); do \
	  $(REFERENCE) $(BIN)/papermill --no-progress-bar --cwd notebooks -k python3 $$notebook $$notebook; \
	  $(BIN)/nbstripout --keep-output --keep-count --drop-empty-cells --extra-keys "$(VOLATILE)" $$notebook; \
	done

lint: $(STAMP)
	$(BIN)/ruff check .

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dpsims needs Python 3.11 or newer; name one: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
ifneq ($(UV),)
	$(UV) venv --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --python $(BIN)/python -c constraints.txt -e '.[$(EXTRAS)]'
else
	@$(PYTHON) -c 'import ensurepip' || { echo "Python's venv is missing; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
endif
	touch $@
