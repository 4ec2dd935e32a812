"The transformer: any size, any length, whole files or none, and nothing imported that a bare machine lacks."
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from cmet.core import CmetError
from cmet.transformer import (FILES, Config, CrossModalTransformer, from_pretrained, load_official, preset, published,
                              read_card, rollout, save_pretrained)


def tiny(**changes):
    torch.manual_seed(0)
    return CrossModalTransformer(preset("small", **(dict(speech=12, face=6, width=16, layers=1, feedforward=16) | changes)))


@pytest.mark.parametrize("speech,face,window,layers,tokenizer", [
    (88, 17, 5, 2, "linear"), (768, 10, 5, 1, "conv"), (1024, 30, 7, 3, "conv"), (6373, 17, 1, 1, "linear"), (1, 1, 3, 1, "conv")])
def test_any_size(speech, face, window, layers, tokenizer):
    c = preset("small", speech=speech, face=face, window=window, layers=layers, tokenizer=tokenizer, width=64)
    model = CrossModalTransformer(c)
    r, s, f = torch.randn(4, window, face), torch.randn(4, 1, speech), torch.randn(4, window, face)
    delta, (zr, zs, zf) = model(r, s, f)
    assert delta.shape == f.shape and zr.shape == zf.shape == (4, window, 64) and zs.shape == (4, 1, 64)
    (delta.square().sum() + zr.mean() + zs.mean() + zf.mean()).backward()
    unmoved = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not unmoved
    for n in (1, window - 1, window, window + 1, 3*window + 1):
        if n: assert rollout(model, s[0, 0], torch.randn(n, face)).shape == (n, face)


def test_presets_and_bad_configs():
    assert preset() == Config() and sum(p.numel() for p in CrossModalTransformer().parameters()) == 27_690_072
    weight = sum(p.numel() for p in CrossModalTransformer(preset("small", speech=6373, face=17)).parameters())*4
    assert weight < 5e6  # a shipped model must stay below 5 MB
    for bad, says in ((dict(width=33, heads=3), "width"), (dict(width=0), "width"), (dict(window=2.5), "window"),
                      (dict(layers=True), "layers"), (dict(dropout=-.1), "dropout"), (dict(colour=3), "colour"),
                      (dict(tokenizer="x"), "tokenizer")):
        with pytest.raises(CmetError, match=says): preset("paper", **bad)
    with pytest.raises(CmetError, match="preset 'large'"): preset("large")


def test_order_of_frames_and_segments_is_heard():
    model = tiny().eval()
    r, s, f = torch.randn(1, 5, 6), torch.randn(1, 1, 12), torch.randn(1, 5, 6)
    with torch.no_grad():
        d = model(r, s, f)[0]
        assert not torch.allclose(model(r, s, f.flip(1))[0].flip(1), d, atol=1e-3)  # positions
        assert not torch.allclose(model(r.flip(1), s, f)[0], d, atol=1e-4)
        assert not torch.allclose(model(f, s, r)[0], model(r, s, f)[0], atol=1e-3)  # segments
        assert not torch.allclose(model(r, -s, f)[0], d, atol=1e-3)


@pytest.mark.parametrize("n", [1, 4, 5, 6, 23, 25])
def test_rollout_feeds_back_and_loses_no_frame(n):
    model, calls = tiny(), []
    model.register_forward_hook(lambda m, x, y: calls.append((x, y[0])))
    model.train()
    face, speech = torch.randn(n, 6), torch.randn(12)
    edited = rollout(model, speech, face)
    assert model.training and not edited.requires_grad and len(calls) == -(-n//5)
    assert (calls[0][0][0] == 0).all()
    for (_, before), (after, _) in zip(calls, calls[1:]): assert torch.equal(after[0], before)
    windows = torch.cat([x[2][0] for x, _ in calls])
    assert torch.equal(windows[:n], face) and (windows[n:] == face[-1]).all()
    assert torch.equal(edited, (windows + torch.cat([d[0] for _, d in calls]))[:n])
    assert torch.equal(rollout(model, speech, face), edited)  # no dropout


def test_rollout_takes_arrays_and_batches():
    model = tiny()
    face, speech = np.random.default_rng(0).normal(size=(3, 8, 6)), np.random.default_rng(1).normal(size=(3, 12))
    face.flags.writeable = False  # a memory-mapped corpus
    many = rollout(model, speech, face)
    for k in range(3): assert torch.allclose(rollout(model, speech[k], face[k]), many[k], atol=1e-5)
    for bad in ((speech[0], face), (speech[0, :5], face[0]), (speech[0], face[0, :0]), (speech[0], face[0, 0]),
                (speech[0]*np.nan, face[0]), (speech[0], face[0]*np.inf)):
        with pytest.raises(CmetError): rollout(model, *bad)


def test_low_precision_runs():
    model = tiny().eval()
    x = torch.randn(2, 5, 6), torch.randn(2, 1, 12), torch.randn(2, 5, 6)
    with torch.no_grad():
        full = model(*x)[0]
        with torch.autocast("cpu", torch.bfloat16): half = model(*x)[0]
    assert torch.isfinite(half).all() and (half - full).abs().max() < .1*full.abs().max() + .02


def test_official_faults_are_named():
    model = CrossModalTransformer()
    state = {k: torch.zeros(shape) for k, (_, shape) in published(model).items()}
    load_official({"state_dict": {"module." + k: v for k, v in state.items()}, "epoch": 3})
    first = next(iter(state))
    for bad, says in (({k: v for k, v in state.items() if k != first}, first), (state | {"more.weight": torch.zeros(2)}, "more.weight"),
                      (state | {"Norm.weight": torch.zeros(512)}, r"\[512\], not \[1024\]"), ({}, "239 more|240 more"),
                      ({"state_dict": 3}, "no state dict"), (None, "no state dict"), ({"a": "b"}, "no state dict"),
                      ({k: v for k, v in state.items() if not k.endswith(".pe")}, "position_r.pe")):
        with pytest.raises(CmetError, match=says): load_official(bad)
    with pytest.raises(CmetError, match="conv"): load_official(state, Config(tokenizer="linear"))
    parcel = {}
    parcel["state_dict"] = parcel
    with pytest.raises(CmetError, match="no state dict"): load_official(parcel)  # it holds itself
    with pytest.raises(CmetError, match="not finite"): load_official(state | {first: state[first] + torch.nan})


def test_disk_and_back(tmp_path):
    model = tiny(tokenizer="conv").eval()
    folder = model.save_pretrained(tmp_path/"a"/"m", card={"encoder": "egemaps"})
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES) and not list(folder.parent.glob(".*"))
    again = CrossModalTransformer.from_pretrained(folder)
    assert again.config == model.config and not again.training and read_card(folder)["card"] == {"encoder": "egemaps"}
    for k, v in model.state_dict().items(): assert torch.equal(v, again.state_dict()[k])
    other = tiny(layers=2)
    save_pretrained(other, folder)  # replaces
    assert from_pretrained(folder).config.layers == 2


def test_an_interrupted_save_leaves_the_old_model(tmp_path, monkeypatch):
    folder = save_pretrained(tiny(), tmp_path/"m")
    import safetensors.torch
    def broken(tensors, path):
        open(path, "wb").write(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(safetensors.torch, "save_file", broken)
    with pytest.raises(CmetError, match="cannot write"): save_pretrained(tiny(layers=2), folder)
    assert from_pretrained(folder).config.layers == 1 and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_move_that_fails_puts_the_old_model_back(tmp_path, monkeypatch):
    import os
    folder, replace = save_pretrained(tiny(), tmp_path/"m"), os.replace
    def broken(a, b):
        if str(a).endswith(".new"): raise OSError(5, "Input/output error")
        replace(a, b)
    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(CmetError, match="cannot write"): save_pretrained(tiny(layers=2), folder)
    assert from_pretrained(folder).config.layers == 1 and [p.name for p in tmp_path.iterdir()] == ["m"]


def test_foreign_folders_are_refused(tmp_path):
    folder = save_pretrained(tiny(), tmp_path/"m")
    weights, about = folder/FILES[0], folder/FILES[1]
    good, text = weights.read_bytes(), about.read_text()
    weights.write_bytes(good[:-4])
    with pytest.raises(CmetError, match="hash"): from_pretrained(folder)
    from cmet.core import sha256
    weights.write_bytes(pickle.dumps({"a": 1}))
    about.write_text(json.dumps(json.loads(text) | {"sha256": sha256(weights)}))
    with pytest.raises(CmetError, match="cannot be loaded"): from_pretrained(folder)
    weights.write_bytes(good)
    for change, says in (({"config": {"width": 32, "size": 1}}, "size"), ({"config": 3}, "no model"), ({"format": 2}, "format"),
                         ({"config": json.loads(text)["config"] | {"layers": 2}}, "cannot be loaded")):
        about.write_text(json.dumps(json.loads(text) | change))
        with pytest.raises(CmetError, match=says): from_pretrained(folder)
    about.write_text("{")
    with pytest.raises(CmetError, match="no model"): from_pretrained(folder)
    with pytest.raises(CmetError, match="no model"): from_pretrained(tmp_path/"nowhere")
    (folder/"notes.txt").write_text("mine")
    with pytest.raises(CmetError, match="notes.txt"): save_pretrained(tiny(), folder)
    (tmp_path/"file").write_text("mine")
    with pytest.raises(CmetError, match="is a file"): save_pretrained(tiny(), tmp_path/"file")
    assert (tmp_path/"file").read_text() == "mine"


def test_a_bare_machine_can_import_and_run_it():
    code = """
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('pandas', 'scipy', 'safetensors', 'matplotlib', 'sklearn', 'pyarrow', 'cv2', 'av'):
            raise ImportError(name)
sys.meta_path.insert(0, Bare())
import torch
from cmet.align import info_nce, supcon
from cmet.transformer import CrossModalTransformer, load_official, preset, rollout
m = CrossModalTransformer(preset('small', speech=8, face=4))
assert rollout(m, torch.zeros(8), torch.zeros(7, 4)).shape == (7, 4)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
