"""Several strengths in one video, the preview, and a folder of videos."""
import csv
import json
import shutil
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from test_edit import FACE, One, Toy, corpus, talk  # noqa: F401

from cmet.cli import main
from cmet.core import CmetError, CmetWarning, builtin
from cmet.edit import edit_folder, edit_video, preview
from cmet.edit.pipeline import LABEL, STILL, Request
from cmet.face.action_units import AUS
from cmet.io.media import open_video, read_video, write_video


@pytest.fixture
def words(corpus): return dict(vector="happy - neutral", mapper=One(), corpus=corpus, codec=Toy())  # noqa: F811


@pytest.fixture
def films(talk):  # noqa: F811
    folder = talk.parent/"films"
    (folder/"deep").mkdir(parents=True)
    shutil.copy(talk, folder/"a.mp4")
    Image.fromarray(FACE).save(folder/"deep"/"b.png")
    (folder/"bad.mp4").write_text("no film")
    (folder/"notes.txt").write_text("not even by name")
    return folder


def everything(folder): return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.name != ".cmet"}


def test_strengths_side_by_side(talk, words):  # noqa: F811
    "The toy codec brightens by ten times the strength: each column is what it would be alone."
    out = edit_video(talk, talk.parent/"row.mp4", **words, strength=[0, 1, 4])
    alone = edit_video(talk, talk.parent/"one.mp4", **words, strength=4)
    (row, _), (one, _), story = read_video(out), read_video(alone), json.loads(out.with_suffix(".json").read_text("utf-8"))
    h, w = FACE.shape[:2]
    assert row.shape == (20, h + 28, 3*w, 3) and story["strength"] == [0, 1, 4]
    light = [np.median(row[:, 28:, k*w:(k + 1)*w].astype(float) - read_video(talk)[0]) for k in range(3)]
    assert np.abs(np.subtract(light, [0, 10, 40])).max() <= 2
    assert np.abs(row[:, 28:, 2*w:].astype(float) - one).mean() < 2
    assert [m[0] for m in story["codec"]["mean_change"]][2] == pytest.approx(json.loads(alone.with_suffix(".json").read_text())["codec"]["mean_change"][0])
    assert json.loads(alone.with_suffix(".json").read_text("utf-8"))["strength"] == 4, "one is a number, as ever"


@pytest.mark.parametrize("several", [[], [1, 9], [1, "x"], [1]*9])
def test_strengths_that_cannot_be(talk, words, several):  # noqa: F811
    with pytest.raises(CmetError): edit_video(talk, talk.parent/"row.mp4", **words, strength=several)
    assert not (talk.parent/"row.mp4").exists()


def test_a_preview_is_a_picture_and_no_video(talk, words):  # noqa: F811
    out = preview(talk, talk.parent/"x.mp4", **words, strength=[1, 4])
    assert out == talk.parent/"x.png" and not (talk.parent/"x.mp4").exists() and words["codec"].__class__ is Toy
    picture = Image.open(out)
    assert picture.info["Comment"] == LABEL and picture.width > 3*FACE.shape[1] and picture.height > 3*FACE.shape[0], "unedited and both strengths, three moments"


def test_a_look_is_repeated_freely_and_replaces_only_a_look(talk, words):  # noqa: F811
    first = preview(talk, talk.parent/"x.mp4", **words).read_bytes()
    again = preview(talk, talk.parent/"x.mp4", **words, strength=2)
    assert again.read_bytes() != first
    for mine in "x.png", "y.png":  # one's own picture, and what only has the ending
        (Image.fromarray(FACE).save if mine == "x.png" else lambda p: p.write_text("mine"))(talk.parent/mine)
        kept = (talk.parent/mine).read_bytes()
        with pytest.raises(CmetError, match="exists"): preview(talk, talk.parent/mine, **words)
        assert (talk.parent/mine).read_bytes() == kept
        assert preview(talk, talk.parent/mine, **words, force=True).read_bytes() != kept


def test_a_folder_is_looked_at(films, words):
    "One strip for each video; the same look again has nothing to do, another one replaces it, and a picture of one's own stays."
    out = films.parent/"out"
    told = edit_folder(films, out, look=True, **words)
    assert (told["made"], [name for name, _ in told["lost"]]) == (2, ["bad.mp4"])
    assert {p.relative_to(out).as_posix() for p in everything(out)} == {"a.png", "deep/b.png"}
    before = everything(out)
    assert edit_folder(films, out, look=True, **words)["had"] == 2 and everything(out) == before
    assert edit_folder(films, out, look=True, **words, strength=2)["made"] == 2 and everything(out).keys() == before.keys()
    Image.fromarray(FACE).save(out/"a.png")
    before = everything(out)
    with pytest.raises(CmetError, match="exists"): edit_folder(films, out, look=True, **words)
    assert everything(out) == before


def test_a_picture_that_will_not_talk_says_so_everywhere(films, words):
    "The edit and the folder; previews make no film of it, and with lips of its own it talks."
    from cmet.edit.caution import standing
    still = films/"deep"/"b.png"
    for make, many in ((lambda: edit_video(still, films.parent/"b.mp4", **words), 1), (lambda: preview(still, films.parent/"b.png", **words), 0),
                       (lambda: edit_folder(films, films.parent/"out", **words), 1), (lambda: edit_folder(films, films.parent/"looks", look=True, **words), 0)):
        with warnings.catch_warnings(record=True) as caught: make()
        assert sum("3 s without sound: the face shows the emotion and does not talk" in str(w.message) for w in caught) == many
    assert any("does not talk" in note for note in json.loads((films.parent/"b.json").read_text())["notes"])
    assert standing(open_video(still), "me.wav") == standing(open_video(films/"a.mp4")) == []


@pytest.mark.parametrize("high, told", [(60, False), (38, True)])
def test_a_small_face_is_told_with_its_size(high, told, tmp_path):
    "Judges see as much in 60 pixels as in 150, and less in 40; the edit, the preview and the record say so."
    photo = Image.fromarray(next(open_video(builtin("portrait.mp4")).frames()))
    from cmet.face.landmarks import track
    now = np.ptp(track([np.asarray(photo)]).points[0, :, 1])
    photo.resize([round(side*high/now) for side in photo.size], Image.Resampling.LANCZOS).save(tmp_path/"me.png")
    for make in (lambda: preview(tmp_path/"me.png", tmp_path/"o.png", vector="happy"), lambda: edit_video(tmp_path/"me.png", tmp_path/"o.mp4", vector="happy", progress=False)):
        with warnings.catch_warnings(record=True) as caught: make()
        said = [str(w.message) for w in caught if "pixels high" in str(w.message)]
        assert len(said) == told and all("below 45 an emotion is seen less surely: give a larger picture" in text for text in said)
    if told: assert abs(int(said[0].split()[3]) - high) <= 2 and said[0] in json.loads((tmp_path/"o.json").read_text("utf-8"))["notes"]


def test_a_picture_has_no_moments(films, words, monkeypatch):
    "Its preview said 0.0 s."
    import cmet.edit.previews
    said, real = [], cmet.edit.previews.filmstrip
    monkeypatch.setattr(cmet.edit.previews, "filmstrip", lambda rows, moments, *more: said.append(moments) or real(rows, moments, *more))
    for name in ("deep/b.png", "a.mp4"): preview(films/name, films.parent/"look.png", **words)
    assert said[0] == [""] and len(said[1]) == 3 and all(s.endswith(" s") for s in said[1])


def test_a_warning_names_the_line_that_called_the_kit(films, words):
    "It named the kit's own, which are nothing to its user; from a module of the kit, through many, and of a folder."
    still, here = films/"deep"/"b.png", sys._getframe().f_code
    Image.fromarray(FACE).save(two := films.parent/"two.webp", save_all=True, append_images=[Image.fromarray(FACE[::-1])])
    for make in (lambda: edit_video(still, films.parent/"b.mp4", **words), lambda: preview(still, films.parent/"b.png", **words | dict(strength=-1)),
                 lambda: edit_folder(films, films.parent/"out", **words), lambda: open_video(two)):
        with pytest.warns(CmetWarning) as caught: make()
        assert {w.filename for w in caught} == {here.co_filename} and all(here.co_firstlineno < w.lineno < here.co_firstlineno + 9 for w in caught)


def test_a_curve_past_the_end_and_a_strength_below_zero_say_so(talk, words):  # noqa: F811
    more = {k: v for k, v in words.items() if k not in ("vector", "to", "frm", "strength")}
    with pytest.warns(UserWarning, match="goes on to 90 s, and the video ends at"):
        edit_video(talk, talk.parent/"late.mp4", curve="0 neutral -> 90 happy", **more)
    with pytest.warns(UserWarning, match="a strength below 0 takes an emotion off"): preview(talk, talk.parent/"less.png", vector="happy", strength=-1)
    for wish in dict(vector="happy"), dict(curve="0 happy"):  # by a mapper without an ear, too
        with pytest.warns(UserWarning, match="a strength below 0 takes an emotion off"): preview(talk, talk.parent/"less.png", **more, **wish, strength=[1, -1])


def test_a_picture_lasts_as_long_as_its_curve(films, words):
    "It was cut at three seconds; however long the curve, it stays a video."
    more, still = {k: v for k, v in words.items() if k not in ("vector", "to", "frm", "strength")}, films/"deep"/"b.png"
    for end, frames in (5, 125), (2, 75):
        with pytest.warns(UserWarning) as caught: made = edit_video(still, films.parent/f"{end}.mp4", curve=f"0 neutral -> {end} happy", **more)
        assert open_video(made).n_frames == frames and not any("goes on to" in str(w.message) for w in caught)
    asked = Request(curve="0 neutral -> 1e6 happy", **more).choose().listen()
    assert asked.lasting(open_video(still))[0].n_frames == STILL*25


def test_a_preview_looks_at_the_face():
    "Where the codec says where it is: a square around it, inside the picture."
    from types import SimpleNamespace

    from cmet.edit.previews import _face
    face = SimpleNamespace(points=np.array([[[300., 100, 0], [340, 150, 0]], [[np.nan]*3]*2]))
    rows, columns = _face([face], (400, 640))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (80, 170, 275, 365)
    near = SimpleNamespace(points=np.array([[[0., 0, 0], [40, 50, 0]]]))
    assert _face([near], (60, 60))[0] == slice(0, 60) and _face([[1.]], (60, 60)) == (slice(None), slice(None))


def test_a_folder_is_edited_once_and_bad_files_are_named(films, words):
    out, table = films.parent/"out", films.parent/"out.rejected.csv"
    told = edit_folder(films, out, **words)
    assert (told["made"], told["had"], [name for name, _ in told["lost"]]) == (2, 0, ["bad.mp4"])
    assert (out/"a.mp4").is_file() and (out/"deep"/"b.mp4").is_file() and not (out/"bad.mp4").exists()
    with pytest.raises(CmetError) as e: open_video(films/"bad.mp4")
    assert list(csv.reader(table.open(encoding="utf-8")))[1:] == [["bad.mp4", f"{e.value.cause}: {e.value.remedy}"]], "what to do, too"
    before = everything(out)
    counts = lambda: [edit_folder(films, out, **words)[k] for k in ("had", "lost")]
    assert counts()[0] == 2 and everything(out) == before
    (out/"a.mp4").unlink()  # as if it had been killed between the two
    (out/"a.json").unlink()
    assert counts()[0] == 1
    (films/"bad.mp4").unlink()
    assert counts()[0] == 2 and counts()[1] == [] and not table.exists()


def test_notes_of_a_folder_name_the_file_and_are_the_kits(films, words):
    from cmet.core import warn
    class Noisy(Toy):
        def track(self, frames):
            warn("ours")
            warnings.warn_explicit("theirs", UserWarning, np.__file__, 1)
            return super().track(frames)
    with pytest.warns(UserWarning) as caught: edit_folder(films, films.parent/"out", **words | {"codec": Noisy()})
    told = {str(w.message) for w in caught if str(w.message).endswith(("ours", "theirs"))}
    assert told == {"a.mp4: ours", "deep/b.png: ours"}


def test_a_folder_of_another_request_is_left_alone(films, words):
    out = films.parent/"out"
    edit_folder(films, out, **words)
    before = everything(films.parent)
    with pytest.raises(CmetError, match="another request"): edit_folder(films, out, **words, strength=2)
    with pytest.raises(CmetError, match="moves the face as one"): edit_folder(films, out, **words, regions={"mouth": 0}, force=True)
    words["codec"].units = AUS  # of a codec that has parts, another factor is another request
    with pytest.raises(CmetError, match="another request"): edit_folder(films, out, **words, regions={"mouth": 0})
    assert everything(films.parent) == before
    assert edit_folder(films, out, **words, strength=2, force=True)["made"] == 2


def test_a_stopped_folder_goes_on(films, words):
    class Stops(Toy):
        def track(self, frames): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt, match="goes on"): edit_folder(films, films.parent/"out", **words | {"codec": Stops()})
    assert not (films.parent/"out").exists(), "nothing was finished, so nothing is left"
    assert edit_folder(films, films.parent/"out", **words)["made"] == 2


def test_folders_that_cannot_be(films, words, tmp_path):
    (empty := tmp_path/"empty").mkdir()
    shutil.copy(films/"a.mp4", films/"a.mov")
    (only := tmp_path/"only").mkdir()
    (only/"bad.mp4").write_text("no film")
    (tmp_path/"mine.rejected.csv").write_text("mine")
    (mine := tmp_path/"one").mkdir()
    shutil.copy(films/"a.mp4", mine)
    before = everything(tmp_path)
    for folder, out, match in ((empty, "out", "no videos"), (films, "out", "would both become"), (films, "out.mp4", "is a folder"),
                               (films, "films", "is the input's"), (only, "out", "bad.mp4"), (mine, "mine", "not of the kit's making")):
        with pytest.raises(CmetError, match=match): edit_folder(folder, tmp_path/out, **words)
    assert everything(tmp_path) == before and not (tmp_path/"out").exists()


def test_the_command(films, capsys):
    "Bad requests on a folder end with one line and leave nothing."
    before = everything(films.parent)
    for argv in (["--preview", "--strength", "9"], ["--strength", "1", "x"], ["--strength", "9"]):
        assert main(["edit", str(films), "--vector", "happy", "-o", str(films.parent/"o"), *argv]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert everything(films.parent) == before and not (films.parent/"o").exists()


def test_the_command_on_a_folder(films, capsys):
    "The real codec: a folder without a face in it is wrong input, as for `cmet encode`."
    grey = films.parent/"grey"
    grey.mkdir()
    write_video(grey/"g.mp4", np.full((4, 64, 64, 3), 99, np.uint8), 25)
    assert main(["edit", str(grey), "--vector", "happy", "-o", str(films.parent/"o")]) == 2
    assert "g.mp4" in capsys.readouterr().err and not (films.parent/"o").exists()


def test_results_show_themselves_in_a_notebook(talk, words, corpus):  # noqa: F811
    "A path like any other, which a notebook plays; what is said about it is text, not HTML."
    import pickle
    from pathlib import Path
    out = edit_video(talk, talk.parent/"a<b>.mp4", **words)
    assert isinstance(out, Path) and out == talk.parent/"a<b>.mp4" and pickle.loads(pickle.dumps(out)) == out and out in {Path(out)}
    story = json.loads(out.with_suffix(".json").read_text("utf-8"))
    out.with_suffix(".json").write_text(json.dumps(story | {"doubt": {"says": "heard <sad>", "cautions": ["unlike & odd"]}}))
    shown = out._repr_html_()
    assert shown.startswith('<video controls') and "a&lt;b&gt;.mp4" in shown and "heard &lt;sad&gt;" in shown and "unlike &amp; odd" in shown
    import base64
    assert base64.b64decode(shown.split("base64,")[1].split('"')[0]) == out.read_bytes()
    assert out.with_suffix(".json")._repr_html_() is None and (out.parent/"none.mp4")._repr_html_() is None
    assert preview(talk, talk.parent/"p.png", **words)._repr_html_().startswith("<img")
    table = corpus._repr_html_()
    assert "Corpus &#x27;toy&#x27;" in table and table.count("<tr") == 1 + 1 + len(corpus.speakers)


def test_a_demo_that_is_broken_off_leaves_no_folder(tmp_path, monkeypatch):
    import cmet.edit.demo as demo
    def stop(*_): raise KeyboardInterrupt
    monkeypatch.setattr(demo, "open_video", stop)
    (there := tmp_path/"there").mkdir()
    (there/"mine.txt").write_text("x")
    for out in "new", "there":
        with pytest.raises(KeyboardInterrupt): demo.make_demo(tmp_path/out)
    assert not (tmp_path/"new").exists() and (there/"mine.txt").read_text() == "x"
