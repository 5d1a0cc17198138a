# make demo    the example project on http://127.0.0.1:8000 (PORT= changes it)
# make serve   the same under gunicorn with our worker (PORT=, WORKERS=, REDIS_URL=,
#              WEBSOCKET_*=)
# make demo-redis  four workers with groups in Redis (PORT=, WORKERS=, REDIS_URL=)
# make test    lint, types and all tests
# make matrix  all tests on each Python with each Django, by tox
# make dist    sdist and wheels in dist/, compiled and pure
# make test-dist  all tests of what "make dist" makes, installed elsewhere
# make format  what lint asks for
# make docs    the documentation in docs/_build/html
# make screenshots  the pictures of the example project that the docs show
# make fuzz    look for faults (TARGET=protocol, frames, handshake or deflate, SECONDS=)

PYTHON ?= python3
PORT ?= 8000
TARGET ?= protocol
SECONDS ?= 600
WORKERS ?= 1
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = benchmarks docs dwebsocket example_project setup.py tests
# What runs compiled, and is tested from its source as well.
HOT_PATH = frames protocol transport websocket handlers compiled
RUFF = --target-version py310 --line-length 88 --exclude tests/readme_views.py

.PHONY: demo serve demo-redis test matrix dist test-dist lint format docs \
	screenshots fuzz packages clean

demo: $(VENV)/.example
	cd example_project && $(abspath $(BIN))/python manage.py migrate --verbosity 0
	cd example_project && exec $(abspath $(BIN))/python manage.py runserver 127.0.0.1:$(PORT)

serve: $(VENV)/.example
	cd example_project && $(abspath $(BIN))/python manage.py migrate --verbosity 0
	cd example_project && exec $(abspath $(BIN))/python -m gunicorn \
		-k dwebsocket.workers.WebSocketWorker -w $(WORKERS) -b 127.0.0.1:$(PORT) \
		--access-logfile - example.wsgi

demo-redis: WORKERS = 4
demo-redis: $(VENV)/.example
	cd example_project && $(abspath $(BIN))/python manage.py migrate --verbosity 0
	cd example_project && WEB_CONCURRENCY=$(WORKERS) \
		exec $(abspath $(BIN))/python serve_redis.py $(PORT)

test: packages lint
	$(BIN)/python -m pytest -n 4 --dist loadfile $(PYTEST)
	DWEBSOCKET_PURE=1 $(BIN)/python -m pytest -q -n 2 $(HOT_PATH:%=tests/test_%.py)

matrix: packages $(VENV)/.test
	$(BIN)/tox run --skip-missing-interpreters false

# The wheels are built of what is in the sdist: one compiled, for this Python and
# platform, one for all.
dist: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build
	DWEBSOCKET_PURE=1 $(BIN)/python -m pip wheel --disable-pip-version-check \
		--no-deps --wheel-dir dist dist/*.tar.gz
	$(BIN)/twine check --strict dist/*

# Tests and tox.ini are those of the sdist; the environments are made anew.
test-dist: packages dist
	set -e; directory=$$(mktemp -d); trap 'rm -rf "$$directory"' EXIT; \
	tar -xf dist/*.tar.gz -C "$$directory" --strip-components=1; \
	set -- -n 4 --dist loadfile $(PYTEST); \
	$(BIN)/tox run --root "$$directory" -e py --installpkg dist/*-cp*.whl -- "$$@"; \
	$(BIN)/tox run --root "$$directory" -e pure --installpkg dist/*-none-*.whl -- "$$@"

lint: $(VENV)/.test
	$(BIN)/ruff check $(RUFF) --select E,F,W,I,UP,B $(SOURCES)
	$(BIN)/ruff format $(RUFF) --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check $(RUFF) --select E,F,W,I,UP,B --fix $(SOURCES)
	$(BIN)/ruff format $(RUFF) $(SOURCES)

docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going docs docs/_build/html

screenshots: packages $(VENV)/.test
	$(BIN)/python -m tests.screenshots docs/images

# What is learned is kept in build/, so that the next run starts from there.
fuzz: $(VENV)/.test
	mkdir -p build/fuzz/$(TARGET)
	$(BIN)/python -m tests.fuzz $(TARGET) build/fuzz/$(TARGET) -max_len=1000 \
		-max_total_time=$(SECONDS) -artifact_prefix=build/fuzz/

# Servers that the tests start.  Elsewhere than on Debian as root, the tests that
# need a missing one say how to install it.
PACKAGES = apache2-bin caddy chromium chromium-driver haproxy nginx-light node-ws \
	openssl postgresql redis-sentinel redis-server systemd
packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		! dpkg -s $(PACKAGES) >/dev/null 2>&1; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
			--no-install-recommends $(PACKAGES); \
	fi

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

COMPILED = $(wildcard dwebsocket/*.pxd)
$(VENV)/.%: setup.cfg setup.py pyproject.toml $(COMPILED) $(COMPILED:.pxd=.py) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info example_project/db.sqlite3
	rm -f dwebsocket/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
