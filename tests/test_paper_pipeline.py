"""The paper's own pipeline in one command, with stand-in checkpoints in the published formats (random weights)."""
import json

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from standin import fill

import cmet.io.assets
from cmet.cli import main
from cmet.core import builtin, sha256
from cmet.corpus.studio import demo_speech
from cmet.edtalk import audio2lip
from cmet.edtalk.model import stand_in
from cmet.io.media import open_video, read_audio, read_video, write_audio, write_video
from cmet.transformer import CrossModalTransformer, published

FACE = astronaut()[:256, 96:352]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "The three checkpoints under their published names, and speech as stored emotion2vec+ features."
    d = tmp_path_factory.mktemp("weights")
    mapper, lips = published(CrossModalTransformer()), audio2lip.published(audio2lip.Audio2Lip())
    torch.save({"state_dict": fill({k: torch.zeros(v[1]) for k, v in mapper.items()}, 0), "epoch": 2105}, d/"cmet-official.pth")
    torch.save({"gen": stand_in(64)}, d/"EDTalk.pt")
    torch.save({"audio2lip": fill({k: torch.zeros(v[1]) for k, v in lips.items()}, 0)}, d/"Audio2Lip.pt")
    for k, name in enumerate(("to", "from")):
        stored = d/name/"emotion2vec+large_features"
        stored.mkdir(parents=True)
        for i in range(2): np.save(stored/f"{i}.npy", np.random.default_rng([k, i]).normal(k, 1, 1024).astype(np.float32))
    frames, fps = read_video(builtin("portrait.mp4"))
    write_video(d/"talk.mp4", frames[:8], fps, sound=builtin("portrait.mp4"))
    write_video(d/"two.mp4", [np.concatenate([FACE, FACE[:, ::-1]], 1)]*4, 25)
    return d


def edited(files, out, video, *more):
    "`cmet edit` as the paper would: the exit status and the output's path."
    return main(["edit", str(files/video), "--codec", "edtalk", "--mapper", "cmet-official", "--to", str(files/"to"),
                 "--from", str(files/"from"), "-o", str(out), *more]), out


@pytest.fixture
def command(files, monkeypatch, tmp_path):
    "Runs it."
    monkeypatch.setattr(cmet.io.assets, "asset", lambda name: files/name)
    return lambda video, *more: edited(files, tmp_path/"out.mp4", video, *more)


@pytest.fixture(scope="module")
def plain(files, tmp_path_factory):
    "What it makes without any option."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cmet.io.assets, "asset", lambda name: files/name)
        return edited(files, tmp_path_factory.mktemp("plain")/"out.mp4", "talk.mp4")


def test_in_one_command(plain, files):
    status, out = plain
    story, before, after = json.loads(out.with_suffix(".json").read_text()), open_video(files/"talk.mp4"), open_video(out)
    assert status == 0 and (after.n_frames, after.size, after.fps) == (8, before.size, before.fps) and after.has_audio
    assert story["codec"]["name"] == "edtalk" and story["mapper"]["corpus"] == "MEAD"
    assert story["vector"]["encoder"]["name"] == "emotion2vec-large" and story["vector"]["dim"] == 1024
    assert np.abs(story["codec"]["mean_change"]).max() > 0 and len(story["inputs"]["to"]) == 2


def test_codecs_differ_in_one_flag(files, tmp_path, monkeypatch):
    "The same command with another codec and its mapper goes the same way, step by step."
    import cmet.edit.pipeline
    steps = []
    for name in ("open_video", "find_face", "face_change", "provenance", "save_edit"):
        real = getattr(cmet.edit.pipeline, name)
        monkeypatch.setattr(cmet.edit.pipeline, name, lambda *a, real=real, name=name, **k: (steps.append(name), real(*a, **k))[1])
    monkeypatch.setattr(cmet.io.assets, "asset", lambda name: files/name)
    speech = ["--to", str(files/"to"), "--from", str(files/"from"), "--mapper", "cmet-official", "--codec", "edtalk"]
    mesh = ["--vector", "happy - neutral", "--codec", "mesh"]
    for k, how in enumerate((speech, mesh)): assert main(["edit", str(files/"talk.mp4"), "-o", str(tmp_path/f"{k}.mp4"), *how]) == 0
    assert steps[:len(steps)//2] == steps[len(steps)//2:] and len(steps) == 10


def test_lips_from_sound_become_the_sound(command, plain, files):
    said = demo_speech("happy")[0]
    status, out = command("talk.mp4", "--lips", str(said))
    story = json.loads(out.with_suffix(".json").read_text())
    assert status == 0 and [f["sha256"] for f in story["inputs"]["lips"]] == [sha256(said)]
    heard, want = read_audio(out), read_audio(said)
    n = min(len(heard), len(want))
    assert np.corrcoef(heard[:n], want[:n])[0, 1] > .9
    other, own = read_video(out)[0], read_video(plain[1])[0]
    assert (other != own).any(), "other lips, another picture"


def test_a_picture_talks_as_long_as_the_recording(command, files, tmp_path):
    "It was cut off after three seconds, or stood still to their end."
    from PIL import Image
    Image.fromarray(FACE).save(files/"still.png")
    said = write_audio(tmp_path/"said.wav", read_audio(demo_speech("happy")[0])[:8000], 16000)
    status, out = command("still.png", "--lips", str(said))
    after = open_video(out)
    assert status == 0 and after.has_audio and abs(after.n_frames/25 - .5) < .1
    assert np.ptp(read_video(out)[0], axis=0).any(), "the lips move"


def test_lips_come_from_one_recording(command, files, capsys):
    status, out = command("talk.mp4", "--lips", str(files/"to"))
    assert status == 2 and capsys.readouterr().err.count("\n") == 1 and not out.exists()


def test_whose_face(command, capsys):
    assert command("two.mp4")[0] == 2 and "say which: largest, left, right (in the picture)" in capsys.readouterr().err
    status, out = command("two.mp4", "--face", "right")
    left, right = np.split(np.abs(read_video(out)[0].astype(int) - np.concatenate([FACE, FACE[:, ::-1]], 1)), 2, axis=2)
    assert status == 0 and left.mean() < 3 < right.mean()


@pytest.mark.parametrize("more, words", [
    (["--codec", "mesh"], "gives 10 numbers, codec 'mesh' takes 17"),
    (["--codec", "mesh", "--mapper", "transformer", "--face", "left"], "cmet crop"),
])
def test_parts_that_do_not_fit(command, capsys, more, words):
    status, out = command("talk.mp4", *more)
    assert status == 2 and words in capsys.readouterr().err and not out.exists()


def test_a_mapper_to_action_units_does_not_fit_edtalk(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cmet.io.assets, "asset", lambda name: files/name)
    argv = ["edit", str(files/"talk.mp4"), "--codec", "edtalk", "--vector", "happy - neutral", "-o", str(tmp_path/"x.mp4")]
    assert main(argv) == 2 and "codec 'edtalk' takes 10" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_lips_need_edtalk(files, tmp_path, capsys):
    argv = ["edit", str(files/"talk.mp4"), "--vector", "happy - neutral", "--lips", str(demo_speech("happy")[0]), "-o", str(tmp_path/"x.mp4")]
    assert main(argv) == 2 and "cmet assets get EDTalk.pt Audio2Lip.pt" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_without_the_weights(tmp_path, monkeypatch, capsys, files):
    "Offline: one message that says where to put which file, nothing written."
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"cache"))
    monkeypatch.delenv("CMET_DATA", raising=False)
    monkeypatch.setenv("CMET_OFFLINE", "1")
    assert main(["edit", str(files/"talk.mp4"), "--codec", "edtalk", "--vector", "happy", "-o", str(tmp_path/"x.mp4")]) == 2
    assert "EDTalk.pt" in capsys.readouterr().err and not (tmp_path/"x.mp4").exists()


def test_crop_for_edtalk(files, tmp_path):
    "256², 25 frames a second, the sound in step; one choice among faces, or a clear error."
    frames, _ = read_video(builtin("portrait.mp4"))
    write_video(tmp_path/"30.mp4", frames[:30], 30, sound=builtin("portrait.mp4"))
    assert main(["crop", str(tmp_path/"30.mp4"), "-o", str(tmp_path/"face.mp4")]) == 0
    face = open_video(tmp_path/"face.mp4")
    assert (face.size, face.fps, face.n_frames) == ((256, 256), 25, 25)
    a, b = read_audio(tmp_path/"30.mp4"), read_audio(tmp_path/"face.mp4")
    assert abs(len(a) - len(b)) < 1600 and np.corrcoef(a[:16000], b[:16000])[0, 1] > .99
    assert main(["crop", str(files/"two.mp4"), "-o", str(tmp_path/"x.mp4")]) == 2 and not (tmp_path/"x.mp4").exists()
    assert main(["crop", str(files/"two.mp4"), "-o", str(tmp_path/"x.mp4"), "--face", "left", "--size", "400"]) == 0
    assert open_video(tmp_path/"x.mp4").size == (400, 400)
    assert main(["edit", str(tmp_path/"x.mp4"), "--vector", "happy", "--preview", "-o", str(tmp_path/"x.png")]) == 0, "what the mesh codec advises helps"


def test_crop_of_a_picture_is_a_picture(files, tmp_path, capsys):
    "By its name; a film of it is one that was asked for, and of a film there is no picture."
    from PIL import Image
    photo = Image.fromarray(read_video(builtin("portrait.mp4"))[0][0])
    photo.save(tmp_path/"me.png")
    for name in "face.png", "face.JPG", "film.mp4": assert main(["crop", str(tmp_path/"me.png"), "-o", str(tmp_path/name), "--size", "128"]) == 0
    said = capsys.readouterr()
    assert said.out == (f"{tmp_path/'face.png'}: the face\n{tmp_path/'face.JPG'}: the face\n"
                        f"{tmp_path/'film.mp4'}: the face, a film of one picture: a name in .png makes a picture\n") and not said.err
    face, film = Image.open(tmp_path/"face.png"), open_video(tmp_path/"film.mp4")
    assert face.size == (128, 128) and Image.open(tmp_path/"face.JPG").format == "JPEG" and (film.size, film.n_frames) == ((128, 128), 75)
    assert np.abs(np.asarray(face, float) - next(film.frames())).mean() < 3, "the same face"
    assert main(["crop", str(tmp_path/"me.png"), "-o", str(tmp_path/"face.gif")]) == main(["crop", str(files/"talk.mp4"), "-o", str(tmp_path/"talk.png")]) == 2
    said = capsys.readouterr().err
    assert "face.gif' is not a png, jpg, jpeg, mp4 file: end its name in .png or .jpg or .jpeg or .mp4" in said and "talk.png' is not an mp4: end its name in .mp4" in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["face.JPG", "face.png", "film.mp4", "me.png"]


def test_hostile_weights_stop_the_command(command, files, capsys, tmp_path, monkeypatch):
    class Trap:
        def __reduce__(self): return exec, ("raise SystemExit",)
    torch.save({"gen": Trap()}, tmp_path/"bad.pt")
    monkeypatch.setattr(cmet.io.assets, "asset", lambda name: tmp_path/"bad.pt" if name == "EDTalk.pt" else files/name)
    status, out = command("talk.mp4")
    assert status == 2 and "exec" in capsys.readouterr().err and not out.exists()
