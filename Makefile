# What to do with a fresh clone: `make demo` sees it work, `make test` sees it proven. Both install what they need.
# PYTHON=/path/to/python3 chooses a Python; APT=no keeps the targets from installing system packages;
# ARGS="…" goes to the command that a target runs, such as: make test ARGS="tests/unit -k routes"
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install tools demo test bench chaos check format wheels image image-push test-image test-containers lab-up lab-down hosts-up hosts-down test-hosts clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(VENV)/.installed ## Make .venv with kalinka in it

$(VENV)/.installed: pyproject.toml
	@scripts/setup python
	@echo "kalinka: installing into $(VENV)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lab,dev]'
	@touch $@

tools: install
	@scripts/setup lab
	@scripts/setup promtool

demo: tools ## See it work: devices on three brokers and Kafka, one moves, one process is killed
	@$(BIN)/kalinka demo $(ARGS)

test: tools ## Run all tests, those on real servers included
	@$(BIN)/pytest $(ARGS)

bench: tools $(VENV)/.bench ## Measure Kalinka beside bare loops and Camel, and write docs/performance.md
	@$(BIN)/python -m tests.bench $(ARGS)

$(VENV)/.bench: $(VENV)/.installed
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

chaos: tools ## Break everything on the lab under load, and count every message: lost 0
	@$(BIN)/python -m tests.chaos $(ARGS)

hosts-up: ## Boot three hosts without a hypervisor, dev1-dev3 at 192.168.33.20-22 (as root)
	@scripts/setup hosts
	@vagrant/nspawn up

hosts-down: ## Power them off and remove them
	@vagrant/nspawn down

test-hosts: tools ## Prove it on three booted hosts, deployed by Ansible (as root): idempotent, lost 0
	@scripts/setup hosts
	@tests/hosts/run $(ARGS)

check: install ## Formatter, linter, strict type checker, generated pages
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy --strict
	@$(BIN)/python -m kalinka_cli.reference --check

docs: install ## Write the pages that are made from the code: configuration, commands
	@$(BIN)/python -m kalinka_cli.reference

format: install ## Format the code and fix what the linter can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# BASE=image and PIP_OPTIONS=--no-index where no image can be pulled and no package fetched; DOCKER=podman works as well.
DOCKER ?= docker
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' kalinka_jms/__init__.py)

wheels: install
	@rm -rf build/wheels
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --wheel-dir build/wheels $(if $(PIP_OPTIONS),,--no-deps) '.[sasl]'

image: wheels ## Build the container image kalinka:VERSION, also called kalinka:latest
	@$(DOCKER) build --quiet --network=host --file Containerfile $(if $(BASE),--build-arg BASE=$(BASE)) \
		--build-arg PIP_OPTIONS=$(PIP_OPTIONS) --tag kalinka:$(VERSION) --tag kalinka:latest .

image-push: ## Push that image to a registry account of yours: make image-push ORG=docker.io/you
	@test -n "$(ORG)" || { echo "make image-push ORG=docker.io/you"; exit 2; }
	@for tag in $(VERSION) latest; do \
		$(DOCKER) tag kalinka:$(VERSION) $(ORG)/kalinka:$$tag && $(DOCKER) push $(ORG)/kalinka:$$tag || exit 1; done

test-image: image ## Look into that image: what it is, how large, that nothing in it can be written
	@KALINKA_TEST_CONTAINERS=1 $(BIN)/pytest tests/containers/test_image.py -s $(ARGS)

test-containers: tools image ## Play the demo with all servers and the bridge in containers (needs Docker on Linux)
	@KALINKA_TEST_CONTAINERS=1 TESTCONTAINERS_RYUK_DISABLED=true $(BIN)/pytest tests/containers -s $(ARGS)

lab-up: tools ## Start the lab: ActiveMQ, Kafka and ZooKeeper on this machine
	@$(BIN)/kalinka lab up $(ARGS)

lab-down: install ## End the lab
	@$(BIN)/kalinka lab down $(ARGS)

clean: ## Delete .venv and everything that building and testing left in this directory
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
