"""`cmet edit` on bad input: one line with cause and remedy, exit status 2, no file changed. All input is made here."""
import errno
import json
import os
import re
import signal
import subprocess
import sys

import av
import numpy as np
import pandas as pd
import pytest
import soundfile
import warm
from skimage.data import astronaut, coffee

from cmet.cli import main
from cmet.core import CmetError, builtin
from cmet.corpus.corpus import make_corpus, write_corpus
from cmet.io.media import open_video, read_audio, write_video

FACE = astronaut()[:256, 96:352]
COMMAND = "import sys; from cmet.cli import main; sys.exit(main())"
T = np.arange(16000)/16000
SPEECH = (.3*np.sin(2*np.pi*(180*T + 40*np.sin(2*np.pi*3*T)))*(1 + np.sin(2*np.pi*4*T))).astype(np.float32)


def video(path, picture, frames=6, **more): return write_video(path, [picture]*frames, 25, **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    d = tmp_path_factory.mktemp("in")
    soundfile.write(d/"speech.wav", SPEECH, 16000)
    soundfile.write(d/"phone.wav", np.stack([SPEECH[::2]]*2, 1), 8000)
    soundfile.write(d/"none.wav", np.zeros(0), 16000)
    soundfile.write(d/"blip.wav", SPEECH[:200], 16000)
    soundfile.write(d/"nan.wav", np.where(T > .5, np.nan, SPEECH), 16000, subtype="FLOAT")
    soundfile.write(d/"silent.wav", np.zeros(16000), 16000)
    soundfile.write(d/"tone.wav", .3*np.sin(2*np.pi*200*T), 16000)
    soundfile.write(d/"noise.wav", .1*np.random.default_rng(0).standard_normal(16000), 16000)
    (d/"text.wav").write_text("These are words, but nobody said them.\n"*50)
    video(d/"talk.mp4", FACE, sound=d/"speech.wav")
    video(d/"noface.mp4", coffee()[:256, :256])
    video(d/"two.mp4", np.concatenate([FACE, FACE[:, ::-1]], 1))
    video(d/"one.mp4", FACE, frames=1)
    (d/"empty.mp4").touch()
    (d/"text.mp4").write_text("This is not a video.\n"*100)
    (d/"cut.mp4").write_bytes((d/"talk.mp4").read_bytes()[:9000])
    (d/"sound.mp4").write_bytes((d/"speech.wav").read_bytes())
    (d/"old.mp4").write_bytes(b"an earlier result")
    (d/"taken.json").write_text("{}")
    (d/"text.safetensors").write_text("words")
    (d/"nothing").mkdir()
    (d/"link.mp4").symlink_to(d/"talk.mp4")
    (d/"één gezicht.mp4").write_bytes((d/"one.mp4").read_bytes())
    (d/"blij & boos.wav").write_bytes((d/"speech.wav").read_bytes())
    from PIL import Image
    Image.fromarray(FACE).save(d/"still.png")
    Image.fromarray(coffee()[:256, :256]).save(d/"cup.png")
    return d


def state(folder): return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*"))}


SAY = "--to speech.wav -o new.mp4"
BAD = {
    "no such file": (f"gone.mp4 {SAY}", "no such video 'gone.mp4'"),
    "empty file": (f"empty.mp4 {SAY}", "empty"),
    "a folder as video": (f"nothing {SAY}", "video .nothing. is a folder, and output .new.mp4. is not: name one video"),
    "text renamed": (f"text.mp4 {SAY}", "cannot be read as video"),
    "truncated": (f"cut.mp4 {SAY}", "cut short"),
    "sound as video": (f"speech.wav {SAY}", "no picture"),
    "sound renamed": (f"sound.mp4 {SAY}", "no picture"),
    "no face": (f"noface.mp4 {SAY}", "no face"),
    "no face in a still": (f"cup.png {SAY}", "no face"),
    "two faces": (f"two.mp4 {SAY}", "(two|2|several|more than one).*face"),
    "an address for a video": (f"https://example.org/me.mp4 {SAY}", "download it first, and name the file"),
    "an address for speech": ("talk.mp4 --to https://example.org/a.wav -o new.mp4", "download it first, and name the file"),
    "an emotion for speech": ("talk.mp4 --to Happy -o new.mp4", "ask by name: --vector Happy"),
    "the same speech twice": ("talk.mp4 --to speech.wav --from speech.wav -o new.mp4", "--to and --from are the same speech"),
    "no such speech": ("talk.mp4 --to gone.wav -o new.mp4", "no such file or folder 'gone.wav'"),
    "no such folder of speech": ("talk.mp4 --to kinds -o new.mp4", "no such file or folder 'kinds': check the path"),
    "no samples": ("talk.mp4 --to none.wav -o new.mp4", "'none.wav' has no samples"),
    "too short": ("talk.mp4 --to blip.wav -o new.mp4", "blip.wav"),
    "not numbers": ("talk.mp4 --to nan.wav -o new.mp4", "'nan.wav' has samples that are not numbers"),
    "silence": ("talk.mp4 --to silent.wav -o new.mp4", "'silent.wav' is silent"),
    "one bad of two": ("talk.mp4 --to speech.wav silent.wav -o new.mp4", "'silent.wav' is silent"),
    "bad --from": ("talk.mp4 --to speech.wav --from nan.wav -o new.mp4", "'nan.wav'"),
    "text as speech": ("talk.mp4 --to text.wav -o new.mp4", r"'text.wav' cannot be read as sound \(it is none.*give another"),
    "silent video as speech": ("talk.mp4 --to one.mp4 -o new.mp4", "'one.mp4' has no sound"),
    "folder without speech": ("talk.mp4 --to nothing -o new.mp4", "no sound files in folder 'nothing'"),
    "same speech twice": ("talk.mp4 --to speech.wav --from speech.wav -o new.mp4", "zero"),
    "unknown emotion": ("talk.mp4 --vector hapy -o new.mp4", "unknown emotion 'hapy': did you mean happy"),
    "emotion not in the corpus": ("talk.mp4 --vector proud -o new.mp4", "unknown emotion 'proud'"),
    "broken expression": ("talk.mp4 --vector happy-+*sad -o new.mp4", "happy"),
    "expression with code": ("talk.mp4 --vector __import__('os').getcwd() -o new.mp4", "__import__|call|expression"),
    "expression of nothing": ("talk.mp4 --vector happy-happy -o new.mp4", "zero|nothing"),
    "empty expression": (["talk.mp4", "--vector", "", "-o", "new.mp4"], "expression|empty|vector"),
    "two sources of emotion": ("talk.mp4 --to speech.wav --vector happy -o new.mp4", "both --to and --vector"),
    "no source of emotion": ("talk.mp4 -o new.mp4", "no emotion given"),
    "--from alone": ("talk.mp4 --vector happy --from speech.wav -o new.mp4", "--from without --to"),
    "unwritable folder": ("talk.mp4 --to speech.wav -o /proc/new.mp4", "cannot write '/proc/new.mp4'"),
    "missing folder": ("talk.mp4 --to speech.wav -o gone/new.mp4", "no output folder 'gone'"),
    "a file as folder": ("talk.mp4 --to speech.wav -o old.mp4/new.mp4", "no output folder 'old.mp4'"),
    "a folder as output": ("talk.mp4 --to speech.wav -o nothing", "nothing"),
    "output is the video": ("talk.mp4 --to speech.wav -o talk.mp4", "one of the inputs"),
    "output is the video, forced": ("talk.mp4 --to speech.wav -o ./talk.mp4 --force", "one of the inputs"),
    "output is a link to the video": ("talk.mp4 --to speech.wav -o link.mp4 --force", "one of the inputs"),
    "output is the speech": ("still.png --to talk.mp4 -o talk.mp4 --force", "one of the inputs"),
    "output exists": ("talk.mp4 --to speech.wav -o old.mp4", "'old.mp4' exists.*--force"),
    "its JSON exists": ("talk.mp4 --to speech.wav -o taken.mp4", "'taken.json' exists"),
    "output is no mp4": ("talk.mp4 --to speech.wav -o new.gif", "'new.gif' is not an mp4"),
    "name too long": (f"talk.mp4 --to speech.wav -o {'x'*300}.mp4", "cannot write"),
    "strength is not a number": (f"talk.mp4 --strength nan {SAY}", "strength nan"),
    "strength is a word": (f"talk.mp4 --strength much {SAY}", "strength much"),
    "strength is absurd": (f"talk.mp4 --strength 1e9 {SAY}", "strength 1e9 is out of range: use -5 to 5"),
    "a part without a number": (f"talk.mp4 --part mouth {SAY}", "setting 'mouth' has no value"),
    "a part that is none": (f"talk.mp4 --part ears=1 {SAY}", "no part of a face is called 'ears': use brows, eyes, mouth, or the person's own right or left"),
    "a part times a word": (f"talk.mp4 --part mouth=wide {SAY}", "mouth wide is out of range: use 0 to 2"),
    "a part times too much": (f"talk.mp4 --part mouth=0 left=9 {SAY}", "left 9 is out of range: use 0 to 2"),
    "a part twice": (f"talk.mp4 --part mouth=0 --part mouth=1 {SAY}", "'mouth' is given twice"),
    "unknown mapper": (f"talk.mp4 --mapper magic {SAY}", "unknown mapper 'magic'|magic"),
    "unknown codec": (f"talk.mp4 --codec magic {SAY}", "unknown codec 'magic'"),
    "no saved codec": (f"talk.mp4 --codec gone.safetensors {SAY}", "'gone.safetensors' is not a learned codec"),
    "text as codec": (f"talk.mp4 --codec text.safetensors {SAY}", "'text.safetensors' is not a learned codec"),
    "unknown encoder": (f"talk.mp4 --encoder magic {SAY}", "unknown speech encoder 'magic'"),
    "an encoder without a mapper": (f"talk.mp4 --encoder compare {SAY}", "no mapper for encoder 'compare'"),
    "another encoder than the corpus": (f"talk.mp4 --corpus studio --encoder compare {SAY}", "encoder 'egemaps', not 'compare'"),
    "a tone as speech": ("talk.mp4 --to tone.wav -o new.mp4", "'tone.wav' is not speech.*tone or a hum"),
    "noise as speech": ("talk.mp4 --to noise.wav -o new.mp4", "'noise.wav' is not speech.*no voice"),
    "unknown corpus": (f"talk.mp4 --corpus gone {SAY}", "gone"),
    "a folder that is no corpus": (f"talk.mp4 --corpus nothing {SAY}", "corpus 'nothing'"),
    "no saved mapper": (f"talk.mp4 --mapper gone.safetensors {SAY}", "no mapper 'gone.safetensors'"),
    "text as mapper": (f"talk.mp4 --mapper text.safetensors {SAY}", "'text.safetensors' is no mapper"),
    "empty name of the video": (["", *SAY.split()], "video"),
    "empty name of the output": (["talk.mp4", "--to", "speech.wav", "-o", ""], "output"),
    "a name with a zero byte": (["a\0.mp4", *SAY.split()], "video"),
    "--to without speech": ("talk.mp4 -o new.mp4 --to", "--to"),
    "unknown option": (f"talk.mp4 --much {SAY}", "--much"),
    "no output": ("talk.mp4 --to speech.wav", "-o/--out"),
    "no arguments": ("", "VIDEO"),
}


def check(code, err, message):
    assert code == 2, err
    assert err.count("\n") == 1 and err.startswith("cmet: "), err
    assert re.search(message, err, re.I), err
    cause, _, remedy = err.removeprefix("cmet: ").rstrip("\n").partition(": ")
    assert cause and len(remedy.split()) >= 2, f"no remedy: {err}"
    assert len(err) < 600 and "Traceback" not in err and "Errno" not in err


@pytest.mark.parametrize("name", BAD)
def test_one_clear_line(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    args, message = BAD[name]
    before = state(folder)
    code = main(["edit", *(args.split() if isinstance(args, str) else args)])
    check(code, capsys.readouterr().err, message)
    assert state(folder) == before


GOOD = {
    "8 kHz in stereo": "talk.mp4 --to phone.wav",
    "one frame": "one.mp4 --to speech.wav",
    "a still": "still.png --vector happy",
    "strength 0": "talk.mp4 --to speech.wav --strength 0",
    "a video as speech": "one.mp4 --to talk.mp4",
    "names with spaces and accents": ["één gezicht.mp4", "--to", "blij & boos.wav"],
    "a folder as speech": "one.mp4 --to voices --from speech.wav",
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_good_input_works(name, folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(folder)
    (tmp_path/"voices").mkdir()
    soundfile.write(tmp_path/"voices"/"a.wav", np.roll(SPEECH, 99)*np.linspace(0, 1, len(SPEECH)), 16000)
    before = state(folder)
    args = GOOD[name].split() if isinstance(GOOD[name], str) else GOOD[name]
    args = [str(tmp_path/"voices") if a == "voices" else a for a in args]
    assert main(["edit", *args, "-o", str(tmp_path/"new.mp4")]) == 0, capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.json", "new.mp4", "voices"]
    assert state(folder) == before


REAL = ["no such file", "text renamed", "no face", "two faces", "not numbers", "unwritable folder"]


@pytest.mark.parametrize("name", REAL)
def test_the_real_command_says_one_line(name, folder):
    "In a process of its own, where the libraries' C++ notes would show; the one without a face also imports everything there."
    args, message = BAD[name]
    before = state(folder)
    if name == "no face":  # also as it begins, when everything is imported
        run = subprocess.run([sys.executable, "-c", COMMAND, "edit", *args.split()], cwd=folder, capture_output=True,
                             text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    else: run = warm.run("edit", *args.split(), cwd=folder)
    check(run.returncode, run.stderr, message)
    assert run.stdout == "" and state(folder) == before


def latin(folder, name): return os.fsdecode(os.fsencode(folder/name).replace("é".encode(), b"\xe9"))


def test_names_that_are_not_utf8_are_refused_before_the_work(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    films = {"café.mp4": "talk.mp4", "colére.wav": "speech.wav", "ét/a.wav": "speech.wav"}
    for name, source in films.items():
        os.makedirs(os.path.dirname(latin(tmp_path, name)), exist_ok=True)
        with open(latin(tmp_path, name), "wb") as f: f.write((folder/source).read_bytes())
    talk, speech = str(folder/"one.mp4"), str(folder/"speech.wav")
    for argv, said in ((["edit", latin(tmp_path, "café.mp4"), "--vector", "happy", "-o", "o.mp4"], r"video '.*caf\\xe9.mp4' is not UTF-8: rename"),
                       (["edit", talk, "--to", latin(tmp_path, "colére.wav"), "-o", "o.mp4"], r"col\\xe9re.wav' is not UTF-8"),
                       (["edit", talk, "--to", latin(tmp_path, "ét"), "-o", "o.mp4"], r"folder '.*\\xe9t' is not UTF-8"),
                       (["edit", talk, "--to", speech, "-o", latin(tmp_path, "é.mp4")], r"output '.*\\xe9.mp4' is not UTF-8"),
                       (["crop", latin(tmp_path, "café.mp4"), "-o", "o.mp4"], r"caf\\xe9.mp4' is not UTF-8"),
                       (["demo", "--out", latin(tmp_path, "é")], r"folder '.*\\xe9' is not UTF-8")):
        code = main(argv)
        check(code, capsys.readouterr().err, said)
    assert not list(tmp_path.glob("*.json")) and not (tmp_path/"o.mp4").exists()


def test_in_a_data_set_names_that_are_not_utf8_are_left_out_and_counted(tmp_path, capsys):
    voice = sorted(builtin("speech").glob("*.flac"))[0].read_bytes()
    for name in "ann/neutral/n.flac", "ann/happy/té.flac", "Zoé/happy/a.flac":
        path = latin(tmp_path/"d", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f: f.write(voice)
    for argv in ["encode", "d", "-o", "c"], ["audit", "d"], ["eval", "d"]:
        assert main([argv[0], str(tmp_path/"d"), *argv[2:3], *[str(tmp_path/a) for a in argv[3:]]]) == 2*(argv[0] == "eval")
        told = capsys.readouterr()
        if argv[0] != "eval": assert "2 names in" in told.err and r"first 'Zo\xe9': rename them" in told.err and "1 clip of 1 speaker" in told.out
    check(main(["encode", str(tmp_path/"d"), "-o", latin(tmp_path, "é")]), capsys.readouterr().err, "not UTF-8")
    check(main(["encode", latin(tmp_path/"d", "Zoé"), "-o", str(tmp_path/"e")]), capsys.readouterr().err, "not UTF-8")


def test_what_macos_leaves_beside_speech_is_not_heard(folder, tmp_path):
    from cmet.edit.request import speech_files
    (tmp_path/"speech"/"__MACOSX").mkdir(parents=True)
    for name in "a.wav", "__MACOSX/a.wav": (tmp_path/"speech"/name).write_bytes((folder/"speech.wav").read_bytes())
    for name in "._a.wav", ".b.wav": (tmp_path/"speech"/name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4072))
    stored = tmp_path/"speech"/"egemaps_features"
    stored.mkdir()
    for name in "._c.npy", "c.npy": np.save(stored/name, np.zeros(88))
    (tmp_path/"link").symlink_to("speech")
    for place in "speech", "link": assert [p.name for p in speech_files(tmp_path/place)] == ["a.wav", "c.npy"]


# Files that are not what they are called, or larger than anybody needs

@pytest.fixture
def in_time():
    "What waits for ever is stopped."
    def stop(*_): raise TimeoutError("it hangs")
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) (w) file showpage\n%%EOF\n"


@pytest.mark.parametrize("kind", ["EPS", "GIF", "PPM", "TGA", "ICO", "PCX", "DDS"])
def test_a_picture_is_one_of_the_kinds_the_kit_reads(tmp_path, kind):
    "PostScript is a program; the others are refused as what they are not called."
    from PIL import Image
    if kind == "EPS": (tmp_path/"a.png").write_bytes(POSTSCRIPT)
    else: Image.fromarray(FACE[:32, :32]).save(tmp_path/"a.png", kind)
    with pytest.raises(CmetError, match="a.png' cannot be read as an image"): open_video(tmp_path/"a.png")


def test_a_picture_that_was_cut_off_is_said_to_be(tmp_path):
    "A jpg was to be converted to jpg."
    from PIL import Image
    Image.fromarray(FACE).save(tmp_path/"a.jpg")
    (tmp_path/"a.jpg").write_bytes((tmp_path/"a.jpg").read_bytes()[:4000])
    with pytest.raises(CmetError, match="a.jpg' cannot be read as an image: copy or download it again, it is cut short"): open_video(tmp_path/"a.jpg")


@pytest.mark.parametrize("size", [(33_000, 20), (20, 33_000), (12_000, 8_000)])
@pytest.mark.parametrize("ending", [".png", ".mp4"])
def test_pictures_that_the_finders_of_faces_would_die_of(tmp_path, size, ending):
    from PIL import Image
    path = tmp_path/f"a{ending}"
    if ending == ".png": Image.new("L", size).save(path)
    else:
        with av.open(str(path), "w") as film:
            stream = film.add_stream("mpeg4" if max(size) < 8192 else "png", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "rgb24"
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((*size[::-1], 3), np.uint8))))
            film.mux(stream.encode(None))
    with pytest.raises(CmetError, match="a.(png|mp4)' has .* pixels, more than .*scale it down"): open_video(path)


@pytest.mark.parametrize("name, channels", [("a.flac", 1), ("a.wav", 2), ("a.m4a", 1)])
def test_hours_of_sound_are_refused_before_they_fill_the_memory(tmp_path, monkeypatch, name, channels):
    monkeypatch.setattr("cmet.io.sound.SOUND", 8000)
    wav = np.repeat(SPEECH[:, None], channels, 1)
    soundfile.write(tmp_path/"s.wav", wav, 16000)
    if name == "a.m4a": video(tmp_path/"a.mp4", FACE, sound=tmp_path/"s.wav").rename(tmp_path/name)
    else: soundfile.write(tmp_path/name, wav, 16000)
    with pytest.raises(CmetError, match=f"{name}' is longer than 0 minutes: cut out"): read_audio(tmp_path/name)
    if name == "a.wav":  # written into a pipe: the length is not known, and the largest there is
        raw = bytearray((tmp_path/name).read_bytes())
        raw[40:44] = b"\xff"*4
        (tmp_path/name).write_bytes(raw)
        with pytest.raises(CmetError, match="longer"): read_audio(tmp_path/name)


@pytest.mark.parametrize("rate", [1, 1000, 2**31 - 1])
def test_rates_that_no_recorder_has(tmp_path, rate):
    soundfile.write(tmp_path/"a.wav", SPEECH, 16000)
    raw = bytearray((tmp_path/"a.wav").read_bytes())
    raw[24:28] = rate.to_bytes(4, "little")
    (tmp_path/"a.wav").write_bytes(raw)
    with pytest.raises(CmetError, match=f"has {rate} samples a second: export it again"): read_audio(tmp_path/"a.wav")


def test_a_film_of_a_million_empty_boxes(tmp_path, monkeypatch):
    monkeypatch.setattr("cmet.io.files.BOXES", 1000)
    (tmp_path/"a.mp4").write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free"*2000)
    with pytest.raises(CmetError, match="falls into more than a million parts"): open_video(tmp_path/"a.mp4")


def small_corpus(folder, **parts):
    "A corpus of six clips; parts: what to put in place of its arrays, its table or its meta data."
    rows = [dict(speaker=s, emotion=e, intensity=3, sentence="1") for s in "ab" for e in ("neutral", "happy", "sad")]
    g = np.random.default_rng(0)
    write_corpus(make_corpus(rows, g.normal(size=(6, 8)), list(g.normal(size=(6, 3, 17))), name="c", encoder="e", codec="mesh"), folder)
    meta = json.loads((folder/"meta.json").read_text())
    meta = {k: v for k, v in meta.items() if k not in ("hashes", "samples", "meta_sha256")} | parts.pop("meta", {})
    (folder/"meta.json").write_text(json.dumps(meta))
    for name, value in parts.items():
        if name == "index": pd.read_parquet(folder/"index.parquet").assign(**value).to_parquet(folder/"index.parquet")
        else: np.save(folder/f"{name}.npy", value, allow_pickle=True)
    return folder


SPECIAL = {
    "video": lambda d, odd: ["edit", odd(d/"a.mp4"), "--vector", "happy", "-o", d/"o.mp4"],
    "image": lambda d, odd: ["edit", odd(d/"a.png"), "--vector", "happy", "-o", d/"o.mp4"],
    "speech": lambda d, odd: ["edit", builtin("portrait.mp4"), "--to", odd(d/"a.wav"), "-o", d/"o.mp4"],
    "feature": lambda d, odd: ["edit", builtin("portrait.mp4"), "--to", odd(d/"a.npy"), "-o", d/"o.mp4"],
    "mapper": lambda d, odd: ["edit", builtin("portrait.mp4"), "--vector", "happy", "--mapper", odd(d/"a.safetensors"), "-o", d/"o.mp4"],
    "codec": lambda d, odd: ["edit", builtin("portrait.mp4"), "--vector", "happy", "--codec", odd(d/"a.safetensors"), "-o", d/"o.mp4"],
    "table": lambda d, odd: ["train", odd(small_corpus(d/"c")/"index.parquet").parent, "-o", d/"o.safetensors"],
    "array": lambda d, odd: ["train", odd(small_corpus(d/"c")/"face.npy").parent, "-o", d/"o.safetensors"],
    "meta": lambda d, odd: ["train", odd(small_corpus(d/"c")/"meta.json").parent, "-o", d/"o.safetensors"],
    "grid": lambda d, odd: ["run", odd(d/"g.yaml"), "-o", d/"r"]}


@pytest.mark.parametrize("what", SPECIAL)
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "a link to itself", "a folder"])
def test_only_regular_files_are_opened(tmp_path, what, kind, capsys, in_time):
    def odd(path):
        path.unlink(missing_ok=True)
        {"pipe": os.mkfifo, "a folder": os.mkdir}.get(kind, lambda p: p.symlink_to(p.name if "link" in kind else kind))(path)
        return path
    code = main([str(a) for a in SPECIAL[what](tmp_path, odd)])
    check(code, capsys.readouterr().err, "no such|not a regular|is a folder|no mapper|no sound files|not a learned codec|list folder|cannot")
    assert not list(tmp_path.glob("o.*"))


# Settings, corpora and codecs that cannot be

@pytest.mark.parametrize("mapper, setting, said", [
    ("ridge", "across=maybe", "true or false"), ("ridge", "pairs=0", "whole number from 1"), ("ridge", "pairs=1e9", "pairs"),
    ("ridge", "pairs=true", "whole"), ("ridge", "shots=1.5", "whole"), ("ridge", "penalty=-1", "from 0"), ("ridge", "penalty=NaN", "penalty"),
    ("ridge", "gain=[1]", "a number"), ("ridge", "ear=maybe", "a table"), ("ridge", 'ear={"keep": 0}', "keep = 0"),
    ("memory", "slots=0", "from 1"), ("memory", "width=-3", "from 1"), ("memory", "enhance=maybe", "true or false"),
    ("neighbour", "k=-1", "from 1"), ("neighbour", "k=x", "whole"), ("absolute", "penalty=x", "a number"), ("procrustes", "across=5", "true or false"),
    ("transformer", "compile=maybe", "true or false"), ("transformer", "held_speakers=5", "a list"), ("transformer", "batch=1000000000", "batch"),
    ("transformer", "speech=5", "no setting"), ("transformer", "T=0", "no setting"), ("transformer", "width=" + "["*5000, "width")])
def test_settings_are_what_their_annotations_say(tmp_path, capsys, mapper, setting, said):
    argv = ["train", str(small_corpus(tmp_path/"c")), "--mapper", mapper, "--set", setting, "-o", str(tmp_path/"o.safetensors")]
    code, err = main(argv), capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and said in err and not (tmp_path/"o.safetensors").exists(), err


@pytest.mark.parametrize("argv", [["train", "c", "--seed", "-1", "-o", "o.safetensors"], ["train", "c", "--seed", "9"*30, "-o", "o.safetensors"],
                                  ["studio", "--seed", "1.5"], ["encode", "c", "-o", "d", "--workers", "0"], ["run", "g", "--workers", "-1"],
                                  ["run", "g", "--workers", "99999999"]])
def test_numbers_of_the_command_line_have_bounds(argv, capsys):
    check(main(argv), capsys.readouterr().err, "is not possible: use a whole number from")


WORDS, DATES = np.full((18, 17), "a"), np.zeros((18, 17), "M8[s]")
ODD = {"complex speech": dict(speech=np.ones((6, 8), complex)), "text faces": dict(face=WORDS), "dates": dict(face=DATES), "objects": dict(face=WORDS.astype(object)),
       "yes and no": dict(face=np.ones((18, 17), bool)), "half offsets": dict(offsets=np.arange(0, 19, 3) + .5), "too large": dict(face=np.full((18, 17), 1e38)),
       "no rows": dict(speech=np.array(3.)), "null speaker": dict(index=dict(speaker=None)), "lists": dict(index=dict(emotion=[["happy"]]*6)),
       "a date": dict(index=dict(speaker=pd.Timestamp("2020-01-01"))), "bytes": dict(index=dict(sentence=b"x")), "some null": dict(index=dict(emotion=[None] + ["sad"]*5)),
       "a level in words": dict(index=dict(intensity="high")), "a list as name": dict(meta={"name": [1]}), "a number as encoder": dict(meta={"encoder": 5}),
       "hashes that are none": dict(meta={"hashes": 5})}


@pytest.mark.parametrize("what", ODD)
def test_corpora_of_odd_kinds(tmp_path, capsys, what):
    small_corpus(tmp_path/"c", **ODD[what])
    for argv in ["train", "c", "--mapper", "ridge", "-o", "o.safetensors"], ["edit", builtin("portrait.mp4"), "--vector", "happy", "--corpus", "c", "--mapper", "ridge", "-o", "o.mp4"]:
        code = main([str(tmp_path/a) if a == "c" or str(a).startswith("o.") else str(a) for a in argv])
        check(code, capsys.readouterr().err, "corpus '|file of a corpus")


@pytest.mark.parametrize("change", [dict(fields=0), dict(fields=3e38), dict(shape=0), dict(layout=0), dict(textures=300), dict(layout=1e6)])
def test_codecs_that_no_face_has(tmp_path, change):
    from cmet.face.mesh import SIZES, load_codec
    from safetensors.numpy import save_file
    g = np.random.default_rng(0)
    part = {k: g.uniform(0, 1, s).astype(np.float32) for k, s in SIZES.items()}
    part["layout"] *= 255
    save_file(part, tmp_path/"good.safetensors", {"source": "test"})
    assert load_codec(tmp_path/"good.safetensors").name == "mesh"
    save_file(part | {k: np.full_like(part[k], v) for k, v in change.items()}, tmp_path/"c.safetensors", {"source": "test"})
    with pytest.raises(CmetError, match="holds numbers that no face has"): load_codec(tmp_path/"c.safetensors")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k-1}']*9)}]\n" for k in range(1, 20)) + "template: work.ipynb\n"


@pytest.mark.parametrize("text", [BOMB, "a: &a [*a]\ntemplate: x", "template: x\nparameters: {a: !!bool maybe}", "template: x\nparameters: {a: !!timestamp x}",
                                  "["*100_000, "template: x\nparameters: {seed: {from: 0, to: .inf}}", "template: [1]", "template: x\nreport: {template: [1]}"])
def test_grids_that_explode(tmp_path, capsys, in_time, text):
    (tmp_path/"g.yaml").write_text(text)
    check(main(["run", str(tmp_path/"g.yaml"), "-o", str(tmp_path/"r")]), capsys.readouterr().err, "grid '|template '")


@pytest.mark.parametrize("error, said", [(MemoryError(), "not enough memory"), (OSError(errno.ENOSPC, "", "a"), "no space left"), (OSError(errno.EROFS, ""), "only be read"),
                                         (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory")])
def test_what_the_machine_lacks_is_one_line(monkeypatch, capsys, error, said):
    import cmet.io.assets
    def broken(*_): raise error
    monkeypatch.setattr(cmet.io.assets, "where", broken)
    check(main(["assets"]), capsys.readouterr().err, said)


PORTRAIT, LONG = str(builtin("portrait.mp4")), "x"*300


@pytest.mark.parametrize("name", [LONG, "a\0b"])
@pytest.mark.parametrize("argv", [["edit", "N.mp4", "--vector", "happy", "-o", "o.mp4"], ["edit", PORTRAIT, "--to", "N", "-o", "o.mp4"],
                                  ["edit", PORTRAIT, "--vector", "happy", "--mapper", "N.safetensors", "-o", "o.mp4"],
                                  ["edit", PORTRAIT, "--vector", "happy", "--encoder", "N", "-o", "o.mp4"], ["crop", PORTRAIT, "-o", "N.mp4"],
                                  ["encode", "N", "-o", "c"], ["audit", "N"], ["train", "N", "-o", "o.safetensors"], ["run", "N.yaml"], ["run", "g.yaml", "-o", "N"],
                                  ["eval", "N"], ["demo", "--out", "N"]])
def test_names_that_no_disk_holds(tmp_path, monkeypatch, capsys, argv, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path/"g.yaml").write_text(f"template: {json.dumps(name)}\n")
    code, err = main([a.replace("N", name) if a[0] == "N" else a for a in argv]), capsys.readouterr().err
    assert code == 2 and err.count("\n") == 1 and err.startswith("cmet: "), err
    assert [p.name for p in tmp_path.iterdir()] == ["g.yaml"]


@pytest.mark.parametrize("content", ["", "[1]", "{}", "["*100_000, '{"kit": 5}', None])
def test_a_damaged_record_is_of_another_state(tmp_path, content):
    from cmet.experiments.runs import _other_code
    if content is not None: (tmp_path/"environment.json").write_text(content)
    assert _other_code([dict(folder=str(tmp_path))]) == 1


def test_a_table_of_a_hundred_thousand_columns(tmp_path, in_time):
    from cmet.corpus.face_tables import read_face_table
    (tmp_path/"t.csv").write_text("a,"*100_000 + "\n1\n")
    with pytest.raises(CmetError, match="cannot read face table .*100,000 columns"): read_face_table(tmp_path/"t.csv")


@pytest.mark.parametrize("odd", ["red\x1b[31m", "title\x1b]0;x\x07", "bell\a", "up\x9b1A"])
def test_names_give_the_terminal_no_commands(folder, tmp_path, monkeypatch, capsys, odd):
    from PIL import Image
    monkeypatch.chdir(tmp_path)
    code, err = main(["edit", f"{odd}.mp4", "--vector", "happy", "-o", "o.mp4"]), capsys.readouterr().err
    check(code, err, "no such video")
    assert main(["edit", str(folder/"one.mp4"), "--vector", "happy", "-o", f"{odd}.mp4"]) == 0
    out = capsys.readouterr().out
    assert (tmp_path/f"{odd}.mp4").is_file() and "the edited video" in out
    Image.fromarray(FACE).save(f"{odd}.webp", save_all=True, append_images=[Image.fromarray(FACE[::-1])])
    assert main(["edit", f"{odd}.webp", "--vector", "happy", "-o", "p.mp4"]) == 0
    note = capsys.readouterr().err
    assert "holds 2 pictures" in note
    for told in err, out, note: assert repr(odd)[1:-1] in told and not re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", told), told
