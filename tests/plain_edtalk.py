"""EDTalk and Audio2Lip written straight from their published keys, with torch's functions and nothing of the
kit.

Everything is done as the papers and the released scripts describe it: weights scaled at every call and
modulated for every frame, filters run channel by channel over pictures blown up with zeros, noise left out.
It is the judge of the kit's networks for any weights, and the yardstick of `benchmarks/edit_speed.py`.
"""
import torch
import torch.nn.functional as F

ROOT2 = 2**.5


def fir(gain=1.):
    k = torch.tensor([1., 3., 3., 1.])
    k = k[None]*k[:, None]
    return k/k.sum()*gain


def upfirdn(x, kernel, up=1, pad=(0, 0)):
    "Zeros between the points, zeros around, then the filter, each channel a picture of its own."
    n, c, h, w = x.shape
    wide = x.new_zeros(n, c, h, up, w, up)
    wide[:, :, :, 0, :, 0] = x
    wide = F.pad(wide.reshape(n, c, h*up, w*up), (pad[0], pad[1])*2).flatten(0, 1)[:, None]
    out = F.conv2d(wide, kernel.to(x).flip(0, 1)[None, None])
    return out.reshape(n, c, *out.shape[-2:])


def scaled(w): return w/(w[0].numel())**.5


def linear(s, key, x): return F.linear(x, scaled(s[key + ".weight"]), s[key + ".bias"])


def layer(s, key, x, down=False, active=True):
    n, k = int(down), s[f"{key}.{int(down)}.weight"].shape[-1]
    if down: x = upfirdn(x, s[f"{key}.0.kernel"], pad=((k + 2)//2, (k + 1)//2))
    x = F.conv2d(x, scaled(s[f"{key}.{n}.weight"]), stride=1 + n, padding=0 if down else k//2)
    return F.leaky_relu(x + s[f"{key}.{n + 1}.bias"], .2)*ROOT2 if active else x


def encoder(s, x):
    top, out = "enc.net_app.convs", []
    n = sum(k.startswith(top) and k.endswith("skip.1.weight") for k in s)
    h = layer(s, f"{top}.0", x)
    out.append(h)
    for k in range(1, n + 1):
        main = layer(s, f"{top}.{k}.conv2", layer(s, f"{top}.{k}.conv1", h), down=True)
        h = (main + layer(s, f"{top}.{k}.skip", h, down=True, active=False))/ROOT2
        out.append(h)
    return F.conv2d(h, scaled(s[f"{top}.{n + 1}.weight"]))[..., 0, 0], out[:-1][::-1]


def stack(s, key, x, n):
    for k in range(n): x = linear(s, f"{key}.{k}", x)
    return x


def coefficients(s, w):
    h = stack(s, "fc", w, 4)
    return {name: stack(s, f"{name}_fc", h, 3) for name in ("exp", "pose", "lip")}


def bases(s):
    return torch.linalg.qr(torch.cat([s["direction_lipnonlip.weight"], s["direction_exp.weight"]], 1) + 1e-8)[0]


def modulated(s, key, x, w, demodulate=True):
    weight, n = s[f"{key}.weight"], len(x)
    _, o, i, k, _ = weight.shape
    weight = weight*(i*k*k)**-.5*linear(s, f"{key}.modulation", w)[:, None, :, None, None]
    if demodulate: weight = weight*torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    if f"{key}.blur.kernel" not in s:
        return F.conv2d(x.reshape(1, n*i, *x.shape[2:]), weight.flatten(0, 1), padding=k//2, groups=n).reshape(n, o, *x.shape[2:])
    out = F.conv_transpose2d(x.reshape(1, n*i, *x.shape[2:]), weight.transpose(1, 2).flatten(0, 1), stride=2, groups=n)
    return upfirdn(out.reshape(n, o, *out.shape[2:]), s[f"{key}.blur.kernel"], pad=(1, 1))


def styled(s, key, x, w):
    return F.leaky_relu(modulated(s, f"{key}.conv", x, w) + s[f"{key}.activate.bias"], .2)*ROOT2


def adain(s, key, x, e):
    x = F.instance_norm(x)
    lin = lambda name, v: F.linear(v, s[f"{key}.{name}.weight"], s[f"{key}.{name}.bias"])
    h = lin("mlp_shared.0", e).relu()
    return x*(1 + lin("mlp_gamma", h)[..., None, None]) + lin("mlp_beta", h)[..., None, None]


def emotion(s, key, x, e):
    """As released: what the first half makes is thrown away, since the second convolution reads the module's input.
    Where its weights are not given it is left out."""
    conv = lambda n, v: F.conv2d(v, s[f"{key}.conv{n}.weight"], s[f"{key}.conv{n}.bias"], padding=1)
    if f"{key}.conv1.weight" in s: F.leaky_relu(adain(s, f"{key}.norm1", conv(1, x), e), .01)
    return x + adain(s, f"{key}.norm2", conv(2, x), e)


def grown(s, key, x): return upfirdn(x, s[f"{key}.upsample.kernel"], up=2, pad=(2, 1))


def decoder(s, w, features, e, steps=None):
    "`steps`: a list that receives features, flow and image after each size."
    x = styled(s, "dec.conv1", s["dec.input.input"].repeat(len(w), 1, 1, 1), w)
    flow = image = None
    for k, feature in enumerate(features):
        x = styled(s, f"dec.convs.{2*k + 1}", styled(s, f"dec.convs.{2*k}", x, w), w)
        feature = emotion(s, f"dec.fineadainresblock.{k}", feature, e)
        out = modulated(s, f"dec.to_flows.{k}.conv", x, w, demodulate=False) + s[f"dec.to_flows.{k}.bias"]
        flow = out if flow is None else out + grown(s, f"dec.to_flows.{k}", flow)
        at = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype, device=x.device)
        grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1) + flow[:, :2].tanh().permute(0, 2, 3, 1)
        mask = flow[:, 2:].sigmoid()
        warped = F.grid_sample(feature, grid, align_corners=False)*mask
        rgb = layer(s, f"dec.to_rgbs.{k}.conv", warped) + s[f"dec.to_rgbs.{k}.bias"]
        image = rgb if image is None else rgb + grown(s, f"dec.to_rgbs.{k}", image)
        x = warped + x*(1 - mask)
        if steps is not None: steps.append((x, flow, image))
    return image


def encode(s, frames): return tuple(coefficients(s, encoder(s, frames)[0]).values())


def motion(s, lip, pose, expression):
    "Where the motion moves the latent, and the expression's share."
    Q = bases(s)
    felt = expression @ Q[:, 26:].T
    return torch.cat([lip, pose], 1) @ Q[:, :26].T + felt, felt


def decode(s, identity, lip, pose, expression):
    "The picture of the identity is encoded, and the bases are taken, at every call."
    w, features = encoder(s, identity)
    step, felt = motion(s, lip, pose, expression)
    return decoder(s, w + step, features, felt)


def audio2lip(s, x):
    "[n, 1, 80, 16] -> [n, 20]; sizes and steps as in Wav2Lip."
    steps, plain = {3: (3, 1), 6: 3, 9: (3, 2)}, (0, 3, 6, 9, 11, 12)
    for k in range(13):
        at = f"audio_encoder.{k}.conv_block."
        y = F.conv2d(x, s[at + "0.weight"], s[at + "0.bias"], stride=steps.get(k, 1), padding=int(k < 11))
        y = F.batch_norm(y, *(s[f"{at}1.{n}"] for n in ("running_mean", "running_var", "weight", "bias")))
        x = (y if k in plain else y + x).relu()
    return F.linear(x.flatten(1), s["mapping.weight"], s["mapping.bias"])
