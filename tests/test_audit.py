"A healthy data set has no findings; each planted fault is found once, and named."
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile

from cmet.core import CmetError, builtin, find_data
from cmet.corpus.audit import EXPECTED, audit, report
from cmet.corpus.datasets import LAYOUTS, read_layout
from cmet.io.media import read_video, write_video

CODES = dict(zip(("neutral", "calm", "happy", "sad", "angry", "fear", "disgusted", "surprised"), range(1, 9)))


def noise(path, seed, seconds=.32):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, .1*np.random.default_rng(seed).normal(size=int(8000*seconds)), 8000)


@pytest.fixture(scope="module")
def actor(tmp_path_factory):
    "All 60 clips of one actor of RAVDESS."
    root = tmp_path_factory.mktemp("ravdess")
    for n, (who, e, level, sentence, take) in enumerate(k for k in EXPECTED["ravdess"](()) if k[0] == "Actor_05"):
        noise(root/who/f"03-01-{CODES[e]:02}-{level:02}-{sentence}-{take}-05.wav", n)
    return root


def test_whole_actor_has_nothing_but_absent_colleagues(actor):
    found = audit(actor)
    assert len(read_layout(actor, "ravdess")) == 60 and Counter(found["kind"]) == {"missing speaker": 23}
    assert found.equals(audit(actor, workers=2)) and "60 clips of 1 speakers" in report(found)
    assert "missing speaker: 23" in report(found) and "and 18 more" in report(found)


def test_each_fault_is_found(actor, tmp_path):
    root = tmp_path/"root"
    shutil.copytree(actor, root)
    folder = root/"Actor_05"
    (folder/"03-01-04-02-02-01-05.wav").unlink()
    (folder/"03-01-05-01-01-01-05.wav").write_bytes(b"")
    noise(folder/"03-01-01-02-01-01-05.wav", 99)  # there is no strong neutral
    noise(folder/"03-01-06-01-01-01-05.flac", 98)  # beside the wav of the same clip
    shutil.copy(folder/"03-01-07-01-01-01-05.wav", folder/"03-01-07-01-01-02-05.wav")
    noise(folder/"take1.wav", 97)
    noise(folder/"03-02-03-01-01-01-05.wav", 96)  # a song, which the kit leaves out
    (folder/"readme.txt").touch()
    frames, _ = read_video(builtin("portrait.mp4"))
    for code, n in ("02-01-01-01", 8), ("02-01-02-01", 16):
        write_video(folder/f"01-01-{code}-05.mp4", frames[:n, ::4, ::4], 25)
    found = audit(root)
    one = {kind: part.iloc[0] for kind, part in found.groupby("kind")}
    counts = Counter(found["kind"])
    del counts["missing speaker"]
    assert counts.pop("no picture") >= 8 and set(counts.values()) == {1}, counts
    assert set(counts) == {"missing", "surplus", "doubled", "same content", "unreadable", "duration", "unrecognised"}
    assert (one["missing"]["emotion"], one["missing"]["level"], one["missing"]["clip"]) == ("sad", 2, "02/01")
    assert (one["surplus"]["emotion"], one["surplus"]["level"]) == ("neutral", 2)
    assert one["doubled"]["emotion"] == "fear" and ".flac and " in one["doubled"]["detail"]
    assert one["same content"]["emotion"] == "disgusted" and one["unreadable"]["emotion"] == "angry"
    assert "empty (0 bytes)" in one["unreadable"]["detail"] and str(tmp_path) not in report(found)
    assert one["duration"]["detail"] == "sound 0.32 s, picture 0.64 s" and one["duration"]["clip"] == "02 take 01"
    assert len(audit(root, gap=.5).query("kind == 'duration'")) == 0
    assert one["unrecognised"]["detail"] == "Actor_05/take1.wav"


def test_numbering_of_mead_and_names_of_crema(tmp_path):
    for n in (*range(1, 4), *range(11, 31)): noise(tmp_path/"m"/"W009"/"audio"/"fear"/"level_2"/f"{n:03}.wav", n)
    gaps = audit(tmp_path/"m").query("kind == 'missing' and emotion == 'fear'").set_index("level")
    assert gaps.loc[2, "clip"] == "004–010" and gaps.loc[2, "detail"] == "7 clips"
    assert gaps.loc[1, "clip"] == "001–030" and gaps.loc[1, "detail"] == "30 clips; the paper uses 001–003, 021–030"
    names = {1: "LO", 2: "MD", 3: "HI", 0: "XX"}
    feelings = dict(angry="ANG", disgusted="DIS", fear="FEA", happy="HAP", neutral="NEU", sad="SAD")
    for n, (who, e, level, s, _) in enumerate(k for k in EXPECTED["crema-d"](()) if k[0] == "1040"):
        odd = (s, e) == ("ITH", "sad")  # the published set calls one clip 1040_ITH_SAD_X
        noise(tmp_path/"c"/"AudioWAV"/f"{who}_{s}_{feelings[e]}_{'X' if odd else names[level]}.wav", n)
    found = audit(tmp_path/"c")
    assert Counter(found["kind"]) == {"missing speaker": 90, "missing": 1, "unrecognised": 1}
    assert found.attrs["layout"] == "crema-d" and found.query("kind == 'missing'").iloc[0]["clip"] == "ITH"


def test_own_recordings_and_wrong_folders(tmp_path):
    noise(tmp_path/"own"/"ann"/"happy"/"one.wav", 0)
    found = audit(tmp_path/"own")
    assert len(found) == 0 and "nothing to complain about" in report(found) and set(EXPECTED) < set(LAYOUTS)
    for root, layout, text in (("own", "meed", "unknown layout"), ("own", "mead", "no clips of layout"), ("none", None, "no folder")):
        with pytest.raises(CmetError, match=text): audit(tmp_path/root, layout)


@pytest.mark.skipif(find_data("ravdess") is None, reason="RAVDESS is not here")
def test_real_ravdess():
    found = audit(find_data("ravdess"))
    assert found.attrs["clips"] == 60*found.attrs["speakers"] and not {"missing", "unreadable", "surplus"} & set(found["kind"])
    assert found.attrs["speakers"] + (found["kind"] == "missing speaker").sum() == 24
