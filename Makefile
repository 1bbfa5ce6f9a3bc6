# prearc: the targets a person types. Everything runs in .venv, made by `setup` from uv.lock.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv
SECONDS_BUDGET ?= 600
# What lost a race is run once more, and told; the campaign has no second chance.
TESTS := -p tests.second_chance -n 4 --dist loadfile --no-loadscope-reorder -m
# Where the tests marked `rules` are (tests/conftest.py): they alone are measured, and no others are even read for it.
OF_RULES := tests/unit $(patsubst %,tests/spec/test_%.py,findings findings_across senders series_filters)

# Many short processes are started by the tests: they must not compile everything anew each time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup run demo test check coverage bench campaign clean
.DEFAULT_GOAL := help

help:
	@echo "make run       set up and start the node on loopback (root ./var, port 8104, AE title PREARC)"
	@echo "make demo      a story in under 30 seconds: receive, archive, a conflict made and resolved"
	@echo "make test      set up and run the tests"
	@echo "make check     format, lint, types, imports, tests with branch coverage of the rules"
	@echo "make coverage  tests with branch coverage of everything"
	@echo "make bench     measurements, as ratios in one run"
	@echo "make campaign  kills, power cuts, broken peers and a soak: each a share of SECONDS_BUDGET seconds (default 600)"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit("prearc needs Python 3.11 or later; this is %d.%d. Try: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.6'
	$(UV) sync --frozen --inexact --quiet --compile-bytecode --python $(BIN)/python
	@touch $@

run: setup
	$(BIN)/prearc serve $(if $(PORT),--port $(PORT))

demo: setup
	$(BIN)/prearc demo

test: setup
	$(BIN)/python -m pytest $(TESTS) 'not campaign'

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --no-incremental
	$(BIN)/lint-imports
	$(BIN)/coverage erase
	$(BIN)/coverage run --source=archive.rules -m pytest $(TESTS) 'rules and not campaign' -n 2 $(OF_RULES)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='archive/rules/*' --fail-under=100 --precision=2
	$(BIN)/python -m pytest $(TESTS) 'not rules and not campaign'

coverage: setup
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(TESTS) 'not campaign'
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: setup
	$(BIN)/python -m benchmarks.catalogue
	$(BIN)/python -m benchmarks.archiving
	$(BIN)/python -m benchmarks.receive --rounds 5

campaign: setup
	$(BIN)/python -m pytest -m 'hypothesis and not campaign' -n 4 --hypothesis-profile=new
	PREARC_CAMPAIGN_SECONDS=$(SECONDS_BUDGET) $(BIN)/python -m pytest -m campaign -s --timeout=0

clean:
	rm -rf $(VENV)
