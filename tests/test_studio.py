"""The built-in synthetic corpus: the same bytes again, its truth kept, its face in time with its voice."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmet.core import BASIC, EMOTIONS, CmetError, builtin, sha256
from cmet.corpus.actors import AUS, FPS, LEVELS, RATE, VOICES, loudness, perform, person
from cmet.corpus.corpus import read_corpus
from cmet.corpus.studio import SENTENCES, TRAVELS, demo_speech, make, make_portrait, truth
from cmet.corpus.voice import say
from cmet.io.claims import owned
from cmet.io.media import read_audio
from cmet.speech.encoders import speech_encoder
from cmet.vectors.vector import feature_unit

SMALL = dict(speakers=("F01", "M03"), sentences=1, portrait=False, progress=False)
ONE = SMALL | dict(speakers=("F01",))


@pytest.fixture(scope="module")
def corpus(): return read_corpus("studio", verify=True)


def tree(folder): return {p.relative_to(folder).as_posix(): sha256(p) for p in Path(folder).rglob("*") if p.is_file()}


def test_same_seed_same_bytes(tmp_path):
    make(tmp_path/"a", **SMALL)
    code = f"from cmet.corpus.studio import make; make({str(tmp_path/'b')!r}, **{SMALL!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": "7"}, cwd=tmp_path)
    a, b = tree(tmp_path/"a"), tree(tmp_path/"b")
    assert a == b and len(a) == 1 + 5 + len(EMOTIONS)  # the mark, the corpus, and the speech of F01 at level 3


def test_sound_of_the_user_is_left_alone(tmp_path):
    mine = ["mine.flac", "F01_angry_1_001.flac", "F01_angry_3_001 copy.flac", "F01_angry_3_001.wav"]
    (tmp_path/"speech").mkdir()
    for name in [*mine, "M01_sad_3_006.flac"]: (tmp_path/"speech"/name).write_bytes(b"old")
    owned(tmp_path, ["speech/M01_sad_3_006.flac"], force=True)  # an earlier studio made it
    make(tmp_path, **ONE)
    left = {p.name for p in (tmp_path/"speech").iterdir()}
    assert left == {*mine, *(f"F01_{e}_3_001.flac" for e in EMOTIONS)}
    assert all((tmp_path/"speech"/name).read_bytes() == b"old" for name in mine)


def test_make_works_where_there_is_no_data_yet(tmp_path, monkeypatch):
    import cmet.corpus.studio
    monkeypatch.setattr(cmet.corpus.studio, "data_folder", lambda: tmp_path/"new"/"data")
    assert make(**SMALL | dict(speakers=("F02",))) == tmp_path/"new"/"data"
    assert len(read_corpus(tmp_path/"new"/"data"/"studio", verify=True)) == 24


def test_without_opensmile_nothing_is_left_lying_about(tmp_path, monkeypatch):
    from importlib.metadata import PackageNotFoundError

    import cmet.speech.encoders
    def missing(name): raise PackageNotFoundError(name)
    monkeypatch.setattr(cmet.speech.encoders, "version", missing)
    for out in tmp_path/"new", tmp_path:
        with pytest.raises(CmetError, match="openSMILE, which is not installed"): make(out)
    assert not list(tmp_path.iterdir())


def test_another_seed_other_people(tmp_path):
    make(tmp_path, seed=1, **ONE)
    small = read_corpus(tmp_path/"studio", verify=True)
    assert small.meta["seed"] == 1 and small.meta["people"]["F01"]["gain"] != np.round(person("F01").gain, 9).tolist()


def test_shipped_clips_are_the_ones_made_now(corpus):
    """Not bit for bit, since another processor may round differently, but to what 16 bits can hold."""
    for k in (5, 290, 700, 1100):
        row = corpus.clips.iloc[k]
        clip = perform(row["speaker"], row["emotion"], row["intensity"], SENTENCES[int(row["sentence"]) - 1])
        assert np.allclose(corpus.face_of(k), clip.face, atol=1e-4)
        assert np.allclose(row[[f"true_{e}" for e in BASIC]].to_numpy(float), clip.activation)


def test_shipped_speech_gives_the_shipped_embeddings(corpus):
    rows = np.flatnonzero(corpus.clips["audio"] != "")[::12]
    paths = [builtin(corpus.clips["audio"][k]) for k in rows]
    encoder = speech_encoder("egemaps", cache=False)
    whole = np.stack([encoder.embed(read_audio(p, RATE)) for p in paths])
    assert np.allclose(whole, corpus.speech[rows], rtol=1e-3, atol=1e-3)
    gap = np.abs(encoder.encode(paths) - whole)/feature_unit(corpus)  # what trimming changes, in spreads inside a speaker
    assert np.median(gap.max(1)) < 1e-3 and gap.mean() < .1, "the studio's clips hold hardly any silence"


def test_every_voice_emotion_and_level_is_there(corpus):
    seen = set(corpus.clips[["speaker", "emotion", "intensity", "sentence"]].itertuples(index=False, name=None))
    assert seen == {(s, e, k, f"{n + 1:03}") for s in VOICES for e in EMOTIONS for k in LEVELS for n in range(len(SENTENCES))}
    assert len(VOICES) >= 6 and (corpus.lengths > FPS).all() and corpus.has_speech.all()
    assert corpus.face.dtype == corpus.speech.dtype == np.float32 and corpus.face.shape[1] == len(AUS) == 17
    assert 0 <= corpus.face.min() and corpus.face.max() <= 5 and "synthetic" in corpus.name


def test_shipped_data_is_small():
    files = [p for p in builtin().rglob("*") if p.is_file() and p.name[0] != "." and p.suffix not in (".py", ".pyc")]
    assert sum(p.stat().st_size for p in files) < 15e6
    card = builtin("README.md").read_text()
    for name in {p.relative_to(builtin()).parts[0] for p in files}: assert name in card, f"the card does not name {name}"


def test_truth_is_kept(corpus):
    felt, shown = truth(corpus)
    assert felt.shape == (len(corpus), 7) and shown.shape == (len(corpus), 17)
    asked = corpus.clips["emotion"].to_numpy()
    top = np.array(BASIC)[felt.argmax(1)]
    strong = (asked != "neutral") & (corpus.clips["intensity"] == 3)
    assert (top[strong] == asked[strong]).all() and felt[asked == "neutral"].max() <= .25
    smile = corpus.face_means()[:, AUS.index("AU12")]
    assert np.corrcoef(smile, shown[:, AUS.index("AU12")])[0, 1] > .95


def test_truth_of_another_corpus_is_an_error(corpus):
    part = corpus.select(np.arange(3))
    part.meta = {"name": "mine"}
    with pytest.raises(CmetError, match="keeps no truth"): truth(part)


def envelope(path, n):
    loud = loudness(read_audio(path), RATE, .08)[::RATE//FPS]
    assert abs(len(loud) - n) <= 1  # the face lasts as long as the voice
    return loud[:n]


def test_mouth_moves_in_time_with_the_sound(corpus):
    rows = np.flatnonzero(corpus.clips["audio"] != "")[::4]
    fit = {}
    for lag in (-5, 0, 5):
        fit[lag] = []
        for k in rows:
            lips = corpus.face_of(k)[:, AUS.index("AU25")] + corpus.face_of(k)[:, AUS.index("AU26")]
            loud = envelope(builtin(corpus.clips["audio"][k]), len(lips))[:len(lips)]
            fit[lag].append(np.corrcoef(np.roll(lips[:len(loud)], lag), loud)[0, 1])
    assert np.mean(fit[0]) > .4 and np.mean(fit[0]) > .3 + max(np.mean(fit[-5]), np.mean(fit[5]))


def test_eyes_blink(corpus):
    for s in corpus.speakers:
        mine = corpus.select((corpus.clips["speaker"] == s).to_numpy())
        lid = mine.face[:, AUS.index("AU45")]
        starts = ((lid[1:] > 2.5) & (lid[:-1] <= 2.5)).sum()
        assert 5 < starts/(len(lid)/FPS/60) < 40


@pytest.mark.parametrize("feature, more, less", [
    ("loudness_sma3_amean", "angry", "sad"), ("F0semitoneFrom27.5Hz_sma3nz_amean", "fear", "disgusted"),
    ("VoicedSegmentsPerSec", "fear", "sad"), ("alphaRatioV_sma3nz_amean", "angry", "sad")])
def test_emotion_is_in_the_voice(corpus, feature, more, less):
    x = corpus.speech[:, corpus.meta["features"].index(feature)]
    clips = corpus.clips[corpus.clips["intensity"] == 3]
    means = clips.assign(x=x[clips.index]).groupby(["speaker", "emotion"])["x"].mean().unstack()
    assert (means[more] > means[less]).mean() >= .75


def test_demo_speech():
    for s in TRAVELS:
        for e in EMOTIONS: assert len(demo_speech(e, s)) == len(SENTENCES)
    with pytest.raises(CmetError, match="no built-in speech"): demo_speech("happy", "F02")


@pytest.mark.parametrize("voice", ["no-such-voice", "en-us+x9", "en-us+", "en-us+99", "no-such-voice+f2"])
def test_a_voice_or_variant_that_does_not_exist(voice):
    with pytest.raises(CmetError, match="has no voice"): say("hello", voice)


def test_a_deep_installation_speaks_and_leaves_nothing(tmp_path):
    "The library keeps 160 bytes of its data's path; the short link to a longer one is removed at the end."
    deep, temp = tmp_path/("d"*150), tmp_path/"t"
    temp.mkdir()
    code = f"""import os, espeakng_loader as e
os.symlink(e.get_data_path(), {str(deep)!r})
e.get_data_path = lambda: {str(deep)!r}
from cmet.corpus.voice import say
print(len(say("hello", "en-us+f2").wav), len(os.listdir({str(temp)!r})))"""
    run = subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(temp)}, capture_output=True, text=True)
    assert run.stdout.split() == [str(len(say("hello", "en-us+f2").wav)), "1"] and not list(temp.iterdir()), run.stderr


def test_a_stranger_is_an_error():
    with pytest.raises(CmetError, match="no actor"): perform("X01", "happy", 1, "Hello")
    with pytest.raises(CmetError, match="unknown emotion"): perform("F01", "hungry", 1, "Hello")


def test_a_portrait_at_rest_has_a_mouth_of_its_own_width():
    "As the mesh draws now, the smile was taken off too far: pursed lips, two fifths of the eye distance wide. Mouths at rest are over a half."
    from cmet.corpus.studio import at_rest
    from cmet.face.mesh import MeshCodec
    p = MeshCodec().track([at_rest()]).points[0, :, :2]
    width, eyes = np.linalg.norm(p[291] - p[61]), np.linalg.norm(p[263] - p[33])
    assert .48 < width/eyes < .6 and abs(p[[61, 291], 1].mean() - p[[13, 14], 1].mean()) < .06*width


def test_portrait_twice_is_the_same(tmp_path):
    a, b = (sha256(make_portrait(tmp_path/name)) for name in ("a.mp4", "b.mp4"))
    assert a == b


def test_portrait():
    import av
    path = builtin("portrait.mp4")
    assert path.stat().st_size < 1e6
    with av.open(str(path)) as video:
        picture, sound = video.streams.video[0], video.streams.audio[0]
        assert (picture.width, picture.height, picture.average_rate) == (256, 256, FPS)
        seconds = picture.frames/FPS
        assert 4 <= seconds <= 6 and abs(float(sound.duration*sound.time_base) - seconds) < .15
        assert "synthetic" in video.metadata["title"]
