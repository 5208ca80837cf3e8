# `make demo` is all that a newcomer needs: it sets up, runs the demo study and says where the page is.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STUDY := results/local/demo

.PHONY: install demo test test-all check clean

install: $(VENV)/.installed

# torch comes first and alone, pinned: another order would resolve it twice.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=...") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[data,dev]'
	@touch $@

# A copy of the study, so that this machine's rows stay apart from the committed ones.
demo: install
	@mkdir -p $(STUDY) && cp results/demo/study.yaml $(STUDY)/study.yaml
	@$(BIN)/bench prune $(STUDY) >/dev/null  # rows of an earlier version's study
	@start=$$(date +%s) && \
	$(BIN)/bench sweep $(STUDY) && \
	$(BIN)/bench table $(STUDY) && \
	$(BIN)/bench leaderboard $(STUDY) >/dev/null && \
	echo "page: $$($(BIN)/bench report $(STUDY))" && \
	echo "demo: $$(($$(date +%s) - start)) s"
	@$(BIN)/python tests/speed/demo.py | tail -n 1  # a word on speed, whose failure is not the demo's

test: install
	@start=$$(date +%s) && $(BIN)/python -m pytest -q -n auto -m 'not slow' && \
	echo "test: $$(($$(date +%s) - start)) s"

test-all: install
	$(BIN)/python -m pytest -q -n auto -m 'not cluster'
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m cluster

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) results/local build dist
