"Curves: any text is a curve or the kit's error, text and curve are one thing, nothing jumps that should not."
import time
import timeit

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from cmet.core import CmetError
from cmet.corpus.corpus import make_corpus
from cmet.vectors.curves import EASING, Curve, along, curve, key_vectors
from cmet.vectors.vector import compose, direction

NAMES = ("neutral", "happy", "sad", "angry")
g = np.random.default_rng(0)
ROWS = [dict(speaker="A", emotion=e) for e in NAMES for _ in range(3)]
CORPUS = make_corpus(ROWS, g.normal(size=(12, 6)), list(g.normal(size=(12, 1, 3))), name="toy", encoder="e", codec="c")

number = st.floats(0, 99).map(lambda x: f"{x:.4g}")
key = st.tuples(st.sampled_from(["happy", "Anger", "neutral", "happy - sad", "0.5*sad + 2*(happy - angry)", "-sad"]),
                st.one_of(st.just(""), number), st.sampled_from(["", *EASING]))
legal = st.tuples(st.lists(st.floats(0, 1e4).map(lambda x: round(x, 3)), min_size=1, max_size=6, unique=True).map(sorted),
                  st.lists(key, min_size=6, max_size=6), st.sampled_from(["->", " → ", "\n", " -> "])).map(
    lambda p: p[2].join(f"{t}{' '}{' '.join(filter(None, k))}" for t, k in zip(p[0], p[1])))


@settings(max_examples=300, deadline=None)
@given(legal)
def test_legal_curves_round_trip_and_keep_their_keys(text):
    c = curve(text)
    assert curve(str(c)) == c and str(curve(str(c))) == str(c)
    at = c(c.times)
    assert np.allclose(at, c.weights, atol=1e-9)
    t = np.linspace(c.times[0] - 1, c.times[-1] + 1, 200)
    assert np.allclose(c.blend(t).sum(1), 1) and (c.blend(t) >= 0).all() and c(t).shape == (200, len(c.names))
    low, high = c.weights.min(0, initial=0), c.weights.max(0, initial=0)
    assert (c(t) >= low - 1e-9).all() and (c(t) <= high + 1e-9).all()


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text("0123.5 ->→happysd*()-+\n=ts", max_size=120)))
@example("0 happy " + "9"*1900)
@example("0" + " "*1900 + "happy")
@example("1 happy" + " 1"*900)
@example("0 __import__('os').system('true')")
def test_any_text_is_a_curve_or_a_cmet_error_and_soon(text):
    clock, soon = time.process_time, 50_000  # as long as so many short curves take
    yard = min(timeit.repeat(lambda: curve("0 happy"), clock, number=10, repeat=3))/10
    start = clock()
    try: assert isinstance(curve(text), Curve)
    except CmetError: pass
    assert clock() - start < soon*yard


@pytest.mark.parametrize("bad", [None, 3, "", " \n ", "happy", "0 hapy", "1 happy -> 1 sad", "2 happy -> 1 sad", "0 happy ->", "-> 0 happy",
                                 "-1 happy", "nan happy", "inf happy", "0 happy -1", "0 happy bounce", "1e99 happy", "0 happy*sad",
                                 "0 5", "0 1e8*happy 1e8", "0 happy.__class__", "x"*3000])
def test_no_curve(bad):
    with pytest.raises(CmetError): curve(bad)


def test_names_may_be_those_of_a_corpus():
    assert curve("0 smirk", ("neutral", "smirk")).names == ("smirk",)
    with pytest.raises(CmetError, match="unknown emotion"): curve("0 smirk")


@pytest.mark.parametrize("ease", EASING)
def test_every_manner_starts_and_ends_where_it_should(ease):
    c = curve(f"1 neutral -> 2 happy {ease} -> 4 happy")
    t = np.linspace(1, 2, 101)[:-1]
    y = c(t)[:, 0]
    assert y[0] == 0 and (np.diff(y) >= 0).all() and c([0, 2, 3, 9])[:, 0].tolist() == [0, 1, 1, 1]
    assert y.any() == (ease != "hold") and (np.abs(np.diff(y)).max() < .03 or ease == "hold")


def test_manners_differ_as_they_are_called():
    middle = {e: float(curve(f"0 neutral -> 1 happy {e}")(.25)[0, 0]) for e in EASING}
    assert middle["hold"] == 0 < middle["in"] < middle["smooth"] < middle["linear"] == .25 < middle["out"]
    slope = np.diff(curve("0 neutral -> 1 happy")(np.array([0, .001, .5, .501, .999, 1]))[:, 0])[::2]
    assert slope[0] < 1e-4 and slope[2] < 1e-4 and slope[1] > 1e-3


def test_weights_without_balance_are_completed_with_neutral():
    v = key_vectors(curve("0 neutral -> 1 happy 0.5 -> 2 happy - sad -> 3 happy + sad -> 4 happy - neutral"), CORPUS)
    assert v[0] is None and np.allclose(v[1].values, .5*direction(CORPUS, "happy").values, atol=1e-6)
    assert np.allclose(v[2].values, compose("happy - sad", CORPUS).values, atol=1e-6)
    assert np.allclose(v[3].values, compose("happy + sad - 2*neutral", CORPUS).values, atol=1e-6)
    assert np.allclose(v[4].values, direction(CORPUS, "happy").values, atol=1e-6)
    assert key_vectors(curve("0 happy"), CORPUS, space="face")[0].values.shape == (3,)
    with pytest.raises(CmetError, match="unknown emotion"): key_vectors(curve("0 fear"), CORPUS)


def test_along_is_exact_at_keys_even_for_a_mapper_that_cannot_add():
    c = curve("0 neutral -> 1 happy -> 2 sad 2")
    v = key_vectors(c, CORPUS)
    strange = lambda w, face: np.sign(w.values[:3])*np.linalg.norm(w.values) + 0*face
    face = g.normal(size=(5, 3)).astype(np.float32)
    out = along(c, v, strange, face, [0, .5, 1, 2, 7])
    assert out.dtype == np.float32 and not out[0].any()
    for row, k in ((2, 1), (3, 2), (4, 2)): assert np.allclose(out[row], strange(v[k], face[row]), atol=1e-5)
    assert np.allclose(out[1], out[2]/2, atol=1e-5)
    with pytest.raises(CmetError, match="times"): along(c, v, strange, face, [0, 1])
    assert along(c, v, strange, face[:0], []).shape == (0, 3)


def test_a_moment_without_a_face_is_not_asked_about_and_not_changed():
    from cmet.edit.request import Course, change
    class Mapper:
        def predict(self, v, face):
            assert len(face) and np.isfinite(face).all()
            return np.full(face.shape, v, np.float32)
    face, course, t = np.zeros((4, 2), np.float32), Course(curve("0 neutral -> 1 happy"), [None, 2.]), np.arange(4)/3
    face[1, 0] = np.nan
    got = change(Mapper(), course, face, t)
    assert not got[1].any() and np.allclose(got[3], 2) and np.array_equal(got[2:3], change(Mapper(), course, face[2:3], t[2:3]))
    assert change(Mapper(), 2., face)[:, 0].tolist() == [2, 0, 2, 2] and not change(Mapper(), 2., face[1:2]).any()
