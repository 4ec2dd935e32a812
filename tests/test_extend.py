"Five tables, one form: a class of one's own joins by one decorated line, also in a module that a command has never heard of."
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cmet.cli import main
from cmet.core import CmetError, Registry, builtin, plugins
from cmet.corpus import LAYOUTS, make_corpus, read_corpus
from cmet.evaluate import JUDGES
from cmet.face import CODECS
from cmet.io import open_video
from cmet.io.media import write_video
from cmet.mappers import MAPPERS, configured, load_mapper
from cmet.speech import ENCODERS

TABLES = [LAYOUTS, ENCODERS, CODECS, MAPPERS, JUDGES]
MINE = '''
import numpy as np
from cmet.corpus import LAYOUTS, Layout
from cmet.evaluate import JUDGES
from cmet.face import CODECS, FaceCodec
from cmet.mappers import MAPPERS, Mapper
from cmet.speech import ENCODERS, SpeechEncoder

@LAYOUTS.register("my-films")
class Films(Layout):
    video, audio = (r"(?P<speaker>[a-z]+)-(?P<emotion>[NF])(?P<sentence>\\d)\\." + kind for kind in ("mp4", "flac"))
    codes, example = {"N": "neutral", "F": "happy"}, "ann-F1.mp4"

@ENCODERS.register("my-level")
class Level(SpeechEncoder):
    dim, version = 2, "1"
    def __init__(self, **options): super().__init__(cache=False)
    def embed(self, wav): return [np.abs(wav).mean(), np.abs(wav).max()]

@CODECS.register("my-light")
class Light(FaceCodec):
    dim = 1
    def encode(self, track): return track.mean((1, 2, 3))[:, None].astype(np.float32)
    def edit_stream(self, frames, track, delta):
        for frame, d in zip(frames, delta): yield (frame + d).clip(0, 255).round().astype(np.uint8)

@MAPPERS.register("my-step")
class Step(Mapper):
    axes = dict(change="D")
    def __init__(self, size:float=1.): super().__init__(size=size)
    def _fit(self, corpus, speech, face):
        self.state["change"] = np.full(face.values.shape[1], self.config["size"], np.float32)
    def _delta(self, v, face): return self.state["change"]

@JUDGES.register("my-eye")
class Eye:
    def __call__(self, frame): return np.eye(7)[4 if frame.mean() > 128 else 0]
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    "The module above as an installed package that names it in `cmet.plugins`."
    site = tmp_path/"site"
    (site/"mine-1.dist-info").mkdir(parents=True)
    (site/"mine-1.dist-info"/"METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (site/"mine-1.dist-info"/"entry_points.txt").write_text("[cmet.plugins]\nmine = my_cmet\n")
    (site/"my_cmet.py").write_text(MINE)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))  # for workers
    before = [dict(t) for t in TABLES]
    plugins.cache_clear()
    yield site
    plugins.cache_clear()
    sys.modules.pop("my_cmet", None)
    for table, old in zip(TABLES, before): table.clear(); table.update(old)


@pytest.fixture
def films(tmp_path):
    "Two takes of one person: dark and soft when neutral, bright and loud when happy."
    import soundfile
    root, frames = tmp_path/"films", list(open_video(builtin("portrait.mp4")).frames())[20:24]
    wav, rate = soundfile.read(next(builtin("speech").glob("F01_happy_3_001.flac")))
    root.mkdir()
    for name, k, gain in (("N1", .5, .2), ("N2", .6, .3), ("F1", 1, .9), ("F2", .9, 1)):
        write_video(root/f"ann-{name}.mp4", [(f*k).astype(np.uint8) for f in frames], 25)
        soundfile.write(root/f"ann-{name}.flac", wav*gain, rate)
    return root


def test_a_plugin_is_used_by_every_command(installed, films, tmp_path, capsys):
    to, mapper, out = tmp_path/"corpus", tmp_path/"m.safetensors", tmp_path/"made"/"ann_happy.mp4"
    do = lambda *words: main(list(map(str, words)))
    assert do("encode", films, "-o", to, "--layout", "my-films", "--encoder", "my-level", "--codec", "my-light", "--workers", 2) == 0
    c = read_corpus(to)
    assert (c.meta["layout"], c.meta["encoder"], c.meta["codec"]) == ("my-films", "my-level", "my-light")
    assert c.emotions == ["happy", "neutral"] and list(c.lengths) == [4]*4 and c.speech.shape == (4, 2)
    assert do("train", to, "-o", mapper, "--mapper", "my-step", "--set", "size=2.5e1") == 0
    assert load_mapper(mapper).config["size"] == 25 and load_mapper(mapper).kind == "my-step"
    out.parent.mkdir()
    assert do("edit", films/"ann-N1.mp4", "--to", films/"ann-F1.flac", "--from", films/"ann-N1.flac", "--mapper", mapper,
              "--corpus", to, "--codec", "my-light", "-o", out) == 0
    was, now = (np.mean(list(open_video(p).frames())) for p in (films/"ann-N1.mp4", out))
    assert 15 < now - was < 30
    Image.fromarray(next(open_video(films/"ann-N1.mp4").frames())).save(tmp_path/"still.png")
    assert do("edit", tmp_path/"still.png", "--to", films/"ann-F1.flac", "--from", films/"ann-N1.flac", "--mapper", mapper,
              "--corpus", to, "--codec", "my-light", "-o", tmp_path/"still.mp4") == 0
    assert 15 < np.mean(list(open_video(tmp_path/"still.mp4").frames())) - was < 30
    assert do("eval", out.parent, "-o", tmp_path/"score", "--source", films, "--judge", "my-eye") == 0
    assert "judge my-eye" in capsys.readouterr().out


def test_a_layout_of_a_plugin_is_found_out(installed, films):
    from cmet.corpus.datasets import detect_layout
    assert detect_layout(films) == "my-films"


def test_a_layout_that_finds_no_emotion_is_told(tmp_path, monkeypatch):
    from cmet.corpus import LAYOUTS, Layout
    from cmet.corpus.datasets import read_layout
    monkeypatch.setitem(LAYOUTS, "numbers", type("Numbers", (Layout,), dict(audio=r"(?P<take>\d+)\.wav", example="1.wav")))
    (tmp_path/"1.wav").touch()
    with pytest.raises(CmetError, match=r"layout 'numbers' finds no emotion in the name of audio: .*\(\?P<emotion>"): read_layout(tmp_path, "numbers")


@pytest.mark.parametrize("table", TABLES, ids=lambda t: t.kind)
def test_every_table_says_what_it_knows(table):
    assert isinstance(table, Registry)
    with pytest.raises(CmetError) as e: table.find("no such thing")
    assert e.value.cause == f"unknown {table.kind} 'no such thing'" and all(name in e.value.remedy for name in table)
    first = next(iter(table))
    with pytest.raises(CmetError, match=f"did you mean {first}.* known are"): table.find(first + "e")


def test_a_plugin_that_is_broken_is_named(installed):
    (installed/"my_cmet.py").write_text("import nothing_of_the_kind")
    with pytest.raises(CmetError, match="plugin 'mine' .my_cmet. cannot be loaded.*nothing_of_the_kind"): MAPPERS.find("my-step")
    assert configured("ridge"), "what the kit itself knows needs no plugin"


def test_nothing_is_searched_for_where_the_name_is_known():
    code = """import importlib.metadata as m
m.entry_points = lambda **k: 1/0
from cmet.mappers import mapper; from cmet.face import face_codec; from cmet.speech import speech_encoder
mapper("ridge"), face_codec("mesh"), speech_encoder("whisper")"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_is_given_again_means_the_new_one():
    table = Registry("thing")
    @table.register("a")
    class One: pass
    @table.register("a", "b")
    class Two:
        def __init__(self, name, size=1): self.name, self.size = name, size
    assert One.name == "a" and table.make("b", size=3).size == 3 and table.make("a").name == "a"
    table.register("c")(lambda: 7)
    assert table.make("c") == 7


def test_a_judge_that_is_registered_again_is_made_again():
    from cmet.evaluate import judge
    try:
        for p in (.25, .75):
            JUDGES.register("constant")(type("Constant", (), {"__call__": lambda self, frame, p=p: np.full(7, p)}))
            assert judge("constant").read(np.zeros((1, 8, 8, 3), np.uint8))[0] == p
    finally: del JUDGES["constant"]


def test_a_mapper_of_ones_own_says_what_it_wants_besides():
    from cmet.evaluate.generalisation import answers, questions
    from cmet.mappers import Mapper
    @MAPPERS.register("asks")
    class Asks(Mapper):
        wants = "voice"
        def _fit(self, corpus, speech, face): pass
        def _delta(self, v, face, voice): return np.full(face.shape, voice.sum())
    try:
        rows = [dict(speaker=s, emotion=e) for s in "AB" for e in ("neutral", "happy") for _ in range(2)]
        c = make_corpus(rows, np.arange(16.).reshape(8, 2), np.ones((8, 3)), encoder="e", codec="c")
        q = questions(c)
        assert np.allclose(answers(configured("asks").fit(c), q), q.raw.sum(1, keepdims=True))
    finally: del MAPPERS["asks"]


def test_the_tutorial_shows_all_five():
    text = (Path(__file__).resolve().parents[1]/"nbs"/"tutorials"/"extend.ipynb").read_text("utf-8")
    assert all(f"@{name}.register(" in text for name in ("LAYOUTS", "ENCODERS", "CODECS", "MAPPERS", "JUDGES"))
