"A healthy data set has no findings; each planted fault is found once, and named."
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile

from cmet.cli import main
from cmet.core import CmetError, builtin, find_data
from cmet.corpus.audit import EXPECTED, audit, report
from cmet.corpus.datasets import LAYOUTS, read_layout
from cmet.io.media import read_video, write_video

RATE = soundfile.info(builtin("speech/F01_angry_3_001.flac")).samplerate
CODES = dict(zip(("neutral", "calm", "happy", "sad", "angry", "fear", "disgusted", "surprised"), range(1, 9)))


def talk(path, seed):
    "A third of a second of speech, no two alike."
    path.parent.mkdir(parents=True, exist_ok=True)
    wav, rate = soundfile.read(builtin("speech/F01_angry_3_001.flac"), start=int(1.4*RATE), frames=int(.32*RATE))
    soundfile.write(path, wav + 1e-3*np.random.default_rng(seed).normal(size=len(wav)), rate)


@pytest.fixture(scope="module")
def actor(tmp_path_factory):
    "All 60 clips of one actor of RAVDESS."
    root = tmp_path_factory.mktemp("ravdess")
    for n, (who, e, level, sentence, take) in enumerate(k for k in EXPECTED["ravdess"](()) if k[0] == "Actor_05"):
        talk(root/who/f"03-01-{CODES[e]:02}-{level:02}-{sentence}-{take}-05.wav", n)
    return root


def test_whole_actor_has_nothing_but_absent_colleagues(actor):
    found = audit(actor)
    assert len(read_layout(actor, "ravdess")) == 60 and Counter(found["kind"]) == {"missing speaker": 23, "one voice": 1}
    assert found.equals(audit(actor, workers=2)) and "60 clips of 1 speaker in 60 files" in report(found)
    assert not found["fault"].any() and "0 faults, 24 notes" in report(found) and "note: missing speaker: 23" in report(found)
    assert "missing speaker: 23" in report(found) and "and 18 more" in report(found)


def test_each_fault_is_found(actor, tmp_path):
    root = tmp_path/"root"
    shutil.copytree(actor, root)
    folder = root/"Actor_05"
    (folder/"03-01-04-02-02-01-05.wav").unlink()
    (folder/"03-01-05-01-01-01-05.wav").write_bytes(b"")
    talk(folder/"03-01-01-02-01-01-05.wav", 99)  # there is no strong neutral
    talk(folder/"03-01-06-01-01-01-05.flac", 98)  # beside the wav of the same clip
    shutil.copy(folder/"03-01-07-01-01-01-05.wav", folder/"03-01-07-01-01-02-05.wav")
    talk(folder/"take1.wav", 97)
    talk(folder/"03-02-03-01-01-01-05.wav", 96)  # a song, which the kit leaves out
    (folder/"readme.txt").touch()
    frames, _ = read_video(builtin("portrait.mp4"))
    for code, n in ("02-01-01-01", 8), ("02-01-02-01", 16):
        write_video(folder/f"01-01-{code}-05.mp4", frames[:n, ::4, ::4], 25)
    found = audit(root)
    one = {kind: part.iloc[0] for kind, part in found.groupby("kind")}
    counts = Counter(found["kind"])
    del counts["missing speaker"], counts["one voice"]
    assert counts.pop("no picture") >= 8 and set(counts.values()) == {1}, counts
    assert set(counts) == {"missing", "surplus", "doubled", "same content", "unreadable", "duration", "unrecognised", "not read", "not trained"}
    assert (one["missing"]["emotion"], one["missing"]["level"], one["missing"]["clip"]) == ("sad", 2, "02/01")
    assert (one["surplus"]["emotion"], one["surplus"]["level"]) == ("neutral", 2)
    assert one["doubled"]["emotion"] == "fear" and ".flac and " in one["doubled"]["detail"]
    assert one["same content"]["emotion"] == "disgusted" and one["unreadable"]["emotion"] == "angry"
    assert "empty (0 bytes)" in one["unreadable"]["detail"] and str(tmp_path) not in report(found)
    assert one["duration"]["detail"] == "sound 0.32 s, picture 0.64 s" and one["duration"]["clip"] == "02 take 01"
    assert len(audit(root, gap=.5).query("kind == 'duration'")) == 0
    assert one["unrecognised"]["detail"] == "Actor_05/take1.wav"


def test_numbering_of_mead_and_names_of_crema(tmp_path):
    for n in (*range(1, 4), *range(11, 31)): talk(tmp_path/"m"/"W009"/"audio"/"fear"/"level_2"/f"{n:03}.wav", n)
    gaps = audit(tmp_path/"m").query("kind == 'missing' and emotion == 'fear'").set_index("level")
    assert gaps.loc[2, "clip"] == "004–010" and gaps.loc[2, "detail"] == "7 clips"
    assert gaps.loc[1, "clip"] == "001–030" and gaps.loc[1, "detail"] == "30 clips; the paper uses 001–003, 021–030"
    names = {1: "LO", 2: "MD", 3: "HI", 0: "XX"}
    feelings = dict(angry="ANG", disgusted="DIS", fear="FEA", happy="HAP", neutral="NEU", sad="SAD")
    for n, (who, e, level, s, _) in enumerate(k for k in EXPECTED["crema-d"](()) if k[0] == "1040"):
        odd = (s, e) == ("ITH", "sad")  # the published set calls one clip 1040_ITH_SAD_X
        talk(tmp_path/"c"/"AudioWAV"/f"{who}_{s}_{feelings[e]}_{'X' if odd else names[level]}.wav", n)
    found = audit(tmp_path/"c")
    assert Counter(found["kind"]) == {"missing speaker": 90, "missing": 1, "unrecognised": 1, "one voice": 1}
    assert found.attrs["layout"] == "crema-d" and found.query("kind == 'missing'").iloc[0]["clip"] == "ITH"


def test_own_recordings_and_wrong_folders(tmp_path):
    for k, (who, felt) in enumerate((w, e) for w in ("ann", "bob") for e in ("happy", "neutral")): talk(tmp_path/"own"/who/felt/"one.wav", k)
    found = audit(tmp_path/"own")
    assert len(found) == 0 and "nothing to complain about" in report(found) and set(EXPECTED) < set(LAYOUTS)
    for root, layout, text in (("own", "meed", "unknown layout"), ("own", "mead", "no clips of layout"), ("none", None, "no folder")):
        with pytest.raises(CmetError, match=text): audit(tmp_path/root, layout)


def test_files_that_are_no_clips_are_counted(tmp_path, capsys):
    "A folder of two clips and other things is not whole; the table of RAVDESS' faces is read."
    frames, _ = read_video(builtin("portrait.mp4"))
    (tmp_path/"own"/"more").mkdir(parents=True)
    for k, felt in enumerate(("happy", "sad")): write_video(tmp_path/"own"/f"M030_front_{felt}_level3_001.mp4", frames[k:k + 8, ::4, ::4], 25)
    assert main(["audit", str(tmp_path/"own")]) == 0 and "nothing to complain about" in capsys.readouterr().out
    for name in "a.jpg", "more/b.JPG", "song.aiff", "LICENSE", ".hidden.jpg": (tmp_path/"own"/name).touch()
    assert main(["audit", str(tmp_path/"own")]) == 0
    assert capsys.readouterr().out.endswith("mead-clips: 2 clips of 1 speaker in 2 files; 0 faults, 3 notes\nno sound, so nothing can be heard\n"
        "note: not read: 3 (no clip is read from such files: convert recordings to wav or mp4, leave the rest as it is)\n"
        "  without an ending: 1 file, first LICENSE\n  .jpg: 2 files, first a.jpg\n  .aiff: 1 file, first song.aiff\n")
    talk(tmp_path/"r"/"Actor_05"/"03-01-01-01-01-01-05.wav", 0)
    (tmp_path/"r"/"openface_aus.csv").touch()
    assert "not read" not in set(audit(tmp_path/"r", "ravdess")["kind"])


def test_what_encoding_would_leave_out_and_what_an_ear_would_miss(tmp_path, capsys):
    "Faults are what would be lost or taken for something else; notes are what one should know. Both say what to do."
    root, rng = tmp_path/"own", np.random.default_rng(0)
    for k, (who, felt) in enumerate((w, e) for w in ("ann", "bob", "cy") for e in ("happy", "neutral", "sad")): talk(root/who/felt/"1.wav", k)
    talk(root/"ann"/"hapy"/"1.wav", 10); talk(root/"ann"/"smug"/"1.wav", 11); talk(root/"ann"/"calm"/"1.wav", 12); talk(root/"dee"/"sad"/"1.wav", 13)
    soundfile.write(root/"ann"/"happy"/"mute.wav", np.zeros(8000), 8000)
    soundfile.write(root/"ann"/"happy"/"hiss.wav", .1*rng.normal(size=8000), 8000)
    talk(root/"ann"/"happy"/"half.wav", 14)
    half = (root/"ann"/"happy"/"half.wav").read_bytes()
    (root/"ann"/"happy"/"half.wav").write_bytes(half[:len(half)//2])
    found = audit(root)
    assert Counter(found["kind"]) == {"no speech": 3, "misspelt emotion": 1, "unknown emotion": 1, "never neutral": 1, "lone emotion": 2, "one clip": 3}
    assert set(found[found["fault"]]["kind"]) == {"no speech", "misspelt emotion"}
    one = found.set_index(["kind", "emotion"])["detail"]
    assert "did you mean happy" in one["misspelt emotion", "hapy"] and "speech of ann alone" in one["lone emotion", "smug"]
    assert found.equals(audit(root, workers=2))
    assert main(["audit", str(root)]) == 0 and main(["encode", str(root), "-o", str(tmp_path/"out"), "--encoder", "egemaps"]) == 0
    said = capsys.readouterr().out
    assert "fault: no speech: 3 (encoding leaves it out: record it again)\n  ann happy half: it is cut short" in said and "hiss.wav' is not speech" in said
    assert said.index("fault: misspelt") < said.index("note: unknown emotion: 1 (") and "'ann/happy/mute.wav' is silent" in said
    assert "3 clips set aside" in said, "as many as encoding leaves out"


def test_what_is_lost_is_told_once_and_others_are_not_forgotten(tmp_path):
    "A clip that cannot be read neither lacks a picture nor is it anybody's speech; and who has an emotion, but is never neutral, is named."
    for k, (who, felt) in enumerate([(w, e) for w in ("ann", "bob") for e in ("happy", "neutral")]*2 + [("ann", "sad"), ("cy", "sad"), ("bob", "fear")]):
        talk(tmp_path/who/felt/f"{k}.wav", k)
    (tmp_path/"bob"/"angry").mkdir()
    for name in "a.wav", "b.mp4": (tmp_path/"bob"/"angry"/name).write_bytes(name.encode()*9)
    found = audit(tmp_path)
    assert Counter(found["kind"]) == {"unreadable": 2, "never neutral": 1, "one clip": 1, "lone emotion": 2}
    assert report(found).count("angry") == 2*2, "a line each, in which the path has the name again"
    assert dict(found[found["kind"] == "lone emotion"][["emotion", "detail"]].to_numpy()) == {
        "fear": "in the speech of bob alone", "sad": "in the speech of ann alone; cy is never neutral"}
    assert [*found[found["kind"] == "one clip"]["emotion"]] == ["fear"] and "two of an emotion at least: add another" in report(found)


def test_voices_of_some_and_faces_of_others_are_no_fault(tmp_path):
    frames, _ = read_video(builtin("portrait.mp4"))
    for k, felt in enumerate(("happy", "neutral")):
        talk(tmp_path/"ann"/felt/"1.wav", k)
        (tmp_path/"bob"/felt).mkdir(parents=True)
        write_video(tmp_path/"bob"/felt/"1.mp4", frames[k:k + 8, ::4, ::4], 25)
    found = audit(tmp_path)
    assert Counter(found["kind"]) == {"voice alone": 1, "face alone": 1, "one voice": 1, "one clip": 2, "not trained": 1} and not found["fault"].any()
    assert "note: face alone: 1 (who is never heard: `cmet train --set across=true`" in report(found) and "  bob: 2 clips" in report(found)
    write_video(tmp_path/"ann"/"happy"/"2.mp4", frames[9:17, ::4, ::4], 25)
    found = audit(tmp_path)
    assert Counter(found["kind"]) == {"no picture": 2, "no sound": 1, "face alone": 1, "one voice": 1, "one clip": 2, "not trained": 1}, "she is seen and heard, but never at once"
    assert not found["fault"].any() and "read for its face alone" in report(found), "nothing of it is lost"


def test_what_a_training_refuses_is_told_before_anything_is_encoded(tmp_path, capsys):
    "Audit and train go by the same conditions, and the command that the first names is one that the second takes."
    from cmet.corpus.audit import _training
    from cmet.corpus.corpus import make_corpus, write_corpus
    from cmet.mappers import mapper
    pytest.importorskip("torch")
    heard = {("ann", e, 0, str(k), "") for e in ("happy", "neutral", "sad") for k in range(3)} | {("ann", "smug", 0, "0", "")}
    seen = {("bob", e, 0, str(k), "") for e in ("happy", "neutral") for k in range(3)} | {("bob", "sad", 0, "0", ""), ("cy", "happy", 0, "0", "")}
    [row] = _training(heard, seen)
    how = "--set across=true held_emotions=[sad,smug]"
    assert row["detail"] == ("no speaker has speech and face of two emotions; speech: emotion 'smug' has one clip; face: emotion 'sad' has one clip: "
                             f"`cmet train CORPUS -o OUT {how}`") and not row["fault"]
    assert not _training(heard, set()) and not _training({k for k in heard if k[1] != "smug"}, {("ann", *k[1:]) for k in seen if k[1] != "sad"})
    assert "add another of each" in _training(heard, {k for k in seen if k[3] == "0"})[0]["detail"], "no setting leaves two emotions"
    g, rows = np.random.default_rng(0), [dict(speaker=k[0], emotion=k[1], sentence=k[3]) for k in sorted(heard) + sorted(seen)]
    speech = np.where(np.arange(len(rows))[:, None] < len(heard), g.normal(size=(len(rows), 4)), np.nan)
    faces = [np.zeros((0, 3))]*len(heard) + [g.normal(size=(6, 3)) for _ in seen]
    corpus = make_corpus(rows, speech, faces, name="halves", encoder="toy", codec="toy")
    with pytest.raises(CmetError) as e: mapper("transformer").fit(corpus)
    assert e.value.args[0].endswith("every face: `cmet train --set across=true`") and str(e.value).endswith("`cmet train --set across=true` (in Python: across=True)")
    with pytest.raises(CmetError) as e: mapper("transformer", across=True, train=dict(held_emotions=["smug"])).fit(corpus)
    assert e.value.cause == "face: emotion 'sad' has one clip" and e.value.settings == dict(held_emotions=["smug", "sad"]), "what was left out stays out"
    write_corpus(corpus, tmp_path/"halves")
    assert main(["train", str(tmp_path/"halves"), "-o", str(tmp_path/"m.safetensors"), *how.split(), "steps=2"]) == 0, capsys.readouterr().err


def test_a_plain_name_is_a_data_set_of_the_users_folder(tmp_path, monkeypatch, capsys):
    "As `cmet train` takes it; what is not there is said in one line, with the way to say where it is."
    for k, felt in enumerate(("happy", "neutral")): talk(tmp_path/"data"/"mine"/"ann"/felt/"1.wav", k)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CMET_DATA", str(tmp_path/"data"))
    assert main(["audit", "mine"]) == 0 and main(["encode", "mine", "-o", "out", "--encoder", "egemaps"]) == 0
    assert "folder: 2 clips of 1 speaker in" in (said := capsys.readouterr().out) and "out: 2 clips of 1 speaker, 2 emotions, 88" in said
    assert main(["audit", "mien"]) == 2 and capsys.readouterr().err == "cmet: 'mien' is no folder: did you mean mine?\n"
    monkeypatch.delenv("CMET_DATA")
    for line in ["audit", "mine"], ["encode", "mine", "-o", "again"]:
        assert main(line) == 2
        assert capsys.readouterr().err == "cmet: 'mine' is no folder: give the folder of the data set, or set CMET_DATA to the folder that holds it\n"


@pytest.mark.skipif(find_data("ravdess") is None, reason="RAVDESS is not here")
def test_real_ravdess():
    found = audit(find_data("ravdess"))
    assert found.attrs["clips"] == 60*found.attrs["speakers"] and not {"missing", "unreadable", "surplus"} & set(found["kind"])
    assert found.attrs["speakers"] + (found["kind"] == "missing speaker").sum() == 24
