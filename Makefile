# Every target sets up what it needs, so each works on a fresh clone. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SITE := _build/html/book/index.html
MADE_OF := $(shell find recsys_helpers data/ml-latest-small -name '*.py' -o -name '*.csv') \
  $(wildcard benchmarks/results/*.json benchmarks/*.csv) book/_static/try_it/model.js

.PHONY: help book notebooks test lab app api bench leaderboard lock clean
help:
	@echo "make book   build the book into _build/html (executes what has changed)"
	@echo "make notebooks  plain copies of the chapters, for JupyterLab, VS Code and Colab, into notebooks/"
	@echo "make test   unit tests, notebooks, and the built site"
	@echo "make bench  the package beside its peers, each in one run; minutes to an hour"
	@echo "make leaderboard [DATA=100k, 20m-strong or a file]  every model on the same splits; most of an hour"
	@echo "make lab    open these copies in JupyterLab"
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
# With TOGETHER=1 the chapters are executed before it, one a core: sooner done, but each takes longer.
book: _build/.inputs
	$(if $(TOGETHER),$(BIN)/python book/_ext/execute.py)
	$(BIN)/jupyter-book build . --path-output . -n -W --keep-going --quiet \
	  || { rm -rf _build/.doctrees _build/html; exit 1; }
	@echo "The book is built. Open file://$(CURDIR)/$(SITE)"

# A copy that somebody has changed stays as it is.
notebooks: $(VENV)/.installed
	$(BIN)/python book/_ext/plain.py notebooks

lab: notebooks
	cd notebooks && ../$(BIN)/jupyter lab

# Started in their folder, where Streamlit finds its settings.
app: $(VENV)/.installed
	cd app && ../$(BIN)/streamlit run main.py

api: $(VENV)/.installed
	cd app && ../$(BIN)/python server.py

# ---- tests ------------------------------------------------------------------

# The package as readers elsewhere have it: the wheel and what it asks for, nothing of this folder.
.venv-wheel/.installed: requirements.lock pyproject.toml $(MADE_OF)
	rm -rf .venv-wheel _build/wheel
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w _build/wheel .
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet --disable-pip-version-check -c requirements.lock \
	  "recsys_helpers[book] @ file://$$(ls $(CURDIR)/_build/wheel/*.whl)"
	.venv-wheel/bin/python -m ipykernel install --prefix .venv-wheel --name wheel > /dev/null
	@touch $@

# Three runs: the package in parallel; the chapters' plain copies in the wheel's environment, which must
# give the committed outputs again; and the built pages, and the copies in JupyterLab, in a browser.
# Two at a time fill two cores: more threads of BLAS in each would only wait for one another.
test: export OPENBLAS_NUM_THREADS = 1
test: book .venv-wheel/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not site and not browser"
	rm -rf _build/elsewhere
	$(BIN)/python book/_ext/plain.py _build/elsewhere
	cp book/conftest.py _build/elsewhere
	cd _build/elsewhere && JUPYTER_PATH=$(CURDIR)/.venv-wheel/share/jupyter $(CURDIR)/$(BIN)/python -m pytest \
	  -n 2 --dist loadfile --rootdir=. --nbval --nbval-sanitize-with $(CURDIR)/tests/nbval.cfg --nbval-kernel-name wheel .
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "site or browser" tests

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
	BENCH_PYTHON=.venv-bench/bin/python $(BIN)/python benchmarks/bayes.py

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
