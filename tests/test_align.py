"Alignment: both losses against the textbook sums, tokenizers of any size, and a planted correspondence that must be found."
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cmet.align import AudioTokenizer, VisualTokenizer, conv_stack, info_nce, supcon
from cmet.core import CmetError


def cos(a, b): return float(a @ b/a.norm()/b.norm())


@pytest.mark.parametrize("seed,tau", [(0, .1), (1, .07), (2, 1.)])
def test_losses_are_their_textbook_sums(seed, tau):
    g = torch.Generator().manual_seed(seed)
    v, a = torch.randn(2, 7, 12, generator=g, dtype=torch.float64)
    label = torch.randint(0, 3, (7,), generator=g)
    one_way = lambda x, y: np.mean([-math.log(math.exp(cos(x[i], y[i])/tau)/sum(math.exp(cos(x[i], y[j])/tau)
                                    for j in range(7))) for i in range(7)])
    assert abs(float(info_nce(v, a, tau)) - (one_way(v, a) + one_way(a, v))/2) < 1e-9
    z, lab, total = torch.cat([v, a]), [*label.tolist()]*2, 0.
    for p in range(14):
        rest = [r for r in range(14) if r != p]
        below = sum(math.exp(cos(z[p], z[r])/tau) for r in rest)
        good = [q for q in rest if lab[q] == lab[p]]
        total += sum(-math.log(math.exp(cos(z[p], z[q])/tau)/below) for q in good)/len(good)
    assert abs(float(supcon(v, a, label, tau)) - total/14) < 1e-9


def test_losses_have_finite_slopes_and_know_order():
    g = torch.Generator().manual_seed(0)
    v, a = torch.randn(2, 9, 6, generator=g, requires_grad=True).unbind(0)
    order = torch.randperm(9, generator=g)
    label = torch.arange(9) % 4
    for loss in (info_nce(v, a), supcon(v, a, label)):
        slope, = torch.autograd.grad(loss, v, retain_graph=True)
        assert torch.isfinite(slope).all() and slope.abs().sum() > 0
    assert torch.isclose(info_nce(v, a), info_nce(v[order], a[order]))
    assert torch.isclose(supcon(v, a, label), supcon(v[order], a[order], label[order]))
    assert info_nce(v, v) < info_nce(v, v[order])
    assert info_nce(v[:1], a[:1]) == 0 and supcon(v[:1], a[:1], label[:1]) == 0  # one pair leaves no choice


@pytest.mark.parametrize("loss", [info_nce, lambda v, a: supcon(v, a, torch.arange(len(v)))])
def test_wrong_shapes_are_refused(loss):
    z = torch.randn(4, 8)
    for v, a in ((z, z[:3]), (z, z[:, :5]), (z[None], z[None]), (z[0], z[0])):
        with pytest.raises(CmetError, match="one row a pair"): loss(v, a)


@pytest.mark.parametrize("face", [1, 2, 3, 5, 9, 10, 11, 17, 30, 64])
@pytest.mark.parametrize("width", [8, 32, 33, 128, 200])
def test_convolutions_take_any_face_and_read_all_of_it(face, width):
    torch.manual_seed(0)
    stack = conv_stack(face, width).double().eval()
    x = torch.randn(3, 1, face, dtype=torch.float64, requires_grad=True)
    z = stack(x)
    assert z.shape == (3, width)
    # A ReLU may hide a number from one layer's draw, not from all of three frames.
    assert (torch.autograd.grad(z.square().sum(), x)[0].abs().amax((0, 1)) > 0).all()


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_tokens_belong_to_their_frame_alone(kind):
    torch.manual_seed(0)
    tok, x = VisualTokenizer(17, 48, kind).eval(), torch.randn(2, 6, 17)
    with torch.no_grad():
        assert torch.allclose(tok(x)[:, ::2], tok(x[:, ::2]), atol=1e-5)
        assert torch.allclose(tok(x)[0, 0], tok(x[0, :1])[0], atol=1e-5)
        assert (tok(x) - tok(x, reference=True)).abs().max() > .1
    assert AudioTokenizer(6373, 48)(torch.randn(2, 1, 6373)).shape == (2, 1, 48)


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_planted_correspondence_is_found(kind):
    g = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    hidden = torch.randn(300, 4, generator=g)
    faces, voices = hidden @ torch.randn(4, 10, generator=g), hidden @ torch.randn(4, 40, generator=g)
    tok, ear = VisualTokenizer(10, 32, kind), AudioTokenizer(40, 32)
    opt = torch.optim.Adam([*tok.parameters(), *ear.parameters()], lr=3e-3)

    def found():
        tok.eval(), ear.eval()
        with torch.no_grad(): v, a = F.normalize(tok(faces[200:]), dim=-1), F.normalize(ear(voices[200:]), dim=-1)
        tok.train(), ear.train()
        return float(((a @ v.T).argmax(1) == torch.arange(100)).float().mean())

    assert found() < .08
    for _ in range(150):
        rows = torch.randint(0, 200, (64,), generator=g).unique()
        loss = info_nce(tok(faces[rows]), ear(voices[rows]))
        opt.zero_grad(); loss.backward(); opt.step()
    assert found() > .3
