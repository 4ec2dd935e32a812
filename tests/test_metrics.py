"The judges see what they should, the arithmetic is right, and what was not seen is not guessed."
import os

import numpy as np
import pytest

from cmet import core
from cmet.core import BASIC, CmetError, builtin, find_data
from cmet.evaluate import judges
from cmet.io.assets import candidates
from cmet.io.media import open_video

landmarker = pytest.mark.skipif(not any(p.is_file() for p in candidates("face_landmarker.task")),
                                reason="face_landmarker.task is not on this machine")
real = pytest.mark.skipif(find_data("mead-clips") is None, reason="CMET_DATA has no mead-clips")


@pytest.fixture(scope="module")
def smile():
    from skimage.data import astronaut
    return astronaut()[None]


@pytest.fixture(scope="module")
def blank():
    return np.full((2, 96, 128, 3), 127, np.uint8)


@pytest.mark.parametrize("name", ["fer", "facex", "fer+facex"])
def test_judges_see_the_smile(smile, name):
    p = judges.judge(name).read(smile)
    assert p.shape == (7,) and np.isclose(p.sum(), 1, atol=.02)
    assert judges.READ[p.argmax()] == "happy" and p.max() > .9


def test_a_panel_is_the_mean_of_its_judges(smile):
    grey = (smile*.8).astype(np.uint8)
    parts = [judges.judge(name).predict(grey) for name in ("fer", "facex")]
    np.testing.assert_allclose(judges.judge("fer+facex").predict(grey), np.mean(parts, 0), atol=1e-6)


def test_judge_does_not_depend_on_neighbouring_frames(smile):
    dark, j = (smile*.5).astype(np.uint8), judges.judge("fer+facex")
    np.testing.assert_array_equal(j.predict(np.concatenate([smile, dark]))[1], j.predict(dark)[0])


def test_face_at_the_edge_of_the_picture(smile):
    close = smile[:, 30:250, 150:290]
    p = judges.judge("fer+facex").read(close)
    assert np.isfinite(p).all()


@pytest.mark.parametrize("name", ["fer", "facex"])
def test_large_windows_first_find_what_all_windows_find(name, smile):
    import cv2
    network, portrait = judges.judge(name).networks[0], next(iter(open_video(builtin("portrait.mp4")).frames()))
    far = np.pad(smile[0], ((0, 500), (0, 700), (0, 0)))  # a face of less than a third
    for picture in smile[0], smile[0, :256, 96:352], far, portrait:
        grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
        boxes = network.finder.detectMultiScale(grey, 1.1, network.neighbours, minSize=(network.least, network.least))
        assert network.find(grey).tolist() == max(boxes, key=lambda b: b[2]*b[3]).tolist()


def test_crops_match_the_packages(smile):
    "Spelled out once more, the way the packages write it."
    import cv2
    from skimage.transform import resize
    grey, (x, y, w, h) = cv2.cvtColor(smile[0], cv2.COLOR_RGB2GRAY), (170, 60, 120, 120)
    padded = cv2.copyMakeBorder(grey, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=[cv2.mean(grey[-2:])[0]]*3)
    fer = cv2.resize(padded[y + 30:y + h + 50, x + 30:x + w + 50], (64, 64)).astype("float32")
    np.testing.assert_allclose(judges.crop_fer(grey, (x, y, w, h))[..., 0], (fer/255 - .5)*2, atol=1e-6)
    np.testing.assert_allclose(judges.crop_facex(grey, (x, y, w, h)),
                               resize(grey[y:y + h, x:x + w], (200, 200, 3)), atol=1e-6)


def test_no_face_is_nan_then_an_error(blank, smile):
    assert np.isnan(judges.judge("fer+facex").predict(blank)).all()
    with pytest.raises(CmetError, match="no face"): judges.judge("fer").read(blank)
    mixed = np.stack([smile[0], np.full_like(smile[0], 127)])
    np.testing.assert_allclose(judges.judge("fer").read(mixed), judges.judge("fer").read(smile))


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32), np.zeros(7)])
def test_frames_of_a_wrong_kind(bad):
    with pytest.raises(CmetError, match="uint8"): judges.judge("fer").predict(bad)


def test_unknown_judge():
    with pytest.raises(CmetError, match="unknown judge"): judges.judge("oracle")


def test_verdict_protocols():
    rest, now = np.array([.40, .38, .02, .05, .05, .05, .05]), np.array([.20, .50, .02, .05, .05, .13, .05])
    assert judges.verdict(now) == "angry" and judges.verdict(now, rest) == "sad"
    assert judges.verdict(rest) == "neutral" and judges.verdict(rest, rest) != "neutral"
    noise = np.array([.9, 0, 0, 0, 0, .0009, 0]), np.array([.9, 0, 0, 0, .02, 1e-9, 0])
    assert judges.verdict(*noise) != "sad", "a change far below the judge's resolution must not decide"
    frames = np.stack([now, np.full(7, np.nan)])
    assert judges.verdict(frames) == "angry"


@pytest.mark.parametrize("k, n, low, high", [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
    (81, 263, .2553, .3662), (15, 148, .0624, .1605), (0, 20, 0, .1611), (1, 29, .0061, .1718)])
def test_wilson_against_published_values(k, n, low, high):
    np.testing.assert_allclose(judges.wilson(k, n), (low, high), atol=6e-5)


def test_wilson_at_the_ends():
    assert judges.wilson(0, 0) == (0, 1) and judges.wilson(5, 5)[1] == 1
    with pytest.raises(CmetError): judges.wilson(3, 2)


def test_judge_table_counts():
    pairs = [("happy", "happy"), ("joy", "sad"), ("fear", "fear"), ("contempt", "angry")]
    table = judges.judge_table(pairs)
    assert list(table.index) == ["fear", "happy", "all"]
    assert table.loc["all", ["clips", "right"]].tolist() == [3, 2] and table.loc["happy", "share"] == .5
    assert (table.low <= table.share).all() and (table.share <= table.high).all()
    assert judges.judge_table([]).loc["all", "clips"] == 0


def test_an_interval_of_a_share_is_over_speakers():
    "Published: Cochran's error of a ratio equals the textbook's error of a mean where every speaker has one clip."
    hits, who = [True]*9 + [False]*3, list("abcdefghijkl")
    p, error, S = judges.error_of_mean(hits, who)
    assert S == 12 and np.isclose(error, np.std(hits, ddof=1)/np.sqrt(12)) and p == .75
    alone, ten_times = (judges.share_interval(hits*k, who*k) for k in (1, 10))
    assert np.allclose(alone, ten_times, atol=.05), "ten equal clips of a speaker say what one says"
    assert judges.wilson(90, 120)[0] > alone[0] + .1
    for hits in ([True]*4, [False]*4, [True, True, False, False]):
        low, high, S = judges.share_interval(hits, "aabb")
        assert 0 <= low <= np.mean(hits) <= high <= 1 and high - low > .7 and S == 2, "two speakers say little"
    assert judges.share_interval([True, False], ["", ""]) == (*judges.wilson(1, 2), 1)


def test_judge_table_over_speakers():
    pairs = [("happy", "happy"), ("happy", "sad"), ("sad", "sad")]
    table = judges.judge_table(pairs*4, ["a", "b", "a"]*4)
    assert table["speakers"].tolist() == [2, 1, 2] and "speakers" not in judges.judge_table(pairs)
    assert tuple(table.loc["happy", ["low", "high"]]) == judges.share_interval([1, 0]*4, "ab"*4)[:2]
    assert judges.judge_table([], []).loc["all", "speakers"] == 0


def made_up(seed=0):
    draw = np.random.default_rng(seed)
    return draw, draw.random(52), {e: draw.random(52) for e in BASIC}


def test_retrieval_ignores_strength_and_person():
    draw, rest, own = made_up()
    other = draw.random(52)
    edits = {e: other + .2*(clip - rest) for e, clip in own.items()}
    table = judges.retrieval_table(edits, other, own, rest)
    assert table.hit.all() and np.allclose(table.cosine, 1) and (table["rank"] == 1).all()


def test_retrieval_of_the_wrong_emotion_is_no_hit():
    _, rest, own = made_up()
    table = judges.retrieval_table({"happy": own["sad"]}, rest, own, rest)
    assert not table.hit["happy"] and table.nearest["happy"] == "sad" and table.cosine["happy"] < .99


def test_an_edit_that_did_nothing_is_no_hit():
    _, rest, own = made_up()
    table = judges.retrieval_table({"happy": rest}, rest, own, rest)
    assert not table.hit.any() and table.cosine.isna().all()


def test_mean_blendshapes_skips_frames_without_a_face():
    rows = np.stack([np.zeros(52), np.full(52, np.nan), np.ones(52)])
    np.testing.assert_array_equal(judges.mean_blendshapes(rows), np.full(52, .5))
    with pytest.raises(CmetError, match="no face"): judges.mean_blendshapes(rows[1:2])


@landmarker
def test_blendshapes_see_the_smile_and_no_face(smile, blank):
    rows = judges.blendshapes(iter([smile[0], blank[0], smile[0]]))
    smiles = rows[:, judges.BLENDSHAPES.index("mouthSmileLeft")]
    assert rows.shape == (3, 52) and np.isnan(rows[1]).all() and smiles[0] > .5
    np.testing.assert_array_equal(rows[0], rows[2])
    assert judges.blendshapes([]).shape == (0, 52)


def test_preservation():
    time = np.sin(np.arange(40)/4)
    shapes = np.tile(time[:, None], (1, 52))
    assert np.isclose(judges.mouth_sync(shapes*.3, shapes), 1) and np.isclose(judges.mouth_sync(-shapes, shapes), -1)
    assert judges.jitter(shapes) < judges.jitter(shapes + np.tile([.1, -.1], 20)[:, None])
    a = np.zeros((2, 8, 8, 3), np.uint8)
    b, face = a.copy(), np.zeros((8, 8), bool)
    b[:, :4], face[:4] = 255, True
    assert judges.outside_psnr(b, a, face) == np.inf and judges.outside_psnr(b, a, ~face) == 0


def test_silent_hides_and_restores(capfd):
    with core.silent(): os.write(2, b"hidden")
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"


@real
@pytest.mark.real
def test_judges_read_most_real_clips():
    from cmet.io.media import read_video
    results = []
    for path in sorted(find_data("mead-clips").glob("*.mp4")):
        p = judges.judge("fer+facex").read(read_video(path)[0], 8)
        results.append((path.stem.split("_")[2], judges.verdict(p)))
    right = judges.judge_table(results).right
    assert right["neutral"] == 2 and right["all"] - 2 >= 8, results


@pytest.mark.skipif(not any(p.is_file() for p in candidates("face_landmarker.task")), reason="face_landmarker.task is not here")
def test_a_video_is_tracked_with_a_mediapipe_that_has_no_solutions():
    "The newer interface looks at each picture anew unless it is told that they follow each other; then points tremble more."
    import mediapipe as mp

    from cmet.core import builtin
    from cmet.face.landmarks import _tasks
    from cmet.io.media import open_video
    frames, trembling = list(open_video(builtin("portrait.mp4")).frames())[20:30], {}
    for follow in (True, False):
        net, look = _tasks(mp, 1, follow)
        points = np.array([[[p.x, p.y] for p in look(f)[0]] for f in frames])
        trembling[follow] = np.abs(np.diff(points, axis=0)).mean()
        net.close()
    assert trembling[True] < .8*trembling[False]
