"Corpus: layouts of data sets, the packed store, splits and pairs."
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cmet.core import CmetError, find_data
from cmet.corpus.corpus import FILES, concat, encode_corpus, make_corpus, read_corpus, write_corpus
from cmet.corpus.datasets import (LAYOUTS, cmet_samples, crema_d, detect_layout, emodb, mead, mead_clips, ravdess,
                          read_layout)
from cmet.corpus.face_tables import ravdess_faces, read_face_table
from cmet.corpus.sampling import draw_pairs, hold_out, pair_table, pools, speaker_folds
from cmet.face.action_units import AUS
from cmet.io import files
from cmet.mappers import mapper


def toy(seed=0, speakers="ABC", emotions=("neutral", "happy", "sad"), clips=3, S=4, D=2):
    g = np.random.default_rng(seed)
    rows = [dict(speaker=s, emotion=e, intensity=1, take=k) for s in speakers for e in emotions for k in range(clips)]
    return make_corpus(rows, g.normal(size=(len(rows), S)), [g.normal(size=(k % 4, D)) for k in range(len(rows))],
                       name="toy", encoder="enc", codec="cod")


def touch(root, *paths):
    for p in paths:
        (root/p).parent.mkdir(parents=True, exist_ok=True)
        (root/p).touch()


# layouts

def test_mead_joins_sound_and_picture(tmp_path):
    touch(tmp_path, "M003/video/front/angry/level_3/001.mp4", "M003/video/left_30/angry/level_3/001.mp4",
          "M003/audio/angry/level_3/001.m4a", "W009/video/front/neutral/level_1/031.mp4", "M003/audio/fear/level_1/002.m4a",
          "M003/video/front/angry/level_3/._002.mp4", "readme.txt")
    t = mead(tmp_path)
    assert list(t["speaker"]) == ["M003", "M003", "W009"] and list(t["intensity"]) == [3, 1, 1]
    assert t.loc[0, "audio"].endswith("001.m4a") and "/front/" in t.loc[0, "video"] and t.loc[1, "video"] == ""
    left = mead(tmp_path, view="left_30")
    assert sum("left_30" in v for v in left["video"]) == 1


def test_cmet_samples_keep_features_without_sound(tmp_path):
    f = "emotion2vec+large_features"
    touch(tmp_path, "audios/MEAD/angry/M003_level_3_005.wav", f"audios/MEAD/angry/{f}/M003_level_3_005.npy",
          "audios/MEAD/neutral/M003_001.wav", f"audios/gemini/sarcastic/{f}/sarcastic_7.npy", "asset/audio/W009_038.wav")
    t = cmet_samples(tmp_path).set_index(["speaker", "emotion"])
    assert len(t) == 3 and t.loc[("M003", "angry"), "audio"].endswith(".wav")
    assert t.loc[("M003", "angry"), "features"].endswith("005.npy") and t.loc[("M003", "neutral"), "intensity"] == 1
    assert t.loc[("gemini", "sarcastic"), "audio"].endswith("sarcastic_7.npy")


def test_ravdess_and_crema_codes(tmp_path):
    touch(tmp_path, "r/Actor_01/03-01-06-02-02-01-01.wav", "r/Actor_01/01-01-06-02-02-01-01.mp4",
          "r/Actor_01/03-02-06-02-02-01-01.wav", "c/AudioWAV/1001_DFA_ANG_HI.wav", "c/VideoFlash/1001_DFA_ANG_HI.flv")
    r, c = ravdess(tmp_path/"r"), read_layout(tmp_path/"c", "crema-d")
    assert len(r) == 1 and tuple(r.loc[0, ["speaker", "emotion", "intensity"]]) == ("Actor_01", "fear", 2)
    assert r.loc[0, "audio"] and r.loc[0, "video"]
    assert len(c) == 1 and tuple(c.loc[0, ["speaker", "emotion", "intensity"]]) == ("1001", "angry", 3)


def test_names_that_people_give_are_read_and_strangers_are_counted(tmp_path, recwarn):
    touch(tmp_path, "ann/happy/one.WAV", "ann/happy/one.MP4", "ann/sad/take.1.wav", "bob/Anger/x.Flac")
    t = read_layout(tmp_path, "folder")
    assert list(t["sentence"]) == ["one", "take.1", "x"] and t.loc[0, "video"].endswith("one.MP4") and not recwarn.list
    touch(tmp_path, "lost.wav", "ann/lost.mp4", "ann/happy/._one.wav", "notes.txt", "ann/happy/one.pdf")
    with pytest.warns(UserWarning, match="^2 files were not recognised, first 'ann/lost.mp4'"):
        assert read_layout(tmp_path, "folder").equals(t)


def test_what_a_data_set_has_besides_is_no_stranger(tmp_path, recwarn):
    touch(tmp_path, "m/M003/video/front/angry/level_3/001.mp4", "m/M003/video/left_30/angry/level_3/001.mp4",
          "r/Actor_01/03-01-06-02-02-01-01.wav", "r/Actor_01/03-02-06-02-02-01-01.wav", "r/Actor_01/02-01-01-01-01-01-01.mp4",
          "s/audios/MEAD/angry/M003_level_3_005.wav", "s/asset/audio/W009_038.wav", "c/audiowav/1001_DFA_ANG_hi.WAV")
    assert [len(read(tmp_path/d)) for read, d in ((mead, "m"), (ravdess, "r"), (cmet_samples, "s"))] == [1, 1, 1]
    assert crema_d(tmp_path/"c").loc[0, "intensity"] == 3 and not recwarn.list


def test_ravdess_faces_without_a_table(tmp_path):
    touch(tmp_path, "Actor_01/03-01-06-02-02-01-01.wav")
    clips = ravdess(tmp_path)
    with pytest.raises(CmetError, match="no such face table"): ravdess_faces(clips, tmp_path/"none.csv")
    (tmp_path/"t.csv").write_text(",".join(f"{a}_r" for a in AUS) + "\n" + ",".join(["0"]*17))
    with pytest.raises(CmetError, match="no column 'name'"): ravdess_faces(clips, tmp_path/"t.csv")


def test_listing_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    names = [f"M030_front_{e}_level3_00{k}.mp4" for e in ("sad", "angry") for k in (2, 1)]
    touch(tmp_path, *names)
    first = mead_clips(tmp_path)
    real = files._entries
    monkeypatch.setattr(files, "_entries", lambda folder: tuple(sorted(names, reverse=True) for names in real(folder)))
    assert first.equals(mead_clips(tmp_path)) and list(first["emotion"]) == ["angry"]*2 + ["sad"]*2


def test_archives_unpack_into_one_folder_more(tmp_path):
    touch(tmp_path, "r/Audio_Speech_Actors_01-24/Actor_01/03-01-02-02-02-01-01.wav", "r/Audio_Speech_Actors_01-24/Actor_02/03-01-01-01-02-01-02.wav",
          "m/MEAD/M003/video/front/angry/level_3/001.mp4", "c/CREMA-D/AudioWAV/1001_DFA_ANG_HI.wav")
    for root, layout, speakers, emotions in (("r", "ravdess", ["Actor_01", "Actor_02"], ["calm", "neutral"]),
                                             ("m", "mead", ["M003"], ["angry"]), ("c", "crema-d", ["1001"], ["angry"])):
        t = read_layout(tmp_path/root, detect_layout(tmp_path/root))
        assert detect_layout(tmp_path/root) == layout and list(t["speaker"]) == speakers and list(t["emotion"]) == emotions


def test_a_data_set_that_is_there_twice_is_told(tmp_path):
    from cmet.corpus.audit import audit
    for place in "", "audio_speech_actors_01-24/":
        touch(tmp_path, f"{place}Actor_01/03-01-02-02-02-01-01.wav", f"{place}Actor_01/03-01-02-02-02-02-01.wav")
    with pytest.warns(UserWarning, match="^2 clips are there twice, first 'audio_speech"): assert len(ravdess(tmp_path)) == 2
    assert list(audit(tmp_path)["kind"]).count("doubled") == 2


@pytest.mark.parametrize("path, said", [
    ("happy/ann/a.wav", "has emotions .happy. where speakers are expected: make it like ann/happy"),
    ("Fear/level_2/a.mp4", "has emotions .Fear. where speakers are expected"),
    ("TESS data/OAF_angry/OAF_back_angry.wav", "no emotion is known among the folders .* .'OAF_angry'.: .*--layout folder"),
    ("data/Actor_01/song.wav", "no emotion is known among the folders .* .'Actor_01'."),
    ("mine/ann/happy/a.wav", "no clips in .*: go down to '.*mine'"),
    ("all/mine/ann/Anger/a.wav", "no clips in .*: go down to '.*all.mine'"),
    ("Zenodo/speech/Actor_01/03-01-02-02-02-01-01.wav", "no clips in .*: go down to '.*Zenodo'")])
def test_a_folder_that_anything_fits_is_doubted(tmp_path, path, said):
    touch(tmp_path, path)
    with pytest.raises(CmetError, match=said): detect_layout(tmp_path)


def test_a_folder_too_deep_down_says_the_way_up(tmp_path):
    from cmet.corpus.audit import audit
    touch(tmp_path, "mine/ann/happy/a.wav", "Speech/Actor_01/03-01-02-02-02-01-01.wav")
    for inside, above in ("mine/ann", "mine"), ("Speech/Actor_01", "Speech"):
        with pytest.raises(CmetError, match=f"no clips in .*: go up to '.*{above}'$"): audit(tmp_path/inside)
    with pytest.raises(CmetError, match="a.wav' is no folder: give the folder of the data set"): audit(tmp_path/"mine/ann/happy/a.wav")


def test_emotions_of_ones_own_are_said_aloud(tmp_path, recwarn):
    touch(tmp_path, "ann/happy/a.wav", "ann/bored/a.wav")
    assert detect_layout(tmp_path) == "folder" and not recwarn.list
    with pytest.warns(UserWarning, match="^taken as emotions, though the kit does not know them: 'bored'$"): read_layout(tmp_path, "folder")
    touch(tmp_path, "own/ann/bored/a.wav", "top/sad/ann/a.wav")
    with pytest.warns(UserWarning, match="'bored'"): assert list(read_layout(tmp_path/"own", "folder")["emotion"]) == ["bored"]
    with pytest.raises(CmetError, match="has emotions .sad. where"): read_layout(tmp_path/"top", "folder")


NAMED = {"emodb": "wav/{:02}a01Fa.wav", "ravdess": "Speech/Actor_{:02}/03-01-06-02-02-01-01.flac", "crema-d": "AudioWAV/10{:02}_DFA_ANG_XX.wav",
         "mead": "M003/audio/angry/level_3/{:03}.m4a", "mead-clips": "M030_front_angry_level3_{:03}.mp4"}


@pytest.mark.parametrize("layout", NAMED)
@pytest.mark.parametrize("other, fit, wanted", [
    *[("notes/me {}.mp3", n, None) for n in (1, 20, 35)], *[("notes/me {}.mp3", n, "named") for n in (36, 38, 40)],
    *[("ann/happy/{}.wav", n, w) for n, w in ((1, "folder"), (4, "folder"), (5, None), (20, None), (35, None), (36, "named"))]])
def test_a_layout_is_taken_where_nearly_all_recordings_fit(tmp_path, layout, other, fit, wanted):
    "One file named like Emo-DB's makes no Emo-DB of forty; what is no recording does not count."
    touch(tmp_path, *(NAMED[layout].format(k) for k in range(fit)), *(other.format(k) for k in range(40 - fit)),
          *(f"tables/of/{k}.csv.txt" for k in range(90)))
    if wanted: assert detect_layout(tmp_path) == (layout if wanted == "named" else wanted)
    else:
        said = rf"no layout fits nearly all recordings in .*\b{layout} fits {fit} of 40\b.*; not .*(wav|mp3|flac|m4a|mp4).*: say which with --layout, or give a folder of one"
        with pytest.raises(CmetError, match=said): detect_layout(tmp_path)


def test_a_data_set_has_more_than_the_kit_reads(tmp_path):
    "Other cameras, songs, the same sounds as mp3, tables and features: none of them makes it another data set."
    for k in range(10):
        touch(tmp_path, f"c/AudioWAV/10{k:02}_DFA_ANG_XX.wav", f"c/AudioMP3/10{k:02}_DFA_ANG_XX.mp3", f"c/VideoFlash/10{k:02}_DFA_ANG_XX.flv",
              f"r/Actor_01/01-01-06-02-02-01-{k:02}.mp4", f"r/Actor_01/02-01-06-02-02-01-{k:02}.mp4", f"r/Actor_01/03-02-06-02-02-01-{k:02}.wav",
              f"m/M003/video/front/angry/level_3/{k:03}.mp4", f"m/M003/audio/angry/level_3/{k:03}.m4a",
              *(f"m/M003/video/{view}/angry/level_3/{k:03}.mp4" for view in ("left_30", "right_60", "top")),
              f"s/audios/gemini/sarcastic/emotion2vec+large_features/man_{k:03}.npy", f"p/M003/front/angry/level_3/{k:03}_PD_FGC_emo.npy",
              f"p/M003/front/angry/level_3/{k:03}_PD_FGC_eye.npy")
    touch(tmp_path, "s/asset/video/W009.mp4", "s/results/one.mp4", "r/songs.csv")
    assert {d: detect_layout(tmp_path/d) for d in "crmsp"} == dict(c="crema-d", r="ravdess", m="mead", s="cmet-samples", p="pd-fgc")
    with pytest.raises(CmetError, match="mead fits 20 of 82.*say which with"): detect_layout(tmp_path)


def test_linked_folders_are_read_like_real_ones(tmp_path):
    touch(tmp_path, "disk/ann/happy/a.wav", "disk/ann/neutral/b.wav", "shared/rest/c.wav")
    (tmp_path/"disk"/"ann"/"sad").symlink_to(tmp_path/"shared"/"rest")  # one folder of a speaker
    (tmp_path/"links").mkdir()
    for name in "ann", "bob": (tmp_path/"links"/name).symlink_to("../disk/ann")  # each speaker
    (tmp_path/"whole").symlink_to("links")  # the data set
    (tmp_path/"disk"/"ann"/"happy"/"again").symlink_to("..")  # a circle
    for root in "links", "whole":
        t = read_layout(tmp_path/root, detect_layout(tmp_path/root))
        assert list(zip(t["speaker"], t["sentence"])) == [(s, c) for s in ("ann", "bob") for c in "abc"]
        assert all(Path(p).is_file() for p in t["audio"])


def test_emodb_says_everything_in_its_names(tmp_path):
    "Small letters are versions: `03a01Fa` is happy, and `03a01fa` is nothing."
    touch(tmp_path, "db/wav/03a01Fa.wav", "db/wav/16b10Lc.wav", "db/wav/16b10Ld.wav")
    assert detect_layout(tmp_path/"db") == "emodb"
    touch(tmp_path, "db/wav/08b02wb.wav")
    with pytest.warns(UserWarning, match="1 file was not recognised, first 'wav/08b02wb.wav'"): t = emodb(tmp_path/"db")
    assert [*zip(t["speaker"], t["emotion"], t["intensity"], t["sentence"], t["take"])] == [
        ("03", "happy", 2, "a01", "a"), ("16", "boredom", 2, "b10", "c"), ("16", "boredom", 2, "b10", "d")]


def test_what_macos_leaves_in_folders_is_no_recording(tmp_path, recwarn):
    touch(tmp_path, "Actor_01/03-01-06-02-02-01-01.wav", "Actor_01/._03-01-06-02-02-01-01.wav", ".Trashes/Actor_01/03-01-06-02-02-01-01.wav",
          "__MACOSX/Actor_01/03-01-06-02-02-01-02.wav", "wav/03a01Fa.wav", "wav/__MACOSX/03a01Fb.wav", ".snapshot/03a01Wa.wav")
    assert len(ravdess(tmp_path)) == len(emodb(tmp_path)) == 1
    assert [p.name for p in files.walk(tmp_path/"wav")] == ["03a01Fa.wav"]


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    touch(tmp_path, "ann/happy/a.wav", "lost+found/x.wav")
    real = files._entries
    def locked(folder):
        if folder.name == "lost+found": raise PermissionError(13, "Permission denied")
        return real(folder)
    monkeypatch.setattr(files, "_entries", locked)
    with pytest.warns(UserWarning, match="lost.found' cannot be listed .Permission denied. and is left out"): assert len(files.walk(tmp_path)) == 1
    with pytest.raises(CmetError, match="cannot list folder .*Permission denied"): files.walk(tmp_path/"lost+found")


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_empty_folder_says_what_was_expected(tmp_path, layout):
    with pytest.raises(CmetError) as e: read_layout(tmp_path, layout)
    assert LAYOUTS[layout].example.split()[0] in e.value.remedy
    with pytest.raises(CmetError, match="no folder"): read_layout(tmp_path/"nowhere", layout)


def test_face_tables_of_openface_and_pyfeat(tmp_path):
    of, pf = tmp_path/"of.csv", tmp_path/"pf.csv"
    of.write_text("frame, success, " + ", ".join(f"{a}_r" for a in AUS) + "\n1, 1, " + ", ".join(map(str, range(17)))
                  + "\n2, 0, " + ", ".join(["0"]*17))
    pf.write_text(",".join([*AUS[:-1], "AU43"]) + "\n" + ",".join(["0.5"]*17))
    a, b = read_face_table(of), read_face_table(pf)
    assert np.array_equal(a[0], np.arange(17)) and np.isnan(a[1]).all() and np.allclose(b, 2.5)
    with pytest.warns(UserWarning, match="1 frame without"): assert make_corpus([{}], faces=[a]).face.shape == (1, 17)
    of.write_text("AU01_r,AU02_r\n1,2")
    with pytest.raises(CmetError, match="AU04_r"): read_face_table(of)
    np.save(tmp_path/"bad.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(CmetError, match="cannot read"): read_face_table(tmp_path/"bad.npy")


OPENFACE = [f"{a}_r" for a in AUS]


def openface(path, rows, columns=("frame", "face_id", "confidence", "success"), sep=", "):
    "Rows of (frame, face_id, confidence, success, the value of all units, {unit: text})."
    lines = [sep.join([*columns, *OPENFACE])]
    for *told, value, odd in rows: lines.append(sep.join([*map(str, told), *(odd.get(a, str(value)) for a in AUS)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def pyfeat(path, rows, **more):
    import pandas as pd
    pd.DataFrame([dict(frame=f, FaceScore=s, **{k: v[i] for k, v in more.items()}) | dict.fromkeys([*AUS[:-1], "AU43"], x)
                  for i, (f, s, x) in enumerate(rows)]).to_csv(path)
    return path


def test_one_row_is_one_frame_of_one_person(tmp_path):
    t = tmp_path/"t.csv"
    for rows, said in (([(f, i, .98, 1, .2 + i, {}) for f in (1, 2) for i in (0, 1)], "several faces a frame, first in frame 1"),
                       ([(f, f // 3, .98, 1, .2, {}) for f in range(1, 5)], "2 people .face_id 0, 1"),
                       ([(f, 0, .4, 1, .2, {}) for f in (1, 1, 2, 2, 3)], "several faces a frame")):
        with pytest.raises(CmetError, match=said): read_face_table(openface(t, rows))
    # the second face was never seen: its rows say so themselves
    one = read_face_table(openface(t, [(f, i, .98 - i, 1 - i, f, {}) for f in (1, 2) for i in (0, 1)][:3]))
    assert one[:, 0].tolist() == [1, 2]
    wallpaper = [(f, s, x) for f in range(40) for s, x in [(.99, np.nan if f == 9 else .3), (.59, .9)][:1 + (f in (5, 6, 7))]]
    c = make_corpus([{}], faces=[read_face_table(pyfeat(t, wallpaper))])
    assert c.lengths.tolist() == [39] and np.allclose(c.face, 1.5)
    with pytest.raises(CmetError, match="several recordings"): read_face_table(pyfeat(t, [(0, 1, .1), (0, 1, .2)], input=["a.mp4", "b.mp4"]))
    with pytest.raises(CmetError, match="2 people .Identity"): read_face_table(pyfeat(t, [(0, 1, .1), (1, 1, .2)], Identity=["Ann", "Bob"]))
    late = read_face_table(pyfeat(t, [(2, .9, .4), (0, .9, .2), (1, .9, .3), (2, .5, 1)]))
    assert np.allclose(late[:, 0], [1, 1.5, 2]), "in the order of the frames"


@pytest.mark.parametrize("bad", ["nan", "-nan(ind)", "", "inf", "#NUM!", "1.#QNAN", "1e99"])
def test_a_number_that_is_none_costs_its_frame(tmp_path, bad):
    face = read_face_table(openface(tmp_path/"t.csv", [(f, 0, .98, 1, f, {"AU12": bad} if f == 2 else {}) for f in (1, 2, 3)]))
    assert np.array_equal(face, np.repeat([[1], [np.nan], [3]], 17, 1), equal_nan=True)
    with pytest.warns(UserWarning, match="1 frame without"): assert make_corpus([{}], faces=[face]).lengths.tolist() == [2]
    if bad in ("inf", "nan"):
        np.save(tmp_path/"t.npy", [[1, 2], [float(bad), 3]])
        assert np.isnan(read_face_table(tmp_path/"t.npy")[1]).all()


def test_tables_as_spreadsheets_write_them(tmp_path):
    t = tmp_path/"t.csv"
    rows = [(f, 0, "0,98", 1, "0,25", {"AU12": "1,5"}) for f in (1, 2)]
    for sep in ";", "\t":
        face = read_face_table(openface(t, rows, sep=sep))
        assert face.shape == (2, 17) and face[0, AUS.index("AU12")] == 1.5 and face[1, 0] == .25
    t.write_text("\ufeff" + t.read_text().replace("\n", sep + "\n"), encoding="utf-8")  # Excel's mark, a separator too much
    assert np.array_equal(read_face_table(t), face)
    openface(t, [(1, 0, 1, 1, "high", {"AU01": "0.1"})])
    with pytest.raises(CmetError, match="has no number in AU02_r .first: 'high'.: write it again"): read_face_table(t)


@pytest.mark.parametrize("array", [np.zeros((2, 3, 4)), np.zeros((2, 3), complex), np.array("text")])
def test_arrays_that_are_no_faces(tmp_path, array):
    np.save(tmp_path/"a.npy", array)
    with pytest.raises(CmetError, match="holds .*: store .frames, numbers."): read_face_table(tmp_path/"a.npy")


# the store

def test_round_trip_is_bitwise(tmp_path):
    c = toy()
    again = read_corpus(write_corpus(c, tmp_path/"c"), verify=True)
    for k in ("speech", "face", "offsets"):
        assert getattr(again, k).tobytes() == getattr(c, k).tobytes() and getattr(again, k).dtype == getattr(c, k).dtype
    assert again.clips.equals(c.clips) and again.meta["encoder"] == "enc" and isinstance(again.face, np.memmap)
    assert sorted(os.listdir(tmp_path/"c")) == sorted(FILES)


def test_same_corpus_gives_same_bytes(tmp_path):
    a, b = write_corpus(toy(), tmp_path/"a"), write_corpus(toy(), tmp_path/"b")
    assert all((a/f).read_bytes() == (b/f).read_bytes() for f in FILES)


@pytest.mark.parametrize("name", FILES[:4])
def test_tampering_and_truncation_are_found(tmp_path, name):
    folder = write_corpus(toy(), tmp_path/"c")
    data = bytearray((folder/name).read_bytes())
    data[-5] ^= 1
    (folder/name).write_bytes(data)
    with pytest.raises(CmetError): read_corpus(folder, verify=True)
    (folder/name).write_bytes(data[:len(data)//2])
    with pytest.raises(CmetError): read_corpus(folder)
    (folder/name).unlink()
    with pytest.raises(CmetError, match=f"has no {name}"): read_corpus(folder)


@pytest.mark.parametrize("change, word", [
    (dict(speech=np.zeros((8, 4), np.float32)), "speech has shape"), (dict(offsets=np.arange(9)), "offsets has shape"),
    (dict(offsets=np.r_[0, 5, 3, np.arange(3, 10)]), "offsets must"), (dict(offsets=np.r_[1, np.arange(1, 10)]), "start at 0"),
    (dict(face=np.full((12, 2), np.nan, np.float32)), "face of clip 1 has"), (dict(face=np.zeros((3, 2), np.float32)), "face has"),
    (dict(clips=[1]), "column")])
def test_a_fault_is_named(change, word):
    c = toy(speakers="A")
    import pandas as pd
    if "clips" in change: change = dict(clips=pd.DataFrame({"speaker": ["A"]*9}))
    parts = dict(clips=c.clips, speech=c.speech, face=c.face, offsets=c.offsets) | change
    from cmet.corpus.corpus import Corpus
    with pytest.raises(CmetError, match=word): Corpus(**parts)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(value):
    c = toy()
    c.speech[4, 1] = value
    with pytest.raises(CmetError, match="clip 4"): make_corpus(c.clips, c.speech)
    c.speech[4] = value
    if np.isnan(value): assert not make_corpus(c.clips, c.speech).has_speech[4]
    else:
        with pytest.raises(CmetError, match="clip 4"): make_corpus(c.clips, c.speech)


def test_write_refuses_a_folder_with_other_files(tmp_path):
    folder = write_corpus(toy(), tmp_path/"c")
    write_corpus(toy(1), folder)
    assert not np.array_equal(read_corpus(folder).speech, toy().speech)
    (folder/"thesis.tex").touch()
    with pytest.raises(CmetError, match="thesis.tex"): write_corpus(toy(), folder)
    assert np.array_equal(read_corpus(folder, verify=True).speech, toy(1).speech)


def test_a_failed_write_leaves_the_old_corpus(tmp_path, monkeypatch):
    import cmet.corpus.corpus as m
    folder = write_corpus(toy(), tmp_path/"c")
    def fail(*_): raise OSError("disk full")
    monkeypatch.setattr(m, "_fill", fail)
    with pytest.raises(CmetError, match="disk full"): write_corpus(toy(1), folder)
    assert os.listdir(tmp_path) == ["c"] and np.array_equal(read_corpus(folder, verify=True).speech, toy().speech)


@pytest.mark.parametrize("stuck", [".new", ".old"])
def test_a_move_that_fails_does_not_cost_the_old_corpus(tmp_path, monkeypatch, stuck):
    "`.new`: the new one cannot be moved into its place; `.old`: and then the old one cannot be moved back."
    import cmet.corpus.corpus as m
    folder, move = write_corpus(toy(), tmp_path/"c"), os.replace
    def fail(a, b):
        if str(a).endswith((".new", stuck)): raise OSError("no")
        move(a, b)
    monkeypatch.setattr(m.os, "replace", fail)
    with pytest.raises(CmetError) as e: write_corpus(toy(1), folder)
    monkeypatch.undo()
    left = [p for p in tmp_path.iterdir()]
    assert len(left) == 1 and np.array_equal(read_corpus(left[0], verify=True).speech, toy().speech)
    assert left[0] == folder if stuck == ".new" else str(left[0]) in e.value.remedy


@pytest.mark.parametrize("name", ["file", "x"*300])
def test_write_refuses_what_is_no_folder(tmp_path, name):
    (tmp_path/"file").write_text("precious")
    with pytest.raises(CmetError): write_corpus(toy(), tmp_path/name)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path/"file").read_text() == "precious"
    with pytest.raises(CmetError, match="is a file"): write_corpus(toy(), tmp_path/"file")


def test_meta_of_another_format(tmp_path):
    folder = write_corpus(toy(), tmp_path/"c")
    (folder/"meta.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(CmetError, match="format"): read_corpus(folder)
    with pytest.raises(CmetError, match="no corpus"): read_corpus("no/such/corpus")


# contents

@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.randoms())
def test_offsets_means_and_selection_agree(lengths, random):
    faces = [np.full((n, 3), k + 1.) for k, n in enumerate(lengths)]
    if not any(lengths): faces = None
    c = make_corpus([dict(speaker="A", emotion="happy", take=k) for k in range(len(lengths))], faces=faces)
    means = c.face_means()
    for k, n in enumerate(lengths):
        if n: assert (means[k] == k + 1).all() and len(c.face_of(k)) == n
        else: assert np.isnan(means[k]).all()
    rows = [random.randrange(len(lengths)) for _ in range(4)]
    part = c.select(rows)
    for k, r in enumerate(rows): assert np.array_equal(part.face_of(k), c.face_of(r))


def test_concat_keeps_what_each_part_lacks():
    a = make_corpus([dict(speaker="A", emotion="happy")]*2, np.ones((2, 3)), encoder="e")
    b = make_corpus([dict(speaker="A", emotion="happy")], faces=[np.ones((5, 2))], codec="c")
    c = concat(a, b)
    assert list(c.has_speech) == [True, True, False] and list(c.has_face) == [False, False, True]
    assert (c.meta["encoder"], c.meta["codec"]) == ("e", "c") and c.speech.shape == (3, 3)
    with pytest.raises(CmetError, match="encoder"): concat(a, make_corpus([{}], np.ones((1, 3)), encoder="other"))
    with pytest.raises(CmetError): concat(a, make_corpus([{}], np.ones((1, 4)), encoder="e"))


def test_encode_shows_the_codec_the_neutral_face_first(monkeypatch):
    import cmet.io.media
    monkeypatch.setattr(cmet.io.media, "read_video", lambda p: (np.full((2, 1, 1, 3), int(p), np.uint8), 25))
    class Codec:
        name, dim = "fake", 1
        def neutral_shape(self, frames): return frames[0, 0, 0, 0]
        def encode(self, frames, neutral): return frames[:, 0, 0, :1].astype(np.float32) - neutral
    class Encoder:
        name = "fake"
        def encode(self, paths, progress=False): return np.array([[len(p), 0] for p in paths], np.float32)
    rows = [dict(speaker="A", emotion="happy", video="7", audio="xyz"), dict(speaker="A", emotion="neutral", video="5")]
    c = encode_corpus(rows, Encoder(), Codec(), progress=False)
    assert c.face_of(0)[0, 0] == 2 and c.face_of(1)[0, 0] == 0 and c.meta["codec"] == "fake"
    assert c.speech[0, 0] == 3 and not c.has_speech[1]
    with pytest.raises(CmetError, match="no neutral video"): encode_corpus(rows[:1], None, Codec(), progress=False)


def test_a_speakers_face_at_rest_is_one_rule(monkeypatch, tmp_path):
    "The first neutral video that shows a face, whether a table is encoded at once or piece by piece."
    import cmet.io.media
    from cmet.corpus.encode import faces_of
    from cmet.io.resume import Bench, Parts
    monkeypatch.setattr(cmet.io.media, "read_video", lambda p: (np.full((2, 1, 1, 3), int(p), np.uint8), 25))
    class Codec:
        name, dim = "fake", 1
        def neutral_shape(self, frames):
            if frames.max() == 9: raise CmetError("no face", "show one")
            return frames[0, 0, 0, :1]
        def encode(self, frames, neutral): return frames[:, 0, 0, :1].astype(np.float32) - neutral
    rows = [dict(speaker="A", emotion=e, video=v) for e, v in (("happy", "7"), ("neutral", "9"), ("neutral", "5"))]
    c = encode_corpus(rows, None, Codec(), progress=False)
    apart = faces_of(Bench(Parts(tmp_path/"parts"), progress=False), c.clips, Codec())
    assert c.face[::2].ravel().tolist() == [2, 4, 0] and np.array_equal(np.concatenate(apart), c.face)
    with pytest.raises(CmetError, match=r"at rest \(no face\)"): encode_corpus(rows[:2], None, Codec(), progress=False)


def test_a_corpus_is_known_by_its_content(tmp_path):
    a, b = toy(S=3), toy(S=3)
    assert a.hashes == b.hashes == read_corpus(write_corpus(a, tmp_path/"a")).hashes, "written or not"
    assert concat(a, b).hashes != concat(a).hashes and concat(a, b).name == concat(a).name == "joined"
    assert a.select([0, 1]).hashes != a.hashes != make_corpus(a.clips.assign(speaker="X"), a.speech, [a.face_of(i) for i in range(len(a))]).hashes


# splits and pairs

@settings(max_examples=20, deadline=None)
@given(st.sets(st.sampled_from("ABC"), max_size=2), st.sets(st.sampled_from(["happy", "Sadness"]), max_size=2))
def test_what_is_held_out_vanishes(speakers, emotions):
    c = toy(S=3)
    if not speakers and not emotions:
        with pytest.raises(CmetError): hold_out(c)
        return
    train, test = hold_out(c, sorted(speakers), sorted(emotions))
    gone = {"happy": "happy", "Sadness": "sad"}
    names = {gone[e] for e in emotions}
    assert not names & set(train.emotions) and not speakers & set(train.speakers)
    assert "neutral" in train.emotions and set(test.emotions) >= names
    lost = [k for k in range(len(c)) if c.clips["emotion"][k] in names or c.clips["speaker"][k] in speakers]
    kept = {row.tobytes() for row in train.speech} | {row.tobytes() for row in train.face}
    for k in lost: assert c.speech[k].tobytes() not in kept and not {r.tobytes() for r in c.face_of(k)} & kept
    if len(train.emotions) > 1 and len(pair_table(pools(train), pools(train, "face"))):
        assert not names & set(draw_pairs(train, 50)[2][:, 2:].ravel())


def test_folds_test_everybody_once_and_only_once():
    c = toy(speakers="ABCDE")
    tested = [s for _, test in speaker_folds(c, 2, seed=3) for s in test.speakers]
    assert sorted(tested) == list("ABCDE") and all(not set(a.speakers) & set(b.speakers) for a, b in speaker_folds(c, 2))
    with pytest.raises(CmetError, match="one speaker"): list(speaker_folds(toy(speakers="A")))
    with pytest.raises(CmetError, match="no speaker 'Z'"): hold_out(c, ["Z"])


def test_pairs_stay_inside_a_speaker_unless_asked():
    c = toy(clips=4)
    s, f, who = draw_pairs(c, 400, shots=2, seed=1)
    assert (who[:, 0] == who[:, 1]).all() and (who[:, 2] != who[:, 3]).all()
    assert set(map(tuple, who[:, 2:])) == {(i, j) for i in c.emotions for j in c.emotions if i != j}
    again = draw_pairs(c, 400, shots=2, seed=1)
    assert np.array_equal(s, again[0]) and np.array_equal(f, again[1]) and not np.array_equal(s, draw_pairs(c, 400, 2, seed=2)[0])
    assert len(draw_pairs(c, None, None)[0]) == 3*6 and len(draw_pairs(c, None, None, across=True)[0]) == 9*6


def test_one_shot_pair_is_a_difference_of_two_real_clips():
    c = toy(clips=4)
    s, f, who = draw_pairs(c, 60, shots=1)
    clips, means = c.clips, c.face_means()
    for k in range(60):
        pool = lambda e, k=k: c.speech[(clips["speaker"] == who[k, 0]) & (clips["emotion"] == e)]
        every = pool(who[k, 3])[:, None] - pool(who[k, 2])[None]
        assert np.abs(every - s[k]).sum(-1).min() < 1e-5
    assert np.isfinite(means[c.has_face]).all() and np.isfinite(f).all()


def test_no_common_pair_is_an_error():
    a = make_corpus([dict(speaker="A", emotion=e) for e in ("neutral", "happy")]*2, np.ones((4, 3)))
    b = make_corpus([dict(speaker="B", emotion=e) for e in ("neutral", "happy")], faces=np.ones((2, 2)))
    with pytest.raises(CmetError, match="nobody|no speaker"): draw_pairs(concat(a, b))
    assert len(draw_pairs(concat(a, b), None, None, across=True)[0]) == 2


def test_import_is_light():
    code = "import sys, cmet.corpus.corpus, cmet.corpus.sampling, cmet.vectors.vector, cmet.mappers.registry; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pandas", "funasr", "mediapipe", "matplotlib", "opensmile"} & set(out)


@pytest.mark.real
def test_real_data_sets():
    if not all(find_data(n) for n in ("cmet-samples", "mead-clips", "ravdess")): pytest.skip("CMET_DATA is not set")
    s, m, r = cmet_samples(find_data("cmet-samples")), mead_clips(find_data("mead-clips")), ravdess(find_data("ravdess"))
    assert (len(s), len(m), len(r)) == (343, 16, 960)
    faces = ravdess_faces(r, find_data("ravdess")/"openface_aus.csv")
    assert all(f.shape == (1, 17) for f in faces)
    # Reference: AU12 of the first row of the table, which is clip 01-01-01-01-01-02-08.
    k = [a.endswith("03-01-01-01-01-02-08.flac") for a in r["audio"]].index(True)
    assert np.isclose(faces[k][0, 8], 0.3365137614678899)


# what is measured inside speakers

@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_spread_and_rest_inside_speakers_are_what_their_words_say(seed):
    from cmet.corpus.sampling import at_rest, centred, inner_spread
    g = np.random.default_rng(seed)
    who, felt = g.choice(list("ABC"), 30), g.choice(["neutral", "happy"], 30)
    x = g.normal(size=(30, 3)) + 100*(who == "A")[:, None]
    x[:, 1] = 1/3
    sd = np.sqrt(sum(((x[who == s] - x[who == s].mean(0))**2).sum(0) for s in set(who))/30)
    assert np.allclose(inner_spread(x, who)[[0, 2]], sd[[0, 2]]) and np.isinf(inner_spread(x, who)[1])
    assert np.allclose([centred(x, who)[who == s].mean(0) for s in set(who)], 0, atol=1e-12)
    for s in set(who):
        calm, rest = (who == s) & (felt == "neutral"), at_rest(x, who, felt)[who == s]
        assert np.allclose(rest, x[calm].mean(0)) if calm.any() else np.isnan(rest).all()


# Many clips

@pytest.mark.parametrize("name", ["speech.npy", "face.npy"])
def test_a_large_array_is_compared_when_it_is_touched(tmp_path, monkeypatch, name):
    import pickle
    monkeypatch.setattr("cmet.corpus.corpus.SOON", 100)
    folder, part = write_corpus(toy(), tmp_path/"c"), name[:-4]
    data = bytearray((folder/name).read_bytes())
    open_before, copied = read_corpus(folder), pickle.loads(pickle.dumps(read_corpus(folder)))
    (folder/name).unlink()
    data[-5] ^= 1
    (folder/name).write_bytes(data)
    for good in open_before, copied: assert np.array_equal(getattr(good, part), getattr(toy(), part), equal_nan=True), "its own file is the old one"
    c = read_corpus(folder)
    assert c.emotions and c.lengths.sum() and getattr(c, "face" if part == "speech" else "speech").size
    for touch in (lambda: getattr(c, part), lambda: getattr(c, part), lambda: c.select([0]), lambda: pickle.dumps(c), lambda: write_corpus(c, tmp_path/"d")):
        with pytest.raises(CmetError, match=f"{folder}': {name} does not match its hash"): touch()
    with pytest.raises(CmetError, match=name): read_corpus(folder, verify=True)
    monkeypatch.undo()
    with pytest.raises(CmetError, match=name): read_corpus(folder)


def test_hashing_what_is_not_written_makes_no_copy_of_the_faces(tmp_path):
    import tracemalloc
    n, frames = 100, 20_000
    face = np.arange(n*frames*5, dtype=np.float32).reshape(-1, 5) % 7
    c = make_corpus([dict(speaker="A", emotion="happy") for _ in range(n)], None, np.split(face, n))
    tracemalloc.start()
    try: known, peak = c.hashes, tracemalloc.get_traced_memory()[1]
    finally: tracemalloc.stop()
    assert c.face.nbytes == 40_000_000 and peak < c.face.nbytes/1.5, peak
    assert known == read_corpus(write_corpus(c, tmp_path/"c")).hashes


@pytest.mark.parametrize("column, values", [("take", ["1", 2]), ("take", [[1], "y"]), ("what", [{"a": 1}, 3])])
def test_a_table_that_no_file_can_hold_is_one_line(tmp_path, column, values):
    c = toy()
    c.clips[column] = np.array(values*len(c) + [None], object)[:len(c)]
    for work in (lambda: c.hashes, lambda: write_corpus(c, tmp_path/"c"), lambda: mapper("ridge").fit(c)):
        with pytest.raises(CmetError, match="table of corpus .* cannot be stored .*values of one kind") as e: work()
        assert "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


def test_mean_faces_are_the_same_however_many_clips_there_are():
    g = np.random.default_rng(0)
    lengths = g.integers(0, 4, 2500)
    lengths[[0, 999, 1000, 2499]] = 0
    faces = [g.normal(size=(k, 3)).astype(np.float32) for k in lengths]
    means = make_corpus([dict(speaker="A", emotion="happy")]*2500, None, faces).face_means()
    for k, x in enumerate(faces):
        assert np.isnan(means[k]).all() if not len(x) else np.array_equal(means[k], np.float32(x.sum(0, dtype=np.float64)/len(x)))
    with pytest.raises(ValueError, match="read-only"): means[0] = 0


def test_a_training_on_people_that_was_killed_goes_on(tmp_path, monkeypatch):
    from cmet.corpus import people
    from cmet.mappers.registry import SHIPPED, fit_to_file
    from cmet.train.loop import Trainer
    studio = read_corpus("studio")
    voices = studio.select(studio.clips["intensity"].isin([1, 3]) & studio.clips["speaker"].isin(["F01", "M01"]))
    voices.clips["source"] = "ravdess"
    monkeypatch.setattr(people, "people_corpus", lambda encoder: voices)
    for key, value in dict(steps=20, batch=16, save=5).items(): monkeypatch.setitem(SHIPPED, key, value)
    fit_to_file(tmp_path/"whole.safetensors", "people")
    step, count = Trainer.__call__, []
    def stops(self, *a):
        count.append(1)
        if len(count) == 13: raise KeyboardInterrupt
        return step(self, *a)
    monkeypatch.setattr(Trainer, "__call__", stops)
    with pytest.raises(KeyboardInterrupt): fit_to_file(tmp_path/"m.safetensors", "people")
    assert list((tmp_path/"m.safetensors.part").glob("step-*"))
    fit_to_file(tmp_path/"m.safetensors", "people")
    assert len(count) < 13 + 20, "it began where it was"
    assert (tmp_path/"m.safetensors").read_bytes() == (tmp_path/"whole.safetensors").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.safetensors", "whole.safetensors"]
