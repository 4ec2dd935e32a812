"Vectors: the grammar never runs anything, the algebra keeps its books, the uncertainty is honest."
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from cmet.core import CmetError, find_data
from cmet.corpus.corpus import make_corpus, read_corpus
from cmet.vectors.grammar import LONGEST, linear, written
from cmet.vectors.vector import Vector, bootstrap, compose, cosine, direction, feature_unit, norm_interval, pool

EMOTIONS = ("neutral", "happy", "sad", "angry", "fear")


def toy(seed=0, n=5, S=6, noise=1., speakers="AB"):
    g = np.random.default_rng(seed)
    true = {e: g.normal(size=S)*3*(e != "neutral") for e in EMOTIONS}
    rows = [dict(speaker=s, emotion=e, intensity=1 + k % 3) for s in speakers for e in EMOTIONS for k in range(n)]
    speech = [true[r["emotion"]] + (5 if r["speaker"] == "B" else 0) + noise*g.normal(size=S) for r in rows]
    return make_corpus(rows, speech, [true[r["emotion"]][None, :2] for r in rows], name="toy", encoder="enc"), true


CORPUS, TRUE = toy()


def value(names):  # a reference evaluator: Python's own arithmetic on means
    return {e: CORPUS.speech[(CORPUS.clips["emotion"] == e).to_numpy()].mean(0, dtype=float) for e in names}


# the grammar

number = st.floats(-99, 99, allow_nan=False).map(lambda x: f"{x:.3f}" if x >= 0 else f"({x:.3f})")
name = st.sampled_from(EMOTIONS + ("anger", "Sadness", "fearful"))
legal = st.recursive(name, lambda e: st.one_of(
    st.tuples(e, st.sampled_from("+-"), e).map(" ".join), e.map("({})".format), e.map("-({})".format),
    st.tuples(number, e).map(lambda t: f"{t[0]}*({t[1]})"), st.tuples(e, number).map(lambda t: f"({t[0]}) * {t[1]}")),
    max_leaves=8)
noise = st.one_of(st.text(max_size=600), st.text("()*+-/.,:[]{}'\"\\ #happysd0123e_\n\0@=<", max_size=80),
                  st.lists(st.sampled_from(["happy", "sad", "(", ")", "-", "+", "*", "**", "/", "2", "1e400", "0x", ".", "[0]",
                                            "lambda:", "if", "None", "True", "__class__", "()", "\t", "ＨＡＰＰＹ", "\ud800"]),
                           max_size=30).map("".join))


@settings(max_examples=2000, deadline=None)
@given(st.one_of(legal, noise))
@example("-"*499 + "x")
@example("("*240 + "happy" + ")"*240)
@example("+".join(["ha"]*160))
@example("9"*499)
@example("happy*1e8*1e8*1e8")
@example("happy + " + "1e8*"*50 + "0*sad")
@example("happy if sad else fear")
@example("[x for x in ().__class__.__base__.__subclasses__()]")
@example("happy := 1")
@example("f'{happy}'")
def test_2000_expressions_are_weights_or_a_cmet_error_and_round_trip(text):
    try: found = linear(text)
    except CmetError: return
    assert found and all(type(k) is str and k.isidentifier() and np.isfinite(w) for k, w in found.items())
    again = written(found)
    try: assert linear(again) == found and written(linear(again)) == again
    except CmetError: assert len(again) > LONGEST  # a short product can be a long sum


@settings(max_examples=300, deadline=None)
@given(legal)
def test_legal_expressions_equal_plain_arithmetic(text):
    "Of differences from neutral: a bare name is one, whatever its weight."
    try: v = compose(text, CORPUS)
    except CmetError as e:
        assert "characters" in str(e) or "deeply" in str(e) or "too large" in str(e)
        return
    means = value(EMOTIONS)
    means = {e: x - means["neutral"] for e, x in means.items()}
    means |= {"anger": means["angry"], "Sadness": means["sad"], "fearful": means["fear"]}
    expected = eval(text, {"__builtins__": {}}, means)
    assert np.allclose(v.values, expected, rtol=1e-4, atol=1e-4*max(1, np.abs(expected).max()))


@settings(max_examples=300, deadline=None)
@given(noise)
def test_any_text_is_a_vector_or_a_cmet_error(text):
    try: v = compose(text, CORPUS)
    except CmetError: return
    assert isinstance(v, Vector) and np.isfinite(v.values).all() and v.values.shape == (6,)


def test_no_expression_is_ever_run(monkeypatch):
    "Nothing is evaluated, executed or compiled to code; a syntax tree (flag 0x400) is all that is made of a text."
    import builtins
    ran, parse = [], builtins.compile
    with monkeypatch.context() as m:
        for name in ("eval", "exec"): m.setattr(builtins, name, lambda *a, name=name: ran.append(name))
        m.setattr(builtins, "compile", lambda *a, **k: (0x400 in (*a[3:], *k.values()) or ran.append("compile")) and parse(*a, **k))
        for text in ("happy - 0.5*sad", "happy.values", "happy.__class__", "print", "(happy).real", "happy()", "__builtins__"):
            try: linear(text)
            except CmetError: pass
    assert not ran


@pytest.mark.parametrize("bad", ["True*happy", "happy*False", "1j*happy", "'a'*2", "...", "happy.real", "happy()", "(happy, sad)",
                                 "happy if 1 else sad", "happy @ sad", "happy ** 2", "2 / happy", "happy / 0", "happy / sad", "happy % 2", "not happy", "~happy", "{happy}"])
def test_everything_but_sums_is_refused(bad):
    with pytest.raises(CmetError): compose(bad, CORPUS)


@pytest.mark.parametrize("typed, said", [("0,5*sad", "a comma in the number 0,5: write a decimal point: 0.5"), ("happy + 12,25*sad", "12,25: write a decimal point: 12.25"),
    ("happy, 2*sad", r"a comma between emotions: write \+ or - there: happy \+ 2 \* sad"), ("happy/0", r"write number\*name, or name/number"), ("50 % happy", "0.5 for 50 %")])
def test_what_other_people_write_is_told_with_its_remedy(typed, said):
    with pytest.raises(CmetError, match=said): linear(typed)


def test_a_part_is_a_weight():
    assert linear("voice/2 - sad/4") == {"voice": .5, "sad": -.25} and linear("1/4*happy/2") == {"happy": .125}


@pytest.mark.parametrize("bad", [None, 3, b"happy", ["happy"], object()])
def test_no_text_is_an_error(bad):
    with pytest.raises(CmetError): compose(bad, CORPUS)


def test_nothing_is_looked_up_in_python(monkeypatch):
    # Names that Python knows well are just unknown emotions.
    for bad in ("print", "__import__", "CmetError", "exit"):
        with pytest.raises(CmetError, match="unknown emotion"): compose(bad, CORPUS)


def test_suggestion_and_weights():
    with pytest.raises(CmetError, match="did you mean happy"): compose("hapyp - neutral", CORPUS)
    assert linear("a - (b - 2*c)*3 + a") == {"a": 2, "b": -3, "c": 6}
    with pytest.raises(CmetError, match="is a number"): linear("2*3 - 1")


# algebra and provenance

def test_direction_is_the_difference_of_means_and_knows_its_pools():
    v = direction(CORPUS, "happiness")
    m = value(EMOTIONS)
    assert np.allclose(v.values, m["happy"] - m["neutral"], atol=1e-5)
    assert (v.to, v.frm, v.n, v.corpus, v.encoder) == (("happy",), ("neutral",), 10, "toy", "enc")
    assert str(v) == "happy - neutral" and str(-2*v) == "- 2*happy + 2*neutral"
    assert np.allclose((v*.5 + v*.5).values, v.values) and (v - v).norm == 0 and (v - v).trust == 0


def test_shared_pools_cancel_in_the_uncertainty_too():
    a, b = direction(CORPUS, "happy"), direction(CORPUS, "sad")
    assert np.isclose((a - b).spread, direction(CORPUS, "happy", "sad").spread)
    assert np.isclose((2*a).spread, 2*a.spread) and (a + a).spread > 1.9*a.spread
    # The same words from another part of the corpus are another pool.
    half = CORPUS.select((CORPUS.clips["speaker"] == "A").to_numpy())
    assert (a - direction(half, "happy")).spread > 0 and len((a - direction(half, "happy")).terms) == 4


def test_draws_are_seeded_and_without_replacement():
    a, b, c = (pool(CORPUS, "happy", n=4, seed=s).values for s in (1, 1, 2))
    assert np.array_equal(a, b) and not np.array_equal(a, c) and len({r.tobytes() for r in a}) == 4
    assert np.array_equal(np.sort(pool(CORPUS, "happy", n=10).values, 0), np.sort(pool(CORPUS, "happy").values, 0))
    for n in (0, 11):
        with pytest.raises(CmetError, match="n from 1 to 10"): pool(CORPUS, "happy", n=n)


def test_speaker_and_intensity_choose_clips():
    p = pool(CORPUS, "happy", speaker="A", intensity=3)
    assert len(p) == 1 and len(pool(CORPUS, "neutral", speaker=["A", "B"], intensity=3)) == 10
    assert np.isnan(direction(CORPUS, "happy", speaker="A", intensity=3).spread)
    with pytest.raises(CmetError, match="has no speech"): pool(CORPUS, "happy", speaker="Z")
    with pytest.raises(CmetError, match="no space"): pool(CORPUS, "happy", space="smell")


def test_within_removes_who_speaks():
    # Happy is spoken mostly by B, whose voice is shifted by 5 in every feature.
    keep = ~((CORPUS.clips["speaker"] == "A") & (CORPUS.clips["emotion"] == "happy") & (np.arange(len(CORPUS)) % 5 > 0))
    skewed, true = CORPUS.select(keep.to_numpy()), TRUE["happy"] - TRUE["neutral"]
    error = lambda v: np.linalg.norm(v.values - true)
    assert error(direction(skewed, "happy", within=True)) < error(direction(skewed, "happy"))/2


def test_within_takes_the_level_where_a_speaker_has_it():
    # Neutral has level 1 only; B was never recorded at level 3.
    level, who, what = (CORPUS.clips[c].to_numpy() for c in ("intensity", "speaker", "emotion"))
    part = CORPUS.select((what == "neutral") & (level == 1) | (what != "neutral") & ((who == "A") | (level < 3)))
    v = direction(part, "happy", within=True, intensity=3)
    mean = lambda e, k: CORPUS.speech[(who == "A") & (what == e) & (level == k)].mean(0)
    assert np.allclose(v.values, mean("happy", 3) - mean("neutral", 1), atol=1e-5) and len(v.terms) == 2
    with pytest.raises(CmetError, match="nobody"):
        direction(part, "happy", within=True, intensity=3, speaker="B")


def test_cosine_of_arrays_and_of_nothing():
    a, b = np.eye(3), np.ones(3)
    assert np.allclose(cosine(a, b), 1/np.sqrt(3)) and cosine(a, b).shape == (3,) and np.allclose(cosine(a, a), 1)
    assert cosine(b*0, b) == 0 and np.isnan(cosine(b*0, b, np.nan))


def test_kinds_do_not_mix():
    a, f = direction(CORPUS, "happy"), direction(CORPUS, "happy", space="face")
    assert f.values.shape == (2,)
    with pytest.raises(CmetError): a + f
    with pytest.raises(CmetError): a + Vector(a.values, encoder="other")
    with pytest.raises(TypeError): a + 1
    with pytest.raises(TypeError): a*a
    with pytest.raises(CmetError, match="too large"): a*1e200


# uncertainty

def test_spread_is_what_resampling_the_world_gives():
    worlds = np.array([direction(fresh(k), "happy").values for k in range(400)])
    real = np.sqrt(worlds.var(0, ddof=1).sum())
    claimed = np.mean([direction(fresh(k), "happy").spread for k in range(40)])
    assert abs(claimed/real - 1) < .1


def fresh(seed, n=8, S=10):
    g = np.random.default_rng(seed)
    rows = [dict(speaker="A", emotion=e) for e in ("neutral", "happy") for _ in range(n)]
    return make_corpus(rows, g.normal(size=(2*n, S)) + [[2.*(r["emotion"] == "happy")]*S for r in rows], encoder="e")


def test_interval_covers_and_bootstrap_is_seeded():
    true = 2*np.sqrt(10)
    hits = [a <= true <= b for a, b in (norm_interval(direction(fresh(k), "happy"), seed=k) for k in range(150))]
    assert .85 < np.mean(hits) <= 1
    v = direction(CORPUS, "happy")
    assert np.array_equal(bootstrap(v, 20, 3), bootstrap(v, 20, 3)) and not np.array_equal(bootstrap(v, 20, 3), bootstrap(v, 20, 4))


def test_noise_alone_is_not_taken_for_a_vector():
    g = np.random.default_rng(0)
    rows = [dict(speaker="A", emotion=e) for e in ("neutral", "happy") for _ in range(8)]
    for _ in range(10):
        v = direction(make_corpus(rows, g.normal(size=(16, 40)), encoder="e"), "happy")
        low, high = norm_interval(v)
        assert low < .2*v.norm and high < 1.3*v.norm and v.trust < .8


def test_trust_predicts_the_cosine_to_the_truth():
    trusts, cosines = zip(*((direction(c, "happy").trust, direction(c, "happy").values.sum()
                             / np.linalg.norm(direction(c, "happy").values)/np.sqrt(10)) for c in map(fresh, range(60))))
    assert abs(np.mean(trusts) - np.mean(cosines)) < .02


def test_features_of_different_kinds_get_a_unit():
    wide = make_corpus(CORPUS.clips, CORPUS.speech*np.r_[1, 1, 1, 1, 1, 1e5].astype(np.float32), encoder="enc")
    a, b = direction(CORPUS, "happy"), direction(CORPUS, "sad")
    x, y = direction(wide, "happy"), direction(wide, "sad")
    assert feature_unit(CORPUS) is None and a.unit is None and x.unit is not None
    centred = np.concatenate([c - c.mean(0) for c in np.split(CORPUS.speech, 2)])  # speakers A and B
    sd, plain = centred.std(0), lambda u, v: u @ v/np.linalg.norm(u)/np.linalg.norm(v)
    assert np.isclose(cosine(x, y), plain(a.values/sd, b.values/sd), atol=1e-4)
    assert x.norm < 100 < np.linalg.norm(x.values)/100
    constant = make_corpus(CORPUS.clips, np.c_[CORPUS.speech, np.full(50, 1e7)], encoder="enc")
    assert np.isfinite(direction(constant, "happy").norm)


@pytest.mark.real
def test_measured_facts_of_the_samples():
    "Norms of the seven directions, contempt's the smallest by far; n-shot cosines rise to one."
    if (root := find_data("cmet-samples")) is None: pytest.skip("CMET_DATA is not set")
    from cmet.corpus.corpus import cmet_samples, encode_corpus
    from cmet.speech.encoders import speech_encoder
    c = encode_corpus(cmet_samples(root), speech_encoder("emotion2vec-large"), progress=False, name="samples")
    norm = {e: direction(c, e, within=True).norm for e in ("angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")}
    assert norm.pop("contempt") < 1.5 and 8 < min(norm.values()) and max(norm.values()) < 15
    full = direction(c, "happy")
    curve = [np.mean([cosine(direction(c, "happy", n=n, seed=k), full) for k in range(40)]) for n in (1, 3, 10)]
    assert .8 < curve[0] < curve[1] < curve[2] and curve[2] > .98


def test_the_weight_of_a_wish_goes_by_emotion_not_by_the_name_of_a_pool():
    rows = [dict(speaker="A", emotion=e) for e in ("neutral", "sad[low]", "sad[loud]") for _ in range(2)]
    c = make_corpus(rows, np.random.default_rng(0).normal(size=(6, 3)), encoder="e")
    v = direction(c, "sad[low]")*2 + direction(c, "sad[loud]")
    assert v.weight == 2, "they are two emotions"
    assert {p.emotion for _, p in v.terms} == set(c.emotions) and all(
        (c.clips["emotion"].to_numpy()[p.rows] == p.emotion).all() for _, p in v.terms)


def test_the_probe_reads_what_scikit_learn_reads():
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import GroupKFold, permutation_test_score

    from cmet.vectors.uncertainty import probe, residual
    studio = read_corpus("studio")
    x, label, keep, _ = residual(studio, "speaker")
    sentence = studio.clips["sentence"].astype(str).to_numpy()[keep]
    ours, ridge = probe(studio, "speaker", shuffles=10), RidgeClassifier(alpha=.1*(x**2).sum()/len(x))
    theirs, shuffled, _ = permutation_test_score(ridge, x, label, groups=sentence, cv=GroupKFold(5), n_permutations=10,
                                                 scoring="balanced_accuracy", random_state=0)
    assert abs(ours.recall - theirs) < .05 and ours.found == (theirs > shuffled.max())
    assert abs(np.mean(ours.chance) - shuffled.mean()) < .05


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(EMOTIONS[1:]), st.floats(-3, 3).filter(lambda k: abs(k) > .01).map(lambda k: round(k, 3)), min_size=1))
def test_the_parts_of_a_sum_are_as_it_is_written(weights):
    "A sum was one vector that nobody ever spoke; its parts have the weights somebody wrote, and add up to it."
    v = compose(written(weights), CORPUS)
    assert {e: round(k, 6) for e, k in v.weights.items()} == weights and v.weight == pytest.approx(max(map(abs, weights.values())))
    assert np.allclose(sum(k*x for k, x in v.parts), v.values, atol=1e-4)
    if len(weights) > 1:
        for (e, k), (weight, x) in zip(v.weights.items(), v.parts):
            assert weight == k and np.allclose(x, direction(CORPUS, e).values, atol=1e-5)


def test_what_has_no_neutral_of_its_own_is_one_part():
    there = direction(CORPUS, "happy", "sad")
    for v in there, there*2, Vector(np.ones(6, np.float32)), direction(CORPUS, "happy") + direction(CORPUS, "happy"):
        assert len(v.parts) == 1 and np.allclose(v.parts[0][0]*v.parts[0][1], v.values, atol=1e-5)
    assert (direction(CORPUS, "happy") + direction(CORPUS, "happy")).weight == 2
    assert len((there + direction(CORPUS, "fear")).parts) == 3
