"A data set becomes a corpus: killed and resumed, with broken files, by one or two processes or Ray, always the same."
import csv
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cmet.cli import main
from cmet.core import CmetError, builtin
from cmet.corpus.audit import audit
from cmet.corpus.corpus import FILES, encode_corpus, read_corpus
from cmet.corpus.datasets import detect_layout, pd_fgc, read_layout
from cmet.corpus.encode import encode_folder, summary
from cmet.face.action_units import AUS
from cmet.io.claims import hidden
from cmet.io.media import read_video, write_video
from cmet.io.resume import Parts
from cmet.io.sound import cut_short
from cmet.speech.encoders import OpenSmile, SpeechEncoder

HERE = Path(__file__).parent


class Cheap(SpeechEncoder):
    "Twenty loudnesses, slowly if asked; notes in a file what it hears."
    name, dim, version = "cheap", 20, "1"
    def __init__(self, log=None, rest=0): self.cache, self.sidecars, self.log, self.rest = False, False, log, rest
    def embed(self, wav):
        time.sleep(self.rest)
        if self.log:
            with open(self.log, "a") as f: f.write("x")
        return [part.std() for part in np.array_split(wav, self.dim)]


class Fragile(Cheap):
    "Dies of one clip."
    def embed(self, wav):
        if wav.max() == 1: os._exit(9)
        return super().embed(wav)


def voices(root, clips=40):
    "Built-in speech as speaker/emotion/take."
    for path in sorted(builtin("speech").glob("*.flac"))[::96//clips][:clips]:
        speaker, emotion, _, take = path.stem.split("_")
        (root/speaker/emotion).mkdir(parents=True, exist_ok=True)
        (root/speaker/emotion/f"{take}.flac").write_bytes(path.read_bytes())
    return root


def alike(a, b):
    return all((a/name).read_bytes() == (b/name).read_bytes() for name in FILES)


def table(path):
    with open(f"{path}.rejected.csv", newline="") as f: return {r["file"]: r["reason"] for r in csv.DictReader(f)}


# Broken files

def breakages(root):
    "Files that are broken in the ways files break, with what the table must say of each."
    good = sorted(root.rglob("*.flac"))[0]
    wav, rate = soundfile.read(good, dtype="float32")
    soundfile.write(root/"good.wav", wav, rate)
    whole = (root/"good.wav").read_bytes()
    (root/"good.wav").unlink()
    say = {"empty.wav": (b"", "empty"), "text.wav": (b"my notes\n"*99, "cannot be read"), "head.flac": (b"fLaC", "cannot be read"),
           "half.flac": (good.read_bytes()[:9000], "cut short"), "cut.wav": (whole[:9000], "cut short"),
           "noise.mp3": (np.random.default_rng(0).bytes(9000), "cannot be read")}
    for name, (content, _) in say.items(): (good.parent/name).write_bytes(content)
    for name, x, text in [("mute.wav", 0*wav, "silent"), ("short.wav", wav[:99], "is not speech"),
                          ("nan.wav", wav + np.where(wav == wav[500], np.nan, 0), "not numbers")]:
        soundfile.write(good.parent/name, x, rate, "FLOAT")
        say[name] = None, text
    return {(good.parent/name).relative_to(root).as_posix(): text for name, (_, text) in say.items()}


def test_broken_files_are_set_aside(tmp_path):
    root = voices(tmp_path/"root")
    whole = read_layout(root, "folder")
    said = breakages(root)
    out = encode_folder(root, tmp_path/"out", encoder="egemaps", workers=2, progress=False)
    assert np.array_equal(read_corpus(out).speech, encode_corpus(whole, OpenSmile(), progress=False).speech)
    assert list(read_corpus(out).clips["audio"]) == list(whole["audio"])
    reasons = table(out)
    assert set(reasons) == set(said) and not [f for f in said if said[f] not in reasons[f]]
    assert dict(read_corpus(out, verify=True).meta["rejected"]) == reasons
    assert "9 clips set aside" in summary(out) and f"{len(whole)} clips of 2 speakers" in summary(out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "out.rejected.csv", "root"]


def test_whisper_hears_the_same_with_any_number_of_workers(tmp_path):
    root = voices(tmp_path/"root", 6)
    outs = [encode_folder(root, tmp_path/str(n), workers=n, progress=False) for n in (1, 2)]
    assert alike(*outs) and read_corpus(outs[0]).meta["encoder"] == "whisper"


def test_a_wav_from_a_pipe_is_not_cut_short(tmp_path):
    wav, rate = soundfile.read(sorted(builtin("speech").glob("*.flac"))[0])
    soundfile.write(tmp_path/"a.wav", wav, rate)
    whole = bytearray((tmp_path/"a.wav").read_bytes())
    at = whole.index(b"data") + 4
    for size, cut in ((0xffffffff, False), (0x7ffffff0, False), (2*len(wav) + 2000, True), (2*len(wav), False)):
        whole[at:at + 4] = size.to_bytes(4, "little")
        (tmp_path/"a.wav").write_bytes(whole)
        assert cut_short(tmp_path/"a.wav") == cut, size


def test_one_bad_table_or_vector_does_not_stop_the_others(tmp_path):
    root = voices(tmp_path/"root", 6)
    clips = read_layout(root, "folder")
    names = [Path(p).with_suffix("") for p in clips["audio"]]
    head = ",".join(f"{a}_r" for a in AUS)
    row = ",".join(["1"]*17)
    odd = row.replace("1", "-nan(ind)", 1)
    texts = [f"{head}\n{row}\n{odd}\n", f"{head}\n{odd}\n", f"face_id,{head}\n0,{row}\n1,{row}\n", f"{head}\n{row}\n", "my notes",
             f"{head}\n{row}\n{row},1,2"]
    for name, text in zip(names, texts): name.with_suffix(".csv").write_text(text)
    out = encode_folder(root, tmp_path/"out", progress=False)
    assert read_corpus(out).lengths.tolist() == [1, 1] and read_corpus(out).face.min() == 1
    said = [next((r for k, r in table(out).items() if (root/k).with_suffix("") == n), "") for n in names]
    assert "line 3 has more cells" in said[5] and "has no number in AU01_r" in said[1] and "2 people" in said[2] and "no AU01" in said[4] and not said[0] + said[3]


def test_a_bad_row_of_ravdess_costs_its_clip(tmp_path):
    voice = sorted(builtin("speech").glob("*.flac"))[0].read_bytes()
    (tmp_path/"rv"/"speech"/"Actor_01").mkdir(parents=True)
    lines = ["name," + ",".join(f"{a}_r" for a in AUS)]
    for k, bad in enumerate(("1", "-nan(ind)", "inf", "")):
        (tmp_path/"rv"/"speech"/"Actor_01"/f"03-01-0{k + 1}-01-01-01-01.flac").write_bytes(voice)
        lines.append(f"01-01-0{k + 1}-01-01-01-01," + ",".join(bad if a == "AU12" else "1" for a in AUS))
    (tmp_path/"rv"/"openface_aus.csv").write_text("\n".join(lines))
    out = encode_folder(tmp_path/"rv", tmp_path/"out", progress=False)
    assert read_corpus(out).lengths.tolist() == [1]
    assert list(table(out).values()) == ["its row in 'openface_aus.csv' has no number in AU12"]*3


def test_what_is_no_file_is_set_aside(tmp_path):
    root = voices(tmp_path/"root", 3)
    place = next(root.glob("*/*"))
    (place/"gone.wav").symlink_to(tmp_path/"a disk that is not mounted.wav")
    os.mkfifo(place/"pipe.wav")
    out = encode_folder(root, tmp_path/"out", progress=False)
    assert len(read_corpus(out)) == 3
    (gone, pipe), reasons = sorted(table(out)), table(out)
    assert "no such" in reasons[gone] and "not a regular file" in reasons[pipe]
    assert set(audit(root).query("fault")["kind"]) == {"unreadable"}


def test_a_damaged_part_costs_itself_alone(tmp_path):
    parts = Parts(tmp_path/"out.part")
    for k in range(5): parts.put(["clip", k], np.arange(3.) + k)
    whole = parts.own.read_bytes()
    for at in len(whole)//2 + np.array([-30, 30]):  # in the head and among the numbers of the third
        parts.own.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1:])
        again = Parts(tmp_path/"out.part")
        assert [["clip", k] in again for k in range(5)] == [True, True, False, True, True] and again.get(["clip", 4])[0] == 4


def test_a_video_without_a_sound_file_is_heard_itself(tmp_path):
    "A face is kept whatever is played to it."
    frames, _ = read_video(builtin("portrait.mp4"))
    soundfile.write(tmp_path/"hush.wav", np.zeros(32000), 16000)
    for felt, sound in dict(happy=builtin("speech/F01_happy_3_001.flac"), neutral=tmp_path/"hush.wav", sad=None).items():
        (tmp_path/"root"/"ann"/felt).mkdir(parents=True)
        write_video(tmp_path/"root"/"ann"/felt/"1.mp4", frames[:8], 25, sound=sound)
    made = read_corpus(encode_folder(tmp_path/"root", tmp_path/"out", encoder="egemaps", codec="mesh", progress=False))
    assert list(made.clips["emotion"]) == ["happy", "neutral", "sad"] and made.has_face.all() and list(made.has_speech) == [True, False, False]
    assert Counter(audit(tmp_path/"root").query("kind in ('no speech', 'no sound')")["fault"]) == {True: 1, False: 1}


def test_nothing_to_encode(tmp_path):
    root = tmp_path/"root"/"ann"/"happy"
    root.mkdir(parents=True)
    with pytest.raises(CmetError, match="no clips in"): encode_folder(tmp_path/"root", tmp_path/"out")
    (root/"a.wav").touch()
    with pytest.raises(CmetError, match="none of 1 clip can be encoded .*empty"): encode_folder(tmp_path/"root", tmp_path/"out")
    with pytest.raises(CmetError, match="unknown layout 'meed'"): encode_folder(tmp_path/"root", tmp_path/"out", "meed")
    with pytest.raises(CmetError, match="unknown codec"): encode_folder(tmp_path/"root", tmp_path/"out", codec="mash", encoder=None)
    with pytest.raises(CmetError, match="no folder"): encode_folder(tmp_path/"none", tmp_path/"out")
    assert not (tmp_path/"out").exists()
    for name in "out", "file": (tmp_path/name).mkdir() if name == "out" else (tmp_path/name).touch()
    (tmp_path/"out"/"thesis.txt").touch()
    for out in "out", "file":
        with pytest.raises(CmetError, match="is a file or holds others"): encode_folder(tmp_path/"root", tmp_path/out, force=True)


def test_missing_weights_are_named_before_the_first_clip(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"cache"))
    (tmp_path/"root"/"ann"/"happy").mkdir(parents=True)
    soundfile.write(tmp_path/"root"/"ann"/"happy"/"1.wav", np.zeros(16000, np.float32), 16000)
    with pytest.raises(CmetError, match="cmet assets get emotion2vec_plus_large"):
        encode_folder(tmp_path/"root", tmp_path/"out", encoder="emotion2vec-large")
    assert not (tmp_path/"out.rejected.csv").exists()


def test_an_older_corpus_is_replaced_only_by_force(tmp_path):
    root, quick = voices(tmp_path/"root", 8), dict(encoder=Cheap(), progress=False)
    out = encode_folder(root, tmp_path/"out", limit=3, **quick)
    with pytest.raises(CmetError, match="of 3 clips, not these 8.*--force"): encode_folder(root, out, **quick)
    assert len(read_corpus(out)) == 3 and len(read_corpus(encode_folder(root, out, force=True, **quick))) == 8


def test_pieces_of_a_corpus_that_stands_are_cleared_away(tmp_path, monkeypatch):
    "By the next of the same commands, where one was killed after its corpus got its name; pieces of a run with --force stay."
    root, out, work = voices(tmp_path/"root", 3), tmp_path/"out", tmp_path/"out.part"
    with monkeypatch.context() as m, pytest.raises(SystemExit):
        def killed(parts, but_finished=False): raise SystemExit
        m.setattr(Parts, "clear", killed)
        encode_folder(root, out, encoder=Cheap(), progress=False)
    assert list(work.glob("*.parts")) and read_corpus(out)
    with pytest.warns(UserWarning, match="encoded already"): encode_folder(root, out, encoder=Cheap(), progress=False)
    assert {p.name for p in tmp_path.iterdir()} == {"root", "out"}
    hidden(out, "lock").touch()  # of one that was killed later still
    with pytest.warns(UserWarning, match="encoded already"): encode_folder(root, out, encoder=Cheap(), progress=False)
    assert {p.name for p in tmp_path.iterdir()} == {"root", "out"}
    Parts(work).put("of another encoder", np.ones(3))
    with pytest.warns(UserWarning, match="encoded already"): encode_folder(root, out, encoder=Cheap(), progress=False)
    assert "of another encoder" in Parts(work)


def test_what_is_encoded_already_is_said_to_be(tmp_path, capsys):
    "The same command writes nothing and succeeds; another one says what differs."
    root, out = voices(tmp_path/"root", 4), tmp_path/"out"
    (root/"F01"/"happy"/"bad.wav").write_text("no sound")
    words = ["encode", str(root), "-o", str(out), "--encoder", "egemaps"]
    assert main(words) == 0
    first, before = capsys.readouterr().out, {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert main(words) == 0
    told = capsys.readouterr()
    assert told.out == first and told.err == f"cmet: note: all 5 clips of '{root}' are encoded already, nothing was written; --force does it again\n"
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    def refused(*more, said, n=5):
        ends = f"choose another name, or give --force, which encodes all {n} clips anew\n" if n else "choose another name or give --force\n"
        assert main([*words, *more]) == 2
        assert said in (told := capsys.readouterr().err) and told.endswith(ends), told
    refused("--encoder", "whisper", said="was made otherwise (encoder egemaps)")
    refused("--codec", "mesh", said="was made otherwise (codec none)")
    words[1] = str(root.rename(tmp_path/"other"))
    refused(said="was made otherwise (data set root)")
    words[1] = str((tmp_path/"other").rename(root))
    os.utime(root/"F01"/"happy"/"bad.wav", (time.time() + 9, time.time() + 9))
    refused(said="before a recording was changed")
    (root/"F01"/"happy"/"bad.wav").unlink()
    refused(said="of 5 clips, not these 4", n=4)
    (out/"face.npy").write_bytes(b"")
    refused(said="exists and is damaged", n=0)
    (out/"face.npy").unlink()
    refused(said="is no whole corpus", n=0)


# Killed and resumed

RUN = """import sys; sys.path.insert(0, {here!r})
from cmet.corpus.encode import encode_folder
from test_encode import Cheap
if __name__ == "__main__": encode_folder({root!r}, {out!r}, encoder=Cheap({log!r}, .05), workers={workers}, progress=False)"""

@pytest.mark.parametrize("workers", [1, 2])
def test_killed_half_way_and_resumed(tmp_path, workers):
    root, log, n = voices(tmp_path/"root"), tmp_path/"log", 40
    once = encode_folder(root, tmp_path/"once", encoder=Cheap(), progress=False)
    code = RUN.format(here=str(HERE), root=str(root), out=str(tmp_path/"out"), log=str(log), workers=workers)
    (tmp_path/"run.py").write_text(code)
    process = subprocess.Popen([sys.executable, tmp_path/"run.py"])
    until = time.monotonic() + 60
    while not log.exists() or log.stat().st_size < n//2:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(.01)
    process.kill(); process.wait()
    time.sleep(.5)  # its workers notice, and end
    kept, before = len(Parts(tmp_path/"out.part")), log.stat().st_size
    assert not (tmp_path/"out").exists() and n/4 <= kept < n and not (tmp_path/"out.rejected.csv").exists()
    again = encode_folder(root, tmp_path/"out", encoder=Cheap(str(log)), progress=False)
    assert log.stat().st_size - before == n - kept, "what was finished is not heard again"
    assert alike(once, again) and not (tmp_path/"out.part").exists()


def test_a_changed_recording_is_encoded_again(tmp_path, monkeypatch):
    root, log = voices(tmp_path/"root", 8), tmp_path/"log"
    def full(*_): raise CmetError("no space left", "free some space")
    with monkeypatch.context() as m, pytest.raises(CmetError, match="no space"):
        m.setattr("cmet.corpus.encode.write_corpus", full)
        encode_folder(root, tmp_path/"out", encoder=Cheap(str(log)), progress=False)
    assert log.stat().st_size == 8, "the speech was finished"
    first = sorted(root.rglob("*.flac"))[0]
    wav, rate = soundfile.read(first)
    soundfile.write(first, wav/2, rate)
    out = encode_folder(root, tmp_path/"out", encoder=Cheap(str(log)), progress=False)
    assert log.stat().st_size == 9 and alike(out, encode_folder(root, tmp_path/"b", encoder=Cheap(), progress=False))


def test_a_clip_that_kills_its_worker(tmp_path):
    root = voices(tmp_path/"root")
    wav, rate = soundfile.read(sorted(root.rglob("*.flac"))[0])
    wav[np.abs(wav).argmax()] = 1  # the mark by which `Fragile` knows it
    soundfile.write(root/"F01"/"happy"/"deadly.wav", wav, rate, "FLOAT")
    out = encode_folder(root, tmp_path/"out", encoder=Fragile(), workers=2, progress=False)
    assert len(read_corpus(out)) == 40
    assert {f: "code 9" in r for f, r in table(out).items()} == {"F01/happy/deadly.wav": True}


# Faces

@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "Clips of the portrait; one without a face, one speaker without a neutral clip, a neutral clip that is broken."
    root = tmp_path_factory.mktemp("films")
    frames, fps = read_video(builtin("portrait.mp4"))
    parts = {"ann/neutral/b": frames[:6], "ann/happy/a": frames[20:28], "ann/sad/nobody": 0*frames[:3] + 90, "bob/happy/a": frames[:3]}
    for name, part in parts.items():
        (root/name).parent.mkdir(parents=True, exist_ok=True)
        write_video(root/f"{name}.mp4", part, fps)
    (root/"ann"/"neutral"/"a.mp4").write_bytes((root/"ann"/"happy"/"a.mp4").read_bytes()[:999])
    return root


def test_faces_against_each_speakers_face_at_rest(films, tmp_path):
    from cmet.face.mesh import MeshCodec
    outs = [encode_folder(films, tmp_path/str(n), encoder=None, codec="mesh", workers=n, progress=False) for n in (1, 2)]
    assert alike(*outs) and outs[0].with_name("1.rejected.csv").read_text() == outs[1].with_name("2.rejected.csv").read_text()
    c, reasons = read_corpus(outs[0]), table(outs[0])
    clips = read_layout(films, "folder")
    both = encode_corpus(clips[clips["video"].isin(list(c.clips["video"]))], None, MeshCodec(), progress=False)
    assert list(c.lengths) == [8, 6] and c.meta["codec"] == "mesh" and c.face.shape[1] == 17
    assert np.array_equal(c.face, both.face) and np.array_equal(c.offsets, both.offsets)
    texts = {"ann/neutral/a.mp4": "cut short", "ann/sad/nobody.mp4": "no face", "bob/happy/a.mp4": "'bob' has no neutral video"}
    assert set(reasons) == set(texts) and all(texts[f] in reasons[f] for f in texts)


def scripts_tree(root, speakers=("M003", "W009"), emotions=("neutral", "happy", "angry", "sad"), takes=5, seed=0):
    "The layout of C-MET's scripts: built-in speech, and SYNTHETIC faces of 30 numbers a frame."
    g, sounds = np.random.default_rng(seed), {"M003": "M01", "W009": "F01"}
    felt = {e: 2*g.normal(size=30)*(e != "neutral") for e in emotions}
    for who in speakers:
        rest = g.normal(size=30)
        for e in emotions:
            folder = root/who/"front"/e/("level_1" if e == "neutral" else "level_3")
            folder.mkdir(parents=True)
            for k in range(1, takes + 1):
                wav, rate = soundfile.read(builtin("speech")/f"{sounds[who]}_{e}_3_{k:03}.flac")
                soundfile.write(folder/f"{k:03}.wav", wav, rate)
                np.save(folder/f"{k:03}_PD_FGC_emo.npy", (rest + felt[e] + .1*g.normal(size=(12, 30))).astype(np.float32))
                np.save(folder/f"{k:03}_PD_FGC_pose.npy", np.zeros((12, 6), np.float32))
    return root


def test_a_corpus_of_pd_fgc_faces_up_to_decoding(tmp_path):
    "Reader, corpus, 30-wide mappers, saved and reloaded; there is no decoder of 30 numbers, and `edit` says so."
    from cmet.edit.pipeline import edit_video
    from cmet.mappers.registry import load_mapper, mapper, save_mapper
    from cmet.vectors.vector import direction
    root = scripts_tree(tmp_path/"FPS25")
    odd = root/"M003"/"front"/"happy"/"level_3"
    np.save(odd/"001_PD_FGC_emo.npy", np.zeros((12, 10), np.float32))
    assert detect_layout(root) == "pd-fgc" and len(pd_fgc(root)) == 40
    c = read_corpus(encode_folder(root, tmp_path/"corpus", encoder="egemaps", progress=False))
    assert c.face.shape == (39*12, 30) and c.speech.shape == (39, 88) and c.meta["codec"] == "pd-fgc"
    assert table(tmp_path/"corpus") == {"M003/front/happy/level_3/001.wav": "10 face numbers a frame, others have 30"}
    tiny = dict(network=dict(width=32, window=2), train=dict(steps=20, batch=16))
    for name, options in {"ridge": {}, "transformer": tiny}.items():
        made = mapper(name, **options).fit(c)
        save_mapper(made, tmp_path/f"{name}.safetensors")
        again = load_mapper(tmp_path/f"{name}.safetensors")
        v, face = direction(c, "happy"), c.face_of(0)
        delta = again.predict(v, face)
        assert delta.shape == (12, 30) and delta.dtype == np.float32 and np.isfinite(delta).all()
        assert np.array_equal(delta, made.predict(v, face)) and again.config["widths"] == [88, 30]
        with pytest.raises(CmetError, match="gives 30 numbers, codec 'mesh' takes 17"):
            edit_video(builtin("portrait.mp4"), tmp_path/"out.mp4", vector="happy - neutral", mapper=again, corpus=c)


# Ray

def test_ray_gives_the_same(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    for name in "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH": monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path/"home"))
    monkeypatch.setenv("PYTHONPATH", str(HERE))  # workers import the jobs from here
    import ray

    from test_engine import act, start
    from test_experiment import metrics, notebook

    from cmet.experiments.runs import run_grid
    from cmet.io.jobs import _ray_cluster, each
    root = voices(tmp_path/"root", 12)
    said = breakages(root)
    notebook(tmp_path/"work.ipynb")
    (tmp_path/"small.yaml").write_text("template: work.ipynb\nparameters: {a: [x, yy], seed: 3}\n")
    with _ray_cluster(2):  # once for all: it takes ten seconds to start
        out = encode_folder(root, tmp_path/"ray", encoder="egemaps", workers=2, engine="ray", progress=False)
        rows = sorted(each(act, ["a", "wrong", "killed", "b"], 1, "ray", setup=start))
        grid = run_grid(tmp_path/"small.yaml", tmp_path/"runs", workers=2, engine="ray", progress=False)
        assert ray.is_initialized()
    assert alike(out, encode_folder(root, tmp_path/"local", encoder="egemaps", progress=False)) and set(table(out)) == set(said)
    assert [v and v[0] for _, v, _ in rows] == ["a", None, None, "b"] and "died" in rows[2][2]
    assert rows[1][2] == "CmetError: file 'a.wav' is silent: record it again"
    here = run_grid(tmp_path/"small.yaml", tmp_path/"here", progress=False)
    assert grid.ids == here.ids and metrics(grid) == metrics(here) and grid.executed == 2
    assert not ray.is_initialized() and not (tmp_path/"home"/".ray").exists(), "no token is left in the home folder"


def test_threads_are_fixed_for_an_encoder_by_name_and_as_an_object():
    import torch

    from cmet.corpus.encode import Tools, _threads_kept
    from cmet.speech.encoders import speech_encoder
    with _threads_kept():
        for made in ("emotion2vec-large", speech_encoder("emotion2vec-large"), "whisper", speech_encoder("whisper")):
            torch.set_num_threads(2)
            Tools(made)
            assert torch.get_num_threads() == 1
        torch.set_num_threads(2)
        Tools(speech_encoder("egemaps"))
        assert torch.get_num_threads() == 2


def test_a_corpus_by_name_is_encoded_again_when_its_files_or_its_encoder_change(tmp_path, monkeypatch):
    "The encoder may be a folder; what is kept is told by contents."
    from types import SimpleNamespace

    from cmet.corpus import named as corpora
    from cmet.corpus.corpus import read_corpus
    from cmet.speech import encoders
    card, made, data = {"version": "1"}, [], tmp_path/"data"
    data.mkdir()
    (data/"a.wav").write_bytes(b"one")
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"cache"))
    monkeypatch.setattr(corpora, "find_data", lambda name: data)
    monkeypatch.setattr(encoders, "speech_encoder", lambda e, **o: SimpleNamespace(name="small", card=lambda: dict(card)))
    monkeypatch.setitem(corpora.MADE, "ravdess", lambda *_: made.append(1) or read_corpus("studio"))
    ask = lambda: corpora.open_corpus("ravdess", str(tmp_path/"models"/"small")) and len(made)
    assert [ask(), ask()] == [1, 1] and all(p.parent.name == "corpora" for p in (tmp_path/"cache").rglob("ravdess-*"))
    (data/"a.wav").write_bytes(b"other")
    assert [ask(), ask()] == [2, 2], "the same name, other contents"
    card["version"] = "2"
    assert [ask(), ask()] == [3, 3], "the same name, other weights"
