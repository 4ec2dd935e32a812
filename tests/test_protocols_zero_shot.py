"""The zero-shot measures in worlds whose truth is known: what can be composed, what is new, what is joined elsewise."""
from itertools import combinations

import numpy as np
import pytest

from cmet.core import CmetError
from cmet.corpus.corpus import make_corpus
from cmet.mappers.registry import mapper
from cmet.evaluate.generalisation import (holm, likeness, outranks, predicted, questions, sign_flip, span_test, told_apart,
                            typical, wrong_faces)

FELT = ["angry", "calm", "disgusted", "fear", "happy", "sad", "surprised"]


def world(kind, seed=0, speakers=6, clips=4, noise=.1):
    """`composed`: four hidden quantities make voice and face. `new`: every emotion has a direction of its own.
    `elsewise`: four quantities make the voice, four others the face."""
    g = np.random.default_rng(seed)
    hidden = np.eye(7) if kind == "new" else g.normal(size=(7, 4))
    other = g.normal(size=(7, 4)) if kind == "elsewise" else hidden
    voice, look = hidden @ g.normal(size=(hidden.shape[1], 30)), other @ g.normal(size=(other.shape[1], 17))
    rows, speech, face = [], [], []
    for s in range(speakers):
        mine, rest = g.normal(size=30), g.normal(size=17)
        for e, v, f in zip(["neutral", *FELT], [0*voice[0], *voice], [0*look[0], *look]):
            for _ in range(clips):
                rows.append(dict(speaker=f"S{s}", emotion=e))
                speech.append(mine + v + noise*g.normal(size=30))
                face.append(rest + f + noise*g.normal(size=17))
    return make_corpus(rows, np.array(speech), np.array(face), name=kind, encoder="planted", codec="planted")


def ridge(seed):
    return mapper("ridge", pairs=400, seed=seed, penalty=.01, gain=1.)


def apart(corpus, wrong=None):
    "Mean of `told_apart` over a third of all pairs."
    asked = questions(corpus).averaged()
    def one(x, y):
        guess = predicted(corpus, ridge, asked, 2, without=(x, y), wrong=wrong)
        return told_apart(likeness(guess, asked, sorted({*FELT} - {x, y})), asked.emotion, x, y)
    return np.array([one(*p) for p in list(combinations(FELT, 2))[::3]])


def test_what_is_composed_of_the_seen_is_found():
    c = world("composed")
    assert span_test(c)["face"].min() > .95
    assert apart(c).mean() > .95
    asked = questions(c).averaged()
    guess = predicted(c, ridge, asked, 2, without=("happy",))
    near = likeness(guess, asked)
    me = asked.emotion == "happy"
    assert np.mean([max(near, key=lambda e: near[e][i]) == "happy" for i in np.flatnonzero(me)]) == 1


def test_what_is_new_is_not_found():
    c = world("new")
    assert span_test(c)["face"].max() < .75 and span_test(c)["face"].mean() < .4
    scores = np.concatenate([apart(world("new", k)) for k in range(6)])
    assert abs(scores.mean() - .5) < .2


def test_lying_in_the_span_is_not_enough():
    "Voice and face are each composed of the seen emotions', but not in the same way."
    worlds = [world("elsewise", k) for k in range(12)]  # many: seven emotions leave much to luck
    assert min(span_test(c).to_numpy().min() for c in worlds[:3]) > .95
    assert abs(np.mean([apart(c).mean() for c in worlds]) - .5) < .15


def test_wrong_faces_spoil_what_can_be_learned():
    c = world("composed")
    scores = [apart(c, wrong=k).mean() for k in range(4)]
    assert abs(np.mean(scores) - .5) < .2 and max(scores) < .7


def test_the_faces_that_are_dealt():
    c = world("composed")
    d, again = wrong_faces(c, 3), wrong_faces(c, 3)
    assert np.array_equal(d.face, again.face) and np.array_equal(d.speech, c.speech)
    assert (d.clips["emotion"] == c.clips["emotion"]).all() and "hashes" not in d.meta
    who, what = (c.clips[k].to_numpy() for k in ("speaker", "emotion"))
    source = {}
    for i in range(len(c)):
        j = int(np.abs(c.face - d.face[i]).sum(1).argmin())
        assert np.array_equal(c.face[j], d.face[i]) and who[i] == who[j]
        source.setdefault(what[i], set()).add(what[j])
    assert source.pop("neutral") == {"neutral"}
    assert all(len(v) == 1 and k not in v for k, v in source.items()) and len(set.union(*source.values())) == 7
    with pytest.raises(CmetError, match="two emotions"): wrong_faces(c.select(np.isin(what, ["neutral", "sad"])))


def test_faces_of_many_lengths_and_of_none():
    faces = [np.ones((k, 3))*k for k in (2, 3, 4, 5)] + [np.zeros((0, 3))]
    rows = [dict(speaker="A", emotion=e) for e in ("neutral", "sad", "happy", "happy", "fear")]
    d = wrong_faces(make_corpus(rows, np.zeros((5, 2)), faces))
    assert d.lengths[0] == 2 and d.lengths[4] == 0  # who has no face gets none
    shown = {"sad": d.lengths[1], "happy": tuple(d.lengths[2:4])}
    assert shown["sad"] in (0, 4) and shown["happy"] in ((3, 3), (0, 0))


def test_nobody_learns_what_is_left_out():
    c, met = world("composed"), []
    class Spy:
        kind = "spy"
        def fit(self, corpus):
            met.append((set(corpus.speakers), set(corpus.emotions)))
            return self
        def predict(self, vector, face): return np.zeros_like(face)
    asked = questions(c)
    guess = predicted(c, lambda seed: Spy(), asked, 3, without=("fear", "calm"))
    assert guess.shape == asked.face.shape and not guess.any() and len(met) == 3
    assert all(e == {*FELT, "neutral"} - {"fear", "calm"} and len(s) == 4 for s, e in met)
    assert not set.intersection(*(s for s, _ in met))


def test_why_nothing_can_be_asked():
    "Neutral clips there may be, and yet none with voice and face together."
    c = world("new", speakers=2)
    calm = (c.clips["emotion"] == "neutral").to_numpy()
    speech, faces = np.where(calm[:, None], c.speech, np.nan), c.face_means()
    bare = [f[None][:int(not k)] for f, k in zip(faces, calm)]
    with pytest.raises(CmetError, match="no clip of S0, S1 has voice and face together"): questions(make_corpus(c.clips, speech, bare))
    for some in c.select(calm), c.select(~calm):
        with pytest.raises(CmetError, match="of S0, S1 nobody has voice and face together both neutral and with emotion"): questions(some)


def test_an_answer_without_a_voice_earns_nothing():
    asked = questions(world("composed"))
    unit, names, mean = typical(asked)
    seen = [e for e in FELT if e != "sad"]
    middle = np.tile(mean[names != "sad"].mean(0)*unit, (len(asked), 1))
    near = likeness(middle, asked, seen)
    assert all((v == 0).all() for v in near.values())
    assert outranks(near["sad"][asked.emotion == "sad"], near["sad"][asked.emotion != "sad"]) == .5
    assert told_apart(near, asked.emotion, "sad", "fear") == .5


def test_outranks_counts():
    g = np.random.default_rng(0)
    a, b = g.integers(5, size=7), g.integers(5, size=9)
    assert np.isclose(outranks(a, b), np.mean([1. if x > y else .5 if x == y else 0. for x in a for y in b]))
    assert np.isclose(outranks(a, b) + outranks(b, a), 1)


def test_sign_flip_and_holm():
    assert sign_flip(np.ones(10)) == 2/2**10 and sign_flip([2., -1.]) == 1
    assert 0 < sign_flip(np.ones(20)) < 1e-4, "a draw of signs is never as sure as all of them"
    d = np.random.default_rng(1).normal(.4, 1, 14)
    assert abs(sign_flip(d) - sign_flip(d, draws=4000, seed=1)) < .03
    rate = np.mean([sign_flip(np.random.default_rng(k).normal(size=10)) < .05 for k in range(200)])
    assert rate < .1  # no more often than the level says, but for luck
    assert np.allclose(holm([.01, .04, .03, .005]), [.03, .06, .06, .02]) and holm([.9, .8]).max() == 1
