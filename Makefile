# What people and CI type. `make help` lists the verbs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
INSTALLED := $(VENV)/.installed
UV ?= uv
LOCK = $(UV) pip compile --quiet --universal --python-version 3.10 \
  --custom-compile-command 'make lock' pyproject.toml
OPENCV4 := .venv-opencv4
OUT ?= demo
# PyTorch's own index of builds for the CPU; the public index has those for CUDA.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help
# What an original SSD-Caffe needs to train every family: generators, scripts, label maps. The two
# scripts left out need this project's engine.
OVERLAY = python/caffe/model_libs.py $(wildcard python/caffe/models/*.py) \
  $(filter-out examples/dsod/DSOD300_detection_demo.py examples/dsod/ablations.py, \
  $(foreach family,dsod grp_dsod ssd scratchdet,$(wildcard examples/$(family)/*.py))) \
  data/VOC0712Plus/labelmap_voc.prototxt data/VOC12/labelmap_voc.prototxt \
  data/coco/coco_voc_map.txt

.PHONY: help install demo test test-all lint format typecheck check lock bench fuzz faults gpu-check tables docs proto docker docker-cuda docker-demo docker-rehearse overlay clean

help:  ## list the verbs
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

# Builds of PyTorch differ by machine, so its version is pinned; of all else the files are, by hash.
$(INSTALLED): pyproject.toml constraints.txt requirements/dev.lock
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps -r requirements/dev.lock
	$(PIP) -c constraints.txt torch
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

install: $(INSTALLED)  ## make .venv and install the package with its development tools

demo: install  ## synthetic data, LMDBs, a small DSOD trained from scratch, mAP, a picture (in demo/)
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/shapes/demo.sh $(OUT)

test: install  ## the tests that belong to every change (minutes)
	$(BIN)/python -m pytest -m 'not slow' -n 2

test-all: install  ## every test, slow ones included
	$(BIN)/python -m pytest -n 2

faults: install  ## kill, stop, starve trainings and their processes; all must end as promised (minutes)
	$(BIN)/python -m tests.faults.run

lint: install  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: install  ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: install  ## mypy, strict
	$(BIN)/mypy

check: lint typecheck test  ## what CI runs

lock:  ## pin all versions anew where ranges moved (needs uv; UPGRADE=--upgrade: the newest ones)
	$(LOCK) $(UPGRADE) --all-extras --no-annotate -o constraints.txt
	$(LOCK) --generate-hashes --no-emit-package torch -c constraints.txt -o requirements/base.lock
	$(LOCK) --generate-hashes --no-emit-package torch -c constraints.txt -o requirements/extras.lock \
	  --extra coco --extra onnx --extra openvino --extra safetensors --extra serve --extra tensorboard
	$(LOCK) --generate-hashes --no-emit-package torch -c constraints.txt -o requirements/dev.lock \
	  --extra dev --extra docs --extra tensorboard

bench: install $(OPENCV4)/bin/python  ## benchmarks against OpenCV 4, ONNX Runtime, OpenVINO, PyTorch (minutes)
	$(BIN)/python -m benchmarks.detection --compile --opencv-python $(OPENCV4)/bin/python
	$(BIN)/python -m benchmarks.peers --opencv-python $(OPENCV4)/bin/python
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.training --variant smallest --size 128 --passes 4
	$(BIN)/python -m benchmarks.memory

fuzz: install  ## damaged files to every reader, for FUZZ_MINUTES (10) or FUZZ_CASES in all
	$(BIN)/python -m tests.fuzz

# The last OpenCV whose DNN module reads Caffe's files.
$(OPENCV4)/bin/python:
	$(PYTHON) -m venv $(OPENCV4)
	$(OPENCV4)/bin/pip install --quiet --disable-pip-version-check 'opencv-python-headless<5' || \
	  { rm -rf $(OPENCV4); exit 1; }

gpu-check: install  ## a CUDA device: recorded cases, repeatability, speed, memory (10 minutes)
	$(BIN)/python -m benchmarks.gpu_check --out gpu_check

tables: install  ## write docs/layers.md and docs/models.md anew from the code
	$(BIN)/python docs/make_layers.py
	$(BIN)/python docs/make_models.py

docs: tables  ## the tables, and the site in site/; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

proto:  ## regenerate caffe_pb2.py (needs grpcio-tools 1.62, whose output works with protobuf 4 to 7)
	$(PYTHON) -m grpc_tools.protoc -I caffe_ssd/proto --python_out=caffe_ssd/proto \
	  --pyi_out=caffe_ssd/proto caffe.proto

docker:  ## build the CPU image
	docker build -f docker/Dockerfile --build-arg TORCH_INDEX=$(TORCH_CPU) -t caffe-ssd:cpu .

docker-rehearse:  ## prove the steps of `docker` without a Docker daemon (needs root, debootstrap, podman)
	sh docker/rehearse.sh

docker-demo: docker  ## the demo in the CPU image, into a volume of its own
	docker compose run --rm demo

docker-cuda:  ## build the image that uses GPUs
	docker build -f docker/Dockerfile -t caffe-ssd:cuda .

overlay:  ## copy generators and scripts into an original SSD-Caffe: make overlay CAFFE_ROOT=DIR
	@test -d "$(CAFFE_ROOT)/python/caffe" || \
	  { echo "CAFFE_ROOT must be an SSD-Caffe checkout (no python/caffe in '$(CAFFE_ROOT)')"; exit 2; }
	@for file in $(OVERLAY); do \
	  mkdir -p "$(CAFFE_ROOT)/$$(dirname $$file)" && cp "$$file" "$(CAFFE_ROOT)/$$file" || exit 1; \
	done
	@echo "copied $(words $(OVERLAY)) files to $(CAFFE_ROOT)"

clean:  ## remove what can be made again, .venv included
	rm -rf $(VENV) $(OPENCV4) $(OUT) site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
