"""Everything that wants a GPU, in one run and one table: `python benchmarks/gpu.py`

(1) Do the networks give on the GPU what they give on the CPU? Largest difference of each, beside what is allowed.
(2) Steps a second in training: eager, compiled, as a CUDA graph; the time the paper's 200,000 steps would take (`train_step.py`).
(3) EDTalk: frames a second, eager, batched, in bfloat16, compiled, and how far that is from the arithmetic limit (`edit_speed.py`).
(4) The warp of the mesh as `grid_sample` on the device, against the same on the CPU.

Needs only torch and numpy. Weights and data are random, as neither speed nor agreement depends on them. The table is kept beside this
file, as JSON and Markdown, one entry a machine kind. `--quick` rehearses it in small, also without a GPU, and stores nothing.
"""
import argparse
import statistics
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent/"tests"), str(HERE)]  # the benchmark also runs where cmet is not installed

import edit_speed  # noqa: E402
import train_step  # noqa: E402
from train_step import clock, machine, store  # noqa: E402

from cmet.edtalk import EDTalk, stand_in  # noqa: E402
from cmet.train import Deck, Sampler, Stepper, TrainConfig  # noqa: E402
from cmet.transformer import Config, CrossModalTransformer, rollout  # noqa: E402

ALLOWED = {"transformer": 1e-4, "rollout": 1e-4, "training": 1e-3, "EDTalk, reading": 1e-3, "EDTalk, drawing": 2e-2, "warp": 1e-4}


def exact(device):
    "Float32 products in float32: TF32 keeps ten bits of them."
    if device == "cuda": torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def results(device, small):
    "Name -> arrays that every device must give alike, from the same weights, data and dice."
    torch.manual_seed(0)
    size = dict(speech=64, width=64, layers=1, feedforward=64) if small else {}
    model = CrossModalTransformer(Config(**size)).eval()
    c, g = model.config, torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=g)
    reference, speech, face = draw(4, 5, c.face), draw(4, 1, c.speech), draw(4, 5, c.face)
    model, here = model.to(device), lambda *xs: [x.to(device) for x in xs]
    with torch.no_grad():
        out = {"transformer": model(*here(reference, speech, face))[0],
               "rollout": rollout(model, *here(draw(1, c.speech)[0], draw(23, c.face)))}
    out["training"] = trained(device, size)
    edtalk = EDTalk.load_official(soft(stand_in(64 if small else 256))).to(device)
    picture = torch.from_numpy(edit_speed.video(2, edtalk.size)).permute(0, 3, 1, 2)/127.5 - 1
    with torch.no_grad():
        read = edtalk.encode(picture.to(device))
        out["EDTalk, reading"] = torch.cat(read, 1)
        expression, pose, lip = read
        out["EDTalk, drawing"] = edtalk.decode(picture[:1].to(device), lip, pose, expression)
    out["warp"] = moved(*(x.to(device) for x in film(2, 64)))
    return {k: v.detach().float().cpu().numpy() for k, v in out.items()}


def soft(state):
    "Weights whose flow is small, so that rounding is not blown up and pictures can be compared."
    return {k: v*.02 if "to_flows" in k and k.endswith("conv.weight") else v for k, v in state.items()}


def trained(device, size, steps=8):
    "A network's answer after a few steps without dropout."
    torch.manual_seed(2)
    model = CrossModalTransformer(Config(**size, dropout=0.))
    deck = Deck(train_step.corpus(S=model.config.speech, D=model.config.face, speakers=4, clips=3, frames=20))
    stepper = Stepper(model, TrainConfig(device=device, batch=16, reference="self", shots=3), device)
    deal = Sampler(deck, 16, 0, 3, before=1)
    model.train()
    for k in range(steps): stepper(type(b := deal())(*(x.to(device) for x in b)), k)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def film(n, size):
    "(frames [n, 3, H, W], where each pixel comes from [n, H, W, 2]): a smooth field as the mesh makes it."
    g = np.random.default_rng(3)
    frames = torch.from_numpy(edit_speed.video(n, size)).permute(0, 3, 1, 2).float()/255
    x = np.linspace(-1, 1, size, dtype=np.float32)
    field = np.stack(np.broadcast_arrays(x[None], x[:, None]), -1)[None].repeat(n, 0)
    for _ in range(6):
        at, by, wide = g.uniform(-.6, .6, 2), g.normal(0, .05, 2), g.uniform(.1, .3)
        bump = np.exp(-((x[None] - at[0])**2 + (x[:, None] - at[1])**2)/wide**2)
        field = field + (bump[..., None]*by)[None].astype(np.float32)
    return frames, torch.from_numpy(np.ascontiguousarray(field, np.float32))


def moved(frames, field):
    "Every pixel fetched from its place in the source, by cubic interpolation."
    return torch.nn.functional.grid_sample(frames, field, "bicubic", "border", align_corners=True)


def warping(device, size, rounds):
    "Seconds a frame [rounds] by device, taking turns, on batches of eight; frames come from and go back to the CPU's memory."
    frames, field = film(8, size)
    each = {"cpu": [], device: []}
    for _ in range(rounds):
        for d in each: each[d].append(clock(lambda: moved(frames.to(d), field.to(d)).cpu(), device)/len(frames))  # noqa: B023
    return each


def measure(device, quick):
    "Everything, as a dictionary."
    exact(device)
    there, here = results("cpu", quick), results(device, quick)
    apart = {k: float(np.abs(there[k] - here[k]).max()) for k in there}
    sizes = {str(s): warping(device, s, 3 if quick else 20) for s in ((64,) if quick else (256, 512, 1080))}
    size = dict(speech=64, width=64, layers=1, feedforward=64) if quick else {}
    train = train_step.measure(device, 2 if quick else 12, size)
    draw = edit_speed.measure(device, *((10, 64, 2) if quick else (100, 256, 5)), False, (10, 30) if quick else (100, 1000))
    return {"machine": machine(device), "device": device, "apart": apart, "warp": sizes, "train": train, "edtalk": draw}


def table(r):
    "Results as Markdown."
    lines = [f"## {r['machine']['device']}: equal to the CPU", "", "| what | largest difference | allowed | |", "|---|---|---|---|"]
    lines += [f"| {k} | {x:.1e} | {ALLOWED[k]:.0e} | {'equal' if x <= ALLOWED[k] else '**NOT EQUAL**'} |" for k, x in r["apart"].items()]
    lines += ["", "The warp, as `grid_sample`, with the way to the device and back:", "", "| size | CPU, frames/s | device, frames/s | ratio |", "|---|---|---|---|"]
    for size, t in r["warp"].items():
        cpu, gpu = (statistics.median(t[d]) for d in ("cpu", r["device"]))
        lines.append(f"| {size}² | {1/cpu:.0f} | {1/gpu:.0f} | {cpu/gpu:.1f}× |")
    inner = [train_step.table(r["train"]).replace("## ", "### Training: "), edit_speed.table(r["edtalk"]).replace("## ", "### EDTalk: ")]
    return "\n".join([*lines, "", *inner])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--quick", action="store_true", help="small networks and few rounds, to see that it runs; stores nothing")
    p.add_argument("--out", type=Path, default=HERE, help="folder of gpu.json and gpu.md")
    a = p.parse_args()
    if a.device == "cpu" and not a.quick: sys.exit("no GPU here; --quick rehearses on the CPU")
    result = measure(a.device, a.quick)
    print(table(result))
    if not a.quick: store(a.out, "gpu", "On a GPU", a.device, result, table)
    if any(x > ALLOWED[k] for k, x in result["apart"].items()): sys.exit("the GPU does not give what the CPU gives: see NOT EQUAL")


if __name__ == "__main__": main()
