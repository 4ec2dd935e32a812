"Training: losses are the published ones, resume is exact after SIGKILL, nothing held out is seen, bad input is refused by name."
import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
import warm
from tiny import EMOTIONS, Net, arrays

from cmet.core import CmetError, find_data
from cmet.train.checkpoint import checkpoints, keep_checkpoint, last_checkpoint, load_tensors, save_tensors
from cmet.train.loop import TrainConfig, Trainer, directional, fit, focal_mse, info_nce, supcon
from cmet.train.pairs import Deck, Sampler, draw, split
from cmet.train.step import own_reference
from cmet.train.validation import evaluate, found
from cmet.transformer import CrossModalTransformer, preset

HERE = Path(__file__).parent
BASE = dict(batch=8, lr=1e-3, shots=2, every=4, ahead=4, device="cpu", steps=12)
CORPUS = arrays()


@pytest.mark.parametrize("table, field", [("RECON", "recon"), ("CONTRAST", "contrastive"), ("DIRECTION", "direction")])
def test_a_loss_of_ones_own_is_one_more_entry_in_a_table(table, field, monkeypatch):
    from cmet.train import losses
    asked = []
    monkeypatch.setitem(getattr(losses, table), "mine", lambda guess, *more: asked.append(guess.shape) or guess.square().mean())
    log = fit(Net(), CORPUS, TrainConfig(**BASE | {field: "mine"})).history
    assert log and len(asked) >= BASE["steps"]
    with pytest.raises(CmetError, match=f"{field} = 'yours' is not possible: use one of .*mine"): TrainConfig(**{field: "yours"})


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def changed(**parts):
    return SimpleNamespace(**vars(CORPUS) | parts)


# Losses

def test_losses_match_the_published_ones():
    real = find_data("")
    file = real.parent/"spec"/"golden"/"losses.npz" if real else Path("absent")
    if not file.is_file(): pytest.skip("no golden numbers beside CMET_DATA")
    g = {k: torch.from_numpy(np.asarray(v)) for k, v in np.load(file, allow_pickle=False).items()}
    for name, value in (("focal_mse", focal_mse(g["pred"], g["target"])), ("directional_paper", directional(g["pred"], g["target"])),
                        ("directional_code", directional(g["pred"], g["target"], squared=True)),
                        ("supcon", supcon(g["visual"], g["speech"], g["labels"]))):
        assert abs(value.item() - g[name].item()) < 1e-5, name


def test_losses_by_hand():
    e = torch.tensor([.5, -2., 10.])
    weight = [2/(1 + np.exp(-.2*abs(x))) - 1 for x in e.tolist()]
    assert np.isclose(focal_mse(e, torch.zeros(3)).item(), np.mean([w*x*x for w, x in zip(weight, e.tolist())]))
    a, b = torch.tensor([[[3., 4.], [1, 0]]]), torch.tensor([[[-3., -4.], [0, 1]]])
    assert directional(a, b).item() == pytest.approx(.5) and directional(a, b, squared=True).item() == pytest.approx(.5)
    assert directional(a, a).item() == pytest.approx(2) and directional(a, a, squared=True).item() == pytest.approx(4)
    v = torch.eye(3)
    assert info_nce(v, v, 1.).item() == pytest.approx(-np.log(np.e/(np.e + 2)), abs=1e-6)


@pytest.mark.parametrize("loss", [focal_mse, directional])
def test_losses_have_right_gradients(loss):
    torch.manual_seed(0)
    a, b = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(loss, (a, b))


# Pairs

def test_vectors_are_those_of_their_pools():
    deck = Deck(CORPUS)
    b = draw(deck, 400, torch.Generator().manual_seed(0), shots=None, before=1)
    who, felt = CORPUS.clips["speaker"], CORPUS.clips["emotion"]
    means = np.array([CORPUS.face[a:z].mean(0) for a, z in zip(CORPUS.offsets, CORPUS.offsets[1:])])
    names = np.array(deck.emotions)
    for k in range(0, 400, 40):
        j, i = names[b.label[:, k]]
        fits = []
        for s in set(who):
            at = lambda e, s=s: (who == s) & (felt == e)
            fits.append(np.allclose(b.speech[k], CORPUS.speech[at(j)].mean(0) - CORPUS.speech[at(i)].mean(0), atol=1e-4)
                        and np.allclose(b.target[k], means[at(j)].mean(0) - means[at(i)].mean(0), atol=1e-4))
        assert sum(fits) == 1


def test_windows_are_stretches_of_one_clip_of_the_right_emotion():
    # Each frame carries its clip and its place, so that a window can be read.
    lengths = np.diff(CORPUS.offsets)
    face = np.stack([np.repeat(np.arange(len(lengths)), lengths), np.concatenate([np.arange(n) for n in lengths])], 1)
    deck = Deck(changed(face=face.astype(np.float32)))
    b = draw(deck, 5000, torch.Generator().manual_seed(0), shots=1, T=5, before=2)
    clip, at = b.face[..., 0].long(), b.face[..., 1].long()
    assert (clip == clip[..., :1]).all()
    felt = CORPUS.clips["emotion"][clip[..., 0]]
    assert (felt[0] == np.array(deck.emotions)[b.label[1]]).all() and (felt[1] == np.array(deck.emotions)[b.label[0]]).all()
    n = torch.tensor(lengths)[clip[..., 0]]
    first = at[..., 10]
    assert (at[..., 10:] == torch.minimum(first[..., None] + torch.arange(5), n[..., None] - 1)).all()
    assert (b.past == first//5).all() and (b.past.max() >= 3) and (b.past == 0).any()
    assert (at[..., 5:10] == (first[..., None] - 5 + torch.arange(5)).clamp(min=0))[b.past > 0].all()
    # Every place of a long clip is reached.
    assert set(first[n == lengths.max()].tolist()) == set(range(lengths.max() - 4))


@pytest.mark.parametrize("option", [{}, {"across": True}, {"balance": False}])
def test_held_out_is_nowhere(option):
    parts = split(CORPUS, ["S3"], ["sad"])
    deck = Deck(CORPUS, parts["train"], **option)
    assert not any(s == "S3" or e == "sad" for s, e in deck.voices.keys + deck.persons.keys)
    # The numbers themselves: what is held out is poisoned, and no poison comes out.
    gone = ~parts["train"]
    speech, face = CORPUS.speech.copy(), CORPUS.face.copy()
    speech[gone] = 1e9
    face[np.repeat(gone, np.diff(CORPUS.offsets))] = 1e9
    deck = Deck(changed(speech=speech, face=face), parts["train"], standardise=True, **option)
    b = draw(deck, 2000, torch.Generator().manual_seed(0), before=2)
    assert max(b.speech.abs().max(), b.target.abs().max(), b.face.abs().max()) < 1e3
    assert not parts["valid"][CORPUS.clips["emotion"] == "sad"].any()


def test_across_pairs_every_voice_with_every_face():
    one = changed(offsets=np.where(np.arange(len(CORPUS.offsets)) <= 16, CORPUS.offsets, CORPUS.offsets[16]),
                  face=CORPUS.face[:CORPUS.offsets[16]])  # only S0 has a face
    assert len(Deck(one).table) == 12 and len(Deck(one, across=True).table) == 4*12


@pytest.mark.parametrize("world", [2, 4])
def test_shares_make_up_the_batch(world):
    deck = Deck(CORPUS)
    whole, parts = Sampler(deck, 16, ahead=3), [Sampler(deck, 16, ahead=3, rank=r, world=world) for r in range(world)]
    for _ in range(7):
        w, p = whole(), [s() for s in parts]
        for name in w._fields: assert torch.equal(getattr(w, name), torch.cat([getattr(x, name) for x in p], int(name not in ("speech", "target"))))


# Score

def test_retrieval_of_truth_and_of_chance():
    g = torch.Generator().manual_seed(0)
    label = torch.tensor([(i, j) for i in range(5) for j in range(5) if i != j]*8)
    means = torch.randn(5, 5, 10, generator=g)
    true = means[label[:, 0], label[:, 1]]
    assert found(true, true, label).all() and not found(-true, true, label).float().mean() > .3
    noise = torch.randn(160, 10, generator=g)
    assert abs(found(noise, true, label).float().mean() - .25) < .1


# References

def test_own_reference_is_a_rollout():
    torch.manual_seed(0)
    net = Net().eval()
    face, speech = torch.randn(3, 20, 6), torch.randn(3, 1, 12)
    ref = torch.zeros(3, 5, 6)
    with torch.no_grad():
        for w in range(3): ref = net(ref, speech, face[:, 5*w:5*w + 5])[0]
    full = own_reference(net, speech, face, torch.tensor([3, 3, 5]), 5)
    assert torch.allclose(full, ref, atol=1e-6)
    assert own_reference(net, speech, face, torch.zeros(3, dtype=torch.long), 5).abs().max() == 0


@pytest.mark.parametrize("reference", ["zero", "teacher", "self", "scheduled"])
@pytest.mark.parametrize("option", [{}, dict(contrastive="supcon", direction="squared", recon="mse"),
                                    dict(contrastive=None, direction=None, bidirectional=False), dict(unroll=2, bf16=True)])
def test_every_choice_trains(reference, option):
    t = fit(Net(), CORPUS, TrainConfig(reference=reference, **BASE | option))
    assert t.at == 12 and all(np.isfinite(r["loss"]) for r in t.history) and len(t.history) == 3


def test_it_learns_and_stops_early_with_the_best_weights(tmp_path):
    config = TrainConfig(held_speakers=("S3",), reference="self", **BASE | dict(steps=400, batch=16, evaluate=10, patience=8, every=10))
    t = fit(Net(drop=0), CORPUS, config, tmp_path)
    exams = [r["cosine"] for r in t.history if "cosine" in r]
    assert max(exams) > .7 > .3 > exams[0] and t.score == max(exams)
    assert evaluate(t.model, t.valid)["cosine"] == pytest.approx(t.score, abs=1e-6)
    if t.at < 400: assert t.at == 10*(np.argmax(exams) + 1 + 8)
    saved, meta = load_tensors(tmp_path/"trained.safetensors")
    assert all(torch.equal(saved[f"model/{k}"], v) for k, v in t.model.state_dict().items()) and meta["score"] == t.score
    again = fit(Net(seed=5), CORPUS, config, tmp_path)  # a finished training is not trained further
    assert again.at == t.at and all(torch.equal(a, b) for a, b in zip(again.model.state_dict().values(), t.model.state_dict().values()))


def test_shuffled_faces_teach_nothing():
    g = np.random.default_rng(1)
    order = g.permutation(len(CORPUS.speech))
    mixed = changed(face=np.concatenate([CORPUS.face[CORPUS.offsets[k]:CORPUS.offsets[k + 1]] for k in order]),
                    offsets=np.cumsum([0, *np.diff(CORPUS.offsets)[order]]))
    t = fit(Net(drop=0), mixed, TrainConfig(held_speakers=("S3",), **BASE | dict(steps=150, batch=16, evaluate=150)))
    assert t.history[-1]["cosine"] < .5


def test_seed_decides():
    run = lambda **o: fit(Net(), CORPUS, TrainConfig(**BASE | o)).model.state_dict()["out.weight"]
    a, b, c = run(), run(), run(seed=1)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_training_draws_from_dice_of_its_own():
    "The process's random numbers are untouched, and what the process draws meanwhile changes no training."
    net = Net()
    before = torch.get_rng_state()
    a = Trainer(net, CORPUS, TrainConfig(**BASE)).run().model.state_dict()["out.weight"]
    assert torch.equal(torch.get_rng_state(), before)
    t = Trainer(Net(), CORPUS, TrainConfig(**BASE))
    torch.rand(7)
    assert torch.equal(t.run().model.state_dict()["out.weight"], a)


def test_schedule_of_the_learning_rate_reaches_the_optimiser():
    t = Trainer(Net(), CORPUS, TrainConfig(**BASE | dict(warmup=4, decay=True)))
    seen = []
    for k in range(12):
        t(t.sampler(), k)
        seen.append(t.optimizer.param_groups[0]["lr"])
    assert seen[0] < seen[3] > seen[11] > 0


# Resume

def program(folder, steps, *rest, wait=True):
    "`tiny.py` with these arguments, in a process that has imported torch already."
    p = warm.Started(tiny.main, str(folder), str(steps), *rest, env=os.environ | {"OMP_NUM_THREADS": "1"})
    if wait: p.out, p.err = p.communicate()
    return p


def same(a, b, but=()):
    "Two folders hold the same training, bit for bit, and the same log but for the clock."
    (x, m), (y, n) = last_checkpoint(a), last_checkpoint(b)
    strip = lambda meta: [{k: v for k, v in r.items() if k != "seconds"} for r in meta["history"]]
    assert m["step"] == n["step"] and strip(m) == strip(n) and m["score"] == n["score"]
    assert x.keys() == y.keys() and len(x) > 50
    assert [k for k in x if not torch.equal(x[k], y[k])] == []
    lines = [[l.rsplit(",", 1)[0] for l in (Path(f)/"log.csv").read_text().splitlines()] for f in (a, b)]
    assert lines[0] == lines[1]
    p, q = (load_tensors(Path(f)/"trained.safetensors")[0] for f in (a, b))
    assert all(torch.equal(p[k], q[k]) for k in p)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    p = program(folder, 60)
    assert p.returncode == 0, p.err
    return folder


def test_killed_at_chosen_steps_and_inside_a_write(whole, tmp_path):
    # In the first block of batches, at its edge, beside a checkpoint, during the first write, and during a later one.
    for die in ("1", "5", "8", "write:1", "27", "write:3"):
        p = program(tmp_path, 60, f"die={die}")
        assert p.returncode == -signal.SIGKILL, (die, p.err)
    assert program(tmp_path, 60).returncode == 0
    same(whole, tmp_path)
    assert not list(tmp_path.glob(".*.tmp")) and len(list(tmp_path.glob("step-*"))) == 2


def test_a_folder_belongs_to_one_training_at_a_time(tmp_path):
    "Another program's files are left alone, and a second training does not write between the first one's."
    from cmet.train.checkpoint import claimed
    for name in (".other.tmp", ".step-00000003.safetensors.1.tmp"): (tmp_path/name).touch()
    with claimed(tmp_path):
        p = program(tmp_path, 6)
        assert p.returncode and "another process trains in" in p.err and not list(tmp_path.glob("step-*"))
    assert program(tmp_path, 6).returncode == 0
    assert [f.name for f in tmp_path.glob(".*.tmp")] == [".other.tmp"]


def test_killed_from_outside_at_random_moments(whole, tmp_path):
    kills, luck = 0, random.Random(os.getpid())
    for _ in range(4):
        p, start, goal = program(tmp_path, 60, wait=False), len(list(tmp_path.glob("*"))), luck.uniform(0, .25)
        newest = lambda: max((f.name for f in tmp_path.glob("step-*")), default="")
        before = newest()
        while p.poll() is None and newest() == before: time.sleep(.001)
        time.sleep(goal)
        p.kill()
        kills += p.wait() == -signal.SIGKILL
        p.communicate()
    assert program(tmp_path, 60).returncode == 0
    assert kills, start
    same(whole, tmp_path)


def test_a_damaged_checkpoint_costs_only_its_steps(whole, tmp_path):
    assert program(tmp_path, 60, "die=40").returncode == -signal.SIGKILL
    newest = max(tmp_path.glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert program(tmp_path, 60).returncode == 0
    same(whole, tmp_path)


def test_files_are_read_by_the_library_and_foreign_bytes_are_refused(tmp_path):
    from safetensors.torch import load_file
    some = {"a": torch.randn(3, 0), "b": torch.randn(2, 3).bfloat16(), "c": torch.tensor(5)}
    path = save_tensors(tmp_path/"x.safetensors", some)
    assert all(torch.equal(v, load_file(path)[k]) for k, v in some.items())
    good = path.read_bytes()
    for bad in (b"", b"\x80\x04pickle", good[:20], good + b"x", b"\xff"*64, good.replace(b'"F32"', b'"XXX"'), b"\x02" + bytes(7) + b"[]"):
        path.write_bytes(bad)
        with pytest.raises(CmetError, match="cannot be read"): load_tensors(path)
    with pytest.raises(CmetError, match="cannot write"): save_tensors("/proc/none/x", some)


def test_all_checkpoints_damaged_is_an_error(tmp_path):
    for k in (1, 2): keep_checkpoint(tmp_path, k, {}, {}).write_bytes(b"x")
    with pytest.raises(CmetError, match="cannot be read"): last_checkpoint(tmp_path)


@pytest.mark.parametrize("field,change", [("lr", {"lr": 2e-3}), ("seed", {"seed": 1}), ("held_emotions", {"held_emotions": ("sad",)}), ("batch", {"batch": 4})])
def test_another_training_in_the_folder_is_refused(tmp_path, field, change):
    fit(Net(), CORPUS, TrainConfig(**BASE), tmp_path)
    with pytest.raises(CmetError, match=field): fit(Net(), CORPUS, TrainConfig(**BASE | change), tmp_path)
    other = changed(speech=CORPUS.speech + 1)
    with pytest.raises(CmetError, match="corpus"): fit(Net(), other, TrainConfig(**BASE), tmp_path)


def test_a_checkpoint_of_another_network_or_step_is_refused(tmp_path):
    fit(Net(), CORPUS, TrainConfig(**BASE), tmp_path)
    with pytest.raises(CmetError, match="training of another network"): fit(Net(width=16), CORPUS, TrainConfig(**BASE | {"steps": 24}), tmp_path)
    _, newest = checkpoints(tmp_path)[-1]
    os.rename(newest, tmp_path/"step-1000000000000.safetensors")
    for old in tmp_path.glob("step-0*"): old.unlink()
    with pytest.raises(CmetError, match="is not of step 1000000000000"): fit(Net(), CORPUS, TrainConfig(**BASE), tmp_path)
    os.mkfifo(tmp_path/"step-00000099.safetensors")
    with pytest.raises(CmetError, match="no such file"): load_tensors(tmp_path/"step-00000099.safetensors")


def test_more_steps_go_on_where_the_last_ended(tmp_path):
    a = fit(Net(), CORPUS, TrainConfig(**BASE | {"steps": 24}), tmp_path/"a")
    fit(Net(), CORPUS, TrainConfig(**BASE), tmp_path/"b")
    b = fit(Net(seed=3), CORPUS, TrainConfig(**BASE | {"steps": 24}), tmp_path/"b")
    assert all(torch.equal(x, y) for x, y in zip(a.model.state_dict().values(), b.model.state_dict().values()))


# Bad input

BAD = [("steps", dict(steps=0)), ("lr", dict(lr=-1.)), ("lr", dict(lr="fast")), ("weights", dict(weights=(1, 2))), ("reference", dict(reference="leak")),
       ("recon", dict(recon="l1")), ("shots", dict(shots=0)), ("batch", dict(batch=1)), ("contrastive", dict(contrastive="clip")),
       ("held_speakers", dict(held_speakers=("S9",))), ("held_emotions", dict(held_emotions=("joy",))),
       ("held_speakers", dict(held_speakers=("S0", "S1", "S2", "S3"))), ("held_emotions", dict(held_emotions=EMOTIONS)),
       ("speech and face of two", dict(held_emotions=EMOTIONS[1:])), ("min_speakers", dict(held_speakers=("S0", "S1", "S2"))),
       ("patience", dict(patience=2)), ("graph", dict(graph=True)), ("device", dict(device="tpu")), ("direction", dict(bidirectional=False))]


@pytest.mark.parametrize("field,change", BAD, ids=[f"{a}-{k}" for k, (a, _) in enumerate(BAD)])
def test_bad_configs_are_refused_by_name(field, change):
    with pytest.raises(CmetError, match=field) as e: Trainer(Net(), CORPUS, TrainConfig(**BASE | change))
    assert len(e.value.remedy) > 8 and "\n" not in str(e.value)


def spoilt(kind):
    speech, face, who, felt = CORPUS.speech.copy(), CORPUS.face.copy(), CORPUS.clips["speaker"].copy(), CORPUS.clips["emotion"].copy()
    if kind == "one speaker": who[:] = "S0"
    if kind == "one emotion": felt[:] = "sad"
    if kind == "an emotion with one clip": felt[3] = "fear"
    if kind == "nan speech": speech[5, 2] = np.nan
    if kind == "infinite speech": speech[5, 2] = np.inf
    if kind == "nan face": face[7, 1] = np.nan
    if kind == "no speech at all": speech[:] = np.nan
    if kind == "no speech column": speech = speech[:, :0]
    if kind == "no face column": face = face[:, :0]
    return changed(speech=speech, face=face, clips={"speaker": who, "emotion": felt})


@pytest.mark.parametrize("kind,field", [("one speaker", "min_speakers"), ("one emotion", "two emotions"), ("an emotion with one clip", "'fear' has one clip"), ("nan speech", "speech"),
                                        ("infinite speech", "speech"), ("nan face", "face"), ("no speech at all", "speech"), ("no speech column", "speech"), ("no face column", "face")])
def test_bad_corpora_are_refused_by_name(kind, field):
    with pytest.raises(CmetError, match=field) as e: Trainer(Net(), spoilt(kind), TrainConfig(**BASE))
    assert len(e.value.remedy) > 8


def test_an_emotion_with_one_clip_can_be_held_out():
    with pytest.raises(CmetError) as e: fit(Net(), spoilt("an emotion with one clip"), TrainConfig(**BASE))
    assert str(e.value).endswith("out: `cmet train --set held_emotions=[fear]` (in Python: held_emotions=['fear'])"), "which of the two words is whose"
    t = fit(Net(), spoilt("an emotion with one clip"), TrainConfig(held_emotions=("fear",), **BASE))
    assert "fear" not in t.deck.emotions


def test_held_speaker_who_cannot_be_validated_on():
    felt = CORPUS.clips["emotion"].copy()
    felt[CORPUS.clips["speaker"] == "S3"] = "sad"
    with pytest.raises(CmetError, match="held_speakers"):
        Trainer(Net(), changed(clips=CORPUS.clips | {"emotion": felt}), TrainConfig(held_speakers=("S3",), **BASE))


@pytest.mark.parametrize("wrong", [dict(S=13), dict(D=7), dict(T=4)])
def test_a_network_of_other_widths_is_refused(wrong):
    with pytest.raises(CmetError, match="model"): Trainer(Net(**wrong), CORPUS, TrainConfig(**BASE))


def test_the_transformer_of_other_widths_is_refused_and_the_right_one_trains():
    with pytest.raises(CmetError, match="model"): Trainer(CrossModalTransformer(preset("small", face=6)), CORPUS, TrainConfig(**BASE))
    t = fit(CrossModalTransformer(preset("small", speech=12, face=6, width=32)), CORPUS, TrainConfig(**BASE))
    assert t.at == 12


def test_a_loss_that_runs_away_is_named():
    with pytest.raises(CmetError, match="lr"):
        fit(Net(), changed(face=CORPUS.face*1e25), TrainConfig(**BASE | dict(recon="mse")))


def test_clips_that_lack_a_modality_are_left_out():
    speech = CORPUS.speech.copy()
    speech[::5] = np.nan
    lengths = np.diff(CORPUS.offsets)
    keep = np.ones(len(lengths), bool)
    keep[1::7] = False
    face, offsets = CORPUS.face[np.repeat(keep, lengths)], np.cumsum([0, *np.where(keep, lengths, 0)])
    deck = Deck(changed(speech=speech, face=face, offsets=offsets))
    assert deck.speech.shape[0] == np.isfinite(speech[:, 0]).sum() and deck.face.shape[0] == keep.sum()
    assert draw(deck, 500, torch.Generator().manual_seed(0)).speech.isfinite().all()


BARE = "import sys\nfor m in 'pandas scipy matplotlib safetensors tqdm PIL cv2 av soundfile sklearn skimage pyarrow funasr mediapipe opensmile'.split(): sys.modules[m] = None\n"


def test_runs_with_torch_and_numpy_alone(tmp_path):
    code = BARE + f"sys.path.insert(0, {str(HERE)!r}); import tiny; tiny.main({str(tmp_path)!r}, 6, 'save=3')"
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert p.returncode == 0 and json.loads(p.stdout)["at"] == 6, p.stderr


def test_benchmark_runs_with_torch_and_numpy_alone():
    code = BARE + f"import runpy; sys.argv = ['x', '--quick']; runpy.run_path({str(HERE.parent/'benchmarks'/'train_step.py')!r}, run_name='__main__')"
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert p.returncode == 0 and "| one pass, bfloat16 |" in p.stdout, p.stderr


def test_what_a_gpu_is_held_against_needs_torch_and_numpy_alone():
    code = BARE + f"import runpy; gpu = runpy.run_path({str(HERE.parent/'benchmarks'/'gpu.py')!r}); " \
        "one, two = (gpu['results']('cpu', True) for _ in range(2)); " \
        "assert set(one) == set(gpu['ALLOWED']) and all(abs(one[k]).max() > 0 and (one[k] == two[k]).all() for k in one); " \
        "draw = gpu['edit_speed']; ways = draw.ways; draw.ways = lambda *a: {'procedure, frame by frame': ways(*a)['kit']}; " \
        "assert all(x > 0 for x in draw.measure('cpu', 1, 64, 1, False, ())['peak'].values()), 'the race, of one way alone'; " \
        "print(sorted(gpu['warping']('cpu', 32, 2)))"
    p = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert p.returncode == 0 and p.stdout == "['cpu']\n", p.stderr


def test_log_can_be_read_by_anything(tmp_path):
    import csv
    t = fit(Net(), CORPUS, TrainConfig(held_speakers=("S3",), **BASE | dict(evaluate=6)), tmp_path)
    rows = list(csv.DictReader(open(tmp_path/"log.csv")))
    assert [int(r["step"]) for r in rows] == [4, 6, 8, 12] and rows[1]["cosine"] and not rows[0]["cosine"]
    assert len(rows) == len(t.history) and float(rows[-1]["loss"]) == t.history[-1]["loss"]


def test_config_is_plain():
    c = TrainConfig(held_speakers=["a"])
    assert c.held_speakers == ("a",) and json.loads(json.dumps(dataclasses.asdict(c)))["batch"] == 128
