# Every target sets up what it needs, so each works on a fresh clone. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SITE := _build/html/book/index.html
MADE_OF := $(shell find recsys_helpers data/ml-latest-small -name '*.py' -o -name '*.csv') \
  $(wildcard benchmarks/results/*.json benchmarks/*.csv)

.PHONY: help book test lab app api bench leaderboard lock clean
help:
	@echo "make book   build the book into _build/html (executes what has changed)"
	@echo "make test   unit tests, notebooks, and the built site"
	@echo "make bench  the package beside its peers, each in one run; minutes to an hour"
	@echo "make leaderboard [DATA=100k, 20m-strong or a file]  every model on the same splits; most of an hour"
	@echo "make lab    open the chapters in JupyterLab"
	@echo "make app    rate films and get recommendations in the browser"
	@echo "make api    the same model as an HTTP service"
	@echo "make lock   resolve requirements.lock again"
	@echo "make clean  remove the built book and its execution cache"

# ---- the environment --------------------------------------------------------

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  "Python %d.%d is too old: this book needs 3.11 or newer. Try: make PYTHON=python3.12" % v[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -e .
	@touch $@

# ---- the book ---------------------------------------------------------------

# Stored results belong to the code and the data they came from: when the package, the data, a result
# that a chapter reads, or a version changes, all chapters run again. (A change in a chapter itself the
# cache notices alone.)
_build/.inputs: $(VENV)/.installed $(MADE_OF)
	rm -rf _build/.jupyter_cache _build/.doctrees
	@mkdir -p _build && touch $@

# A failed build forgets its state, or Sphinx would skip the faulty page, and its warning, next time.
book: _build/.inputs
	$(BIN)/jupyter-book build . --path-output . -n -W --keep-going --quiet \
	  || { rm -rf _build/.doctrees _build/html; exit 1; }
	@echo "The book is built. Open file://$(CURDIR)/$(SITE)"

lab: $(VENV)/.installed
	cd book && ../$(BIN)/jupyter lab

# Started in their folder, where Streamlit finds its settings.
app: $(VENV)/.installed
	cd app && ../$(BIN)/streamlit run main.py

api: $(VENV)/.installed
	cd app && ../$(BIN)/python server.py

# ---- tests ------------------------------------------------------------------

# Three runs: the package in parallel; the chapters, which must give their committed outputs again;
# and the built pages in a browser.
test: book
	$(BIN)/python -m pytest -n 2 -m "not site and not browser"
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbval --nbval-sanitize-with tests/nbval.cfg book
	$(BIN)/python -m pytest -n 2 -m "site or browser" tests

# ---- benchmarks -------------------------------------------------------------

# The peers want other versions of common packages than the book, so they get their own environment.
.venv-bench/.installed: pyproject.toml
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -e ".[bench]"
	@touch $@

# The part "browser" of serving.py reads the built page.
bench: book .venv-bench/.installed
	$(BIN)/python benchmarks/loading.py
	BENCH_PYTHON=.venv-bench/bin/python $(BIN)/python benchmarks/als.py
	.venv-bench/bin/python benchmarks/neighbors.py
	$(BIN)/python benchmarks/serving.py
	BENCH_PYTHON=.venv-bench/bin/python $(BIN)/python benchmarks/metrics.py
	BENCH_PYTHON=.venv-bench/bin/python $(BIN)/python benchmarks/sgd.py
	BENCH_PYTHON=.venv-bench/bin/python $(BIN)/python benchmarks/implicit.py
	$(BIN)/python benchmarks/completion.py

# ---- the leaderboard ---------------------------------------------------------

# The tables of chapter 6. 100k and 1m are downloaded at the first use; DATA may also be a file or folder of
# your own. An interrupted run continues. With "-strong" after it, lists for people whom no model has seen.
DATA ?= latest-small
leaderboard: $(VENV)/.installed
	$(BIN)/python benchmarks/$(if $(filter %-strong,$(DATA)),strong,leaderboard).py --data "$(DATA:-strong=)"

# ---- housekeeping -----------------------------------------------------------

# One resolution for every system and every Python from 3.11 on.
lock: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile requirements.txt pyproject.toml --extra test --extra app --extra gradient \
	  --universal --python-version 3.11 --no-emit-package recsys-helpers --no-annotate --quiet --upgrade \
	  --custom-compile-command "make lock" -o requirements.lock

clean:
	rm -rf _build
