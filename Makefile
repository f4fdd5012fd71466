# The verbs of this project. Each sets up .venv first (scripts/setup.sh), so all of them work on a
# fresh clone; a second call starts at once. Another Python: make test PYTHON=/path/to/python
.DEFAULT_GOAL := help
.PHONY: help demo test check bench timings docs pictures clean

export PYTHON
bin := .venv/bin

# pictures.py opens the viewer: on Linux in an X server in memory, elsewhere on the screen.
screen = $(shell command -v xvfb-run >/dev/null && echo "xvfb-run -a -s '-screen 0 1920x1200x24'")

help: ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | while IFS='|' read -r verb words; do \
	  printf '%-16s %s\n' "$$verb" "$$words"; done

demo: ## restore the stack that comes with the package, write ./demo/, open it in napari
	@scripts/setup.sh demo
	$(bin)/napari-deconv demo

test: ## run every test: the viewer's in Xvfb, OpenCL's on the CPU through PoCL
	@scripts/setup.sh test
	env -u WAYLAND_DISPLAY -u QT_QPA_PLATFORM $(bin)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: ## run the linters, the types, the import contracts, the plugin manifest
	@scripts/setup.sh test
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports
	QT_QPA_PLATFORM=offscreen $(bin)/npe2 validate src/napari_deconv/napari.yaml --imports

bench: ## measure seconds to a given quality against others, into docs/speed: about a quarter of an hour
	@scripts/setup.sh bench
	$(bin)/python benchmarks/speed.py
	@echo "more cases, or a file of your own: $(bin)/python benchmarks/speed.py --help"
	@echo "an iteration against its transforms: $(bin)/python benchmarks/speed.py --bound"
	@echo "methods, engines, docks and tiles one by one: make timings"

timings: ## time methods, engines, docks and tiles one by one (pytest-benchmark)
	@scripts/setup.sh bench
	$(bin)/python -m pytest benchmarks --benchmark-only

docs: ## build the pages into docs/_build
	@scripts/setup.sh docs
	$(bin)/sphinx-build -W -b html docs docs/_build

pictures: ## make the pictures of the docs again, from the real docks
	@scripts/setup.sh docs
	$(screen) $(bin)/python docs/pictures.py

clean: ## remove .venv, ./demo/ and what the tools left
	rm -rf .venv demo docs/_build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
