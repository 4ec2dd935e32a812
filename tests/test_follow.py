"""Expression that follows speech: a made-up voice whose pitch is its emotion, then the real ear, then the edit."""
import json
import warnings

import numpy as np
import pytest

from cmet.core import CmetError, builtin, find_data
from cmet.corpus.corpus import make_corpus
from cmet.corpus.studio import demo_speech
from cmet.edit.follow import MOST, Gain, followed, gain_of, shaped, windows
from cmet.edit.pipeline import edit_video
from cmet.edit.request import people_mapper, wanted_vector
from cmet.face.codecs import FaceCodec
from cmet.io.media import open_video, write_audio, write_video
from cmet.mappers.ear import Ear
from cmet.speech.encoders import SpeechEncoder, speech_encoder
from cmet.speech.voicing import HOP, RATE, loud, pitch_of
from cmet.vectors.vector import Pool, Vector


def talk(hertz, seconds, seed=0):
    "Buzzing syllables at a pitch."
    t = np.arange(int(seconds*RATE))/RATE
    wav = sum(np.sin(2*np.pi*k*hertz*t + k*np.sin(2*np.pi*3*t))/k for k in range(1, 12))*(1.1 + np.sin(2*np.pi*5*t))
    return .1*wav + .002*np.random.default_rng(seed).normal(size=len(t))


class Pitch(SpeechEncoder):
    "How high a voice is, in octaves above 100 Hz, and nothing else."
    name, dim, version = "pitch", 2, "1"
    def __init__(self): super().__init__(cache=False); self.heard = []
    def embed(self, wav):
        self.heard.append(len(wav)/RATE)
        pitch = pitch_of(wav)
        return np.array([np.log2(np.median(pitch[pitch > 0])/100), 1.])


class Ears:
    "Hears what it is told; a voice at rest is at 100 Hz."
    def hear(self, v): return np.asarray(v, np.float64)
    def at_rest(self, x): return np.tile([0., 1.], (len(x), 1))
    def chances(self, v, n=1, guessed=False): return dict(happy=.9, neutral=.07, sad=.03)
    def unlike(self, x): return np.ones(len(x))
    def apart(self, x, y): return 0.
    names = ("happy", "neutral", "sad")
    def taken(self, z): return np.array([.9, -.9, 0.])
    def likely(self, z, n=1, guessed=False): return np.array([*self.chances(z).values()])
    belief, told = Ear.belief, Ear.told


class High:
    "A mapper with an ear, to as much as the first number says."
    kind, encoder, config, state, ear = "high", "pitch", {"widths": [2, 3]}, {"limit": np.inf}, Ears()
    def predict(self, v, face): return np.full_like(face, np.asarray(v)[0])


CALM, HIGH = 100, 200  # Hz


@pytest.fixture
def sound(tmp_path):
    "Two seconds calm, one of silence, two high."
    return write_audio(tmp_path/"speech.wav", np.r_[talk(CALM, 2), np.zeros(RATE), talk(HIGH, 2)], RATE)


def mean(gain, a, b): return gain.values[int(a*RATE/HOP):int(b*RATE/HOP)].mean()


def test_high_where_the_voice_is(sound):
    encoder = Pitch()
    gain = gain_of(sound, encoder, High(), [0., 1.])
    assert mean(gain, 3.3, 4.8) > 1.5 and mean(gain, .2, 1.5) < .3 and gain.values[250] == 0
    assert 0 <= gain.values.min() and gain.values.max() <= MOST and np.isclose(gain.seconds, 5)
    assert np.abs(np.diff(gain.values)).max() < .1, "no jerks: steps in 10 ms"
    assert max(encoder.heard[1:]) <= 1.02 and min(encoder.heard) > .25


def test_even_speech_has_an_even_factor(tmp_path):
    even = write_audio(tmp_path/"even.wav", talk(HIGH, 4), RATE)
    gain = gain_of(even, Pitch(), High(), [0., 1.])
    assert np.allclose(gain.values[40:-40], 1, atol=.1)


def test_silence_around_is_part_of_the_time(tmp_path):
    late = write_audio(tmp_path/"late.wav", np.r_[np.zeros(2*RATE), talk(HIGH, 2), np.zeros(RATE)], RATE)
    gain = gain_of(late, Pitch(), High(), [0., 1.])
    assert np.isclose(gain.seconds, 5) and mean(gain, 0, 1.6) == 0 == mean(gain, 4.4, 5) and mean(gain, 2.3, 3.7) > .9


@pytest.mark.parametrize("n, fps", [(125, 25), (130, 25), (115, 25), (150, 30)])
def test_one_take_plays_at_its_own_pace(n, fps):
    gain = Gain(np.linspace(0, 2, 498), 5.)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factor, told = gain.over(n, fps)
    assert np.isclose(factor[fps], .4, atol=.01) and told["pace"] == "its own" and factor.shape == (n,)


@pytest.mark.parametrize("n, how", [(250, "stretched"), (50, "squeezed")])
def test_other_lengths_are_fitted_and_said(n, how):
    with pytest.warns(UserWarning, match=how): factor, told = Gain(np.linspace(0, 2, 498), 5.).over(n, 25)
    assert np.allclose(factor[[0, n//2, -1]], [0, 1, 2], atol=.05) and how in told["pace"]
    assert np.isclose(told["mean"], 1, atol=.03) and told["max"] <= 2


def test_shapes():
    on = np.repeat([True, False, True], 200)
    assert np.isclose(shaped(np.linspace(0, 9, 600), on)[on].mean(), 1, atol=.02)
    assert shaped(np.linspace(-1, 9, 600), on).max() <= MOST
    assert np.allclose(shaped(np.full(600, -3.), on), shaped(np.ones(600), on)), "then only pauses are followed"
    one = shaped(np.where(np.arange(600) < 30, 50., 0), on)  # a short cry: the mean cannot be reached
    assert one.max() <= MOST and np.isfinite(one).all()
    assert len(shaped(np.ones(20), np.ones(20, bool))) == 20


def test_windows_hold_speech_only():
    wav = np.float32(np.r_[talk(CALM, .5), np.zeros(4*RATE), talk(CALM, .5)])
    found = windows(wav, loud(wav))
    assert found and all(t < 1 or t > 4 for t, _ in found) and all(.28 < len(x)/RATE < 1.02 for _, x in found)
    short = np.float32(talk(CALM, .6))
    assert {len(x) for _, x in windows(short, loud(short))} == {len(short) - 80}, "one window, up to the last whole frame"


def wish(*terms): return Vector(np.ones(2, np.float32), "speech", terms, encoder="pitch")


def test_what_cannot_be_followed(sound, tmp_path):
    neutral = Pool("from", np.array([[0., 1.]], np.float32))
    v = wish((1, neutral), (-1, neutral))
    for paths, words in ([], "without --to"), ([sound, sound], "2 recordings"), (["x.npy"], "no sound"):
        with pytest.raises(CmetError, match=words) as e: followed(paths, Pitch(), High(), v)
        assert "leave --follow out" in e.value.remedy
    assert np.array_equal(followed([sound], Pitch(), High(), v).values, gain_of(sound, Pitch(), High(), [0, 1]).values)
    deaf = type("Deaf", (), dict(kind="label", ear=None))
    with pytest.raises(CmetError, match="'label' has no ear") as e: gain_of(sound, Pitch(), deaf, [0, 1])
    assert "--mapper auto" in e.value.remedy
    with pytest.raises(CmetError, match="shape"): gain_of(sound, Pitch(), High(), [0, 1, 2])
    tone = write_audio(tmp_path/"tone.wav", .3*np.sin(np.arange(3*RATE)*.1), RATE)
    with pytest.raises(CmetError, match="not speech"): gain_of(tone, Pitch(), High(), [0, 1])
    cry = write_audio(tmp_path/"cry.wav", np.r_[np.zeros(RATE), talk(HIGH, .25), np.zeros(RATE)], RATE)
    with pytest.raises(CmetError, match="too short to follow"): gain_of(cry, Pitch(), High(), [0, 1])


class Toy(FaceCodec):
    "A codec that keeps what it was asked for."
    name, dim = "toy", 3
    def track(self, frames): return [0 for _ in frames]
    def encode(self, track): return np.zeros((len(track), 3), np.float32)
    def edit_stream(self, frames, track, delta): self.delta = delta; yield from frames


@pytest.fixture
def parts(tmp_path):
    "A video of five seconds, and a corpus of voices as `Pitch` hears them."
    video = write_video(tmp_path/"v.mp4", [np.full((64, 64, 3), i, np.uint8) for i in range(125)], 25)
    rows = [dict(speaker=s, emotion=e, intensity=1) for s in "AB" for e in ("neutral", "happy")]
    calm = np.array([[0., 1.], [1., 1.]]*2, np.float32)
    return video, make_corpus(rows, calm, [np.zeros((2, 3), np.float32)]*4, name="toy", encoder="pitch")


def test_an_edit_follows(parts, sound, tmp_path):
    video, corpus = parts
    calm, deltas, stories = write_audio(tmp_path/"calm.wav", talk(CALM, 2), RATE), [], []
    for follow in (False, True):
        codec, out = Toy(), tmp_path/f"{follow}.mp4"
        edit_video(video, out, to=sound, frm=calm, mapper=High(), corpus=corpus, encoder=Pitch(), codec=codec,
                   strength=2, follow=follow)
        deltas.append(codec.delta[:, 0]); stories.append(json.loads(out.with_suffix(".json").read_text()))
    held, course = deltas
    assert np.ptp(held) == 0 and held[0] > 0
    assert (course[85:115] > 1.4*held[0]).all() and (course[8:35] < .4*held[0]).all() and course[62] == 0
    assert stories[0]["follow"] is False and stories[0]["gain"] is None
    told = stories[1]["gain"]
    assert stories[1]["follow"] is True and told["min"] == 0 and told["pace"] == "its own" and told["max"] <= MOST
    assert np.isclose(told["mean"], (course/held).mean(), atol=2e-3)
    assert np.isclose(stories[1]["codec"]["mean_change"][0], course.mean(), atol=2e-3)


def test_a_smile_that_is_taken_off_stays_off_in_the_pauses(parts, sound, tmp_path, capsys):
    "Where the speech paused the factor took the neutral face away with the emotion: a grin between two sad sentences, which the note denied."
    from PIL import Image
    from skimage.data import astronaut

    from cmet.edit.previews import preview
    from cmet.face.action_units import AUS
    from cmet.face.asymmetry import TEXTBOOK
    from cmet.face.landmarks import mouth_opening
    from cmet.face.mesh import MeshCodec
    from cmet.face.mouth import smile

    class Sad(High):
        config = {"widths": [2, len(AUS)]}
        def predict(self, v, face): return np.tile([TEXTBOOK["sad"].get(u, 0) for u in AUS], (len(face), 1)).astype(np.float32)

    class Watched(MeshCodec):
        def edit_stream(self, frames, track, delta): given.append(np.asarray(delta)); return super().edit_stream(frames, track, delta)

    given, codec = [], Watched()
    Image.fromarray(astronaut()[:256, 96:352]).save(tmp_path/"grin.png")
    calm = write_audio(tmp_path/"calm.wav", talk(CALM, 2), RATE)
    wish = dict(to=sound, frm=calm, mapper=Sad(), corpus=parts[1], encoder=Pitch(), codec=codec, follow=True)
    with pytest.warns(UserWarning, match="its smile is taken off first"): out = edit_video(tmp_path/"grin.png", tmp_path/"o.mp4", **wish)
    gain, frames = gain_of(sound, Pitch(), Sad(), [0., 1.]).along(125, 25), list(open_video(out).frames())
    rest, most = int(gain.argmin()), int(gain.argmax())
    assert gain[rest] == 0 and gain[most] > 1 and smile(codec.track([astronaut()[:256, 96:352]]).points) > .9
    assert not any(smile(codec.track([frames[i]]).points) for i in (rest, most))
    assert mouth_opening(codec.track([frames[rest]]).points[0]) < .025, "no teeth are left between lips that the emotion would have shut"
    puller, inner = AUS.index("AU12"), AUS.index("AU01")
    assert np.ptp(given[0][:, puller]) < .1 and given[0][:, puller].max() < -3, "off for the whole film"
    assert np.allclose(given[0][:, inner], gain*TEXTBOOK["sad"]["AU01"], atol=1e-5), "the emotion comes and goes"
    given.clear()
    with pytest.warns(UserWarning, match="smile"): preview(tmp_path/"grin.png", tmp_path/"o.png", **wish)
    assert max(d[0, puller] for d in given) < -3, "a preview's as well"


def test_a_curve_says_when_a_smile_is_taken_off():
    "A curve that is neutral leaves the smile of a photograph there, and takes it off where another emotion comes."
    from skimage.data import astronaut

    from cmet.face.asymmetry import textbook
    from cmet.face.mesh import MeshCodec
    codec = MeshCodec()
    face = codec.track([astronaut()[:256, 96:352]]).repeat(3)
    sad = np.float32([[0], [.5], [1]])*textbook()[5]
    assert "taken off where another emotion comes" in codec.remarks(sad, face)[0]
    assert "taken off first" in codec.remarks(sad[1:], face)[0]


def test_a_picture_lasts_as_long_as_the_speech_it_follows(parts, sound, tmp_path, monkeypatch):
    "It was three silent seconds, into which the speech was squeezed: in an edit, a preview, and a folder."
    from PIL import Image

    import cmet.edit.previews
    from cmet.edit.batch import edit_folder
    from cmet.io.media import read_audio
    looks, real = [], cmet.edit.previews.filmstrip
    monkeypatch.setattr(cmet.edit.previews, "filmstrip", lambda rows, moments, *more: looks.append(moments) or real(rows, moments, *more))
    still, codec = tmp_path/"films"/"still.png", Toy()
    still.parent.mkdir()
    Image.new("RGB", (64, 64), "grey").save(still)
    wish = dict(to=sound, frm=write_audio(tmp_path/"calm.wav", talk(CALM, 2), RATE), mapper=High(), corpus=parts[1], encoder=Pitch(), codec=codec, follow=True)
    with pytest.warns(UserWarning) as told: out = edit_video(still, tmp_path/"o.mp4", **wish)
    note = "one picture becomes 5 s, as long as the speech, with its sound: the face shows the emotion and does not talk"
    story, heard = json.loads(out.with_suffix(".json").read_text()), read_audio(out)
    assert note in [str(w.message) for w in told] and note in story["notes"] and not any("squeezed" in str(w.message) for w in told)
    assert open_video(out).n_frames == len(codec.delta) == 125 and story["gain"]["pace"] == "its own"
    assert np.corrcoef(heard[:5*RATE], read_audio(sound))[0, 1] > .9
    with warnings.catch_warnings(record=True) as told: cmet.edit.previews.preview(still, tmp_path/"o.png", **wish)
    assert not any("becomes" in str(w.message) for w in told), "a preview makes no film"
    gain = gain_of(sound, Pitch(), High(), [0., 1.]).along(125, 25)
    assert looks == [[f"{(a + gain[a:z].argmax())/25:.1f} s" for a, z in ((0, 42), (42, 84), (84, 125))]], "of a recording as long as it may be"
    with pytest.warns(UserWarning, match="still.png: one picture becomes 5 s, as long"): edit_folder(still.parent, tmp_path/"all", **wish)
    assert open_video(tmp_path/"all"/"still.mp4").n_frames == 125 and open_video(tmp_path/"all"/"still.mp4").has_audio
    with pytest.warns(UserWarning, match="3 s without sound"): out = edit_video(still, tmp_path/"o.mp4", force=True, **wish | {"follow": False})
    assert open_video(out).n_frames == 75 and not open_video(out).has_audio


def test_recordings_are_doubted_each_for_itself_and_not_searched_for_speech_again(tmp_path, monkeypatch):
    "Two of the same name were one, so that a telephone's silenced a microphone's; and whether it is speech their vector has asked."
    from scipy.signal import butter, sosfilt

    import cmet.speech.encoders
    from cmet.edit.caution import recorded
    class Short(Pitch): longest = 15.
    wide = talk(HIGH, 2)
    for name, wav in ("wide", wide), ("phone", sosfilt(butter(12, 3300, output="sos", fs=RATE), wide)):
        (tmp_path/name).mkdir()
        write_audio(tmp_path/name/"1.wav", wav, RATE)
    files = [tmp_path/"wide"/"1.wav", tmp_path/"phone"/"1.wav"]
    def again(*_): raise AssertionError("searched for speech once more")
    monkeypatch.setattr(cmet.speech.encoders, "found_speech", again)
    assert "as over a telephone" in recorded(Ears(), Short(), files[1:])[0]
    assert recorded(Ears(), Short(), files) == [] == recorded(Ears(), Short(), files[1:], files[1:])


@pytest.mark.parametrize("more, words", [(dict(vector="happy - neutral"), "without --to"), (dict(curve="0 happy"), "without --to"), (dict(curve="0 voice", to="a.wav"), "both --follow and --curve given"),
                                         (dict(to="both"), "2 recordings")])
def test_an_edit_that_cannot_follow(parts, sound, tmp_path, more, words):
    video, corpus = parts
    if more.get("to") == "both": more = dict(to=[sound, write_audio(tmp_path/"more.wav", talk(HIGH, 2, 1), RATE)])
    with pytest.raises(CmetError, match=words):
        edit_video(video, tmp_path/"out.mp4", mapper=High(), corpus=corpus, encoder=Pitch(), codec=Toy(), follow=True, **more)
    assert not (tmp_path/"out.mp4").exists()


def test_the_command(tmp_path, capsys):
    from cmet.cli import main
    source = open_video(builtin("portrait.mp4"))
    short = write_video(tmp_path/"short.mp4", [f for f, _ in zip(source.frames(), range(30))], source.fps)
    to, frm = demo_speech("happy", "F01"), demo_speech("neutral", "F01")
    args = ["edit", str(short), "-o", str(tmp_path/"out.mp4"), "--encoder", "whisper", "--follow", "--from", *map(str, frm[:2])]
    assert main([*args, "--to", str(to[0])]) in (0, None)
    story = json.loads((tmp_path/"out.json").read_text())
    assert story["follow"] is True and 0 <= story["gain"]["min"] < story["gain"]["max"] <= MOST
    assert "squeezed" in capsys.readouterr().err
    assert main([*args, "--force", "--to", *map(str, to[:2])]) not in (0, None)
    assert "2 recordings" in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.skipif(find_data("ravdess") is None, reason="needs CMET_DATA")
@pytest.mark.parametrize("actor", ["02", "09", "14"])
def test_a_person(actor, tmp_path):
    "Neutral, a pause, then angry; another neutral sentence says what the voice is like at rest."
    from cmet.io.media import read_audio
    from cmet.speech.voicing import trimmed
    clip = lambda name: next(find_data("ravdess").rglob(f"03-01-{name}-{actor}.*"))
    calm, angry = (trimmed(read_audio(clip(name), RATE)) for name in ("01-01-01-01", "05-02-02-01"))
    sound = write_audio(tmp_path/"two.wav", np.r_[calm, np.zeros(RATE), angry], RATE)
    mapper, corpus = people_mapper("whisper")
    encoder, at = speech_encoder("whisper", cache=False), len(calm)/RATE
    rest = [clip("01-01-02-02")]
    gain = followed([sound], encoder, mapper, wanted_vector(mapper, corpus, encoder, [sound], rest))
    parts = mean(gain, .2, at - .2), mean(gain, at + .35, at + .65), mean(gain, at + 1.2, gain.seconds - .2)
    assert parts[2] > 1 and parts[0] < parts[2]/2 and parts[1] < .05
