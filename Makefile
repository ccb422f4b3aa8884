# Everything starts here; `make help` lists it. Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 run

PYTHON ?= python3
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE

# An empty answer of "which Python" deserves better than a shell's "not found".
FIND_PYTHON = command -v "$(PYTHON)" >/dev/null || { echo "make: $(PYTHON) is missing; on Debian: apt install python3 python3-pip (or name one: make PYTHON=python3.12 …)"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup setup-run run sandbox test check check-focus check-litellm check-engine check-fuzz proof browser bench day screenshots lock clean

help: ## list what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## virtual environment, packages with the tools for tests, messages (into .venv)
	@$(FIND_PYTHON)
	@$(PYTHON) config/install.py --dev

setup-run:
	@$(FIND_PYTHON)
	@$(PYTHON) config/install.py

run: setup-run ## the exchange with its demo market at http://localhost:8000 (PORT= takes another port)
	@exec $(BIN)/python -m config.run

sandbox: setup-run ## an exchange of its own whose clock runs fast (SPEED=43200: a month a minute), port 8001
	@exec $(BIN)/python -m config.run --sandbox $(if $(SPEED),--speed $(SPEED))

test: setup ## the tests, on real servers; `make browser` has those in a browser (ARGS= for pytest)
	$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

check: setup ## linters, types, layers, migrations, API schema, deployment settings
	$(BIN)/python -m config.check

check-focus: setup ## validate FOCUS data with the FinOps Foundation's validator (FILE=a file of yours; 600 MB once)
	$(if $(FILE),$(BIN)/python -m config.check_focus "$(FILE)",$(BIN)/pytest -m focus tests/billing/test_focus.py)

check-litellm: setup ## the unmodified LiteLLM reports its usage here and calls the gateway; OpenTelemetry too (300 MB once)
	$(BIN)/pytest -m litellm tests/metering/test_real_clients.py tests/gateway/test_real_clients.py

check-engine: setup ## guard and gateway before a real engine, llama.cpp on a random model: every token agrees (170 MB once)
	$(BIN)/pytest -m engine tests/gateway/test_real_engine.py

check-fuzz: setup ## schemathesis tries every operation of the API's own document: no 5xx, nothing undocumented (WHO=buyer, CASES=20)
	$(BIN)/python -m config.check_fuzz $(WHO)

proof: setup ## the same promises at full size
	CIYUAN_PROOF=1 $(BIN)/pytest -n 2 --dist loadgroup -m "(proof or property) and not browser" $(ARGS)

browser: setup ## the pages in a real Chromium, stories and every page (apt install chromium fonts-noto-cjk)
	$(BIN)/pytest -m "browser and not screenshots" $(or $(ARGS),tests/web)

bench: setup ## the benchmarks, one after the other (half an hour; FULL=1 adds the large ones)
	$(BIN)/python -m benchmarks

day: setup-run ## a whole trading day on real usage (TRACE=a trace file; without one, generated traffic; VIA=gateway calls)
	@$(BIN)/python -m scenarios.day $(if $(VIA),--via "$(VIA)") $(if $(TRACE),"$(TRACE)")

screenshots: setup ## pictures of the main pages, both languages and themes, into screenshots/
	$(BIN)/pytest -m screenshots $(ARGS)

lock: setup ## compile requirements.txt and requirements-dev.txt from pyproject.toml
	.venv/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url pyproject.toml -o requirements.txt
	.venv/uv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt

clean: ## end what runs; delete all data and what was built (the virtual environment stays)
	@$(PYTHON) config/clean.py
