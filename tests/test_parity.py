"""The published network, number by number.

Two judges. `plain` below is C-MET's connector written straight from its published keys with torch's functions,
for any weights under those keys. The golden files are outputs of the published network itself; they are not in the
repository, and are looked for under CMET_SPEC, or in the folder `spec` beside CMET_DATA.
"""
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from standin import fill, golden

from cmet.align import supcon
from cmet.core import CmetError, find_data
from cmet.network import answers, tensors
from cmet.network import weights as numpy_weights
from cmet.transformer import Config, CrossModalTransformer, load_official, preset, published, rollout

TOLERANCE = 1e-4
TOP = "fusion_transformer_encoder"
KERNELS = [3]*7 + [2] + [1]*5
STRIDES = [1, 2, 1, 1, 2, 1, 1, 2] + [1]*5
CHANNELS = [1, 4, 8, 8, 8, 16, 16, 16, 32, 64, 128, 256, 512, 1024]


def table(width=1024, rows=512):
    at, half = torch.arange(rows)[:, None].double(), torch.arange(width//2).double()
    angle = at/10000**(2*half/width)
    out = torch.zeros(1, rows, width)
    out[0, :, 0::2], out[0, :, 1::2] = angle.sin(), angle.cos()
    return out


def keys(speech=1024, layers=4, forward=1024, W=1024, D=10):
    "Published key -> shape, written down from the published list."
    s = {f"{TOP}.position_{k}.pe": (1, 512, W) for k in "re"} | {f"{TOP}.modality.weight": (4, W)}
    for k in range(layers):
        at = f"{TOP}.transformer_encoder.layers.{k}."
        for name, a, b in (("self_attn.out_proj.", W, W), ("linear1.", forward, W), ("linear2.", W, forward)):
            s |= {at + name + "weight": (a, b), at + name + "bias": (a,)}
        s |= {at + "self_attn.in_proj_weight": (3*W, W), at + "self_attn.in_proj_bias": (3*W,)}
        s |= {f"{at}norm{n}.{p}": (W,) for n in (1, 2) for p in ("weight", "bias")}
    for which in ("exp_encoder", "ref_encoder"):
        for k, (a, b, size) in enumerate(zip(CHANNELS, CHANNELS[1:], KERNELS)):
            at = f"{which}.{k}.conv_block."
            s |= {at + "0.weight": (b, a, size), at + "1.num_batches_tracked": ()}
            s |= {at + name: (b,) for name in ("0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var")}
    s |= {"speaker_encoder.proj.weight": (W, speech), "speaker_encoder.proj.bias": (W,)}
    s |= {"projector.projector.0.weight": (D, W), "projector.projector.0.bias": (D,)}
    s |= {"projector.projector.2.weight": (D, D), "projector.projector.2.bias": (D,)}
    return s | {f"{n}.{p}": (W,) for n in ("speaker_encoder.norm", "Norm") for p in ("weight", "bias")}


def weights(seed, **sizes):
    empty = {k: torch.zeros(s, dtype=torch.long if k.endswith("tracked") else torch.float32)
             for k, s in keys(**sizes).items()}
    return fill(empty | {k: table() for k in empty if k.endswith(".pe")}, seed)


def plain_stack(w, which, x):
    "Frames [n, 10] -> [n, 1024]."
    x = x[:, None]
    for k, (size, stride) in enumerate(zip(KERNELS, STRIDES)):
        at = f"{which}.{k}.conv_block."
        y = F.conv1d(x, w[at + "0.weight"], w[at + "0.bias"], stride, padding=int(size == 3))
        y = F.batch_norm(y, w[at + "1.running_mean"], w[at + "1.running_var"], w[at + "1.weight"], w[at + "1.bias"])
        if k in (2, 3, 5, 6): y = y + x
        x = y.tanh() if k == 12 else y.relu()
    return x[..., 0]


def plain_layer(w, at, x, heads=4):
    W = x.shape[-1]
    q, k, v = F.linear(x, w[at + "self_attn.in_proj_weight"], w[at + "self_attn.in_proj_bias"]).split(W, -1)
    outs = []
    for h in range(heads):
        one = slice(h*W//heads, (h + 1)*W//heads)
        score = q[..., one] @ k[..., one].transpose(1, 2)/(W//heads)**.5
        outs.append(score.softmax(-1) @ v[..., one])
    part = lambda name, x: F.linear(x, w[at + name + ".weight"], w[at + name + ".bias"])
    norm = lambda name, x: F.layer_norm(x, (W,), w[at + name + ".weight"], w[at + name + ".bias"])
    x = norm("norm1", x + part("self_attn.out_proj", torch.cat(outs, -1)))
    return norm("norm2", x + part("linear2", part("linear1", x).relu()))


def plain(w, reference, speech, face, layers=4):
    B, T, D = face.shape
    W = w["Norm.weight"].shape[0]
    both = {}
    for which, x in (("ref_encoder", reference), ("exp_encoder", face)):
        z = plain_stack(w, which, x.reshape(B*T, D))
        both[which] = F.layer_norm(z, (W,), w["Norm.weight"], w["Norm.bias"]).reshape(B, T, W)
    z = F.gelu(F.linear(speech, w["speaker_encoder.proj.weight"], w["speaker_encoder.proj.bias"]))
    z = F.layer_norm(z, (W,), w["speaker_encoder.norm.weight"], w["speaker_encoder.norm.bias"])
    place, kind = table(W)[:, :T], w[f"{TOP}.modality.weight"]
    x = torch.cat([both["ref_encoder"] + place + kind[1], z + kind[2], both["exp_encoder"] + place + kind[3]], 1)
    for k in range(layers): x = plain_layer(w, f"{TOP}.transformer_encoder.layers.{k}.", x)
    part = lambda n, x: F.linear(x, w[f"projector.projector.{n}.weight"], w[f"projector.projector.{n}.bias"])
    return part(2, F.gelu(part(0, x[:, T + 1:]))), (both["ref_encoder"], z, both["exp_encoder"])


def gap(ours, theirs): return float((ours - theirs).abs().max())


def need(name):
    z = golden(name)
    if z is None: pytest.skip("golden files are not on this machine (CMET_SPEC, or spec beside CMET_DATA)")
    return z


@pytest.fixture(scope="module")
def model(): return load_official({"state_dict": weights(0)})


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_any_weights_give_what_the_plain_network_gives(seed):
    w, g = weights(seed), torch.Generator().manual_seed(seed)
    reference, face = torch.randn(2, 3, 5, 10, generator=g)
    speech = torch.randn(3, 1, 1024, generator=g)
    with torch.no_grad():
        (delta, tokens), (want, wanted) = load_official(w)(reference, speech, face), plain(w, reference, speech, face)
    worst = max(gap(a, b) for a, b in zip((delta, *tokens), (want, *wanted)))
    print(f"seed {seed}: largest error {worst:.1e}, outputs up to {float(want.abs().max()):.2f}")
    assert worst < TOLERANCE and want.std() > .05


def test_other_sizes_of_speech_and_depth():
    sizes = dict(speech=768, layers=2, forward=512)
    w = weights(3, **sizes)
    model = load_official(w, Config(speech=768, layers=2, feedforward=512, window=7))
    reference, face, speech = torch.randn(2, 7, 10), torch.randn(2, 7, 10), torch.randn(2, 1, 768)
    with torch.no_grad(): assert gap(model(reference, speech, face)[0], plain(w, reference, speech, face, 2)[0]) < TOLERANCE


def test_every_weight_matters(model):
    # The check of the check: a tensor that is loaded but never read would go unnoticed by random comparison alone.
    g, own, silent = torch.Generator().manual_seed(0), model.state_dict(), []
    inputs = torch.randn(1, 5, 10, generator=g), torch.randn(1, 1, 1024, generator=g), torch.randn(1, 5, 10, generator=g)
    with torch.no_grad():
        before = model(*inputs)[0]
        for theirs, (ours, _) in published(model).items():
            if ours is None: continue
            kept = own[ours].clone()
            own[ours].add_(torch.rand(kept.shape, generator=g))
            if torch.equal(model(*inputs)[0], before): silent.append(theirs)
            own[ours].copy_(kept)
        assert not silent and torch.equal(model(*inputs)[0], before)


def test_keys_are_the_published_ones():
    want = {k: shape for k, (_, shape) in published(CrossModalTransformer()).items()}
    assert keys() == want and len(want) == 243
    root = os.environ.get("CMET_SPEC") or (find_data("") and find_data("").resolve().parent/"spec")
    if root and (Path(root)/"state_dicts.json").exists():
        listed = json.loads((Path(root)/"state_dicts.json").read_text())["connector"]
        assert {k: tuple(v) for k, v in listed.items()} == want


def test_golden_connector(model):
    z = need("connector")
    with torch.no_grad(): delta, tokens = model(z["ref"], z["speech"], z["face"])
    worst = {k: gap(a, z[k]) for k, a in zip(("z_ref", "z_speech", "z_face"), tokens)} | {"out": gap(delta.flatten(0, 1), z["out"])}
    print("connector.npz:", {k: f"{v:.1e}" for k, v in worst.items()})
    assert max(worst.values()) < TOLERANCE


def test_golden_rollout(model):
    z = need("rollout")
    worst = gap(rollout(model, z["speech"], z["face"]), z["edited"])
    print(f"rollout.npz: {worst:.1e}")
    assert worst < TOLERANCE


def test_golden_supcon():
    z = need("losses")
    worst = gap(supcon(z["visual"], z["speech"], z["labels"]), z["supcon"])
    print(f"losses.npz, supcon: {worst:.1e}")
    assert worst < TOLERANCE


# The formulas in NumPy, which answer in use, and the network in torch, which is trained.

def arrays(model): return {k: x.numpy() for k, x in model.state_dict().items()}


def in_use(**sizes):
    "A network as after a training: nothing in it is a one or a zero by chance."
    torch.manual_seed(0)
    model = CrossModalTransformer(preset("small", **sizes)).eval()
    for k, x in model.state_dict().items():
        if x.is_floating_point() and x.ndim == 1: x += .3*torch.rand(x.shape) if "var" in k else .2*torch.randn(x.shape)
    return model


def far(model, n, seed=0):
    "Largest difference between NumPy's answers and torch's to random questions, and the largest answer."
    c, g = model.config, np.random.default_rng(seed)
    voice, face = g.normal(size=c.speech).astype(np.float32), g.normal(size=(n, c.face)).astype(np.float32)
    ours, theirs = answers(numpy_weights(c, arrays(model)), c, voice, face), rollout(model, voice, face).numpy() - face
    assert ours.dtype == np.float32 and ours.shape == face.shape
    return abs(ours - theirs).max(), abs(theirs).max()


@pytest.mark.parametrize("sizes", [
    dict(speech=88, face=17), dict(speech=7, face=17, tokenizer="conv"), dict(speech=768, face=10, tokenizer="conv", window=7),
    dict(speech=1, face=1, tokenizer="conv", width=8, heads=2), dict(speech=30, face=11, tokenizer="conv", width=96, window=1),
    dict(speech=6373, face=30, heads=1, layers=1)], ids=str)
@pytest.mark.parametrize("n", [1, 23])
def test_numpy_answers_as_torch_does(sizes, n):
    gap, size = far(in_use(**sizes), n)
    assert gap < 1e-5*size and size > .1


def test_numpy_answers_as_torch_does_at_the_published_size(model):
    gap, size = far(model, 23)
    print(f"23 frames: largest difference {gap:.1e}, largest answer {size:.2f}")
    assert gap < 1e-5*size


@pytest.mark.parametrize("tokenizer", ["linear", "conv"])
def test_no_array_of_a_file_is_unread_or_unknown(tokenizer):
    model = in_use(speech=12, face=6, width=16, feedforward=16, tokenizer=tokenizer)
    state, c, g = arrays(model), model.config, np.random.default_rng(0)
    assert tensors(c) == {k: x.shape for k, x in state.items()}
    asked = g.normal(size=12).astype(np.float32), g.normal(size=(10, 6)).astype(np.float32)
    before = answers(numpy_weights(c, state), c, *asked)
    for k, x in state.items():
        after = answers(numpy_weights(c, state | {k: x + g.random(x.shape).astype(np.float32)}), c, *asked)
        assert np.array_equal(after, before) == k.endswith("num_batches_tracked"), k
        with pytest.raises(ValueError, match=f"'{k}' of shape"): numpy_weights(c, state | {k: np.zeros((2, 3, 4, 5), np.float32)})
        with pytest.raises(ValueError, match=f"no weights '{k}'"): numpy_weights(c, {n: v for n, v in state.items() if n != k})
    with pytest.raises(ValueError, match="unknown weights 'spare'"): numpy_weights(c, state | {"spare": np.zeros(3)})


def test_halves_in_a_file_are_counted_in_full():
    "Shipped weights are float16; what is made of them is not."
    model = in_use(speech=12, face=6, width=16, feedforward=16)
    half = {k: np.float16(x) for k, x in arrays(model).items()}
    model.load_state_dict({k: torch.from_numpy(x) for k, x in half.items()})
    gap, size = far(model, 12)
    assert gap < 1e-5*size and all(x.dtype == np.float32 for x in numpy_weights(model.config, half).values())


def test_numpy_refuses_what_torch_refuses():
    model = in_use(speech=12, face=6, width=16, feedforward=16)
    w, c, voice, face = numpy_weights(model.config, arrays(model)), model.config, np.zeros(12, np.float32), np.zeros((3, 6), np.float32)
    for bad in ((voice[:9], face), (voice, face[:0]), (voice, face[:, :5]), (voice*np.nan, face), (voice, face + np.inf)):
        told = []
        for ask in (lambda *a: answers(w, c, *a), lambda *a: rollout(model, *a)):
            with pytest.raises(CmetError) as e: ask(*bad)
            told.append(str(e.value))
        assert told[0] == told[1]


def test_golden_rollout_in_numpy(model):
    z, w = need("rollout"), numpy_weights(model.config, arrays(model))
    voice, face, edited = (np.asarray(z[k], np.float32) for k in ("speech", "face", "edited"))
    pairs = zip(voice, face, edited) if face.ndim == 3 else [(voice, face, edited)]
    worst = max(abs(f + answers(w, model.config, v.reshape(-1), f) - e).max() for v, f, e in pairs)
    print(f"rollout.npz: {worst:.1e}")
    assert worst < TOLERANCE
