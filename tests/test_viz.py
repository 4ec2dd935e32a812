"Pictures keep their pixels, their labels stay inside, and emotions keep their colours."
import re

import numpy as np
import pytest

from cmet.core import EMOTIONS, EXTENDED, CmetError
from cmet.face.action_units import AUS
from cmet.viz import figures


def frame(value, h=60, w=80):
    return np.random.default_rng(value).integers(0, 256, (h, w, 3), dtype=np.uint8)


def contains(image, patch):
    "Whether a picture holds a patch pixel for pixel."
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(image), patch.shape)
    corner = patch[0, 0]
    for y, x in zip(*np.where((np.asarray(image)[:windows.shape[0], :windows.shape[1]] == corner).all(-1))):
        if np.array_equal(windows[y, x, 0], patch): return True
    return False


def test_every_emotion_has_its_own_colour():
    names = EMOTIONS + EXTENDED + ("calm",)
    assert len({figures.colour(n) for n in names}) == len(names) and figures.INK not in {figures.colour(n) for n in names}
    assert figures.colour("Happy") == figures.colour("happy") and figures.colour("unedited") == figures.INK


def test_filmstrip_keeps_pixels():
    cells = [frame(i) for i in range(3)]
    image = figures.filmstrip([cells[:2], [cells[2], None]], ["one", "two"], ["happy", "sad"], "A title")
    assert all(contains(image, c) for c in cells) and not contains(image, frame(9))


def test_filmstrip_of_unequal_frames_and_long_labels():
    image = figures.filmstrip([[frame(0), frame(1, 30, 40)]], ["a rather long name of a row\nin two lines"],
                          ["a name far too long for its column", "b"])
    assert contains(image, frame(0)) and contains(image, frame(1, 30, 40))


def test_column_stripe_has_the_colour_of_the_emotion():
    happy = np.array([int(figures.PALETTE["happy"][i:i + 2], 16) for i in (1, 3, 5)])
    found = lambda label: (np.asarray(figures.filmstrip([[frame(0)]], (), [label])) == happy).all(-1).sum() > 80
    assert found("happy") and not found("unedited")


def test_filmstrip_is_saved_as_shown(tmp_path):
    from PIL import Image
    image = figures.filmstrip([[frame(0)]], path=tmp_path/"strip.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path/"strip.png")), np.asarray(image))


def test_a_long_title_takes_another_line():
    "It shrank to letters half as large as those below it."
    from cmet.io.pictures import in_lines, width_of
    title = "heard disgusted 22%, neutral 20%, sad 18% (whisper, of 3 clips, against a guessed neutral)"
    lines = in_lines(title, 300, 14)
    assert lines.count("\n") > 1 and width_of(lines, 14) <= 300 and lines.replace("\n", " ") == title
    assert in_lines("short", 300, 14) == "short" and in_lines("wordwithoutend "*2, 10, 14) == "wordwithoutend\nwordwithoutend"
    short, long = (np.asarray(figures.filmstrip([[frame(0, 200, 200)]*2], (), ["a", "b"], t)) for t in ("short", title))
    assert long.shape[1] == short.shape[1] and len(long) > len(short) + 20
    extra = len(long) - len(short)
    np.testing.assert_array_equal(long[-240:], short[-240:], "below the title all is as it was")
    ink = np.flatnonzero((long[:extra + 32] < 128).any((1, 2)))
    assert ink[0] > 2 and ink[-1] < extra + 32


def test_filmstrip_without_frames():
    with pytest.raises(CmetError, match="without frames"): figures.filmstrip([[None]])


def test_au_bars():
    v = np.linspace(-2, 2, 17)
    axes = figures.au_bars({"happy": v, "unedited": -v}, "what to see").axes[0]
    assert np.allclose(sorted(p.get_width() for p in axes.patches), sorted([*v, *-v]))
    assert axes.get_xlabel() and axes.get_ylabel() and axes.figure.get_suptitle() == "what to see"
    assert len(figures.au_bars(v).axes[0].patches) == 17
    plain = {p.get_facecolor() for p in figures.au_bars({"written": v, "read": v}).axes[0].patches}
    assert len(plain) == 2 and all(len(set(c[:3])) == 1 for c in plain), "a label that is no emotion gets a colour"
    with pytest.raises(CmetError, match="17 action units"): figures.au_bars(np.zeros(10))


def test_strength_strip_shows_what_the_codec_made():
    class Codec:
        def edit(self, frames, delta): return np.stack([np.full_like(f, int(10*d[0])) for f, d in zip(frames, delta)])
    image = figures.strength_strip(frame(0), {"happy": [1.], "sad": [2.]}, Codec(), (1, 5), "what to see")
    assert contains(image, frame(0)) and all(contains(image, np.full((60, 80, 3), v, np.uint8)) for v in (10, 20, 50, 100))


def test_time_curves():
    t = np.linspace(0, 1, 9)
    fig = figures.time_curves(t, {"happy": t, "AU12": 2*t, "AU01": 3*t}, "what to see", "weight", [.5])
    happy, one, two, key = fig.axes[0].lines
    assert happy.get_color() == figures.PALETTE["happy"] and one.get_color() == two.get_color() == figures.INK
    assert one.get_linestyle() != two.get_linestyle() and np.allclose(key.get_xdata(), .5)
    assert fig.get_suptitle() == "what to see" and fig.axes[0].get_ylabel() == "weight"


def test_cosine_map_puts_the_similar_side_by_side():
    g = np.random.default_rng(0)
    a, b = g.normal(size=(2, 9))
    fig = figures.cosine_map({"a1": a, "b1": b, "a2": a + .1*g.normal(size=9), "b2": 2*b}, "what to see")
    order = [t.get_text() for t in fig.axes[1].get_yticklabels()]
    assert {"".join(sorted(order[:2])), "".join(sorted(order[2:]))} == {"a1a2", "b1b2"}
    assert sum(t.get_text() == "1.00" for t in fig.axes[1].texts) >= 4
    with pytest.raises(CmetError, match="two at least"): figures.cosine_map({"a": a})


def test_the_explorers_bars_are_as_long_as_their_heading_says():
    "Full at 3, under a heading that said 0 to 5."
    from types import SimpleNamespace as N
    from cmet.explorer.widgets import Bars
    for units, n, full in ((AUS, 17, 5.), ((), 10, 1.)):
        change = np.zeros((1, n), np.float32)
        change[0, :3] = full, -full/2, full/5
        b = Bars()
        b.show(N(frame=0, change=change, clip=N(face=np.zeros((1, n)), codec=N(units=units))))
        assert f"−{full:g} to {full:g}" in b.head.value
        assert [float(x) for x in re.findall(r"width:([\d.]+)%", b.widget.value)][:4] == [50, 25, 10, 0]
