"A folder of anybody's videos is scored whole; what is broken is set aside, nothing is measured twice."
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cmet.cli import main
from cmet.core import CmetError, builtin
from cmet.evaluate import benchmark, pairing, report as ev
from cmet.evaluate.benchmark import Bench, Seen, emotion, left_alone, timed
from cmet.evaluate.judges import READ
from cmet.evaluate.pairing import Clip, find_clips, told_by_name
from cmet.io.assets import candidates
from cmet.io.media import open_video, write_video

landmarker = any(p.is_file() for p in candidates("face_landmarker.task"))


@pytest.fixture(scope="module")
def frames():
    return list(open_video(builtin("portrait.mp4")).frames())[20:44]


@pytest.fixture(scope="module")
def made(tmp_path_factory, frames):
    "A source, two edits by cmet, one broken file, one that says nothing, one without a face."
    from cmet.edit.pipeline import edit_video
    root = tmp_path_factory.mktemp("eval")
    (root/"made").mkdir()
    talk = write_video(root/"eileen_neutral.mp4", frames, 25)
    for e in ("happy", "surprised"):
        out = root/"made"/f"eileen_neutral_{e}.mp4"
        edit_video(talk, out, vector=f"{e} - neutral", progress=False)
    (root/"made"/"eileen_neutral_fear.mp4").write_bytes(b"broken")
    write_video(root/"made"/"eileen_neutral_sad.mp4", np.full((8, 256, 256, 3), 90, np.uint8), 25)
    write_video(root/"made"/"holiday.mp4", frames[:3], 25)
    return root


@pytest.fixture(scope="module")
def report(made):
    return ev.evaluate(made/"made", made/"out", source=made, progress=False)


# The folder

@pytest.mark.parametrize("name, told", [
    ("M030_front_neutral_level1_001_happy", ("happy", "M030_front_neutral_level1_001", "M030")),
    ("M030_front_angry_level3_001", ("angry", "M030_front", "M030")),
    ("1001_DFA_ANG_XX", ("angry", "1001_DFA", "1001")), ("talk-sarcasm", ("sarcastic", "talk", "talk")),
    ("Surprise", ("surprised", "", "")), ("talk", (None, "talk", "")), ("___", (None, "___", "")),
    ("a b", (None, "a b", "a"))])
def test_names(name, told):
    assert told_by_name(name) == told


def test_records_are_believed_if_the_source_is_there(tmp_path):
    clip = tmp_path/"x_joy.mp4"
    clip.touch(); (tmp_path/"talk.mp4").touch()
    for text, found in ((json.dumps({"inputs": {"video": {"file": str(tmp_path/"talk.mp4")}}}), "talk.mp4"),
                        (json.dumps({"inputs": {"video": {"file": "talk.mp4"}}}), "talk.mp4"),
                        (json.dumps({"inputs": {"video": {"file": "/nowhere/talk.mp4"}}}), None),
                        ('{"inputs": [1]}', None), ("[]", None), ("{", None), ("\xff", None)):
        clip.with_suffix(".json").write_text(text, encoding="latin-1")
        source = next(c for c in find_clips(tmp_path) if c.edited == clip).source
        assert (source.name if source else None) == found, text


@pytest.mark.parametrize("name, wanted", [("obama2_happy.mp4", "obama2.jpg"), ("eve_happy.mp4", "eve.mp4"), ("old_happy.mp4", "else/old.png"), ("RD_happy.mp4", None)])
def test_naming_the_source_loses_none(tmp_path, name, wanted):
    "A picture may be a source; what the named folder lacks is looked for where the record says."
    for folder in "made", "real", "else": (tmp_path/folder).mkdir()
    for file in ("real/obama2.jpg", "real/eve.mp4", "real/eve.jpg", "else/old.png"): (tmp_path/file).touch()
    (clip := tmp_path/"made"/name).touch()
    if name == "old_happy.mp4": clip.with_suffix(".json").write_text(json.dumps({"inputs": {"video": {"file": str(tmp_path/wanted)}}}))
    source = find_clips(tmp_path/"made", tmp_path/"real")[0].source
    assert (source and source.name) == (wanted and Path(wanted).name)


def test_a_record_tells_pictures_from_videos(tmp_path):
    for file in "talk.jpg", "talk.mp4": (tmp_path/file).touch()
    (made := tmp_path/"made").mkdir(); (made/"talk_happy.mp4").touch()
    (made/"talk_happy.json").write_text(json.dumps({"inputs": {"video": {"file": "elsewhere/talk.jpg"}}}))
    assert find_clips(made, tmp_path)[0].source == tmp_path/"talk.jpg"


def test_why_there_is_nothing_to_score(tmp_path):
    "Videos one folder down are named, and so is a mixture."
    (down := tmp_path/"happy").mkdir(); (down/"carla.mp4").touch()
    with pytest.raises(CmetError, match="1 in folders inside it: first 'happy/carla.mp4'") as e: find_clips(tmp_path)
    assert str(down) in e.value.remedy
    pools = [{"name": n, "weight": k} for n, k in (("happy", 1), ("surprised", 1), ("neutral", -2))]
    (down/"carla.json").write_text(json.dumps({"vector": {"pools": pools}}))
    assert find_clips(down)[0].fault.startswith("a mixture (happy + surprised) has no one emotion")


def spoken(path, source="films/anna.mp4", chance=.94, names=("to", "guessed neutral"), strength=1., heard=("sad", "fear")):
    "An edited video as `cmet edit --to` leaves it."
    path.touch()
    doubt = dict(heard=dict(zip(heard, (chance, .02))), sure=chance if heard else None)
    path.with_suffix(".json").write_text(json.dumps(dict(
        inputs=dict(video=dict(file=source)), vector=dict(pools=[dict(name=n, weight=k) for n, k in zip(names, (1, -1))]), doubt=doubt, strength=strength)))


@pytest.mark.parametrize("name, how, emotion, fault", [
    ("anna", {}, "sad", ""), ("anna", dict(names=("voice", "guessed neutral")), "sad", ""), ("anna", dict(chance=.5), "sad", ""),
    ("anna_happy", dict(source="anna_happy.mp4"), "sad", ""), ("anna_neutral_2", dict(source="anna_neutral.mp4"), "sad", ""),
    ("anna_happy", dict(source="anna_neutral.mp4"), "happy", ""), ("anna_happy", dict(chance=.3), "happy", ""),
    ("anna", dict(chance=.49), None, "what was heard in its speech is not sure (sad 49%, where 50% is); clips.csv"),
    ("anna_happy", dict(chance=.3, source="anna_happy.mp4"), None, "what was heard in its speech is not sure (sad 30%"),
    ("anna", dict(heard=()), None, "its name tells no emotion"), ("anna", dict(strength=-1), None, "strength -1 adds no emotion; clips.csv"),
    ("anna", dict(strength=-1, names=("happy", "neutral")), None, "strength -1 adds no emotion"),
    ("anna_happy", dict(strength=[.5, 1]), None, "it shows several strengths side by side"),
    ("anna_happy", dict(strength=[.5, 1], names=("happy", "neutral")), None, "it shows several strengths side by side")])
def test_what_was_heard_is_the_aim_of_speech(tmp_path, name, how, emotion, fault):
    "Where it is sure, and where no name and no table says what it was to be."
    spoken(tmp_path/f"{name}.mp4", **how)
    clip, = find_clips(tmp_path)
    assert (clip.emotion, clip.heard) == (emotion, emotion == "sad") and (clip.fault.startswith(fault) if fault else not clip.fault)
    (tmp_path/"clips.csv").write_text(f"edited,emotion\n{name}.mp4,fear\n")
    clip, = find_clips(tmp_path)
    assert (clip.emotion, clip.heard) == ("fear", False) and bool(clip.fault) == ("side by side" in fault), "a table overrules"


def test_a_mixture_with_a_voice_has_no_one_emotion(tmp_path):
    spoken(tmp_path/"anna.mp4")
    record = json.loads((tmp_path/"anna.json").read_text())
    record["vector"]["pools"] += [dict(name="happy", weight=.5)]
    (tmp_path/"anna.json").write_text(json.dumps(record))
    assert find_clips(tmp_path)[0].emotion is None, "a voice that has no name in it"
    record["vector"]["pools"][0]["name"] = "voice"
    (tmp_path/"anna.json").write_text(json.dumps(record))
    assert find_clips(tmp_path)[0].fault.startswith("a mixture (happy + voice) has no one emotion")


def test_a_report_says_of_how_many_the_aim_was_heard(tmp_path, monkeypatch, capsys):
    (root := tmp_path/"edits").mkdir()
    for name in "anna.mp4", "bob.mp4": spoken(root/name, f"films/{name}")
    (root/"eve_happy.mp4").touch()
    without_videos(monkeypatch, {"anna.mp4": "sad", "bob.mp4": "fear", "eve_happy.mp4": "happy"})
    report = ev.evaluate(root, progress=False)
    assert report.summary["aims_heard"] == 2 and "The aim of 2 of 3 is what the mapper heard" in str(report) and list(report.table.aim) == ["heard"]*2 + ["told"]
    (root/"clips.csv").write_text("edited,emotion\nanna.mp4,sad\nbob.mp4,fear\neve_happy.mp4,\n")
    report = ev.evaluate(root, progress=False)
    assert report.summary["aims_heard"] == 0 and "heard" not in str(report), "numbers that were kept do not bring the old word"


def test_what_is_missing_is_what_the_refusal_names(tmp_path, monkeypatch):
    (root := tmp_path/"edits").mkdir()
    spoken(root/"anna.mp4", chance=.3)
    with pytest.raises(CmetError, match=r"no video of 1 .*not sure \(sad 30%") as e: ev.evaluate(root, source=root, progress=False)
    assert "edits/clips.csv' can name" in e.value.remedy and pairing.COLUMNS in e.value.remedy and "--source" not in str(e.value)
    spoken(root/"anna.mp4")
    without_videos(monkeypatch, {"anna.mp4": CmetError("the judge found no face", "")})
    with pytest.raises(CmetError, match="judge found no face") as e: ev.evaluate(root, progress=False)
    assert "one face" in e.value.remedy and "clips.csv" not in str(e.value)


def test_a_table_says_it_all(tmp_path):
    (tmp_path/"a.mp4").touch()
    (tmp_path/"clips.csv").write_text("\ufeffedited,emotion,source,speaker,seconds,remark\n"
                                      "a.mp4,Joy,a.mp4,anna,1.5,nice\nb_sad.mp4,,gone.mp4,,,\n", "utf-8")
    one, two = find_clips(tmp_path)
    assert (one.emotion, one.source, one.speaker, one.seconds) == ("happy", tmp_path/"a.mp4", "anna", 1.5)
    assert two.emotion == "sad" and two.source is None and "gone.mp4" in two.fault and one.fault == ""


@pytest.mark.parametrize("text", ["edited;emotion;seconds\na.mp4;joy;1,5\n", "edited\temotion\tseconds\r\na.mp4\tjoy\t1.5\r\n",
                                  'edited,emotion,seconds\n"a.mp4",joy,"1,5"\n', "edited;emotion\na.mp4;joy\n"])
def test_tables_as_spreadsheets_write_them(tmp_path, text):
    (tmp_path/"a.mp4").touch()
    (tmp_path/"clips.csv").write_bytes(text.encode("utf-8-sig"))
    one, = find_clips(tmp_path)
    assert (one.edited, one.emotion, one.seconds, one.fault) == (tmp_path/"a.mp4", "happy", 1.5 if "seconds" in text else None, "")


@pytest.mark.parametrize("text, why", [
    ("", "is empty"), ("video\na.mp4\n", "does not name"), ("edited\n\"\"\n", "does not name"),
    ("edited,emotion\na.mp4,jolly\n", "unknown emotion"),
    ("edited,emotion,seconds\na.mp4,happy,fast\n", "no number"), ("edited;seconds\na_happy.mp4;NaN\n", "no number"),
    ("edited;seconds\na_happy.mp4;-1\n", "no number"), ("edited\tseconds\na_happy.mp4\tinf\n", "no number")])
def test_bad_tables(tmp_path, text, why):
    (tmp_path/"clips.csv").write_text(text)
    with pytest.raises(CmetError, match=why): find_clips(tmp_path)


@pytest.mark.parametrize("arguments, why", [
    (dict(folder="none"), "no folder"), (dict(folder="empty"), "no videos"),
    (dict(source="none"), "no such source"), (dict(protocol="best"), "unknown protocol"),
    (dict(judge="oracle"), "unknown judge"),
    (dict(also=["beauty"]), "unknown measure"), (dict(folder="empty/notes.txt"), "no folder")])
def test_bad_requests_change_nothing(tmp_path, arguments, why):
    for name in ("some", "empty"): (tmp_path/name).mkdir()
    (tmp_path/"some"/"a_happy.mp4").write_bytes(b"x")
    (tmp_path/"empty"/"notes.txt").touch()
    paths = {k: tmp_path/v for k, v in arguments.items() if k in ("folder", "source")}
    before = sorted(tmp_path.rglob("*"))
    wanted = dict(folder=tmp_path/"some") | arguments | paths
    with pytest.raises(CmetError, match=why): ev.evaluate(**wanted)
    assert sorted(tmp_path.rglob("*")) == before


def test_measures_without_weights_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_DATA", str(tmp_path))
    monkeypatch.setenv("CMET_CACHE", str(tmp_path))
    for name, what in benchmark.WHAT.items():
        with pytest.raises(CmetError, match=f"{what} cannot be measured.*cmet assets get"):
            Bench("kit", also=[name])
    assert set(Bench("kit").missing) == {benchmark.WHAT["blendshapes"], benchmark.WHAT["identity"]}
    assert set(Bench("paper").missing) == {"FID", "SyncNet confidence"}


# One video

def test_an_edit_that_did_nothing_is_perfect_and_neutral(made):
    same = Seen(made/"eileen_neutral.mp4")
    row = left_alone(same, Seen(made/"eileen_neutral.mp4"))
    assert row["psnr"] == np.inf and row["lmd_face"] == row["lmd_lips"] == 0
    assert row["jitter"] == row["jitter_source"]
    assert np.isclose(row["ssim"], 1) and np.isclose(row["sync_lips"], 1)
    p = same.read(benchmark.judge("fer+facex"))
    assert emotion(p, p)["read_relative"] == "neutral"


def test_a_shifted_copy_scores_what_the_shift_says(made, frames, tmp_path):
    moved = write_video(tmp_path/"moved.mp4", [np.roll(f, 8, 1) for f in frames], 25)
    row = left_alone(Seen(moved), source := Seen(made/"eileen_neutral.mp4"))
    assert abs(row["lmd_face"]*benchmark.inter_ocular(source.points) - 8) < 1.5
    assert row["psnr"] < 25 and row["sync_lips"] > .9


def test_lips_in_another_order_are_noticed(made, frames, tmp_path):
    order = np.random.default_rng(1).permutation(len(frames))
    mixed = write_video(tmp_path/"mixed.mp4", [frames[k] for k in order], 25)
    row = left_alone(Seen(mixed), Seen(made/"eileen_neutral.mp4"))
    assert row["sync_lips"] < .6 and row["jitter"] > 1.3*row["jitter_source"]


def test_another_size_gets_no_numbers_and_another_rate_does(made, frames, tmp_path):
    import cv2
    small = write_video(tmp_path/"small.mp4", [cv2.resize(f, (192, 192)) for f in frames], 25)
    row = left_alone(Seen(small), Seen(made/"eileen_neutral.mp4"))
    assert "psnr" not in row and "size" in row["note"] and row["sync_lips"] > .5
    half = write_video(tmp_path/"half.mp4", frames[::2], 12.5)
    k, j = benchmark.abreast(Seen(half), Seen(made/"eileen_neutral.mp4"))
    assert k.tolist() == list(range(12)) and j.tolist() == list(range(0, 24, 2))


@pytest.mark.parametrize("n", [2, 5])
def test_several_faces_side_by_side_are_left_out(frames, tmp_path, n):
    "Of a strip of several strengths without its record."
    write_video(tmp_path/"anna_happy.mp4", [np.concatenate([f]*n, 1) for f in frames[:4]], 25)
    with pytest.raises(CmetError, match=f"it shows {n} faces, and what is read is one: leave one.*one --strength") as e: ev.evaluate(tmp_path, progress=False)
    assert "one face is seen" in e.value.remedy


def test_a_clip_is_decoded_once_whatever_is_measured(made, monkeypatch):
    import cmet.io.media as media
    decoded, real = [], media.VideoSource.frames
    monkeypatch.setattr(media.VideoSource, "frames", lambda self: decoded.append(self.path.name) or real(self))
    bench, source = Bench("kit"), made/"eileen_neutral.mp4"
    happy, surprised = (made/"made"/f"eileen_neutral_{e}.mp4" for e in ("happy", "surprised"))
    rows = [benchmark.measure(bench, Clip(p, e, source)) for p, e in ((happy, "happy"), (surprised, "surprised"))]
    assert sorted(decoded) == sorted(p.name for p in (happy, surprised, source)), "the source once for both"
    other = write_video(made/"other.mp4", list(Seen(source).frames())[:8], 25)
    benchmark.measure(bench, Clip(other, "happy", other))
    assert bench.seen(source)._held is None, "the frames of one source at a time"
    monkeypatch.setattr(benchmark.Seen.hold, "__defaults__", (1000,))
    again = benchmark.measure(Bench("kit"), Clip(happy, "happy", source))
    assert {k: v for k, v in rows[0].items() if v == v} == {k: v for k, v in again.items() if v == v}, "held or not"


def test_mean_logits_and_mean_probabilities_may_disagree():
    p = np.full((2, 7), .01)
    p[0, 1], p[1, 2], p[0, 2] = .95, .6, .3
    assert emotion(p)["read"] == READ[1] and emotion(p, protocol="paper")["read"] == READ[2]
    assert "read_relative" not in emotion(p, protocol="paper")


def test_the_clock_counts_no_warmup():
    calls = []
    clock = timed(calls.append, ["a", "b"], warmup=3)
    assert calls == ["a"]*3 + ["a", "b"] and len(clock["seconds"]) == 2 and clock["warmup"] == 3


# The whole

def test_report(report, made):
    s = report.summary
    assert (s["protocol"], s["judge"], s["videos"], s["measured"]) == ("kit", "fer+facex", 5, 2)
    assert set(s["set_aside"]) == {"eileen_neutral_fear.mp4", "eileen_neutral_sad.mp4", "holiday.mp4"}
    assert "no face" in s["set_aside"]["eileen_neutral_sad.mp4"] and str(made) not in json.dumps(s)
    table = pd.read_csv(report.files[0])
    assert len(table) == 5 and set(table.protocol) == {"kit"}
    assert set(table.source.dropna()) == {"eileen_neutral.mp4"}
    good = table[table.fault.isna()]
    assert (good.psnr > 38).all() and (good.ssim > .95).all()
    assert (good.sync_lips > .5).all() and (good.lmd_face < .1).all()
    assert ("sync_jaw" in good) == landmarker
    assert set(s["accuracy"]) == {"as is", "relative"} and s["accuracy"]["as is"]["all"]["clips"] == 2
    assert sum(s["confusion"]["as is"]["happy"].values()) == 1
    assert json.loads(report.files[1].read_text())["measured"] == 2
    text = str(report)
    for part in ("protocol `kit`", "95 % interval", "holiday.mp4", str(report.files[3])): assert part in text
    from PIL import Image
    assert Image.open(report.files[3]).size[0] > 300


def test_nothing_is_measured_twice(report, made, monkeypatch):
    done = []
    def counted(bench, clip):
        done.append(clip.edited.name)
        return benchmark.measure(bench, clip)
    monkeypatch.setattr(ev, "measure", counted)
    again = ev.evaluate(made/"made", made/"out", source=made, progress=False)
    assert done == ["eileen_neutral_fear.mp4", "eileen_neutral_sad.mp4"], "only what failed is tried again"
    columns = ["edited", "read", "read_relative", "psnr", "lmd_lips", "sync_lips", "key"]
    pd.testing.assert_frame_equal(again.table[columns], report.table[columns])
    with pytest.raises(CmetError, match="holds results of kit"):
        ev.evaluate(made/"made", made/"out", source=made, protocol="paper", progress=False)


def test_paper_protocol(made, tmp_path):
    shutil.copytree(made/"made", tmp_path/"made")
    rows = ["edited,emotion,source,seconds"] + [f"eileen_neutral_{e}.mp4,{e},{made}/eileen_neutral.mp4,{t}"
                                                for e, t in (("happy", 2), ("surprised", 3))]
    (tmp_path/"made"/"clips.csv").write_text("\n".join(rows) + "\n")
    report = ev.evaluate(tmp_path/"made", protocol="paper", progress=False)
    s = report.summary
    assert s["aitv"]["mean"] == 2.5 and list(s["accuracy"]) == ["mean logits"]
    assert report.files[0].parent == tmp_path/"made-eval-paper"
    assert "AITV" in report.text and ("FID" in s["not_measured"]) == ("fid" not in report.table)


def test_one_source_has_no_own_face_to_be_found_and_no_clock(made, tmp_path):
    "What is not measured is said, with what would be needed; a column that nothing fills is not there."
    report = ev.evaluate(made/"made", tmp_path/"out", source=made/"eileen_neutral.mp4", also=["blendshapes"], progress=False)
    why = report.summary["not_measured"]["own-face retrieval"]
    assert "--source FOLDER with anna_neutral.mp4" in why and why in report.text and not report.summary["retrieval"]
    assert "seconds" not in report.table and "seconds" not in report.files[0].read_text().splitlines()[0]
    assert report.table["sync_jaw"].notna().any()
    (tmp_path/"more").mkdir()
    shutil.copy(made/"made"/"eileen_neutral_happy.mp4", tmp_path/"more"/"eileen_contempt.mp4")
    report = ev.evaluate(tmp_path/"more", tmp_path/"out2", progress=False)
    assert report.summary["not_measured"]["contempt, as an emotion"] == "1 video of it, and no judge here has that answer" and "contempt, as" in report.text


def test_blendshapes_are_measured_by_any_protocol(made, tmp_path):
    report = ev.evaluate(made/"made", tmp_path/"out", source=made, protocol="paper", also=["blendshapes"], progress=False)
    assert report.table["sync_jaw"].notna().any()


def test_fid_and_fvd_with_a_stand_in_for_their_networks(made, frames, tmp_path, monkeypatch):
    from cmet.evaluate import inception
    monkeypatch.setattr(inception, "look", lambda net, x: x.reshape(len(x), -1)[:, ::9973].astype(float))
    source = made/"eileen_neutral.mp4"
    brighter = write_video(tmp_path/"b.mp4", [f//2 + 100 for f in frames]*2, 25)
    bench, clip = Bench("paper"), Clip(brighter, "happy", source, "eileen")
    bench.nets |= dict(fid=None, fvd=None)
    row = benchmark.fid_row(bench, clip, Seen(brighter))
    assert row["fid_reference"] == "source"
    assert row["fid"] > 10*benchmark.fid_row(bench, clip, Seen(source))["fid"]
    bench.real = {"eileen": {"happy": [brighter]}}
    row = benchmark.fid_row(bench, clip, Seen(brighter))
    assert row == dict(fid=pytest.approx(0, abs=1e-3), fid_reference="real")
    both = benchmark.fvd_of(bench, [clip, clip])
    assert both["value"] < 1e-3 and both["windows"] == both["reference_windows"] == 6
    bench.real = {}
    with pytest.raises(CmetError, match="no Gaussian"): benchmark.fvd_of(bench, [Clip(source, "happy", source)])


def without_videos(monkeypatch, answers):
    "Rows from a list instead of videos."
    def stand_in(bench, clip):
        if isinstance(a := answers[clip.edited.name], BaseException): raise a
        return dict(read=a, psnr=np.inf, hit=a == clip.emotion, cosine=.5, among=7)
    monkeypatch.setattr(ev, "measure", stand_in)


def named(root, *names):
    for name in names: (root/name).write_bytes(name.encode())
    return root


def test_an_interrupted_run_keeps_its_rows(tmp_path, monkeypatch):
    names = [f"a{k}_happy.mp4" for k in range(6)]
    named(tmp_path, *names)
    answers = dict.fromkeys(names, "happy") | {names[3]: KeyboardInterrupt()}
    without_videos(monkeypatch, answers)
    with pytest.raises(KeyboardInterrupt): ev.evaluate(tmp_path, progress=False)
    assert len(pd.read_csv(Path(f"{tmp_path}-eval-kit")/"metrics.csv")) == 3
    answers[names[3]] = "sad"
    done = ev.evaluate(tmp_path, progress=False)
    assert len(done.table) == 6 and done.summary["accuracy"]["as is"]["all"]["right"] == 5
    answers[names[1]] = KeyboardInterrupt()
    (tmp_path/names[1]).write_bytes(b"another content")  # its row is void, the later ones are not
    with pytest.raises(KeyboardInterrupt): ev.evaluate(tmp_path, progress=False)
    kept = pd.read_csv(Path(f"{tmp_path}-eval-kit")/"metrics.csv")
    assert set(kept.edited) >= set(names) - {names[1]}
    answers |= dict.fromkeys(names, AssertionError("measured twice")) | {names[1]: "fear"}
    assert ev.evaluate(tmp_path, progress=False).summary["accuracy"]["as is"]["all"]["right"] == 4


def test_the_folder_that_is_scored_stays_as_it_is(tmp_path, monkeypatch, capsys):
    (root := tmp_path/"edits").mkdir()
    named(root, "a_happy.mp4")
    without_videos(monkeypatch, {"a_happy.mp4": "happy"})
    for here, name in (tmp_path, str(root)), (tmp_path, "edits"), (tmp_path, "edits/../edits"), (root, "."), (root, "../edits"):
        monkeypatch.chdir(here)
        assert main(["eval", name]) == 0
        said = capsys.readouterr().out
        assert said.startswith("# edits: protocol `kit`") and f"{here/'edits-eval-kit'/'metrics.csv'}: one row a video" in said
        assert {p.name for p in (here/"edits-eval-kit").iterdir()} == {*ev.RESULTS, ".cmet"}
        assert {p.name for p in root.iterdir()} == {"a_happy.mp4", "edits-eval-kit"} if here == root else {"a_happy.mp4"}, "no file is added to it"


def test_sources_that_are_not_found_are_told(tmp_path, monkeypatch):
    "What compares with the source is missing then, and no empty picture stands for it."
    (real := tmp_path/"real").mkdir(); (root := tmp_path/"made").mkdir()
    named(root, "RD_sad.mp4", "eve_happy.mp4"); named(real, "rd4.mp4", "eve.mp4")
    monkeypatch.setattr(ev, "measure", lambda bench, clip: dict(read="sad", read_relative="sad" if clip.source else None))
    s = ev.evaluate(root, source=real, progress=False).summary
    assert "picture for 1 of 2: first RD_sad.mp4" in s["not_measured"]["what compares with the source"] and set(s["confusion"]) == {"as is", "relative"}
    (real/"eve.mp4").unlink()
    report = ev.evaluate(root, source=real, progress=False)
    assert "no unedited video or picture for 2 of 2: first RD_sad.mp4" in str(report) and set(report.summary["confusion"]) == {"as is"}


def test_a_key_that_looks_like_a_number_survives(tmp_path, monkeypatch):
    named(tmp_path, "a_happy.mp4")
    without_videos(monkeypatch, {"a_happy.mp4": "happy"})
    monkeypatch.setattr(ev, "key_of", lambda *_: "0012345678901e05")
    ev.evaluate(tmp_path, progress=False)
    without_videos(monkeypatch, {"a_happy.mp4": AssertionError("measured twice")})
    assert ev.evaluate(tmp_path, progress=False).table.read[0] == "happy"


def test_results_that_are_none(tmp_path, monkeypatch):
    named(tmp_path, "a_happy.mp4")
    with pytest.raises(CmetError, match="no video of 1 could"): ev.evaluate(tmp_path, progress=False)
    (Path(f"{tmp_path}-eval-kit")/"metrics.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CmetError, match="cannot read"): ev.evaluate(tmp_path, progress=False)
    without_videos(monkeypatch, {"a_happy.mp4": "happy"})
    assert ev.evaluate(tmp_path, force=True, progress=False).summary["measured"] == 1


def test_intervals_are_over_speakers(tmp_path, monkeypatch):
    "Two people, one read right ten times and one wrong ten times, are not twenty trials."
    names = {f"{who}_neutral_{k}_happy.mp4": read for who, read in (("anna", "happy"), ("bert", "sad")) for k in range(10)}
    named(tmp_path, *names)
    without_videos(monkeypatch, names)
    report = ev.evaluate(tmp_path, progress=False)
    for row in (report.summary["accuracy"]["as is"]["all"], report.summary["retrieval"]):
        assert row["speakers"] == 2 and row["high"] - row["low"] > .95, "over clips it was .30 to .70"
    assert "all | 20 | 2 | 10 | 0.50" in report.text and "no interval here" not in report.text
    assert "no interval here" in ev.page(ev.summarise(Bench("kit"), report.table.iloc[:10], tmp_path))


def test_a_median_is_one_and_a_mean_has_its_own_column():
    some = ev.middle(pd.DataFrame(dict(fid=[1., 2., 4., 90.], psnr=[30., 40., np.inf, np.inf])))
    assert (some["fid"]["value"], some["fid"]["mean"]) == (3, 24.25), "two were in the middle; the mean of FID was called median"
    assert some["psnr"]["value"] == np.inf and some["psnr"]["low"] == 30
    page = ev.page(dict.fromkeys(("folder", "protocol", "judge", "measured", "videos", "cmet")) | dict(
        accuracy={}, retrieval={}, fidelity=some, not_measured={}, set_aside={}))
    assert "median | 5 % | 95 % | mean" in page and "fid | 3 | 1 | 90 | 24.2 | 4" in page


def test_summary_arithmetic(tmp_path, monkeypatch):
    names = {"a_happy.mp4": "happy", "b_happy.mp4": "sad", "a_contempt.mp4": "angry",
             "a_sarcastic.mp4": "happy"}
    named(tmp_path, *names)
    without_videos(monkeypatch, names)
    s = ev.evaluate(tmp_path, progress=False).summary
    assert s["accuracy"]["as is"]["all"]["clips"] == 2, "judges do not know contempt and sarcasm"
    assert list(s["confusion"]["as is"]) == ["contempt", "happy", "sarcastic"]
    r = s["retrieval"]
    assert r["hits"] == 1 and r["clips"] == 4 and np.isclose(r["chance"], 1/7)
    assert s["fidelity"]["psnr"]["value"] == np.inf
    assert json.loads((Path(f"{tmp_path}-eval-kit")/"summary.json").read_text())["fidelity"]["psnr"]["value"] == "inf"


@pytest.mark.skipif(not landmarker, reason="face_landmarker.task is not on this machine")
def test_own_face_retrieval_from_the_source_folder(monkeypatch, tmp_path):
    "Blendshapes are drawn by chance here: it is about who is compared with whom."
    g = np.random.default_rng(0)
    face = {e: g.random(52) for e in ("neutral", "angry", "happy", "sad")}
    class Fake:
        def __init__(self, e): self.mean_shapes = face[e]
    bench = Bench("kit", real={"anna": {e: [tmp_path/e] for e in face}})
    monkeypatch.setattr(bench, "seen", lambda p: Fake(p.name))
    clip = Clip(tmp_path/"x.mp4", "happy", tmp_path/"neutral", "anna")
    assert benchmark.own_face(bench, clip, Fake("happy"))["hit"]
    assert benchmark.own_face(bench, clip, Fake("sad"))["nearest"] == "sad"
    assert benchmark.own_face(bench, Clip(clip.edited, "fear", clip.source, "anna"), Fake("sad")) == {}
    assert benchmark.own_face(bench, Clip(clip.edited, "happy", clip.source, "bert"), Fake("sad")) == {}


def test_real_clips_by_speaker(tmp_path):
    named(tmp_path, "M1_front_happy_1.mp4", "M1_front_happy_2.mp4", "M1_neutral.mp4", "W2_ANG.mov",
          "holiday.mp4", "x.txt")
    people = pairing.real_clips(tmp_path)
    assert {w: {e: len(p) for e, p in c.items()} for w, c in people.items()} == {
        "M1": {"happy": 2, "neutral": 1}, "W2": {"angry": 1}}
    assert pairing.real_clips(None) == pairing.real_clips(tmp_path/"M1_neutral.mp4") == {}
