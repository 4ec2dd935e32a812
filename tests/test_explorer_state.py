"""The explorer cannot lie: whatever a hand does, in whatever order, everything that is shown and saved says the same.

Two hundred random actions without a browser, drawn from a seed, as a user would do them: sliders, text, presets, faces and voices that are
good or broken, mappers, files. Whenever the worker rests, sliders, expression, settings, face, bars, map, code and preset are compared with
what another `Scene` makes of the state by itself.
"""
import random
import threading
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmet.core import EMOTIONS, CmetError, builtin
from cmet.edit.caution import BELOW
from cmet.explorer import Explorer
from cmet.explorer.map import arrow
from cmet.explorer.panels import Page, code
from cmet.explorer.preview import Scene, full, open_clip
from cmet.face.codecs import face_codec
from cmet.face.regions import PARTS, both_sides
from cmet.explorer.voices import preset, read_preset, read_weights
from cmet.explorer.widgets import bars, jpeg
from cmet.io.media import open_video, write_audio
from cmet.viz.figures import AU_NAMES


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    "Bytes of good and of broken uploads."
    d = tmp_path_factory.mktemp("material")
    face = next(iter(open_video(builtin("portrait.mp4")).frames()))
    wide = np.full((300, 480, 3), 120, np.uint8)
    wide[20:276, 60:316] = face
    Image.fromarray(wide).save(d/"me.png")
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(d/"grey.png")
    write_audio(d/"noise.wav", np.random.default_rng(0).normal(0, .1, 32000).astype(np.float32), 16000)
    speech = {f"{e}.flac": builtin(f"speech/F01_{e}_3_001.flac").read_bytes() for e in ("angry", "happy", "sad")}
    return {"faces": {"me.png": (d/"me.png").read_bytes()}, "voices": speech,
            "bad faces": {"grey.png": (d/"grey.png").read_bytes(), "text.jpg": b"no picture", "x.flac": speech["sad.flac"]},
            "bad voices": {"noise.wav": (d/"noise.wav").read_bytes(), "empty.mp3": b"", "me.png": (d/"me.png").read_bytes()}}


def actions(e, g, material):
    "Things a hand can do, each a function."
    pick = lambda kind: g.choice(sorted(material[kind].items()))
    names = [n for n in e.emotions.sliders if n != "neutral"]
    def move(): e.emotions.sliders[g.choice(names)].value = g.randrange(-60, 61)/20
    def text(): e.emotions.box.value = g.choice(["happy", "joy - .5*sadness", "1.5*surprised + fear", "", f"{g.choice(names)} - neutral"])
    def nonsense(): e.emotions.box.value = g.choice(["happi", "happy -", "9*sad", "<b>", "happy | strength 9", "boredom"])
    def line(): e.emotions.box.value = f"{g.choice(names)} | strength {g.randrange(-10, 31)/10:g}"
    def listed(): e.presets.list.value = g.choice(e.presets.list.options)[1]
    def strength(): e.settings.strength.value = g.randrange(-20, 61)/20
    def part(): e.parts.sliders[g.choice(PARTS)].value = g.randrange(0, 41)/20
    def parts(): e.emotions.box.value = f"{g.choice(names)} | strength 1 | {g.choice(PARTS)} {g.randrange(0, 21)/10:g}"
    def moment(): e.settings.frame.value = g.randrange(0, e.settings.frame.max + 1)
    def source(): e.settings.source.value = g.choice(e.settings.source.options)[1]
    def mapper(): e.settings.mapper.value = g.choice(["auto", "ridge", "neighbour"])
    def codec(): e.put(codec=g.choice(["mesh", "clay"]))
    def face(): e.settings.upload.got([pick("faces")])
    def bad_face(): e.settings.upload.got([pick("bad faces")])
    def voice(): e.voices.upload.got([pick("voices")])
    def bad_voice(): e.voices.upload.got([pick("bad voices")])
    def drop(): [row.children[-1].click() for row in e.emotions.voices.children[:1]]
    def rename(): g.choice([*e.emotions.called.values()] or [e.emotions.box]).value = g.choice(["Anna", "happy", "", "my voice!", "Ünder 2"])
    def keep(): e.presets.save.click()
    def reset(): e.presets.again.click()
    return [*[move]*6, text, text, nonsense, nonsense, line, listed, strength, part, part, parts, moment, moment, source, mapper, codec, face, bad_face, bad_face, voice,
            voice, bad_voice, bad_voice, drop, rename, rename, keep, reset]


def check(e, scene):
    "All that is shown agrees with the state, and with what the state looks like by itself."
    with e.lock: wish, view = e.state, e.view
    assert view.wish == wish
    weights = dict(wish.weights)
    assert {n: s.value for n, s in e.emotions.sliders.items()} == pytest.approx(weights, abs=1e-6)
    assert e.emotions.says(weights) or "cmet-bad" in e.emotions.line.value, "another expression, and no word about it"
    assert sum(weights[n] for n in weights if n not in dict(wish.voices)) == pytest.approx(0, abs=1e-5)
    assert {n: box.value for n, box in e.emotions.called.items()} == {n: n for n, _ in wish.voices}
    for name, control in e.settings.controls.items():
        asked = getattr(wish, name)  # a slider says it in its steps
        assert control.value == (pytest.approx(asked, abs=1e-9) if name == "strength" else asked), name
    *_, again = scene.look(wish)
    assert {n: s.value for n, s in e.parts.sliders.items()} == pytest.approx(dict.fromkeys(PARTS, 1.) | dict(wish.regions), abs=1e-9)
    assert e.faces.after.value == jpeg(again.after) and e.faces.before.value == jpeg(again.before)
    assert e.bars.widget.value == bars(both_sides(again.change, 17)[again.frame], [f"{u} {AU_NAMES[u]}" for u in again.clip.codec.units])
    assert e.map.chart.tip == arrow(e.map.plane, again.vector)
    assert e.map.drawn[0].name == again.voice.corpus.name and list(e.map.drawn[1]) == [n for n, _ in wish.voices]
    line = preset(weights, wish.strength, wish.mapper, wish.regions)
    assert e.presets.now == line and e.presets.list.value in ("", line)
    assert read_weights(line.split("|")[0], [n for n in weights if n not in dict(wish.voices)], list(dict(wish.voices))) == weights
    told = read_preset(line, [n for n in weights if n not in dict(wish.voices)], list(dict(wish.voices)))
    assert (told["strength"], told["regions"]) == (wish.strength, wish.regions)
    assert all(f"<b>{n}:</b>" in e.voices.line.value for n, _ in wish.voices)
    assert code(wish, "edited.mp4").replace("'", "&#x27;") in e.output.code.value.replace("&quot;", '"')
    kept = set(map(str, e.uploads.folder.glob("*"))) if e.uploads.folder.exists() else set()
    assert all(Path(f).is_file() for _, files in wish.voices for f in files) and (not kept or wish.source not in kept or Path(wish.source).is_file())


@pytest.mark.parametrize("seed", [0, 1])
def test_two_hundred_random_actions(seed, material, tmp_path):
    e, scene, g = Explorer(folder=tmp_path), Scene(), random.Random(seed)
    e.wait()
    for step in range(100):
        for _ in range(g.choice([1, 1, 2, 3])):  # some before the worker has done
            g.choice(actions(e, g, material))()
        e.wait(120)
        check(e, scene)
        if step%25 == 24:
            e.output.buttons["png"].click()
            e.saver.work.join()
            made = max(tmp_path.glob("*.png"), key=lambda p: p.stat().st_mtime_ns)
            assert np.array_equal(np.asarray(Image.open(made)), full(e.view.clip, e.view.frame).edit(e.view.frame, e.view.change[e.view.frame]))
    e.live.close()


def test_a_face_too_small_for_the_preview_is_looked_for_in_the_picture_itself(tmp_path):
    "Two faces side by side were none to the explorer, and two to the command."
    face = np.asarray(next(iter(open_video(builtin("portrait.mp4")).frames())))
    wide = np.full((1000, 3000, 3), 128, np.uint8)
    wide[400:400 + face.shape[0], 200:200 + face.shape[1]] = face
    Image.fromarray(wide).save(tmp_path/"one.png")
    clip = open_clip(tmp_path/"one.png", face_codec("mesh"))
    assert clip.box and clip.box[2] < 400 and max(clip.frames[0].shape) <= 512 and clip.track.found.all()
    wide[400:400 + face.shape[0], 2200:2200 + face.shape[1]] = face[:, ::-1]
    Image.fromarray(wide).save(tmp_path/"two.png")
    with pytest.raises(CmetError, match="two faces") as told: open_clip(tmp_path/"two.png", face_codec("mesh"))
    assert "frame" not in str(told.value) and "use one that shows a single face" in told.value.remedy, "for a page, which runs no commands"


def test_what_went_wrong_goes_with_the_next_thing_that_is_done(tmp_path, monkeypatch):
    "It stayed beside the picture that was made after it."
    e = Explorer(folder=tmp_path).wait()
    bad = lambda: e.voices.upload.got([("text.wav", b"no sound")]) or e.wait().line.value
    assert "text.wav" in bad() and 'role="alert"' in e.line.value
    e.output.buttons["png"].click()
    e.saver.work.join()
    assert e.line.value == "" and "Saved" in e.output.line.value
    for do in (lambda: e.presets.save.click(), lambda: setattr(e.settings.strength, "value", .5), lambda: setattr(e.emotions.box, "value", "happi")):
        assert "text.wav" in bad()
        do()
        assert e.wait().line.value == ""
    def full(*_): raise CmetError("no space left", "make room")
    monkeypatch.setattr("cmet.explorer.panels.make", full)
    e.output.buttons["png"].click()
    e.saver.work.join()
    assert "no space left: make room" in e.line.value and e.output.line.value == ""
    e.put(strength=1.)
    assert e.wait().line.value == ""
    e.settings.upload.lost("no camera")
    assert "no camera" in e.line.value
    e.live.put(e.state)
    assert "no camera" in e.wait().line.value, "a picture that came is nothing that was done"
    e.put(codec="clay")
    assert "clay" in e.wait().line.value and e.state.codec == "mesh", "mesh is chosen already, so a browser does not tell that it is chosen again"
    next(c for c in e.widget.children if isinstance(c, Page))._handle_custom_msg("list", [])
    assert e.line.value == ""
    e.live.close()


def test_a_doubt_is_a_note_and_no_error(tmp_path):
    "What speaks against a vector had the look and the role of a fault."
    e = Explorer(folder=tmp_path, strength=-1.).wait()
    assert f"<b>Note:</b> {BELOW}" in e.words.value and "alert" not in e.words.value and "cmet-bad" not in e.words.value
    e.live.close()


def test_a_mapper_that_knows_a_synthesiser_says_so_of_a_person(tmp_path):
    "An angry woman became a surprised grin under `ridge`, and no word said why."
    from cmet.explorer.voices import SYNTHETIC
    from cmet.io.sound import read_audio
    e, kit = Explorer(folder=tmp_path, mapper="ridge").wait(), builtin("speech/F01_angry_3_001.flac")
    person = write_audio(tmp_path/"ann.wav", read_audio(kit, 16000), 16000)  # not the kit's file, so somebody's
    assert e.settings.mapper.label == "ridge (synthetic voices)" and e.settings.mapper.value == "ridge"
    e.voices.upload.got([("ann.wav", person.read_bytes())])
    said = e.wait().words.value
    assert f"<b>Note:</b> {SYNTHETIC.replace(chr(39), '&#x27;')}" in said and "choose auto under Method" in said
    assert "rests on a single clip" in said and "pool" not in said
    e.emotions.sliders["sad"].value = .5
    assert "choose auto" in e.wait().words.value, "in a mixture, too"
    e.put(mapper="auto")
    assert "choose auto" not in e.wait().words.value and e.settings.mapper.label == "auto"
    e.put(mapper="ridge", voices=(), weights=(("happy", 1.),))
    assert "choose auto" not in e.wait().words.value
    e.voices.upload.got([(kit.name, kit.read_bytes())])
    assert "choose auto" not in e.wait().words.value, "it knows this voice"
    e.live.close()


def test_a_file_is_said_to_lie_where_it_lies(tmp_path, monkeypatch):
    "`out` was somewhere else than one looked: below the notebook, and not in the clone's root."
    monkeypatch.chdir(tmp_path)
    e = Explorer().wait()
    e.output.buttons["png"].click()
    e.saver.work.join()
    assert f"<code>{tmp_path/'out'/'happy.png'}</code>" in e.output.line.value and (tmp_path/"out"/"happy.png").is_file()
    e.live.close()


def test_several_files_are_one_voice_called_by_what_they_share(material, tmp_path):
    e, clips = Explorer(folder=tmp_path).wait(), list(material["voices"].values())
    e.voices.upload.got([(f"W009_level_3_{k:03}.flac", clips[0]) for k in (4, 5)])
    assert e.wait().emotions.box.value == "w009_level_3" == e.emotions.called["w009_level_3"].value
    for name in ("my_voice", "my_voice_2"):
        e.voices.upload.got([(f"{k}.flac", clips[1]) for k in "12"])
        assert e.wait().emotions.box.value == name
    e.emotions.called["my_voice"].value = "Ann"
    assert [n for n, _ in e.wait().state.voices] == ["w009_level_3", "ann", "my_voice_2"]
    check(e, Scene())
    e.live.close()


def test_an_emotion_is_spelt_as_one_types_it_and_means_the_same_outside(material, tmp_path):
    "The box wrote `happy - neutral` where the README writes `happy`."
    from cmet.edit.request import wanted_vector
    from cmet.speech.encoders import speech_encoder
    e = Explorer(folder=tmp_path).wait()
    assert e.emotions.box.value == "happy" and e.presets.now == "happy | strength 1" and "vector='happy'" in e.output.code.value.replace("&#x27;", "'")
    e.emotions.box.value = "0.6*happy - 0.6*neutral"
    assert e.wait().presets.list.value == "0.6*happy | strength 1" and e.emotions.box.value == "0.6*happy - 0.6*neutral", "in whatever words"
    e.voices.upload.got([*material["voices"].items()][:1])
    e.wait()
    voice, (name, files) = e.view.voice, e.state.voices[0]
    heard = speech_encoder(voice.mapper.encoder)
    for weights, text in (dict(happy=1.), "happy"), (dict(sad=1., happy=-.25), "sad - 0.25*happy"), (dict(sad=1., happy=-1.), "sad - happy"):
        for more, add, to in ({}, "", ()), ({name: .5}, " + 0.5*voice", files):
            e.put(weights=tuple((weights | more).items()))
            vector = e.wait().view.vector
            said = e.emotions.box.value
            assert read_weights(said, e.names, [name]) == dict(e.state.weights) and "neutral" not in said
            outside = wanted_vector(voice.mapper, voice.corpus, heard, list(to), vector=text + add)
            assert np.allclose(vector.values, outside.values, atol=1e-5), (said, "what `edit_video` makes of it")
    e.live.close()


def test_a_strength_below_zero_says_what_the_command_says(tmp_path):
    e = Explorer(folder=tmp_path, strength=-1.).wait()
    assert BELOW in e.words.value
    e.put(strength=1.)
    assert BELOW not in e.wait().words.value
    e.live.close()


def test_a_voice_less_a_voice_is_told_as_it_was_asked_for(tmp_path):
    "It was told as a mixture with another emotion, with the doubt about the voice that was taken off. What the code names is found from any folder."
    e = Explorer(folder=tmp_path).wait()
    for mood in "angry", "neutral":
        e.voices.upload.got([(p.name, p.read_bytes()) for p in sorted(builtin("speech").glob(f"F01_{mood}_3_00[12].flac"))])
        e.wait()
    one, other = (n for n, _ in e.state.voices)
    e.put(weights=((other, 1.),))
    doubts = e.wait().view.own[other].doubt["cautions"]
    assert doubts and all(escape(d) in e.words.value for d in doubts)
    e.put(weights=((one, 1.), (other, -1.)))
    e.wait()
    assert f"{one} - {other}<" in e.words.value and not any(escape(d) in e.words.value for d in doubts)
    assert all(Path(f).is_absolute() for _, files in e.state.voices for f in files)
    e.live.close()


def test_a_page_that_is_served_after_its_cell_has_all_there_is_to_say(tmp_path):
    "Voilà serves a page when its cells are done, and a change that comes while the page loads was lost in one try of five on a busy machine."
    made = Explorer(folder=tmp_path)
    made.show()
    assert "Sounds:" in made.words.value and made.map.chart in made.map.widget.children
    made.live.close()


def test_happy_and_then_a_slider_is_still_happy(tmp_path):
    "A bare name is a difference from neutral, so a touch of another emotion does not make the voice another one."
    from cmet.vectors.vector import cosine
    e = Explorer(folder=tmp_path)
    e.emotions.box.value = "happy"
    alone = e.wait().view.vector
    e.emotions.sliders["sad"].value = .1
    assert cosine(e.wait().view.vector, alone) > .95 and dict(e.state.weights)["neutral"] == pytest.approx(-1.1)
    assert set(EMOTIONS) <= set(e.emotions.sliders)
    e.live.close()


def test_a_wish_that_fails_takes_back_only_itself(material, tmp_path):
    "A slider that was moved while a broken file was looked at stays where the hand put it."
    e = Explorer(folder=tmp_path)
    e.wait()
    e.settings.upload.got([("grey.png", material["bad faces"]["grey.png"])])
    e.voices.upload.got([("noise.wav", material["bad voices"]["noise.wav"])])
    e.emotions.sliders["sad"].value = 1.5
    e.wait()
    assert e.state == e.view.wish and dict(e.state.weights)["sad"] == 1.5 and e.state.source == "built-in portrait"
    assert dict(e.state.weights)["happy"] == 1 and not e.state.voices
    assert e.emotions.sliders["sad"].value == pytest.approx(1.5) and not list((tmp_path/"uploads").iterdir())
    check(e, Scene())
    e.live.close()


def test_a_wish_from_before_its_mapper_was_open_is_shown_as_it_is_drawn(material, tmp_path):
    "Two things wished at once: a mapper that knows other emotions, and then a face of one frame, which has no 36th."
    e, wishes = Explorer(folder=tmp_path), []
    e.wait()
    e.live.put = wishes.append
    e.put(mapper="neighbour", frame=35)
    e.settings.upload.got([("me.png", material["bad voices"]["me.png"])])
    for wish in wishes:
        for result in e._look(wish): e._show(result)
    assert e.names != tuple(dict(wishes[0].weights)) and len(e.view.clip) == 1
    assert e.state == e.view.wish and e.state.frame == 0
    check(e, Scene())
    e.live.close()


def test_the_browser_is_told_last_what_the_state_says(tmp_path):
    "While a hand's number arrives, the worker puts all controls back to the state it has just drawn: no slider may go on showing that."
    e = Explorer(folder=tmp_path)
    e.wait()
    slider, told, weigh, others = e.emotions.sliders["sad"], [], e.emotions.weigh, []
    def worker():
        with e.lock: e._controls()
    def meanwhile(name, k):
        others.append(threading.Thread(target=worker))
        others[-1].start()
        others[-1].join(.3)  # it comes first wherever nothing keeps it out
        weigh(name, k)
    slider.comm.send = lambda data=None, **_: told.append(data["state"]["value"]) if "value" in data.get("state", {}) else None
    e.emotions.weigh = meanwhile
    slider.set_state({"value": .5})  # as a message of the browser does
    others[0].join()
    e.wait()
    assert dict(e.state.weights)["sad"] == slider.value == told[-1] == .5, told
    e.live.close()


def test_a_number_between_the_steps_is_shown_as_it_is(tmp_path):
    "A browser rounds to the step of its slider, so the step follows the number."
    e = Explorer(folder=tmp_path)
    e.emotions.box.value = "0.33*happy - 0.5*sad | strength 1.27"
    e.wait()
    shown = {**e.emotions.sliders, "strength": e.settings.strength}
    for name, k in (dict(e.state.weights) | {"strength": 1.27}).items():
        s = shown[name]
        assert s.value == pytest.approx(k) and abs(round((k - s.min)/s.step)*s.step + s.min - k) < 1e-6, name
    e.live.close()


def test_under_a_hand_the_face_comes_first_and_the_other_controls_follow(tmp_path):
    e, came = Explorer(folder=tmp_path), []
    e.wait()
    e.faces.after.observe(lambda _: came.append("face"), "value")
    for control in (e.emotions.box, e.emotions.sliders["neutral"]): control.observe(lambda _: came.append("control"), "value")
    e.emotions.sliders["sad"].value = .5
    e.wait()
    assert came[0] == "face" and came.count("control") == 2 and came[-1] == "control", came
    e.live.close()


def test_a_hand_that_goes_back_before_the_controls_have_followed_is_heard(tmp_path):
    e = Explorer(folder=tmp_path)
    e.wait()
    with e.lock:  # so the worker shows nothing between
        e.emotions.sliders["sad"].value = .5
        e.emotions.sliders["sad"].value = 0
    assert dict(e.wait().state.weights)["sad"] == 0
    check(e, Scene())
    e.live.close()
