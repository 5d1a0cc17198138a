# make demo    the example project on http://127.0.0.1:8000 (PORT= changes it)
# make serve   the same under gunicorn with our worker (PORT=, WORKERS=, WEBSOCKET_*=)
# make test    lint, types and all tests
# make format  what lint asks for

PYTHON ?= python3
PORT ?= 8000
WORKERS ?= 1
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = dwebsocket example_project tests
RUFF = --target-version py310 --line-length 88 --exclude tests/readme_views.py

.PHONY: demo serve test lint format packages clean

demo: $(VENV)/.example
	cd example_project && $(abspath $(BIN))/python manage.py migrate --verbosity 0
	cd example_project && exec $(abspath $(BIN))/python manage.py runserver 127.0.0.1:$(PORT)

serve: $(VENV)/.example
	cd example_project && $(abspath $(BIN))/python manage.py migrate --verbosity 0
	cd example_project && exec $(abspath $(BIN))/python -m gunicorn \
		-k dwebsocket.workers.WebSocketWorker -w $(WORKERS) -b 127.0.0.1:$(PORT) \
		--access-logfile - example.wsgi

test: packages lint
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.test
	$(BIN)/ruff check $(RUFF) --select E,F,W,I,UP,B $(SOURCES)
	$(BIN)/ruff format $(RUFF) --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check $(RUFF) --select E,F,W,I,UP,B --fix $(SOURCES)
	$(BIN)/ruff format $(RUFF) $(SOURCES)

# Servers that the tests start.  Elsewhere than on Debian as root, the tests that
# need a missing one say how to install it.
PACKAGES = chromium chromium-driver nginx-light openssl postgresql
packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		! dpkg -s $(PACKAGES) >/dev/null 2>&1; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
			--no-install-recommends $(PACKAGES); \
	fi

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.%: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info example_project/db.sqlite3
	find . -name __pycache__ -prune -exec rm -rf {} +
