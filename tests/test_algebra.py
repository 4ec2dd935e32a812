"Operations keep their books in both spaces, doubt is honest, probes find what was planted, words say what is there."
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cmet.core import CmetError, find_data
from cmet.corpus.corpus import make_corpus, read_corpus
from cmet.vectors.algebra import PLAIN, centred, contrast, describe, feature_names, ingredients, lerp, measures, mix, neutralise
from cmet.vectors.algebra import normalise, project, project_out, slerp
from cmet.vectors.uncertainty import cautions, doubles, doubt, in_span, leak, nshot, probe, read_off, strangers
from cmet.vectors.vector import Vector, cosine, direction, pool

EMOTIONS = ("neutral", "happy", "sad", "angry", "fear")


def toy(seed=0, n=6, S=12, noise=1., voice=0., text=0.):
    "Four speakers, five emotions, n sentences; planted emotion, voice and text directions."
    g = np.random.default_rng(seed)
    true = {e: 3*g.normal(size=S)*(e != "neutral") for e in EMOTIONS}
    who, what = voice*g.normal(size=(4, S)), text*g.normal(size=(n, S))
    rows = [dict(speaker="ABCD"[s], emotion=e, intensity=1 + k % 3, sentence=str(k))
            for s in range(4) for e in EMOTIONS for k in range(n)]
    speech = [true[r["emotion"]] + who["ABCD".index(r["speaker"])] + what[int(r["sentence"])] + noise*g.normal(size=S) for r in rows]
    faces = [(true[r["emotion"]][:5] + .1*g.normal(size=(3, 5))) for r in rows]
    return make_corpus(rows, speech, faces, name="toy", encoder="toy", codec="toyface")


CORPUS = toy()
STUDIO = read_corpus("studio")


def vectors(space):
    return {e: direction(CORPUS, e, space=space) for e in EMOTIONS[1:]}


spaces = pytest.mark.parametrize("space", ["speech", "face"])
finite = st.floats(-3, 3).map(lambda x: round(x, 3))


# operations

@spaces
def test_the_ends_of_every_way(space):
    a, b, *_ = vectors(space).values()
    for f in (lerp, slerp):
        assert np.allclose(f(a, b, 0).values, a.values, atol=1e-5) and np.allclose(f(a, b, 1).values, b.values, atol=1e-5)
        assert f(a, b, .5).terms and f(a, b, .5).space == space
    assert np.allclose(lerp(a, b, .5).values, mix([a, b]).values, atol=1e-6)
    assert np.isclose(slerp(a, b, .5).norm, (a.norm + b.norm)/2, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1), st.lists(finite, min_size=4, max_size=4), st.lists(finite, min_size=4, max_size=4))
def test_slerp_keeps_to_the_plane_and_turns_evenly(t, p, q):
    from cmet.vectors.vector import combine
    some = list(vectors("speech").values())
    a, b = (combine(zip(k, some)) for k in (p, q))
    try: v = slerp(a, b, t)
    except CmetError: assert cosine(a, b) < -.999; return
    assert np.isclose(v.norm, (1 - t)*a.norm + t*b.norm, rtol=1e-3, atol=1e-3) or not a.norm*b.norm
    if v.norm > 1e-3 and (a.norm or b.norm): assert in_span(v, [o for o in (a, b) if o.norm]) > .999
    if min(a.norm, b.norm) > .1 and abs(cosine(a, b)) < .99:
        whole, part = np.arccos(cosine(a, b)), np.arccos(np.clip(cosine(a, v), -1, 1))
        assert np.isclose(part, t*whole, atol=2e-3)


def test_opposite_and_zero_vectors():
    a = direction(CORPUS, "happy")
    with pytest.raises(CmetError, match="opposite"): slerp(a, -a, .5)
    assert np.allclose(slerp(a*0, a, .5).values, .5*a.values) and np.allclose(slerp(a, a, .3).values, a.values, atol=1e-5)
    with pytest.raises(CmetError, match="no direction"): normalise(a - a)
    assert np.isclose(normalise(a, 2).norm, 2) and np.isclose(normalise(a, 2).trust, a.trust)


@pytest.mark.parametrize("bad", [[1], [1, -1], [0, 0], [np.nan, 1], [1, 2, 3]])
def test_weights_that_are_none(bad):
    with pytest.raises(CmetError): mix(list(vectors("speech").values())[:2], bad)


@spaces
def test_projection_and_rest(space):
    v, *others = vectors(space).values()
    inside, rest = project(v, others), project_out(v, others)
    assert np.allclose((inside + rest).values, v.values, atol=1e-4)
    assert all(abs(cosine(rest, o)) < 1e-4 for o in others)
    assert np.isclose(inside.norm**2/v.norm**2, in_span(v, others), atol=1e-4)
    assert np.isclose((inside.norm**2 + rest.norm**2), v.norm**2, rtol=1e-4)
    assert {p.name for _, p in inside.terms} == {"neutral", "sad", "angry", "fear"}  # it still knows its pools
    assert np.allclose(project(v, v).values, v.values, atol=1e-5) and project_out(v, [v, *others]).norm < 1e-4
    with pytest.raises(CmetError): project(v, [])
    with pytest.raises(CmetError): project(v, direction(CORPUS, "sad", space="face" if space == "speech" else "speech"))


def test_projection_is_taken_in_units():
    v, w = direction(STUDIO, "angry"), direction(STUDIO, "happy")
    rest = project_out(v, w)
    assert v.unit is not None and abs(rest.scaled @ w.scaled) < 1e-3 and abs(np.float64(rest.values) @ w.values) > 1


def test_contrast_finds_a_planted_direction_whatever_the_emotion():
    g, S = np.random.default_rng(1), 10
    rows = [dict(speaker=s, emotion=e, intensity=1) for s in "AB" for e in EMOTIONS for _ in range(12)]
    level = g.normal(size=len(rows)) + 5*np.array([r["emotion"] == "angry" for r in rows])
    axis = np.eye(S)[0]
    mean = {e: 4*g.normal(size=S)*(e != "neutral") for e in EMOTIONS}
    speech = [mean[r["emotion"]] + k*axis + .2*g.normal(size=S) for r, k in zip(rows, level)]
    c = make_corpus(rows, speech, name="loud", encoder="e")
    loud = contrast(c, level, "loudness")
    assert cosine(loud.values, axis) > .98 and loud.to == ("much loudness",) and loud.spread > 0
    level[::2] = np.nan
    assert cosine(contrast(c, level, "loudness").values, axis) > .95
    for bad in (np.zeros(len(rows)), np.full(len(rows), np.nan)):
        with pytest.raises(CmetError, match="does not vary"): contrast(c, bad, "loudness")


def test_neutralise():
    face, rest = CORPUS.face_of(7), np.zeros(5)
    assert np.allclose((face + neutralise(face, rest)).mean(0), 0, atol=1e-5)
    assert np.allclose(neutralise(face, rest, amount=.5), neutralise(face, rest)/2)
    smile = direction(CORPUS, "happy", space="face")
    left = (face + neutralise(face, rest, smile)).mean(0)
    assert abs(cosine(left, smile.values)) < 1e-4 and np.allclose(neutralise(face, rest, [smile]), neutralise(face, rest, smile))
    holes = np.vstack([face, np.full(5, np.nan)])
    assert np.allclose(neutralise(holes, rest), neutralise(face, rest))
    for bad in ((holes[-1:], rest), (face, np.zeros(4)), (face[:0], rest)):
        with pytest.raises(CmetError): neutralise(*bad)
    clips = pool(CORPUS, "happy").values  # the same in speech
    after = clips + neutralise(clips, pool(CORPUS, "neutral").mean(), list(vectors("speech").values()))
    assert np.allclose(after.mean(0), pool(CORPUS, "neutral").mean(), atol=1e-4)


def test_centred():
    x = centred([[1., 2.], [3., 4.], [10., 0.]], ["a", "a", "b"])
    assert np.allclose(x, [[-1, -1], [1, 1], [0, 0]])


# doubt

def test_doubt_of_one_vector():
    d = doubt(direction(CORPUS, "happy"))
    assert d.low <= d.norm <= d.high*1.1 and .9 < d.agreement == d.trust**2 < 1 and d.n == 24
    assert doubt(direction(CORPUS, "happy")) == d, "a seed is a seed"
    one = doubt(direction(CORPUS, "happy", n=1))
    assert one.norm > 0 and np.isnan([one.low, one.high, one.agreement, one.trust]).all()
    with pytest.raises(CmetError, match="without pools"): doubt(Vector(np.ones(3)))


@pytest.mark.parametrize("size", [.3, 1])
def test_agreement_predicts_the_cosine_between_worlds(size):
    claimed, seen = [], []
    for k in range(60):
        g = np.random.default_rng(k)
        rows = [dict(speaker="A", emotion=e) for e in ("neutral", "happy") for _ in range(10)]
        mean = size*np.array([[r["emotion"] == "happy"]*20 for r in rows])
        a, b = (direction(make_corpus(rows, mean + g.normal(size=mean.shape), encoder="e"), "happy") for _ in "ab")
        claimed.append(doubt(a, draws=5).agreement)
        seen.append(cosine(a, b))
    assert abs(np.mean(claimed) - np.mean(seen)) < .05


def test_nshot_rises_to_one():
    c = nshot(CORPUS, "happy", (1, 3, 24))
    assert c.shape == (3, 200) and c[0].mean() < c[1].mean() < 1 and np.allclose(c[2], 1)
    assert np.array_equal(c, nshot(CORPUS, "happy", (1, 3, 24))) and nshot(CORPUS, "happy", space="face").shape == (3, 200)
    slow = [cosine(direction(CORPUS, "happy", n=3, seed=k), direction(CORPUS, "happy")) for k in range(60)]
    assert abs(np.mean(slow) - c[1].mean()) < .03
    for bad in ((0,), (25,)):
        with pytest.raises(CmetError, match="use 1 to 24"): nshot(CORPUS, "happy", bad)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6))
def test_span_of_planted_mixtures(seed, k):
    g = np.random.default_rng(seed)
    A, rest = g.normal(size=(k, 20)), g.normal(size=20)
    inside = g.normal(size=k) @ A
    Q = np.linalg.qr(A.T)[0]
    outside = rest - Q @ (Q.T @ rest)
    assert np.isclose(in_span(inside, A), 1) and abs(in_span(outside, A)) < 1e-9
    a, b = inside/np.linalg.norm(inside), outside/np.linalg.norm(outside)
    assert np.isclose(in_span(.6*a + .8*b, A), .36) and np.isclose(in_span(.6*a + .8*b, [*A, *A]), .36)


def test_span_of_vectors_and_of_nothing():
    v = direction(STUDIO, "angry")
    known = [direction(STUDIO, e) for e in ("happy", "sad")]
    assert np.isclose(in_span(v, known), in_span(v.scaled, [o.scaled for o in known])) and in_span(v, []) == 0
    with pytest.raises(CmetError, match="zero"): in_span(v - v, known)


def test_warnings_are_given_where_they_are_due_and_nowhere_else():
    known = vectors("speech")
    assert cautions(known["happy"], known, CORPUS) == [] and cautions(known["happy"]) == []
    assert "rests on a single clip" in cautions(direction(CORPUS, "happy", n=1))[0]
    assert cautions(known["happy"] - known["happy"], known) == ["the vector is zero"]
    assert any("hardly differs from happy" in t for t in cautions(2*known["happy"] + .1*known["sad"], known))
    assert any("short" in t for t in cautions(.1*known["happy"], known))
    wide = toy(S=64)
    known = {e: direction(wide, e) for e in EMOTIONS[1:]}
    (text,) = cautions(known.pop("fear") + known["happy"] + known["sad"] - direction(wide, "fear"), known, wide)
    assert text == "100% of it is already in happy, sad, angry"
    # Pure noise: two halves of neutral.
    g = np.random.default_rng(0)
    rows = [dict(speaker="A", emotion=e) for e in ("neutral", "happy") for _ in range(8)]
    noise = direction(make_corpus(rows, g.normal(size=(16, 40)), encoder="e"), "happy")
    assert "too weak" in cautions(noise)[0]


def test_strangers():
    who, what = CORPUS.clips["speaker"].to_numpy(), CORPUS.clips["emotion"].to_numpy()
    apart = CORPUS.select(((what == "happy") & (who == "D")) | ((what == "neutral") & (who != "D")))
    (text,) = strangers(direction(apart, "happy"), apart)
    assert "on one side D, on the other A, B, C" in text and text in cautions(direction(apart, "happy"), {}, apart)
    assert strangers(direction(CORPUS, "happy"), CORPUS) == [] and strangers(direction(CORPUS, "happy", space="face"), CORPUS) == []
    from cmet.vectors.vector import pool_vector
    mixed = pool_vector(CORPUS, "happy", "speech", speaker="A") - pool_vector(CORPUS, "neutral", "speech", speaker="B")
    assert strangers(mixed, CORPUS), "speakers that were chosen are noticed too"
    elsewhere = toy(seed=5)
    assert strangers(direction(elsewhere, "happy"), CORPUS) == [], "an unknown clip has no speaker"
    # C was recorded with the very numbers of A: who speaks is in the rows, and numbers cannot tell.
    rows = [dict(speaker=s, emotion=e) for s, e in (("A", "neutral"), ("B", "happy"), ("C", "fear"))]
    twins = make_corpus(rows, np.array([[0, 1], [1, 1], [0, 1]], np.float32), encoder="e")
    assert "A, on the other B" in strangers(direction(twins, "neutral", frm="happy"), twins)[0]


def test_doubles():
    known = vectors("speech")
    known |= {"glad": 3*known["happy"] + .2*known["sad"], "unhappy": -known["happy"]}
    assert [p[:2] for p in doubles(known, .97)] == [("happy", "glad")]


# probe

def test_a_probe_finds_what_is_planted():
    assert not probe(toy(noise=1)).found and not probe(toy(noise=1), "sentence").found
    voices = probe(toy(voice=2))
    assert voices.found and voices.recall > .9 and voices.classes == 4 and voices.clips == 120 and voices.chance[0] < .25 < voices.chance[1]
    assert probe(toy(text=2), "sentence").recall > .9 and not probe(toy(text=2)).found
    assert probe(CORPUS, space="face").classes == 4 and probe(toy(voice=2)) == voices


def test_a_probe_needs_two_classes():
    who = CORPUS.clips["speaker"].to_numpy()
    with pytest.raises(CmetError, match="not two"): probe(CORPUS.select(who == "A"))
    with pytest.raises(CmetError, match="no column"): probe(CORPUS, "shoe size")


def test_shuffled_labels_are_chance():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(200, 6)), g.integers(4, size=(200, 60))
    r = read_off(x, y, np.arange(200))
    assert r.shape == (60,) and abs(r.mean() - .25) < .02


def test_leak():
    loud = toy(voice=3)
    who, what = loud.clips["speaker"].to_numpy(), loud.clips["emotion"].to_numpy()
    skewed = loud.select((what != "happy") | (who == "A"))
    shares = [leak(direction(skewed, "happy", within=w), skewed)[0] for w in (False, True)]
    assert shares[0] > shares[1] + .05 and all(0 <= s <= 1 for s in (*shares, leak(direction(loud, "sad"), loud)[1]))


# words

def test_measures_of_the_studio_are_what_its_actors_do():
    told = {e: measures(direction(STUDIO, e, within=True), STUDIO) for e in ("happy", "sad", "angry")}
    assert told["happy"]["pitch"] > 1 and told["sad"]["loudness"] < -.5 and told["angry"]["loudness"] > 1
    assert all(set(t) == set(PLAIN) for t in told.values())
    sizes = [abs(x) for x in told["happy"].values()]
    assert sizes == sorted(sizes, reverse=True)
    assert np.isclose(measures(2*direction(STUDIO, "happy", within=True), STUDIO)["pitch"], 2*told["happy"]["pitch"], rtol=1e-4)


def test_describe_in_all_three_ways():
    assert " sd" in describe(direction(STUDIO, "happy"), STUDIO)
    assert describe(direction(STUDIO, "happy", space="face"), STUDIO).startswith("lip corner puller (AU12) +")
    assert describe(direction(STUDIO, "happy")*0, STUDIO) == "no change that could be noticed"
    known = vectors("speech")
    assert describe(known["happy"] + .5*known["sad"], CORPUS, known) == "1.0 happy + 0.5 sad", "nothing is left"
    assert describe(-known["happy"], CORPUS, {"happy": known["happy"]}) == "none of those known (0% of the vector)"
    with pytest.raises(CmetError, match="no names"): measures(known["happy"], CORPUS)
    with pytest.raises(CmetError, match="nothing to compare"): describe(known["happy"], CORPUS)
    assert feature_names(CORPUS) is None and len(feature_names(STUDIO)) == 88


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(.2, 3), min_size=4, max_size=4))
def test_ingredients_come_back(weights):
    from cmet.vectors.vector import combine
    known = vectors("speech")
    told, share = ingredients(combine(zip(weights, known.values())), known, least=0)
    assert np.allclose([told[e] for e in known], weights, atol=1e-3) and share > .9999


@pytest.mark.real
def test_measured_facts_of_the_samples():
    "Doubles, spans and contempt's norm as they were measured on C-MET's features."
    if (root := find_data("cmet-samples")) is None: pytest.skip("CMET_DATA is not set")
    from cmet.core import BASIC
    from cmet.corpus.corpus import cmet_samples, encode_corpus
    from cmet.speech.encoders import speech_encoder
    c = encode_corpus(cmet_samples(root), speech_encoder("emotion2vec-large"), progress=False, name="samples")
    v = {e: direction(c, e) for e in (*BASIC, "charismatic", "sarcastic", "empathetic")}
    basic = [v[e] for e in BASIC]
    assert doubles(v, .95)[0][:2] == ("happy", "charismatic") and np.isclose(cosine(v["happy"], v["charismatic"]), .97, atol=.01)
    assert np.isclose(in_span(v["charismatic"], basic), .98, atol=.01) and np.isclose(in_span(v["sarcastic"], basic), .93, atol=.015)
    assert .6 < v["contempt"].norm*v["contempt"].trust < 1.1 and "too weak" in cautions(v["contempt"])[0]
