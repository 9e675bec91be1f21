# Export once, run everywhere, prove it. `make` alone shows what there is.
# Settings from the environment: MODELS, ARTIFACTS, REPORTS, DEPLOY=docker, and the ports of deploy/ports.toml.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup lock train export convert lite-report publish page build deploy-all demo check docker-check test test-fast test-ci test-all test-durations figures readme-figures fuzz lint loadtest loadtest-web loadtest-search loadtest-events loadtest-truth bench-serving bench-web edge-bundle edge-push edge-arm bench-edge compare-import compare-runs status doctor down clean versions promote rollback

PY := .venv/bin/python
TIMED := $(PY) -m deploy.timed
BOOTSTRAP := sh deploy/bootstrap.sh
PYTEST := $(PY) -m pytest
# What the line makes below $ARTIFACTS, by name: that folder may hold something else too.
BROWSER_TARGETS := tfjs-cpu,tfjs-wasm,tfjs-wasm-threads,tfjs-wasm-float16,tfjs-wasm-uint8,tfjs-webgl,tfjs-webgpu,litertjs-wasm,litertjs-wasm-int8,litertjs-webgpu,node-wasm
BUILT := savedmodels evidence inputs lite web repository training data check standin edge arm run logs cold.json proven.json times.json

export UV_NO_SYNC := 1
# Where it is set, each process would compile TensorFlow's sources again, which takes twice as long as importing it.
export PYTHONDONTWRITEBYTECODE :=
export TF_CPP_MIN_LOG_LEVEL ?= 3
export MAKE_RUN := $(shell date +%s%N)

help:  ## this list
	@echo "Export once, run everywhere, prove it: make deploy-all demo"
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r goal text; do printf '  make %-16s %s\n' "$$goal" "$$text"; done

deploy-all: build  ## set up, train, export, convert, publish, start every service, show its address
	@$(TIMED) deploy --table -- $(PY) -m deploy up

demo: deploy-all  ## compare outputs and latency of every target on the running deployment: make demo [FULL=1]
	@$(TIMED) compare --table -- $(PY) -m compare $(if $(FULL),--full-evidence)

check: page serving/server/.venv-tensorflow  ## the same verdict for your own model: make check SAVED_MODEL=path [INPUTS=file.npz]
	@$(PY) -m compare.check $(if $(SAVED_MODEL),"$(SAVED_MODEL)") $(if $(INPUTS),--inputs "$(INPUTS)")

docker-check:  ## the images, the comparison on them, nothing left behind; skipped without a Docker engine
	@if $(BOOTSTRAP) -m deploy.engine; then $(MAKE) --no-print-directory build && $(PY) -m deploy.docker_check; fi

versions: model-named setup  ## two versions on live traffic: make versions MODEL=mlp [SECONDS=20]
	@$(PY) -m compare versions $(MODEL) $(if $(SECONDS),--seconds $(SECONDS))

promote: model-named setup  ## the label stable moves to the newest version: make promote MODEL=mlp [VERSION=2]
	@$(PY) -m serving.publish promote $(MODEL) $(if $(VERSION),--to $(VERSION))

rollback: model-named setup  ## the label stable moves back: make rollback MODEL=mlp
	@$(PY) -m serving.publish rollback $(MODEL)

.PHONY: model-named
model-named:
	@$(if $(MODEL),:,echo "error: which model? write for example: make $(firstword $(MAKECMDGOALS)) MODEL=mlp" >&2; exit 2)

build:  ## all artefacts, without starting anything
setup:  ## the environments, as their locks say
train:  ## the models, on their real data
export:  ## one SavedModel for each model and version, with its evidence
convert:  ## the .tflite and TF.js variants, from the SavedModels
publish:  ## the model repository that the servers watch
page:  ## the demo page, from web/demo
build setup train export convert publish page:
	@$(BOOTSTRAP) -m deploy.build $@

.PHONY: lite
lite: export  ## every .tflite variant of every model, the compressed ones trained further; the calibration curve
	@$(PY) -m lite
	@$(PY) -m lite.calibration

lite-report: lite  ## size, speed, memory, error of every .tflite variant, and which one to take: reports/lite.html
	@$(PY) -m compare.quantization

# Tests side by side, then those that want the machine for themselves; both run, whatever the first says.
SIDE_BY_SIDE := -n $(or $(WORKERS),auto)
define run-tests
	@$(PYTEST) $(SIDE_BY_SIDE) -m "($(1)) and not alone"; one=$$?; $(PYTEST) -m "($(1)) and alone"; two=$$?; \
	[ $$two = 5 ] && two=0; [ $$one = 5 ] && one=0; exit $$((one > two ? one : two))
endef

test: build serving/server/.venv-tensorflow  ## the tests, on real servers, a real browser, real interpreters: a quarter of an hour
	$(call run-tests,not ci and not exhaustive)

test-fast: build  ## the quick part of them: two minutes
	$(call run-tests,not slow and not ci and not exhaustive)

test-ci: build serving/server/.venv-tensorflow  ## what CI runs beyond `make test`
	$(call run-tests,ci)

test-all: build serving/server/.venv-tensorflow  ## every test, and longer fuzzing
	$(call run-tests,ci or not ci)

fuzz: build  ## hostile requests of every kind to the model server: make fuzz [SECONDS=300]
	@case "$(SECONDS)" in *[!0-9]*) echo "error: SECONDS=$(SECONDS) is no whole number; write for example: make fuzz SECONDS=300" >&2; exit 2;; esac
	FUZZ_SECONDS=$(or $(SECONDS),300) $(PYTEST) -v -s --timeout=0 tests/serving/test_fuzz.py

test-durations:  ## every test of CI, and how long each file took: tests/durations.json
	@RECORD_DURATIONS=$(MAKE_RUN) $(MAKE) --no-print-directory test test-ci

figures:  ## how long the README's commands take, in clean clones of the last commit: make figures [ONLY=demo,ci]
	@$(PY) -m deploy.figures measure $(if $(ONLY),--only "$(ONLY)")

readme-figures:  ## those times, written into the README
	@$(PY) -m deploy.figures write

lint: setup  ## ruff, the type checkers and the locks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy models export lite serving edge web compare loadtest deploy
	$(PY) -m deploy.page --check
	$(PY) -m deploy.lock --check

loadtest: deploy-all  ## load on every service, latency from when a request was due: make loadtest [PROFILE=smoke] [TARGETS=…] [MODELS=…] [WORKERS=1]
	@$(PY) -m loadtest --profile "$(or $(PROFILE),smoke)" $(if $(TARGETS),--targets "$(TARGETS)") $(if $(MODELS),--models "$(MODELS)") $(if $(WORKERS),--workers "$(WORKERS)")

loadtest-web: deploy-all  ## the same users on Locust's own page: make loadtest-web [TARGET=serving-rest] [MODEL=mlp]
	@$(PY) -m loadtest.page $(if $(TARGET),--target "$(TARGET)") $(if $(MODEL),--model "$(MODEL)")

loadtest-search: bound-right deploy-all  ## the highest rate with p99 under a bound, and its curve: make loadtest-search [TARGET=serving-rest] [MODEL=mlp] [P99=20]
	@$(PY) -m loadtest.search $(if $(TARGET),--target "$(TARGET)") $(if $(MODEL),--model "$(MODEL)") $(if $(P99),--p99 "$(P99)")

.PHONY: bound-right
bound-right:
	@case "$(P99)" in *[!0-9.]*|*.*.*|.|0) echo "error: P99=$(P99) is no number of ms above 0; write for example: make loadtest-search P99=20" >&2; exit 2;; esac

loadtest-events: publish  ## publish, roll back and kill a server of its own under load: make loadtest-events [MODEL=mlp]
	@$(PY) -m loadtest.events $(if $(MODEL),--model "$(MODEL)")

loadtest-truth: export  ## is the load generator to be believed? Its percentiles beside known ones and wrk's, coordinated omission shown
	@$(PY) -m loadtest.truth

bench-serving: publish serving/server/.venv-tensorflow  ## what the model server costs and how fast it is; SERVER='COMMAND' for another one
	@$(PY) -m loadtest.bench_serving $(if $(SERVER),--server "$(SERVER)") --json "$${REPORTS:-reports}/bench-serving.json"

edge-bundle: convert  ## one archive for a device: make edge-bundle [ARCH=aarch64|armv7l|x86_64] [VARIANTS=int8,float32]
	@$(PY) -m deploy.bundle $(if $(ARCH),--arch "$(ARCH)") $(if $(VARIANTS),--variants "$(VARIANTS)")

edge-push: host-named convert  ## the bundle onto a device by ssh, installed there: make edge-push HOST=user@pi [ARCH=…]
	@$(PY) -m deploy.push "$(HOST)" $(if $(ARCH),--arch "$(ARCH)") $(if $(VARIANTS),--variants "$(VARIANTS)")

.PHONY: host-named
host-named:
	@$(if $(HOST),:,echo "error: which device? write for example: make edge-push HOST=pi@raspberrypi.local" >&2; exit 2)

edge-arm: convert  ## the bundle on emulated ARM machines, answers beside this one's: make edge-arm [ARCH=aarch64,armv7l]
	@$(PY) -m compare.arm $(if $(ARCH),--arch "$(ARCH)") $(if $(VARIANTS),--variants "$(VARIANTS)")

bench-web: publish page  ## the runtimes of the page, and Node.js: errors, cold, first and steady times, interleaved; how fast the page is
	@REPORTS="$${REPORTS:-reports}/bench-web" $(PY) -m compare --targets "$(BROWSER_TARGETS)"
	@$(PY) -m web.bench

bench-edge: convert  ## what the .tflite files cost on this machine, TensorFlow beside them in the same run
	@root="$${ARTIFACTS:-artifacts}"; mkdir -p "$${REPORTS:-reports}" && $(PY) -m export.sample_inputs "$$root/inputs" && \
	$(PY) -m edge bench --models "$$root"/lite $$(ls -d "$$root"/standin/lite 2>/dev/null) \
	  --savedmodels "$$root"/savedmodels $$(ls -d "$$root"/standin/savedmodels 2>/dev/null) --threads 1 2 \
	  $(if $(SECONDS),--seconds "$(SECONDS)") --json "$${REPORTS:-reports}/bench-edge.json"

compare-import: file-named setup  ## a device's edge bench as rows of the report: make compare-import FILE=bench.json
	@$(PY) -m compare import "$(FILE)"

compare-runs: setup  ## two runs of the history, noise told from change: make compare-runs [A=RUN B=RUN]
	@$(PY) -m compare.runs $(if $(A),"$(A)") $(if $(B),"$(B)") $(if $(JSON),--json)

.PHONY: file-named
file-named:
	@$(if $(FILE),:,echo "error: which file? write for example: make $(firstword $(MAKECMDGOALS)) FILE=bench.json" >&2; exit 2)

.PHONY: monitor
monitor: build  ## Prometheus beside the deployment: metrics, rules, alerts, canary against stable; DEPLOY=docker: Grafana too
	@$(PY) -m deploy monitor

status:  ## what runs, where, and whether it is healthy
	@if [ -x $(PY) ]; then $(PY) -m deploy status; else echo "nothing is set up here: run make deploy-all"; exit 1; fi

doctor:  ## what this machine has, and what it lacks
	@if [ -x $(PY) ]; then $(PY) -m deploy doctor; else $(BOOTSTRAP) -m deploy doctor; fi

down:  ## stop everything that deploy-all started
	@if [ -x $(PY) ]; then $(PY) -m deploy down; fi

clean: down  ## stop, and remove what was built; the environments and the reports stay
	cd "$${ARTIFACTS:-artifacts}" 2>/dev/null && rm -rf $(BUILT) || true
	rm -rf web/demo/dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

lock:  ## compile the locks again; UPGRADE=1 takes newer versions
	@$(BOOTSTRAP) -m deploy.lock $(if $(UPGRADE),--upgrade)

# Our server with TensorFlow, for the signatures that LiteRT cannot run; made only when asked for.
.PHONY: serving/server/.venv-tensorflow
serving/server/.venv-tensorflow:
	@$(BOOTSTRAP) -m deploy.environments "serving/server#tensorflow"
