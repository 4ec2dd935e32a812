"""EDTalk and Audio2Lip, number by number; foreign and hostile files; the codec on them.

Two judges, as for the transformer: `plain_edtalk`, written straight from the published keys, for any weights;
and golden outputs of the published networks, looked for under CMET_SPEC, or in the folder `spec` beside
CMET_DATA.

A warning about the golden pictures. Their weights are random and their picture is noise, and under such
conditions the decoder is chaotic: six times, features are fetched from where earlier features point, so a
rounding error grows by five to six orders of magnitude. The golden pictures themselves lie up to 1.6 from the
same computation in double precision, and two runs of one program on different numbers of threads lie as far
apart. Hence parity is shown in double precision for whole pictures (1e-6), in single precision size by size
and with calm flows (1e-3), and against the golden pictures where rounding has not blown up.
"""
import json
import os
import subprocess
import sys
import zipfile
from argparse import Namespace
from functools import cache
from pathlib import Path

import numpy as np
import plain_edtalk as plain
import pytest
import torch
from standin import fill, golden

from cmet.core import CmetError, builtin, find_data
from cmet.edtalk import model as kit
from cmet.edtalk.audio2lip import published as lip_table
from cmet.edtalk.codec import EDTalkCodec, Performance, quicken
from cmet.edtalk.model import Audio2Lip, EDTalk, lip_mel, open_edtalk, published, stand_in
from cmet.edtalk.network import fir
from cmet.io.tensors import load_published

ROOT = Path(__file__).resolve().parents[1]
PARTS = dict(lip=20, pose=6, expression=10)
gap = lambda a, b: float((a - b).abs().max())


def empty(table):
    "Tensors of the published shapes, with the constants in them."
    def one(key, shape):
        if key.endswith("kernel"): return fir()*(1 if key.startswith("enc") else 4)
        return torch.zeros(tuple(shape), dtype=torch.long if key.endswith("tracked") else torch.float32)
    return {k: one(k, shape) for k, (_, shape, _) in table.items()}


@cache
def named(size): return {k: (None, tuple(shape), None) for k, (_, shape, _) in published(EDTalk(size)).items()}


def weights(seed, size=256): return fill(empty(named(size)), seed)


def heard(state):
    "All but the half of each emotion module whose result the plain network throws away."
    return {k: v for k, v in state.items() if not ("fineadainresblock" in k and (".conv1." in k or ".norm1." in k))}


def double(state, size):
    "Our network in double precision."
    model = EDTalk(size).double()
    load_published(model, published(model), {k: v.double() for k, v in state.items()}, "the test")
    model.bases.straighten()
    return model


def inputs(size, seed, n=2):
    g = torch.Generator().manual_seed(seed)
    motion = [torch.randn(n, k, generator=g) for k in PARTS.values()]
    return torch.rand(1, 3, size, size, generator=g)*2 - 1, torch.rand(n, 3, size, size, generator=g)*2 - 1, motion


@pytest.fixture(scope="module")
def state(): return weights(0)


@pytest.fixture(scope="module")
def model(state): return EDTalk.load_official({"gen": {f"module.{k}": v for k, v in state.items()}})


def need(name):
    z = golden(name)
    if z is None: pytest.skip("golden files are not on this machine (CMET_SPEC, or spec beside CMET_DATA)")
    return z


# The networks

def test_keys_are_the_published_ones():
    ours = {"edtalk_generator": published(EDTalk()), "audio2lip": lip_table(Audio2Lip())}
    assert [len(t) for t in ours.values()] == [298, 93]
    root = os.environ.get("CMET_SPEC") or (find_data("") and find_data("").resolve().parent/"spec")
    if not root or not (Path(root)/"state_dicts.json").exists(): pytest.skip("no list of published keys here")
    listed = json.loads((Path(root)/"state_dicts.json").read_text())
    for name, table in ours.items():
        assert {k: tuple(shape) for k, (_, shape, _) in table.items()} == {k: tuple(v) for k, v in listed[name].items()}


@pytest.mark.parametrize("seed, size", [(0, 64), (1, 64), (7, 128)])
def test_any_weights_give_what_the_plain_network_gives(seed, size):
    s, (person, frames, motion) = weights(seed, size), inputs(size, seed, 1 if seed else 2)
    with torch.no_grad():
        s64, ours = {k: v.double() for k, v in heard(s).items()}, double(s, size)
        found, want = ours.encode(frames.double()), plain.encode(s64, frames.double())
        assert max(gap(a, b) for a, b in zip(found, want)) < 1e-9 and all(b.std() > .05 for b in want)
        picture = plain.decode(s64, person.double(), *(x.double() for x in motion))
        worst = gap(ours.decode(person.double(), *(x.double() for x in motion)), picture)
        single = EDTalk.load_official(s)
        soft = max(gap(a, b) for a, b in zip(single.encode(frames), plain.encode(s, frames)))
    print(f"seed {seed}, {size}²: picture in double {worst:.1e} (spread {picture.std():.2f}), coefficients in single {soft:.1e}")
    assert worst < 1e-6 and soft < 1e-4 and picture.std() > .1


def test_whole_pictures_in_single_precision_where_flows_are_calm():
    s, (person, _, motion) = weights(2), inputs(256, 2, 1)
    for k in s:
        if "to_flows" in k and k.endswith("conv.weight"): s[k] *= .02  # features are fetched from nearby: no chaos
    with torch.no_grad(): want = plain.decode(heard(s), person, *motion)
    ours = EDTalk.load_official(s)
    worst = gap(ours.decode(person, *motion), want)
    last = gap(ours.to(memory_format=torch.channels_last).decode(person, *motion), want)
    print(f"calm flows, 256²: {worst:.1e}, channels last {last:.1e} (spread {want.std():.2f})")
    assert max(worst, last) < 1e-3 and want.std() > .1


@pytest.mark.parametrize("seed", [0, 3])
def test_each_size_in_single_precision(seed):
    s, (person, _, motion) = weights(seed, 128), inputs(128, seed)
    ours, steps, worst = EDTalk.load_official(s), [], []
    with torch.no_grad():
        w, features = plain.encoder(s, person)
        step, felt = plain.motion(s, *motion)
        assert max(gap(a, b) for a, b in zip((step, felt), ours.bases(*motion))) < 1e-4
        plain.decoder(heard(s), w + step, features, felt, steps)
        identity, flow = ours.decoder.prepare(features), torch.zeros(2, 3, 4, 4)
        before = plain.styled(s, "dec.conv1", s["dec.input.input"].repeat(2, 1, 1, 1), w + step), flow, flow
        for level, part, after in zip(ours.decoder.levels, identity, steps):
            found = level(before[0], w + step, felt, part, *before[1:])
            worst.append([gap(a, b) for a, b in zip(found, after)])
            before = after
    print(f"seed {seed}: features, flow, picture at each size:", [[f"{x:.0e}" for x in row] for row in worst])
    assert np.max(worst) < 1e-3 and np.max(np.array(worst)[:, 1]) < 1e-4


def test_golden_coefficients(model):
    z = need("edtalk")
    worst = {k: gap(a, z[f"alpha_{k}"]) for k, a in zip(("exp", "pose", "lip"), model.encode(z["pose"].float()))}
    print("edtalk.npz, coefficients:", {k: f"{v:.1e}" for k, v in worst.items()})
    assert max(worst.values()) < 1e-4


def test_golden_picture(model):
    z = need("edtalk")
    pose = model.encode(z["pose"].float())[1]
    found = model.decode(z["source"].float(), z["lip"], pose, z["exp"])
    off = (found - z["image"]).abs()
    coarse = [torch.nn.functional.avg_pool2d(x, 32) for x in (found, z["image"])]
    share = [float((off < 1e-3).float()[k].mean()) for k in (0, 1)]
    print(f"edtalk.npz, image: mean {off.mean():.1e}, median {off.median():.1e}, largest {off.max():.2f}, within 1e-3: "
          f"{share[0]:.0%} and {share[1]:.0%}, means of 32² pixels {gap(*coarse):.1e}")
    assert off.median() < 1e-3 and off.mean() < .05 and share[0] > .6 and gap(*coarse) < .1
    likeness = np.corrcoef(found.flatten(), z["image"].flatten())[0, 1]
    assert likeness > .98  # a wrong sign, slope or order anywhere leaves less than .2


def test_golden_picture_is_as_far_from_exact_arithmetic(state):
    z = need("edtalk")
    with torch.no_grad():
        exact = double(state, 256)
        pose = exact.encode(z["pose"].double())[1]
        found = exact.decode(z["source"].double(), z["lip"].double(), pose, z["exp"].double())
    off = (found - z["image"]).abs()
    print(f"golden picture and double precision: mean {off.mean():.1e}, largest {off.max():.2f}")
    assert .1 < off.max() < 3 and off.mean() < .02 and off[0].median() < 1e-4


def test_every_weight_matters(small):
    "A tensor that is loaded but never read would go unnoticed by comparison alone: no gradient reaches it."
    model = EDTalk.load_official(small).requires_grad_()
    person, frames, motion = inputs(64, 0, 1)
    model.bases.straighten.__wrapped__(model.bases)  # these three are meant for use and keep no gradients
    model.identify = EDTalk.identify.__wrapped__.__get__(model)
    outputs = (*EDTalk.encode.__wrapped__(model, frames), EDTalk.decode.__wrapped__(model, person, *motion))
    sum((x*torch.randn_like(x)).sum() for x in outputs).backward()
    moved, read = dict(model.named_parameters()), [ours for ours, _, _ in published(model).values() if ours]
    assert set(read) == set(moved) and not [k for k in read if moved[k].grad is None or not moved[k].grad.any()]


def test_64_pixels_round_trip(small):
    s = stand_in(64, seed=3)
    one, two = EDTalk.load_official(s), EDTalk.load_official({"gen": s})
    person, frames, motion = inputs(64, 5, 1)
    assert one.size == 64 and torch.equal(one.decode(person, *motion), two.decode(person, *motion))
    expression, pose, lip = one.encode(frames)
    assert one.decode(frames[:1], lip, pose, expression).shape == (1, 3, 64, 64)
    assert stand_in(64, seed=3)["fc.0.weight"].equal(s["fc.0.weight"]) and not small["fc.0.weight"].equal(s["fc.0.weight"])


# Sound

def test_golden_mel():
    z = need("mel")
    worst = gap(lip_mel(z["wav"]), z["mel"])
    print(f"mel.npz: {worst:.1e}")
    assert worst < 1e-4


def test_golden_audio2lip():
    z = need("audio2lip")
    s = fill(empty(lip_table(Audio2Lip())), 0)
    with torch.no_grad(): found = Audio2Lip.load_official({"audio2lip": s})(z["mel"])
    worst = gap(found, z["lip"].reshape(6, 20))
    print(f"audio2lip.npz: {worst:.1e}")
    assert worst < 1e-4


@pytest.mark.parametrize("seed", [1, 7])
def test_audio2lip_with_any_weights(seed):
    s = fill(empty(lip_table(Audio2Lip())), seed)
    mel = torch.randn(4, 1, 80, 16, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(): found, want = Audio2Lip.load_official(s)(mel), plain.audio2lip(s, mel)
    assert gap(found, want) < 1e-4 and want.std() > .05


# Files

class Trap:
    "Makes a folder when a pickle of it is opened."
    def __init__(self, path): self.path = str(path)
    def __reduce__(self): return os.mkdir, (self.path,)


def bomb(path):
    "A file of 100 kB that unfolds to 100 MB."
    torch.save({"gen": {"x": torch.zeros(1)}}, path)
    with zipfile.ZipFile(path) as z: members = {n: z.read(n) for n in z.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in members.items(): z.writestr(name, bytes(10**8) if "/data/" in name else content)


LEGACY = dict(_use_new_zipfile_serialization=False)  # a bare pickle, as before torch 1.6


@pytest.fixture(scope="module")
def small(): return stand_in(64)


@pytest.fixture(scope="module")
def husk(small):
    "As `small` by names, shapes and kinds; each tensor repeats one number, so that a file of them is a small one."
    return {k: v.flatten()[:1].clone().expand(v.shape) for k, v in small.items()}


@pytest.mark.parametrize("make, words", [
    (lambda s, p: torch.save({"gen": s, "more": Trap(p.parent/"sprung")}, p), "run '(posix|nt).mkdir'"),
    (lambda s, p: torch.save([s, Trap(p.parent/"sprung")], p, **LEGACY), "run '(posix|nt).mkdir'"),
    (lambda s, p: bomb(p), "unpack"),
    (lambda s, p: p.write_bytes(b"PK\3\4" + bytes(1000)), "plain weights"),
    (lambda s, p: p.write_text("<html>not found</html>"), "plain weights"),
    (lambda s, p: p.write_bytes(b""), "empty"),
    (lambda s, p: torch.save({"state_dict": torch.nn.Linear(3, 3).state_dict()}, p), "no 'enc.net_app.convs.0.0.weight'"),
    (lambda s, p: torch.save({"gen": {k: v for k, v in s.items() if k != "fc.0.bias"}}, p), "no 'fc.0.bias'"),
    (lambda s, p: torch.save({"gen": s | {"surplus": torch.zeros(1)}}, p), "unknown 'surplus'"),
    (lambda s, p: torch.save({"gen": s | {"fc.0.bias": torch.zeros(513)}}, p), r"'fc.0.bias' is \[513\], not \[512\]"),
    (lambda s, p: torch.save({"gen": s | {"fc.0.bias": torch.zeros(1).expand(10**12)}}, p), "'fc.0.bias' is"),
    (lambda s, p: torch.save({"gen": s | {"fc.0.bias": torch.full((512,), torch.nan)}}, p), "'fc.0.bias' is not finite"),
    (lambda s, p: torch.save({"gen": s | {"fc.0.bias": torch.full((512,), torch.nan).to(torch.float8_e5m2)}}, p), "'fc.0.bias' is not finite"),
    (lambda s, p: torch.save({"gen": s | {"fc.0.bias": torch.zeros(512).to_sparse()}}, p), "no state dict"),
    (lambda s, p: torch.save([1, 2, 3], p), "no state dict"),
])
def test_hostile_and_foreign_files_are_refused(make, words, husk, tmp_path):
    path = tmp_path/"EDTalk.pt"
    make(husk, path)
    with pytest.raises(CmetError, match=words): open_edtalk(path)
    assert not (tmp_path/"sprung").exists(), "something was executed"


def test_cut_short(small, tmp_path):
    path = tmp_path/"EDTalk.pt"
    torch.save({"gen": small}, path)
    whole = path.stat().st_size
    for part in (.999, .5, .01):
        os.truncate(path, int(part*whole))
        with pytest.raises(CmetError, match="EDTalk.pt"): open_edtalk(path)


def test_the_trap_is_real(tmp_path):
    torch.save(Trap(tmp_path/"sprung"), tmp_path/"x.pt")
    torch.load(tmp_path/"x.pt", weights_only=False)
    assert (tmp_path/"sprung").exists()


def test_a_parcel_that_holds_itself():
    state = {}
    state["gen"] = state
    with pytest.raises(CmetError): EDTalk.load_official(state)


def test_good_files_in_every_dress(small, tmp_path):
    from safetensors.torch import save_file
    person, _, motion = inputs(64, 0, 1)
    want = EDTalk.load_official(small).decode(person, *motion)
    torch.save({"gen": small, "dis": {}, "args": Namespace(size=64, lr=1e-4)}, tmp_path/"a.pt")
    torch.save({"gen": small}, tmp_path/"b.pt", **LEGACY)
    save_file({k: v.contiguous() for k, v in small.items()}, tmp_path/"c.safetensors")
    for name in ("a.pt", "b.pt", "c.safetensors"): assert torch.equal(open_edtalk(tmp_path/name).decode(person, *motion), want)


def test_light_imports():
    "The networks run where there is nothing but torch and numpy."
    code = """import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('scipy', 'pandas', 'cv2', 'av', 'PIL', 'mediapipe', 'safetensors', 'matplotlib', 'tqdm'):
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
import numpy as np, cmet.edtalk.network, cmet.edtalk.audio2lip
from cmet.edtalk.codec import EDTalkCodec
from cmet.edtalk.model import Audio2Lip, EDTalk, lip_mel, stand_in
codec = EDTalkCodec(EDTalk.load_official(stand_in(64)), device='cpu', crop=False)
print(codec.edit(np.zeros((2, 64, 64, 3), np.uint8), np.zeros((2, 10))).shape)"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout.split() == ["(2,", "64,", "64,", "3)"], run.stderr


# The codec

@pytest.fixture(scope="module")
def tiny(small): return EDTalk.load_official(small)


def clip(n=9, size=64, seed=0): return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_edit_is_encode_add_decode(tiny):
    frames, delta = clip(4), np.random.default_rng(1).normal(size=(4, 10)).astype(np.float32)
    codec = EDTalkCodec(tiny, device="cpu", crop=False, identity=3, batch=3)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float()/127.5 - 1
    expression, pose, lip = tiny.encode(x)
    want = ((tiny.decode(x[3:], lip, pose, expression + torch.from_numpy(delta)) + 1)*127.5).round().clamp(0, 255)
    found = torch.from_numpy(codec.edit(frames, delta)).permute(0, 3, 1, 2)
    assert float(((found - want).abs() > 1).float().mean()) < .01
    assert np.allclose(codec.encode(frames), expression, atol=1e-4)


def test_batches_change_nothing(tiny):
    frames, delta = clip(3), np.random.default_rng(1).normal(size=(3, 10)).astype(np.float32)
    codec, results = EDTalkCodec(tiny, device="cpu", crop=False), []
    for codec.batch in (1, 2, 3, 64): results.append(codec.edit(frames, delta).astype(int))
    for other in results[1:]: assert np.mean(abs(other - results[0]) > 1) < .01


@pytest.fixture(scope="module")
def coefficients(small):
    "What the plain network reads from five frames."
    with torch.no_grad(): return plain.encode(small, torch.from_numpy(clip(5)).permute(0, 3, 1, 2).float()/127.5 - 1)[0]


@pytest.mark.parametrize("bf16, tiles, near", [(False, False, 1e-4), (False, True, 1e-4), (True, False, .05), (True, True, .05)])
def test_the_codecs_fast_convolutions_read_what_the_plain_network_reads(small, coefficients, bf16, tiles, near, monkeypatch):
    "And they are in use, but where a processor multiplies tiles of bfloat16: the codec's network has them, another from the same weights has none."
    monkeypatch.setattr("cmet.edtalk.codec.tiled_bf16", lambda: tiles)
    frames, want, fresh = clip(5), coefficients, EDTalk.load_official(small)
    codec = EDTalkCodec(EDTalk.load_official(small), device="cpu", crop=False, bf16=bf16, batch=4)
    quick = lambda m: sum(type(part).__name__ == "Winograd" for part in m.modules())
    assert quick(codec.model) == (0 if bf16 and tiles else 6) and not quick(fresh) and float(want.std()) > .05
    off = lambda: float((torch.from_numpy(codec.encode(frames)) - want).abs().max())
    fast = off()
    quicken(codec.model, False)
    assert not quick(codec.model) and 0 < fast < near and (not bf16 or fast < 3*off()), "no worse than bfloat16 itself"


def test_bf16_is_near(tiny):
    import copy
    frames = clip(4)
    exact, rough = (EDTalkCodec(copy.deepcopy(tiny), device="cpu", crop=False, bf16=b).encode(frames) for b in (False, True))
    assert 0 < np.abs(exact - rough).max() < .05 and rough.dtype == np.float32


@pytest.fixture(scope="module")
def parcel(small, tmp_path_factory):
    "A file of weights."
    path = tmp_path_factory.mktemp("weights")/"EDTalk.pt"
    torch.save({"gen": small}, path)
    return path


@pytest.mark.parametrize("fast", [False, True])
def test_weights_from_a_file_run_in_bfloat16_where_the_machine_is_made_for_it(tiny, parcel, monkeypatch, fast):
    from cmet.edtalk import codec
    monkeypatch.setattr(codec, "fast_bf16", lambda device: fast)
    kind = lambda c: c.model.decoder.start.dtype
    assert kind(EDTalkCodec(parcel, device="cpu")) == (torch.bfloat16 if fast else torch.float32)
    assert kind(EDTalkCodec(parcel, device="cpu", bf16=not fast)) == (torch.float32 if fast else torch.bfloat16)
    assert kind(EDTalkCodec(tiny, device="cpu")) == torch.float32  # it belongs to somebody else


def test_any_size_goes_in_and_comes_out(tiny):
    codec = EDTalkCodec(tiny, device="cpu", crop=False)
    frames = clip(3, 100)
    assert codec.edit(frames, np.zeros((3, 10))).shape == frames.shape
    with pytest.raises(CmetError, match="not square"): codec.track(frames[:, :50])


def test_two_faces_need_a_choice(tiny):
    from skimage.data import astronaut
    half = astronaut()[:256, 96:352]
    pair = np.concatenate([half, half[:, ::-1]], 1)[None].repeat(2, 0)
    with pytest.raises(CmetError, match="2 faces: say which"): EDTalkCodec(tiny, device="cpu").track(pair)
    left, right = (EDTalkCodec(tiny, device="cpu", which=side) for side in ("left", "right"))
    assert left.track(pair).window.x < 128 < right.track(pair).window.x
    out = left.edit(pair, np.ones((2, 10)))
    assert (out[:, :, 256:] == pair[:, :, 256:]).all() and (out != pair).any()
    with pytest.raises(CmetError, match="no face"): left.track(np.zeros((3, 64, 64, 3), np.uint8))


def test_a_still_image_is_read_once(tiny):
    codec, frame = EDTalkCodec(tiny, device="cpu", crop=False), clip(1)
    track = codec.track(frame).repeat(5)
    out = np.stack(list(codec.edit_stream(frame.repeat(5, 0), track, np.zeros((5, 10)))))
    assert len(track) == 5 and isinstance(track, Performance) and (out == out[0]).all()


MEMORY = """import resource, numpy as np, torch
torch.set_num_threads(1)
from cmet.edtalk.codec import EDTalkCodec
from cmet.edtalk.model import EDTalk, stand_in
codec, seen = EDTalkCodec(EDTalk.load_official(stand_in(64)), device='cpu', crop=False, batch=2), []
def look(x):
    seen.append(int(open('/proc/self/statm').read().split()[1])*resource.getpagesize()/2**20)
    return x
for n in (2, 6):
    film = lambda: (look(np.full((64, 64, 3), i, np.uint8)) for i in range(n))
    track, count = codec.track(film()), 0
    for frame in codec.edit_stream(film(), track, np.zeros((n, 10))): look(count := count + 1)
    print(count, max(seen))
    seen.clear()"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_length():
    "While each frame is read and drawn; the process's peak would not do, which opening the weights makes."
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back, and hides no growth
    run = subprocess.run([sys.executable, "-c", MEMORY], env=env, capture_output=True, text=True, cwd=ROOT, check=True)
    few, short, many, long = map(float, run.stdout.split())
    print(f"memory: up to {short:.0f} MB for 2 frames, {long:.0f} MB for 6")  # 1000 frames: benchmarks/edit_speed.md
    assert (few, many) == (2, 6) and long < short + 15  # one frame's features take more than 10 MB


class Still:
    "A mapper that asks for one fixed change."
    kind, config, neutral, encoder = "fixed", {}, None, None
    def predict(self, vector, face): return np.full_like(face, .5)


def test_one_pipeline_for_both_codecs(tiny, tmp_path):
    from cmet.edit.pipeline import edit_video
    from cmet.io.media import open_video, read_video, write_video
    frames, fps = read_video(builtin("portrait.mp4"))
    video = write_video(tmp_path/"in.mp4", frames[:6], fps)
    out = edit_video(video, tmp_path/"out.mp4", vector="happy - neutral", mapper=Still(), codec=EDTalkCodec(tiny, device="cpu"))
    story = json.loads(out.with_suffix(".json").read_text())
    assert open_video(out).n_frames == 6 and story["codec"]["name"] == "edtalk" and story["codec"]["dim"] == 10
    assert open_video(out).size == open_video(video).size


def test_the_same_names_everywhere(model):
    assert kit.Audio2Lip is Audio2Lip and kit.lip_mel is lip_mel
    assert not model.training
