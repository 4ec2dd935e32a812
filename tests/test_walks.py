"""The ways that CONTRIBUTING tells: a value is followed through a real run, by the functions that are called."""
import json
import re
import sys
import threading
import warnings
from itertools import islice
from pathlib import Path

import pytest

import cmet
from cmet.core import builtin
from cmet.corpus import demo_speech
from cmet.io.media import open_video, write_video

ROOT, KIT = Path(__file__).resolve().parents[1], Path(cmet.__file__).parent
TEXT = (ROOT/"CONTRIBUTING.md").read_text("utf-8").partition("## Follow a value")[2].partition("\n## ")[0]
# Entered on the way, and no part of it: what reads and writes files, checks, locks, records and tells, and what the value meets.
BESIDE = """__init__ align core io/assets io/catalogue io/claims io/clock io/colour io/files io/limits io/media io/progress corpus/corpus corpus/sampling
vectors/algebra vectors/grammar vectors/vector viz/maps edit/caution edit/pipeline edit/recordings edit/request explorer/map explorer/panels explorer/widgets
speech/encoders face/action_units face/asymmetry face/guards face/landmarks face/mesh face/mouth face/regions face/shading face/warp
mappers/base mappers/ear mappers/neural network""".split()


def told():
    "{value: ([(file, function)] that make something new of it, those that hand it on, how many files it says each are)}."
    found = {}
    for value, way, few, all_ in re.findall(r"(?m)^\| (.+ → .+?) \| (.+) \| (\d+) \((\d+)\) \|$", TEXT):
        names = lambda text: [(file, f) for file, some in re.findall(r"`([\w/]+\.py)`((?: `\w+`)+)", text) for f in re.findall(r"\w+", some)]
        way, on = re.fullmatch(r"(.*) \((.*)\)", way).groups()
        found[value] = names(way), names(on), (int(few), int(all_))
    return found


WALKS = told()


class Calls(list):
    "Functions of the kit in the order in which they are called, in this thread and those that begin within."
    def __call__(self, frame, event, arg):
        if event == "call" and (at := frame.f_code.co_filename).startswith(str(KIT)):
            self.append((Path(at).relative_to(KIT).as_posix(), frame.f_code.co_name))

    def __enter__(self):
        threading.settrace(self); sys.settrace(self)
        return self

    def __exit__(self, *error): sys.settrace(None); threading.settrace(None)


def check(value, calls, beside=BESIDE):
    way, on, _ = WALKS[value]
    rest = iter(calls)
    assert [step for step in way if step not in rest] == [], "not called, or not after the one before"
    assert [step for step in on if step not in calls] == []
    if beside is None: return
    named = {file for file, _ in way + on} | {f"{name}.py" for name in beside}
    assert {file for file, _ in calls} - named == set(), f"has come between {value}: name it in CONTRIBUTING, or beside the way"


def test_the_numbers_are_those_of_the_files():
    assert len(WALKS) == 4
    for value, (way, on, counts) in WALKS.items():
        files = [{file for file, _ in steps} for steps in (way, way + on)]
        assert tuple(map(len, files)) == counts, value
        assert all((KIT/file).is_file() for file in files[1])


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    "A short film, and a request for it that has not been heard."
    from cmet.edit.pipeline import Request
    film = tmp_path_factory.mktemp("walk")/"film.mp4"
    write_video(film, islice(open_video(builtin("portrait.mp4")).frames(), 4), 25)
    return film, Request(to=demo_speech("happy")[:2], frm=demo_speech("neutral")[:2], encoder="whisper").choose()


def test_from_a_wav_to_the_change_of_a_face(heard, tmp_path, monkeypatch):
    from cmet.edit.pipeline import face_change
    monkeypatch.setenv("CMET_CACHE", str(tmp_path))  # nothing is kept from last time
    film, request = heard
    track = request.codec.track(list(open_video(film).frames()))
    with warnings.catch_warnings(), Calls() as calls:
        warnings.simplefilter("ignore")
        request.listen()
        face_change(request.mapper, request.wish, request.codec, track)
    check("wav → change of the face", calls)


def test_from_a_frame_to_an_mp4(heard, tmp_path):
    from cmet.edit.pipeline import put_on
    film, request = heard
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        request.listen()
        with Calls() as calls: put_on(request, open_video(film), tmp_path/"out.mp4", progress=False)
    check("frame → mp4", calls)


def test_from_a_slider_to_a_picture(tmp_path):
    pytest.importorskip("ipywidgets")
    from cmet.explorer import Explorer
    with Calls() as calls:
        e = Explorer(folder=tmp_path)
        e.wait()
        calls.clear()
        e.emotions.sliders["sad"].value = .7
        e.wait()
        e.live.close()
    check("slider → picture", calls)


def test_from_a_parameter_of_a_grid_to_a_table(tmp_path, monkeypatch):
    "In one process: the cells of the template and of the report are run here."
    import papermill
    from cmet.experiments import run_grid

    def cells(template, notebook, parameters, **how):
        space = {}
        for cell in json.loads(Path(template).read_text("utf-8"))["cells"]:
            if cell["cell_type"] != "code": continue
            exec(re.sub(r"(?m)^%.*$", "", "".join(cell["source"])), space)
            if "parameters" in cell["metadata"].get("tags", ()): space |= parameters

    monkeypatch.setattr(papermill, "execute_notebook", cells)
    grid = tmp_path/"small.yaml"
    grid.write_text("template: ../train_eval.ipynb\nparameters: {mapper: transformer, settings.batch: 8, settings.steps: [2, 3], shots: all}\n"
                    "report: {rows: settings.steps, measures: [retrieval]}")
    with Calls() as calls: run_grid(grid, tmp_path/"runs", progress=False)
    check("parameter of a grid → table", calls, beside=None)
