"""`edit_video` as a tool: what it keeps, says and leaves behind. A toy codec first, the real one at the end."""
import json
import shlex
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from cmet.core import BASIC, EMOTIONS, CmetError, builtin, find_data, sha256
from cmet.corpus.corpus import make_corpus
from cmet.edit.pipeline import LABEL, Request, edit_video, face_change
from cmet.edit.previews import preview
from cmet.edit.request import speech_files, speech_vector, wanted_vector
from cmet.face.action_units import AUS
from cmet.face.codecs import FaceCodec
from cmet.face.landmarks import LIPS_LOW, LIPS_TOP
from cmet.face.mesh import MeshCodec
from cmet.io.assets import candidates
from cmet.io.files import check_output
from cmet.io.media import open_video, read_audio, read_video, write_audio, write_video
from cmet.speech.encoders import SpeechEncoder
from cmet.vectors.vector import direction, pool

av = pytest.importorskip("av")
FACE = astronaut()[:256, 96:352]


class Toy(FaceCodec):
    "A codec that brightens: the first number of `delta` is added to every pixel; dark frames have no face."
    name, dim, fail_at = "toy", 3, None
    def track(self, frames): return [f.mean() for f in frames]
    def encode(self, track): return np.array([[m/50]*3 if m > 20 else [np.nan]*3 for m in track], np.float32)
    def edit_stream(self, frames, track, delta):
        for i, (frame, d) in enumerate(zip(frames, delta)):
            if i == self.fail_at: raise self.fault
            yield (frame + 10.*d[0]).clip(0, 255).astype(np.uint8)


class One:
    "A mapper to one everywhere."
    kind = "one"
    def predict(self, v, face): return np.ones_like(face)


@pytest.fixture(scope="module")
def corpus():
    draw = np.random.default_rng(0)
    rows = [dict(speaker=s, emotion=e, intensity=1) for s in "AB" for e in EMOTIONS for _ in range(2)]
    speech, faces = draw.normal(size=(len(rows), 88)), [draw.normal(size=(2, 3)) for _ in rows]
    return make_corpus(rows, speech, faces, name="toy", encoder="egemaps")


@pytest.fixture
def talk(tmp_path):
    write_audio(tmp_path/"a.wav", read_audio(builtin("speech")/"F01_happy_3_001.flac", 16000)[:20000], 16000)
    frames = [np.roll(FACE, i, 1) for i in range(20)]
    return write_video(tmp_path/"talk.mp4", frames, 30, sound=tmp_path/"a.wav")


def run(talk, corpus, out="out.mp4", codec=None, **more):
    more = {"vector": "happy - neutral"} | more
    return edit_video(talk, talk.parent/out, codec=codec or Toy(), mapper=One(), corpus=corpus, **more)


def sound_of(path):
    with av.open(str(path)) as c: return [bytes(p) for p in c.demux(audio=0) if p.size]


def test_all_but_the_face_is_kept(talk, corpus):
    out = run(talk, corpus)
    a, b = open_video(talk), open_video(out)
    assert (a.fps, a.size, a.n_frames) == (b.fps, b.size, b.n_frames) and sound_of(out) == sound_of(talk)
    change = read_video(out)[0].astype(float) - read_video(talk)[0]
    assert abs(np.median(change) - 10) <= 1, "the change of the codec is in the file"


def test_a_curve_comes_and_goes(talk, corpus):
    "The toy codec brightens by ten times the strength; the curve is told in the story, and seconds are the video's."
    out = run(talk, corpus, vector=None, curve="0 neutral -> 0.3 happy linear -> 0.6 neutral linear", strength=4)
    rise = (read_video(out)[0].astype(float) - read_video(talk)[0]).mean((1, 2, 3))
    want = 40*np.interp(np.arange(20)/30, [0, .3, .6], [0, 1, 0])
    story = json.loads(out.with_suffix(".json").read_text())
    assert np.abs(rise - want).max() < 4 and story["vector"]["curve"].startswith("0 neutral -> 0.3 happy linear")
    assert [k and k["expression"] for k in story["vector"]["keys"]][::2] == [None, None] and story["vector"]["encoder"]["name"] == "egemaps"


@pytest.mark.parametrize("wrong, words", [(dict(curve="0 neutral"), "changes nothing"), (dict(curve="0 hapy"), "hapy"),
                                          (dict(curve="0 happy, 2 sad"), "keys are parted by ->"), (dict(curve="0 0,5*happy"), "write a decimal point: 0.5"),
                                          (dict(curve="0 happy", vector="sad - neutral"), "both --vector and --curve")])
def test_wrong_curves(talk, corpus, wrong, words):
    with pytest.raises(CmetError, match=words): run(talk, corpus, **{"vector": None} | wrong)
    assert not (talk.parent/"out.mp4").exists()


def test_a_preview_of_a_curve_shows_its_keys(talk, corpus):
    "It showed three moments between them, at none of which the curve's emotions are seen."
    from cmet.edit.previews import looked
    for video, curve, seen in ((talk, "0 sad -> 0.3 happy -> 0.6 sad", [0, .3, 19/30]), (talk, "0.1 happy -> 9 sad", [.1, 19/30]),
                               (picture(talk), "0 happy -> 1.5 sad -> 3 angry", [0, 1.52, 2.96])):
        request = Request(curve=curve, mapper=One(), codec=Toy(), corpus=corpus, encoder="egemaps").choose().listen()
        rows, at, _ = looked(request, open_video(video))
        assert np.allclose(at, seen, atol=.04) and len(rows) == len(seen), (curve, at)


def picture(talk):
    Image.fromarray(FACE).save(talk.parent/"still.png")
    return talk.parent/"still.png"


def test_a_name_means_the_voices_that_a_mapper_was_fitted_to(talk, corpus):
    "A mapper of one's own that keeps no voices was given those of the studio, silently."
    from cmet.mappers.registry import RidgeMapper
    fitted = RidgeMapper().fit(corpus)
    words = dict(mapper=fitted, codec=Toy(), progress=False)
    for wish in (dict(vector="happy"), dict(curve="0 happy")):
        with pytest.raises(CmetError, match="in whose voices.*'toy'.*--corpus"): edit_video(talk, talk.parent/"o.mp4", **words, **wish)
        assert not (talk.parent/"o.mp4").exists()
        edit_video(talk, talk.parent/"o.mp4", **words, **wish, corpus=corpus, force=True)
        (talk.parent/"o.mp4").unlink()
        (talk.parent/"o.json").unlink()


def test_it_says_what_made_it(talk, corpus):
    out = run(talk, corpus, vector=None, to=[talk.parent/"a.wav"], strength=.5)
    story = json.loads(out.with_suffix(".json").read_text())
    assert story["what"] == LABEL == open_video(out).metadata["comment"]
    assert story["output"]["sha256"] == sha256(out) and story["inputs"]["video"]["sha256"] == sha256(talk)
    assert [f["sha256"] for f in story["inputs"]["to"]] == [sha256(talk.parent/"a.wav")]
    assert story["strength"] == .5 and story["mapper"]["kind"] == "one" and story["codec"]["name"] == "toy"
    assert [(p["clips"], p["weight"]) for p in story["vector"]["pools"]] == [(1, 1), (4, -1)]
    assert {"python", "cmet", "numpy", "av"} <= set(story["versions"]) and story["vector"]["encoder"]["name"] == "egemaps"


def test_same_request_same_bytes(talk, corpus):
    assert run(talk, corpus, "x.mp4").read_bytes() == run(talk, corpus, "y.mp4").read_bytes()


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), CmetError("bad", "mend"), ValueError("bug"), OSError(28, "full")])
@pytest.mark.parametrize("at", [0, 10])
def test_a_failure_leaves_everything_as_it_was(talk, corpus, fault, at):
    old = run(talk, corpus).read_bytes()
    before = {p: p.read_bytes() for p in talk.parent.iterdir()}
    codec = Toy(); codec.fail_at, codec.fault = at, fault
    with pytest.raises((type(fault), CmetError)): run(talk, corpus, codec=codec, force=True, strength=2)
    assert {p: p.read_bytes() for p in talk.parent.iterdir()} == before and before[talk.parent/"out.mp4"] == old


def test_force_replaces_both(talk, corpus):
    out = run(talk, corpus)
    with pytest.raises(CmetError, match="force"): run(talk, corpus)
    run(talk, corpus, force=True, strength=3)
    story = json.loads(out.with_suffix(".json").read_text())
    assert story["strength"] == 3 and story["output"]["sha256"] == sha256(out)


def test_hard_link_to_the_input_is_the_input(talk):
    (talk.parent/"other.mp4").hardlink_to(talk)
    with pytest.raises(CmetError, match="inputs"): check_output(talk.parent/"other.mp4", [talk], force=True)


def test_pictures_are_not_kept(talk, corpus):
    long = write_video(talk.parent/"long.mp4", (np.roll(FACE, i, 1) for i in range(300)), 25)
    run(talk, corpus, "warm.mp4")
    tracemalloc.start()
    run(long, corpus, "edited.mp4")
    peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    assert peak < 30*FACE.nbytes, f"{peak/FACE.nbytes:.0f} frames in memory"


def test_strength_is_a_factor_and_missing_faces_stay(corpus):
    track = [100., 5., 100.]  # no face in the second
    v = wanted_vector(One(), corpus, None, vector="sad - happy")
    with pytest.warns(UserWarning, match="no face in 1 of 3 frames"):
        one, two = (face_change(One(), v, Toy(), track, s) for s in (1, 2))
    assert np.allclose(two, 2*one) and (one[1] == 0).all() and (one[0] == 1).all() and np.isfinite(two).all()


def test_speech_vector_is_the_difference_of_means(corpus, talk):
    class Encoder:
        name, dim = "egemaps", 88
        def encode(self, paths, progress=False): return np.array([[float(p.stem)]*self.dim for p in paths], np.float32)
    paths = [talk.parent/f"{k}.wav" for k in (1, 2, 6, 10)]
    want = lambda to, frm=(): wanted_vector(One(), corpus, Encoder(), to, frm).values
    assert np.allclose(want(paths[:3], paths[3:]), 3 - 10)
    neutral = corpus.speech[(corpus.clips["emotion"] == "neutral").to_numpy()].mean(0)
    assert np.allclose(want(paths[:1]), 1 - neutral, atol=1e-5)
    with pytest.raises(CmetError, match="zero"): want(paths[:1], paths[:1])
    Encoder.dim = 7
    with pytest.raises(CmetError, match="7 numbers"): want(paths)


def test_a_saved_mapper_brings_its_own_neutral(corpus, tmp_path):
    from cmet.edit.request import fitted_mapper, neutral_pool
    fitted, _ = fitted_mapper("label", corpus)
    fitted.save(tmp_path/"m.safetensors")
    faces = [corpus.face_of(i) for i in range(len(corpus))]
    other = make_corpus(corpus.clips, corpus.speech + 5, faces, name="other", encoder="egemaps")
    loaded, there = fitted_mapper(tmp_path/"m.safetensors", other)
    mine, learnt = neutral_pool(loaded, other).mean(), neutral_pool(fitted, corpus).mean()
    assert there is other and np.allclose(mine, learnt, atol=1e-4)
    # A corpus is known by what is in it: another one of the same name has another neutral.
    same = make_corpus(corpus.clips, corpus.speech + 5, faces, name=corpus.name, encoder="egemaps")
    again = make_corpus(corpus.clips, corpus.speech, faces, name="renamed", encoder="egemaps")
    assert np.allclose(neutral_pool(loaded, same).mean(), learnt, atol=1e-4)
    assert len(neutral_pool(loaded, again)) == len(neutral_pool(fitted, corpus)) > 1


class Counts(SpeechEncoder):
    "An encoder that hears how long a file is."
    name, dim = "egemaps", 88
    def encode(self, paths, progress=False): return np.float32([[Path(p).stat().st_size]*88 for p in paths])


def test_a_mapper_of_ones_own_without_an_ear_says_why_it_is_silent(corpus, talk):
    from cmet.edit.request import fitted_mapper
    fitted, mine = fitted_mapper("label", corpus)[0], talk.parent/"mine.safetensors"
    fitted.save(mine)
    write_audio(talk.parent/"b.wav", np.full(900, .1), 16000)
    request = dict(vector=None, to=talk.parent/"a.wav", frm=talk.parent/"b.wav", encoder=Counts(), corpus=corpus, codec=Toy(), force=True)
    for mapper, told in (mine, True), (fitted, False):
        with warnings.catch_warnings(record=True) as caught: made = edit_video(talk, talk.parent/"out.mp4", mapper=mapper, **request)
        assert any("without an ear" in str(w.message) for w in caught) == told
        says = json.loads(made.with_suffix(".json").read_text())["doubt"]["says"]
        assert says.startswith("this mapper has no ear and cannot hear what emotion it is") and "(1 clip, against the given neutral, by egemaps), strength 1" in says
    del request["to"], request["frm"]
    made = edit_video(talk, talk.parent/"out.mp4", mapper=fitted, **request | {"vector": "happy"})
    assert json.loads(made.with_suffix(".json").read_text())["doubt"] is None, "a name was not heard"


def test_a_preview_says_in_its_title_what_was_asked_for(talk):
    "Neither the expression nor the parts stood on the picture."
    title = lambda **words: Image.open(preview(talk, talk.parent/"x.png", **words)).info["Title"]
    assert title(vector="surprised - 0.5*fear").startswith("surprised - 0.5*fear: the voices it learned from sound surprised ")
    said = title(vector="angry", regions={"mouth": 0, "left": 1.5})
    assert said.startswith("angry: the voices it learned from sound angry ") and said.endswith(" on average (by whisper); mouth=0, left=1.5")
    assert title(curve="0 neutral -> 1 happy", regions={"mouth": 0}).endswith("happy; mouth=0")
    assert title(vector=r"0.5*happy + 1*sad").startswith("0.5*happy + 1*sad: ")


def test_a_preview_by_a_mapper_without_an_ear_says_of_how_much_speech(talk, corpus):
    "It bore the title `to - from`."
    more = dict(mapper=One(), codec=Toy(), corpus=corpus, encoder="egemaps")
    title = lambda **words: Image.open(preview(talk, talk.parent/"x.png", **more, **words)).info["Title"]
    happy, calm = ([builtin("speech")/f"F01_{e}_3_00{k}.flac" for k in "12"] for e in ("happy", "neutral"))
    assert title(to=happy) == "speech (2 clips) - neutral"
    assert title(to=happy, frm=calm[:1]) == "speech (2 clips) - neutral (1 clip)"
    assert title(vector="happy") == "happy - neutral"
    says = Image.open(preview(talk, talk.parent/"x.png", **more, to=happy)).info["Description"]
    assert says == "this mapper has no ear and cannot hear what emotion it is: the face is moved by the change of the voice itself " \
                   "(2 clips, against the mean neutral it learned, by egemaps), strength 1"
    with pytest.raises(CmetError, match="--to other speech than --from"): title(to=calm, frm=calm)


@pytest.mark.parametrize("more", [["-o", "a.mp4"], ["--preview", "-o", "a.png"]])
def test_every_edit_from_speech_says_what_was_heard_or_that_nothing_can_be(more, tmp_path, monkeypatch, capsys):
    "`--mapper studio` was silent."
    pytest.importorskip("opensmile")
    from cmet.cli import main
    monkeypatch.chdir(tmp_path)
    write_video("one.mp4", [frame for frame, _ in zip(open_video(builtin("portrait.mp4")).frames(), range(3))], 25)
    speech = [shutil.copy(p, tmp_path) for p in sorted(builtin("speech").glob("M01_angry_3_00[12].flac"))]  # a copy is known, too
    for mapper, said in ("studio", "this mapper has no ear and cannot hear"), ("auto", "heard angry"):
        assert main(["edit", "one.mp4", "--force", "--mapper", mapper, "--to", *speech, *more]) == 0
        told = capsys.readouterr()
        assert told.out.startswith(said) and ("a synthesiser's: --mapper studio is made for it" in told.err) == (mapper == "auto")


def test_who_follows_one_recording_is_not_asked_for_ten(tmp_path, monkeypatch, capsys):
    from cmet.cli import main
    monkeypatch.chdir(tmp_path)
    line = ["edit", str(builtin("portrait.mp4")), "--preview", "-o", "a.png", "--to", str(builtin("speech")/"F01_contempt_3_001.flac")]
    for more, asked in ([], True), (["--follow"], False):
        assert main(line + more) == 0
        said = capsys.readouterr().err
        assert "neutral speech of the same voice with --from" in said and ("ten are good" in said) == asked


def test_folders_of_speech(tmp_path):
    stored = tmp_path/"emotion2vec+large_features"; stored.mkdir()
    for name in "b.wav", "a.flac", "notes.txt": (tmp_path/name).write_text("x")
    for name in "a.npy", "c.npy": np.save(stored/name, np.zeros(2))
    assert [p.name for p in speech_files(tmp_path)] == ["a.flac", "b.wav"]
    assert len(speech_files([tmp_path, tmp_path/"b.wav", str(tmp_path)])) == 2, "none counts twice"
    assert [p.name for p in speech_files([tmp_path], "emotion2vec-large")] == ["a.flac", "b.wav", "c.npy"]


def test_of_a_folder_what_cannot_be_heard_is_left_out(tmp_path, talk):
    import shutil

    from cmet.corpus.studio import demo_speech
    mood = tmp_path/"mood"
    mood.mkdir()
    for path in demo_speech("angry")[:2]: shutil.copy(path, mood)
    (mood/"broken.wav").write_bytes(b"no sound")
    write_audio(mood/"silent.wav", np.zeros(16000, np.float32), 16000)
    with pytest.warns(UserWarning, match="^2 of 4 recordings left out, the first: .*broken.wav' cannot be read as sound"):
        out = edit_video(talk, tmp_path/"a.mp4", to=mood, progress=False)
    heard = json.loads(out.with_suffix(".json").read_text())
    assert [Path(f["file"]).suffix for f in heard["inputs"]["to"]] == [".flac"]*2
    with pytest.raises(CmetError, match="broken.wav"): edit_video(talk, tmp_path/"b.mp4", to=[mood, mood/"broken.wav"], progress=False)
    for path in mood.glob("*.flac"): path.unlink()
    with pytest.raises(CmetError, match="broken.wav"): edit_video(talk, tmp_path/"b.mp4", to=mood, progress=False)
    assert not (tmp_path/"b.mp4").exists()


def test_a_folder_is_heard_by_as_many_threads_as_the_encoder_has(tmp_path):
    from threading import Barrier

    from cmet.edit.request import audible
    from cmet.speech.encoders import SpeechEncoder
    both = Barrier(2, timeout=20)
    class Waits(SpeechEncoder):
        workers = 2
        def encode(self, path): both.wait()  # one alone would wait in vain
    files = [tmp_path/"a.wav", tmp_path/"b.wav"]
    assert audible(Waits(), files, tmp_path) == files


def test_the_norm_is_told_in_the_unit_of_the_corpus(corpus, talk):
    speech = corpus.speech*np.r_[1e4, np.ones(87)].astype(np.float32)
    hertz = make_corpus(corpus.clips, speech, [corpus.face_of(i) for i in range(len(corpus))], encoder="egemaps")
    story = json.loads(run(talk, hertz, vector=None, to=[talk.parent/"a.wav"]).with_suffix(".json").read_text())
    v = speech_vector(*(pool(hertz, e) for e in ("happy", "neutral")), "egemaps", hertz)
    assert np.isclose(v.norm, direction(hertz, "happy").norm) and v.norm < np.linalg.norm(v.values)/10
    assert np.isfinite(story["vector"]["norm"])
    assert speech_vector(*(pool(hertz, e) for e in ("happy", "neutral")), "other", hertz).unit is None


# From here on: the real codec, mapper, corpus and portrait.

def region(frames, top, bottom): return frames[:, int(top*frames.shape[1]):int(bottom*frames.shape[1])].astype(float)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    source, frames = open_video(builtin("portrait.mp4")), []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == 12: break
    return write_video(tmp_path_factory.mktemp("real")/"short.mp4", frames, source.fps)


@pytest.mark.parametrize("emotion", BASIC)
def test_every_emotion_moves_the_portrait(short, emotion):
    out = edit_video(short, short.parent/f"{emotion}.mp4", vector=f"{emotion} - neutral", progress=False)
    a, b = read_video(short)[0], read_video(out)[0]
    change = np.abs(a.astype(float) - b).mean((0, 3))
    edge = np.concatenate([change[:8].ravel(), change[:, :8].ravel(), change[:, -8:].ravel()])
    assert change.max() > 8 and edge.mean() < 3, "the face moves, the frame's border does not"


def test_an_edited_still_does_not_tremble(short, corpus, monkeypatch):
    import cmet.edit.pipeline
    from PIL import Image
    written = []
    def keep(out, source, frames, story, sound=None, force=False): written.extend(frames); return out
    monkeypatch.setattr(cmet.edit.pipeline, "save_edit", keep)
    Image.fromarray(read_video(short)[0][5]).save(short.parent/"still.png")
    edit_video(short.parent/"still.png", short.parent/"moved.mp4", vector="happy - neutral", progress=False)
    assert len(written) == 75 and all(np.array_equal(f, written[0]) for f in written)
    assert np.abs(written[0].astype(float) - read_video(short)[0][5]).max() > 20


PEAK = """import sys
from cmet.cli import main
assert not main(sys.argv[1:])
print("PEAK", next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
print("LOADED", *sorted({"scipy.optimize", "scipy.sparse", "scipy.spatial"} & {*sys.modules}))"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say what a process's peak was")
def test_a_large_photograph_takes_the_memory_of_a_few_pictures(tmp_path):
    "More than a small one takes: eleven of its size. Were each of the 75 frames a copy that somebody holds, 87."
    peaks, sides = [], (256, 2600)  # above `cmet.io.media.MANY`
    for side in sides:
        Image.fromarray(FACE).resize((side, side), Image.Resampling.BICUBIC).save(tmp_path/f"{side}.jpg")
        done = subprocess.run([sys.executable, "-c", PEAK, "edit", tmp_path/f"{side}.jpg", "--vector", "happy - neutral", "-o", tmp_path/f"{side}.mp4"],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-800:]
        peaks.append(int(done.stdout.split("PEAK ")[1].split()[0])*1024)
        assert done.stdout.split("LOADED")[1].split() == [], "an edit loads what it does not need"
    pictures = (peaks[1] - peaks[0])/(3*sides[1]**2)
    assert pictures < 16, f"{pictures:.1f} pictures of {3*sides[1]**2/2**20:.0f} MB"


def test_a_learned_codec_from_its_file(short):
    from cmet.face.codecs import face_codec
    from cmet.face.mesh import learned, save_codec
    frames = read_video(short)[0]
    wide = np.stack(list(MeshCodec().edit(frames, np.tile(3.*(np.array(AUS) == "AU12"), (len(frames), 1)))))
    save_codec(learned({"neutral": frames, "happy": wide}, source="a test"), short.parent/"codec.safetensors")
    for path in short.parent/"codec.safetensors", str(short.parent/"codec.safetensors"):
        assert face_codec(path).rig.source == "a test"
    out = edit_video(short, short.parent/"learned.mp4", vector="happy - neutral", progress=False,
                     codec=short.parent/"codec.safetensors")
    assert json.loads(out.with_suffix(".json").read_text())["codec"]["learned_from"] == "a test"


@pytest.mark.skipif(not any(p.is_file() for p in candidates("face_landmarker.task")), reason="face_landmarker.task")
def test_the_lips_go_on_talking(short):
    from cmet.evaluate.judges import blendshapes, mouth_sync
    frames = list(islice(open_video(builtin("portrait.mp4")).frames(), 40))
    talk = write_video(short.parent/"talk.mp4", frames, 25)
    out = edit_video(talk, short.parent/"sync.mp4", vector="angry - neutral", progress=False)
    assert mouth_sync(*(blendshapes(read_video(p)[0]) for p in (out, talk))) > .7


@pytest.mark.parametrize("strength", [0, 1])
def test_a_smile_is_told_where_it_is_taken_off(tmp_path, strength):
    "At strength 0 the face was said to lose its smile, and lost nothing."
    still = write_video(tmp_path/"smiles.mp4", [FACE]*2, 25)
    if not strength: out = edit_video(still, tmp_path/"out.mp4", vector="angry", strength=0, progress=False)
    else:
        with pytest.warns(UserWarning, match="smiles all along"):
            out = edit_video(still, tmp_path/"out.mp4", vector="angry", progress=False)
    said = json.loads(out.with_suffix(".json").read_text())["notes"]
    assert any("smiles" in note for note in said) == bool(strength)
    with warnings.catch_warnings(record=True) as caught: preview(still, tmp_path/"out.png", vector="angry", strength=strength)
    assert [str(w.message) for w in caught] == said, "the preview says what the edit says"


def test_a_part_of_the_face_with_its_own_strength(tmp_path):
    "With the mouth at 0 the brows come down and the lips stay as they are, their smile too; and nobody says otherwise."
    still = write_video(tmp_path/"smiles.mp4", [FACE]*2, 25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = edit_video(still, tmp_path/"out.mp4", vector="angry", regions={"mouth": 0, "brows": 1.5}, progress=False)
    story = json.loads(out.with_suffix(".json").read_text())
    assert story["regions"] == {"brows": 1.5, "mouth": 0} and story["codec"]["mean_change"][AUS.index("AU12")] == 0
    moved = np.abs(read_video(out)[0].astype(float) - read_video(still)[0])[0].max(-1)
    face = MeshCodec().track([FACE]).points[0]
    at = lambda *points: moved[tuple(slice(int(lo), int(hi)) for lo, hi in zip(*(f(face[list(points), 1::-1], 0) for f in (np.min, np.max))))]
    assert np.quantile(at(*LIPS_TOP, *LIPS_LOW), .9) < 12 < 30 < np.quantile(at(66, 296, 107, 336, 9), .9)


def test_a_smile_raises_the_lip_corners(short):
    out = edit_video(short, short.parent/"smile.mp4", vector="2*(happy - neutral)", progress=False)
    story = json.loads(out.with_suffix(".json").read_text())
    asked = dict(zip(AUS, story["codec"]["mean_change"]))
    assert asked["AU12"] > .5 and asked["AU12"] > asked["AU15"]
    codec, a, b = MeshCodec(), read_video(short)[0], read_video(out)[0]
    both = codec.encode(np.concatenate([a, b]))
    gain = np.nanmean(both[len(a):], 0) - np.nanmean(both[:len(a)], 0)
    assert gain[AUS.index("AU12")] > .3, f"AU12 {gain[AUS.index('AU12')]:.2f}"


@pytest.mark.real
@pytest.mark.skipif(find_data("cmet-samples") is None, reason="needs CMET_DATA")
def test_a_real_talking_face(tmp_path):
    root = find_data("cmet-samples")
    talk, speech = root/"asset"/"video"/"W009_038.mp4", root/"audios"/"MEAD"
    to, frm = (sorted((speech/e).glob("W009*.wav"))[:3] for e in ("happy", "neutral"))
    assert to and frm
    out = edit_video(talk, tmp_path/"happy.mp4", to=to, frm=frm, progress=False)
    a, b = open_video(talk), open_video(out)
    assert (a.fps, a.size) == (b.fps, b.size) and b.n_frames == 175 and sound_of(talk) == sound_of(out)
    assert np.array_equal(read_audio(talk), read_audio(out))
    assert open_video(out).metadata["comment"] == LABEL


def test_stored_features_are_enough_for_an_edit(tmp_path):
    "With emotion2vec features beside the audio, no network and no weights are needed, and the JSON says so."
    root = find_data("cmet-samples")
    if root is None: pytest.skip("CMET_DATA does not hold cmet-samples")
    from cmet.corpus.corpus import concat, encode_corpus
    from cmet.corpus.datasets import cmet_samples
    from cmet.corpus.studio import textbook
    from cmet.mappers.registry import mapper
    from cmet.speech.encoders import speech_encoder
    clips = cmet_samples(root)
    clips = clips[clips.speaker == "W009"]
    speech = encode_corpus(clips, speech_encoder("emotion2vec-large"), progress=False)
    fitted = mapper("label").fit(concat(speech, textbook()))
    pool = lambda e: list(clips.audio[clips.emotion == e])[:3]
    out = edit_video(builtin("portrait.mp4"), tmp_path/"out.mp4", to=pool("happy"), frm=pool("neutral"), mapper=fitted,
                     corpus=speech, progress=False)
    made = json.loads(out.with_suffix(".json").read_text())
    assert made["vector"]["encoder"]["version"].startswith("unknown") and made["codec"]["mean_change"][AUS.index("AU12")] > .5


def test_a_second_face_is_told(tmp_path):
    "Two as large are refused; where one is smaller, the sentence says whose face is edited, in the edit as in the preview."
    from cmet.face.landmarks import left_alone
    beside = np.hstack([np.kron(FACE, np.ones((3, 3, 1), np.uint8)), np.pad(FACE, ((0, 512), (0, 0), (0, 0)))])
    film = write_video(tmp_path/"two.mp4", [beside]*2, 25)
    with pytest.warns(UserWarning, match="2 faces, first in frame 0: the larger one is edited, the other stays as it is"):
        out = edit_video(film, tmp_path/"out.mp4", vector="sad", progress=False)
    assert any(note.startswith("2 faces") for note in json.loads(out.with_suffix(".json").read_text())["notes"])
    with pytest.warns(UserWarning, match="2 faces in the picture: the larger one"): preview(film, tmp_path/"out.png", vector="sad")
    moved = np.abs(read_video(out)[0].astype(float) - read_video(film)[0]).max((0, 3))
    assert moved[:, :768].max() > 30 > 10 > np.quantile(moved[:, 800:], .999), "the other is the encoder's alone"
    assert left_alone(9, [1.1, .2], 30) == "3 faces, first in frame 9: a smaller one is edited, the others stay as they are"


def test_whose_face_is_asked_of_any_codec_that_takes_it(monkeypatch):
    from cmet.edit.request import chosen_codec
    from cmet.face.codecs import CODECS
    class Picky(FaceCodec):
        def __init__(self, which=None): self.which = which
    monkeypatch.setitem(CODECS, "picky", Picky)
    assert chosen_codec("picky", "left").which == "left" and chosen_codec("picky").which is None
    with pytest.raises(CmetError, match="--face is for the codec edtalk"): chosen_codec("mesh", "left")
    with pytest.raises(CmetError, match="unknown codec 'picki': did you mean picky"): chosen_codec("picki", "left")
    with pytest.raises(CmetError, match="--face is for"): chosen_codec(Picky(), "left")
    with pytest.raises(CmetError, match="cmet crop FILE --face right --size 720 -o"): chosen_codec("mesh", "right")


@pytest.mark.parametrize("name, face", [("my two.png", "face.png"), ("two.jpg", "face.jpg"), ("two.webp", "face.png"), ("two.mov", "face.mp4")])
def test_a_command_that_cuts_a_face_out_can_be_pasted(tmp_path, name, face):
    "It said FILE, and a name in .mp4 for a picture."
    from cmet.edit.request import naming
    from cmet.face.landmarks import two_faces
    with pytest.raises(CmetError) as e: edit_video(tmp_path/name, tmp_path/"x.mp4", vector="happy", face="right")
    assert e.value.remedy.endswith(f"cmet crop {shlex.quote(str(tmp_path/name))} --face right --size 720 -o {face}")
    with pytest.raises(CmetError) as e, naming(name): raise two_faces(0)
    assert e.value.remedy.endswith(f"cmet crop {shlex.quote(name)} --face largest --size 720 -o {face}")
    with pytest.raises(CmetError, match="^a: b$"), naming(name): raise CmetError("a", "b")


def test_two_faces_are_told_with_the_files_name(tmp_path):
    frame = next(open_video(builtin("portrait.mp4")).frames())
    Image.fromarray(np.concatenate([frame, frame], 1)).save(two := tmp_path/"two.png")
    for look in edit_video, preview:
        with pytest.raises(CmetError, match=r"two faces: .*cmet crop \S*/two.png --face largest --size 720 -o face.png$"): look(two, tmp_path/"x.mp4", vector="happy")


def test_a_curve_is_told_as_a_vector_is(talk, tmp_path, capsys):
    "What, by whom, how strong; nothing was printed."
    more = dict(curve="0 neutral -> 1 happy", strength=.5)
    edit_video(talk, tmp_path/"x.mp4", **more)
    said = "by name: 0 neutral -> 1 happy (mapper transformer, by whisper), strength 0.5"
    assert capsys.readouterr().out == said + "\n" and Image.open(preview(talk, tmp_path/"x.png", **more)).info["Description"] == said


def test_strength_nought_is_drawn_once(tmp_path):
    Image.fromarray(next(open_video(builtin("portrait.mp4")).frames())).save(face := tmp_path/"face.png")
    wide = lambda name, *strength: Image.open(preview(face, tmp_path/name, vector="happy", strength=[*strength])).width
    assert wide("a.png", 0, 1) == wide("b.png", 1) < wide("c.png", .5, 1)


def test_a_gif_is_the_explorers(talk, tmp_path):
    with pytest.raises(CmetError, match="h.gif' is not an mp4: end its name in .mp4; the explorer's button GIF"): edit_video(talk, tmp_path/"h.gif", vector="happy")
