# make demo   everything from nothing: environment, phantom cohort, training, registry, service, one explained diagnosis
# make test   everything from nothing: environment, lint, all tests
# make quick  the unit tests that need no server, browser or training
#
# Only Python 3.11 and make are needed. What is made lies in this folder: .venv, var/, mlruns/, dist/.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV   ?= .venv
VAR    := $(CURDIR)/var
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2

# Temporary files too, unless the clone lies deep: the path of a Unix socket may have 107 characters, and names follow.
TEMPORARY := $(shell path="$(VAR)/tmp"; [ $${#path} -le 55 ] && echo "$$path" || echo /tmp)

# Caches and stores inside the clone, no hub, no telemetry. The installation is left out, so that pip keeps its own cache.
# Bytecode is kept whatever the environment says: without it every process compiles MONAI and torch anew, for seconds.
INSIDE := mkdir -p "$(TEMPORARY)" && env -u PYTHONDONTWRITEBYTECODE PATH="$(abspath $(BIN)):$$PATH" TMPDIR="$(TEMPORARY)" \
	BENTOML_HOME="$(VAR)/bentoml" HF_HOME="$(VAR)/huggingface" TORCH_HOME="$(VAR)/torch" XDG_CACHE_HOME="$(VAR)/cache" \
	XDG_CONFIG_HOME="$(VAR)/config" XDG_DATA_HOME="$(VAR)/data" MPLCONFIGDIR="$(VAR)/matplotlib" UV_CACHE_DIR="$(VAR)/uv" \
	HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 BENTOML_DO_NOT_TRACK=True MLFLOW_DISABLE_TELEMETRY=true \
	TOKENIZERS_PARALLELISM=false

# What the tests run beside Python: a browser, validators of DICOM objects, an archive, a database server. (Where systemd
# runs, the package orthanc also starts an archive of its own, on ports 4242 and 8042; the tests need none of that.)
DEBIAN := chromium dicom3tools dcmtk orthanc orthanc-dicomweb postgresql webhook

WHEEL = dist/consilium-$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' consilium/__init__.py)-py3-none-any.whl
SOURCES = $(shell find consilium training service hospital -type f -not -path '*/__pycache__/*') pyproject.toml LICENSE README.md

OF_COHORTS = $(addprefix benchmarks/,kermany.py label_efficiency.py ludb.py note_units.py out_of_distribution.py pcg.py pretraining.py severity.py source_alignment.py starving.py)

SBOM = dist/consilium.cdx.json

.PHONY: help install debian demo picture card docs sizes test quick soak soak-hospital lint format web lock audit sbom wheel bento benchmarks clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 24

install: $(STAMP)  ## the environment alone

# torch first and alone: where a build of it for this machine's hardware is at hand, pip takes that one.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is not on the path; give another 3.11 with PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt "torch==$$(sed -n 's/^torch==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

# Only where they are missing and may be installed; their tests skip by name where they are not there.
debian:
	@missing=$$(for package in $(DEBIAN); do dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing" $$missing; \
	  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends $$missing; } >/dev/null 2>&1 \
	    || echo "could not be installed; the tests that need them are skipped:" $$missing; \
	elif [ -n "$$missing" ]; then echo "not installed; the tests that need them are skipped:" $$missing; fi

demo: $(STAMP)  ## phantom cohort, training, registry, service and one explained diagnosis
	@$(INSIDE) consilium demo

lint: $(STAMP)  ## style, types and the borders between the packages
	@$(INSIDE) ruff check
	@$(INSIDE) ruff format --check --quiet
	@$(INSIDE) mypy
	@$(INSIDE) lint-imports --no-logo

picture: $(STAMP) debian  ## docs/report.png and docs/dicom-capture.png, of what the demo wrote
	@$(INSIDE) python scripts/picture.py

card: $(STAMP)  ## docs/measured/model-card.md, of the model that the demo registered
	@$(INSIDE) python scripts/model_card.py

# The reference pages are made of the code each time. A warning, such as a link that leads nowhere, fails the build.
docs: $(STAMP)  ## the documentation site, in docs/_build
	@$(INSIDE) python scripts/reference_pages.py docs/reference/generated
	@$(INSIDE) sphinx-build --quiet --fail-on-warning --keep-going --fresh-env docs docs/_build
	@echo docs/_build/index.html

sizes: $(STAMP)  ## how large functions, modules and folders are
	@$(INSIDE) python scripts/house.py --check

# One thread a worker: more threads than cores cost up to five times.
test: $(STAMP) lint debian  ## lint and all tests
	@$(INSIDE) OMP_NUM_THREADS=1 python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder --basetemp="$(VAR)/pytest" --durations=15 $(ARGS)

quick: $(STAMP)  ## the unit tests that need no server, browser or training
	@$(INSIDE) OMP_NUM_THREADS=1 python -m pytest --quick -n $(JOBS) --dist loadfile --basetemp="$(VAR)/pytest" $(ARGS)

soak: $(STAMP)  ## 10,000 requests while the model moves and the service is killed; REQUESTS=N for fewer
	@$(INSIDE) OMP_NUM_THREADS=1 python -m tests.soak $(if $(REQUESTS),--requests $(REQUESTS))

soak-hospital: $(STAMP)  ## 2,000 studies, 3 % of which meet each mishap of a hospital; STUDIES=N for fewer
	@$(INSIDE) OMP_NUM_THREADS=1 python -m tests.soak_hospital $(if $(STUDIES),--studies $(STUDIES))

format: $(STAMP)  ## let ruff write the layout
	@$(INSIDE) ruff check --fix-only --quiet
	@$(INSIDE) ruff format --quiet

web:  ## the reading page from its source, into service/page/static; needs Node 20
	cd web && npm ci --prefer-offline && npm run --silent check && npm test --silent && npm run --silent build

lock: $(STAMP)  ## write constraints.txt anew from the environment
	$(BIN)/python scripts/pinned.py dev > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt
	touch $(STAMP)

# A dependency that the database of vulnerabilities does not know, or cannot be asked for, fails the audit, too.
audit: $(STAMP)  ## known vulnerabilities of every pinned dependency; needs a network
	@echo "asking the Python Package Index for known vulnerabilities; this needs a network" >&2
	@$(INSIDE) pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

sbom: $(STAMP)  ## dist/consilium.cdx.json, the bill of materials of the service (CycloneDX)
	@mkdir -p "$(dir $(SBOM))"
	@$(INSIDE) bash -o pipefail -c 'python scripts/pinned.py serve | cyclonedx-py requirements --pyproject pyproject.toml \
	  --output-reproducible --output-format JSON --output-file "$(SBOM)" -'
	@$(INSIDE) python scripts/page_packages.py "$(SBOM)"
	@echo $(SBOM)

wheel: $(WHEEL)  ## dist/consilium-*.whl

$(WHEEL): $(STAMP) $(SOURCES)
	@$(INSIDE) python -m build --wheel --no-isolation --outdir dist . >/dev/null
	@echo $(WHEEL)

bento: $(WHEEL)  ## package the service and the wheel for deployment
	$(BIN)/python scripts/pinned.py serve > dist/requirements.txt
	@$(INSIDE) bentoml build

# Four ask for a cohort of yours, and one of them for a model: they are run by hand.
benchmarks: $(STAMP)  ## every benchmark that needs no cohort, one after the other; SMOKE=1 for all, as small as can be
	@for question in $(if $(SMOKE),benchmarks/[a-z]*.py,$(filter-out $(OF_COHORTS),$(wildcard benchmarks/[a-z]*.py))); do \
	  echo "== $$question"; $(INSIDE) python $$question $(if $(SMOKE),--smoke); done

clean:  ## remove what was made; the environment, the model store, API keys and the audit log excepted
	rm -rf build dist docs/_build docs/reference/generated .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	if [ -d var ]; then find var -mindepth 1 -maxdepth 1 -not -name 'keys.json*' -not -name 'audit-log*' -exec rm -rf {} +; fi
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
