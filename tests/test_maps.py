"Maps stand still while points move on them; the cache spares the import; additivity is what it says."
import subprocess
import sys

import numpy as np
import pytest

from cmet.core import CmetError
from cmet.corpus.corpus import make_corpus
from cmet.evaluate.additivity import both_orders, disagreement, draw_additivity
from cmet.vectors.vector import Vector
from cmet.viz import maps
from cmet.viz.maps import Map, changes, draw_map, draw_way, fuzzy, pca, spread_out, umap, umaps


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"cache"))
    return tmp_path/"cache"/"maps"


def blobs(n=30, W=8, seed=0):
    g = np.random.default_rng(seed)
    return np.concatenate([g.normal(size=(n, W)) + 20*np.eye(W)[k] for k in range(3)]).astype(np.float32)


def fake(several, neighbours, seed): return [np.float32(x[:, :2]*2) for x in several]


def test_pca_is_linear_and_has_the_widest_axes():
    x = blobs()
    m = pca(x)
    assert np.allclose(m.place(x), m.xy, atol=1e-4) and np.allclose(m.place(x[0]), m.xy[:1], atol=1e-4)
    a, b, zero = (m.place(v)[0] for v in (x[0], x[50], x[0]*0))
    assert np.allclose(m.place(.3*x[0] + .7*x[50])[0], .3*a + .7*b, atol=1e-3)
    w = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    assert np.allclose(m.xy.var(0, ddof=1), w[:2], rtol=1e-3) and np.isfinite(zero).all()
    assert np.array_equal(pca(x).xy, m.xy)


def test_umap_is_cached_and_a_broken_cache_is_made_again(cache, monkeypatch):
    asked = []
    monkeypatch.setattr(maps, "_embed", lambda several, *a: asked.append(len(several)) or fake(several, *a))
    x, y = blobs(), blobs(seed=1)
    a = umap(x)
    assert np.array_equal(umap(x).xy, a.xy) and asked == [1] and len(list(cache.iterdir())) == 1
    umaps([x, y, x]); assert asked == [1, 1]
    umap(x, neighbours=5); umap(x, seed=1); umap(x*2); assert asked == [1]*5
    for file in cache.iterdir(): file.write_bytes(b"\x93NUMPY broken")
    assert np.array_equal(umap(x).xy, a.xy) and asked == [1]*6
    for file in cache.iterdir(): np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    umap(x); assert asked == [1]*7, "a pickle is not opened"


def test_placing_stays_near_neighbours(monkeypatch):
    x = blobs()
    m = Map("umap", x, np.float32(x[:, :2]*2), neighbours=10)
    assert np.allclose(m.place(x), m.xy), "a known point stays"
    between = m.place(x[:30].mean(0))[0]
    assert np.linalg.norm(between - m.xy[:30].mean(0)) < 3 and m.place(x[:0]).shape == (0, 2)
    for bad in (np.ones(5), np.full(8, np.nan)):
        with pytest.raises(CmetError, match="points"): m.place(bad)


def test_fuzzy_weights_are_umaps():
    d = np.sort(np.random.default_rng(0).uniform(1, 3, (20, 15)), 1)
    w = fuzzy(d)
    sigma = -(d[:, 1:] - d[:, :1])/np.log(w[:, 1:]/w[:, :1])  # constant along a row
    assert np.allclose(w.sum(1), 1) and np.allclose(sigma, sigma[:, :1], rtol=1e-6) and (np.diff(w) <= 0).all()
    assert np.allclose(1/w[:, 0], np.log2(15), rtol=1e-6)
    assert np.isfinite(fuzzy(np.ones((2, 15)))).all()


def test_too_few_points(cache):
    for bad in (np.ones((15, 3)), np.ones(30)):
        with pytest.raises(CmetError, match="more than 15 rows"): umap(bad)


def test_without_umap_and_with_one_that_fails(cache, monkeypatch):
    monkeypatch.setattr(maps, "find_spec", lambda name: None)
    with pytest.raises(CmetError, match="not installed"): umap(blobs())
    monkeypatch.undo(); monkeypatch.setenv("CMET_CACHE", str(cache))
    monkeypatch.setattr(maps, "UMAP", "raise SystemExit('out of luck')")
    with pytest.raises(CmetError, match="out of luck"): umap(blobs())
    assert not list(cache.rglob("*.npy"))


def test_nothing_heavy_is_imported():
    code = "import sys, cmet.viz.maps, cmet.viz.figures, cmet.vectors.curves, cmet.vectors.algebra, cmet.vectors.uncertainty, cmet.evaluate.additivity;" \
           "print([m for m in ('umap', 'numba', 'torch', 'matplotlib', 'seaborn', 'sklearn', 'mediapipe') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_changes_are_from_each_speakers_neutral():
    rows = [dict(speaker=s, emotion=e) for s in "AB" for e in ("neutral", "happy")] + [dict(speaker="C", emotion="happy")]
    c = make_corpus(rows, [[0, 0], [1, 0], [10, 0], [12, 0], [5, 3]], name="few")
    x, keep = changes(c, unit=np.ones(2))
    assert np.allclose(x, [[0, 0], [1, 0], [0, 0], [2, 0], [0, 3]]) and keep.tolist() == [0, 1, 2, 3, 4]  # C: from everybody's mean
    assert np.isfinite(changes(c)[0]).all()
    with pytest.raises(CmetError, match="no neutral"): changes(c.select([1, 3]))


def test_labels_do_not_overlap():
    at = spread_out(np.zeros((6, 2)), 1, 1)
    gaps = np.diff(np.sort(at[:, 1]))
    assert (gaps > .95).all() and not at[:, 0].any()
    far = np.arange(12.).reshape(6, 2)*5
    assert np.allclose(spread_out(far, 1, 1), far, atol=1e-6)


def test_drawing():
    from matplotlib.figure import Figure
    ax = Figure().subplots()
    draw_map(ax, blobs()[:, :2], ["happy"]*30 + ["sad"]*30 + ["neutral"]*30, ["a", "b"]*45, "title")
    draw_way(ax, blobs()[:5, :2], "way")
    assert {t.get_text() for t in ax.texts} == {"happy", "sad", "neutral"} and ax.get_title() == "title"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]
    alone = Figure().subplots()
    draw_map(alone, blobs()[:, :2], ["happy"]*90)
    assert alone.get_legend() is None


# additivity

class Made:
    def __init__(self, f): self.f = f
    def predict(self, v, face): return np.broadcast_to(self.f(v.values), face.shape)


VECTORS = {k: Vector(np.random.default_rng(i).normal(size=3).astype(np.float32)) for i, k in enumerate("abc")}


def test_additivity_of_known_maps():
    face = np.zeros((4, 3))
    off = {k: disagreement(*both_orders(Made(f), VECTORS, face)) for k, f in dict(
        linear=lambda v: 2*v, affine=lambda v: v + 1, none=lambda v: 0*v, choice=lambda v: np.eye(3)[np.argmax(v)]).items()}
    assert off["linear"] < 1e-6 and off["none"] == 0 and off["affine"] > .1 and off["choice"] > .3
    together, apart = both_orders(Made(lambda v: v + 1), VECTORS, face)
    assert together.shape == (3, 3) and np.allclose(apart - together, 1)
    with pytest.raises(CmetError, match="1 vectors"): both_orders(Made(lambda v: v), {"a": VECTORS["a"]}, face)


def test_every_mapper_of_the_kit_on_a_planted_corpus():
    "Linear mappers commute with addition on any corpus, and every mapper answers."
    from cmet.mappers.registry import MAPPERS, mapper
    g = np.random.default_rng(0)
    felt, M = {e: 2*g.normal(size=6)*(e != "neutral") for e in ("neutral", "happy", "sad", "angry")}, g.normal(size=(6, 4))
    rows = [dict(speaker=s, emotion=e) for s in "ABCD" for e in felt for _ in range(4)]
    speech = np.array([felt[r["emotion"]] + .2*g.normal(size=6) for r in rows])
    c = make_corpus(rows, speech, list(np.float32(speech @ M)[:, None] + np.zeros((1, 3, 1), np.float32)), name="planted", encoder="e", codec="c")
    from cmet.vectors.vector import direction
    vectors = {e: direction(c, e) for e in felt if e != "neutral"}
    quick = {"transformer": dict(train=dict(steps=3), network=dict(width=16)), "memory": dict(steps=20)}
    results = {k: both_orders(mapper(k, **quick.get(k, {})).fit(c), vectors, np.zeros((5, 4), np.float32)) for k in MAPPERS}
    off = {k: disagreement(*r) for k, r in results.items()}
    assert off["ridge"] < 1e-5 and off["procrustes"] < 1e-5 and off["label"] > .2 and all(np.isfinite(list(off.values())))
    axes = [a for a in draw_additivity(results, "what to see").axes if a.get_title()]
    assert len(axes) == len(MAPPERS) and axes[0].get_title().split(":")[0] in ("ridge", "procrustes")
