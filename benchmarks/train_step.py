"""How long does a training step of the paper's configuration take, and why? `python benchmarks/train_step.py`

(a) The kit's step (both directions in one pass of 2B, the last layer only for the tokens that are read, cheap dice for
    dropout, bfloat16, fused AdamW) against the plain loop (two forward passes of the network as published, float32,
    AdamW as it comes), on the same samples and first weights, alternating; and whether the losses agree.
(b) What drawing a batch costs, as a share of the step.
(c) On a GPU: eager, compiled, recorded as a CUDA graph; the time 200 000 steps would take; the distance to the arithmetic limit.

Needs only torch and numpy. Data are random numbers of MEAD's size: they decide nothing about speed, and the losses only
have to agree with each other. Prints a table and stores it beside this file, as JSON and Markdown, one entry a machine kind.
"""
import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import time
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the benchmark also runs where cmet is not installed

from cmet.core import EMOTIONS  # noqa: E402
from cmet.train import directional, focal_mse, info_nce  # noqa: E402
from cmet.train import Deck, Sampler  # noqa: E402
from cmet.train import Stepper, TrainConfig  # noqa: E402
from cmet.transformer import Config, CrossModalTransformer  # noqa: E402

# The released code's reference (the target) needs no pass of its own, so both ways do the same arithmetic.
PAPER = dict(reference="teacher", batch=128, shots=10)
PLAN = 200_000


def corpus(S=1024, D=10, speakers=43, clips=30, frames=75, seed=0):
    "Random features of MEAD's size, with something in them to learn."
    g = np.random.default_rng(seed)
    n = speakers*len(EMOTIONS)*clips
    felt = np.tile(np.repeat(np.arange(len(EMOTIONS)), clips), speakers)
    ear, eye = g.normal(size=(len(EMOTIONS), S)), g.normal(size=(len(EMOTIONS), D))
    speech = (ear[felt] + g.standard_normal((n, S), np.float32)).astype(np.float32)
    face = (np.repeat(eye[felt], frames, 0) + g.standard_normal((n*frames, D), np.float32)).astype(np.float32)
    clip = {"speaker": np.repeat([f"S{k:02d}" for k in range(speakers)], n//speakers), "emotion": np.array(EMOTIONS)[felt]}
    return SimpleNamespace(clips=clip, speech=speech, face=face, offsets=np.arange(n + 1)*frames, name="random")


class Published(CrossModalTransformer):
    "The network as published: every token goes through every layer, the last too."
    def forward(self, reference, speech, face):
        tokens = self.visual(reference, reference=True), self.audio(speech), self.visual(face)
        marks = self.position + self.segment[0], self.segment[1:2], self.position + self.segment[2]
        x = self.drop(torch.cat(tokens, 1) + torch.cat(marks))
        for block in self.blocks: x = block(x)
        return self.head(x[:, -self.config.window:]), tokens


class Plain:
    "The loop one would write first: two forward passes of the published network, float32, dropout and AdamW as they come."
    def __init__(self, model, config, device):
        model.__class__ = Published
        for part in model.modules():
            if isinstance(part, torch.nn.Dropout): part.__class__ = torch.nn.Dropout
        self.model, self.loss = model.to(device), 0
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)

    def __call__(self, batch, step):
        speech, target = batch.speech[:, None], batch.target[:, None].expand(-1, 5, -1)
        there, back = (torch.where((past > 0)[:, None, None], t, 0) for past, t in zip(batch.past, (target, -target)))
        self.optimizer.zero_grad()
        ahead, (_, a, here) = self.model(there, speech, batch.face[0])
        behind, (_, b, goal) = self.model(back, -speech, batch.face[1])
        visual = goal.mean(1) - here.mean(1)
        loss = (focal_mse(ahead, target) + focal_mse(behind, -target))/2 + .05*directional(ahead, behind)
        loss = loss + .1*(info_nce(visual, a[:, 0]) + info_nce(-visual, b[:, 0]))/2
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()


class Kit(Stepper):
    "The kit's step, keeping the loss of the last one."
    def __call__(self, batch, step):
        self.sums.zero_()
        super().__call__(batch, step)
        self.loss = self.sums[0].clone()


def sync(device):
    if device == "cuda": torch.cuda.synchronize()


def clock(f, device, n=1):
    "Seconds of one of n calls."
    sync(device)
    start = time.perf_counter()
    for _ in range(n): f()
    sync(device)
    return (time.perf_counter() - start)/n


def limit(device, dtype, quick):
    "FLOP/s of a plain product of large matrices: what this machine can do, measured and not read off a data sheet."
    n = 512 if quick else 8192 if device == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    for _ in range(2): a @ b
    return 2*n**3/min(clock(lambda: a @ b, device, 20 if device == "cuda" else 2) for _ in range(10))


def flops(model, config, batch, device):
    "Floating-point operations of the matrix products of a step, forward and backward."
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter: Kit(deepcopy(model), config, device)(batch, 0)
    return counter.get_total_flops()


def race(ways, deck, steps, device, warm, each=1):
    "Seconds a step [steps] and losses [steps] of several ways on the same samples, taking turns."
    seconds, losses = {k: [] for k in ways}, {k: [] for k in ways}
    deal = Sampler(deck, PAPER["batch"], 0, PAPER["shots"])
    for k in range(warm + steps):
        batches = [deal() for _ in range(each)]
        for n, (name, way) in enumerate(ways.items()):
            torch.manual_seed(1000*k + n)  # dropout
            spent = clock(lambda: [way(b, k*each + j) for j, b in enumerate(batches)], device)/each  # noqa: B023
            if k >= warm: seconds[name].append(spent)
            losses[name].append(float(way.loss))
    return seconds, losses


def machine(device):
    "What this ran on."
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if device == "cpu" and info.exists():
        text = info.read_text()
        name = next((l.split(":")[1].strip() for l in text.splitlines() if l.startswith("model name")), name)
        name += ", AVX512-BF16" if "avx512_bf16" in text else ""
        name += ", AMX" if "amx_bf16" in text else ""
    return {"device": name, "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
            "system": platform.system(), "python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def measure(device, steps, size):
    "Everything, as a dictionary."
    torch.manual_seed(0)
    model = CrossModalTransformer(Config(**size))
    deck = Deck(corpus(S=model.config.speech, D=model.config.face), device=device)
    config = lambda **o: TrainConfig(device=device, **PAPER | o)
    fresh = lambda: deepcopy(model)
    ways = {"plain, float32": Plain(fresh(), config(), device), "plain, float32, other dropout": Plain(fresh(), config(), device),
            "one pass, float32": Kit(fresh(), config(), device), "one pass, bfloat16": Kit(fresh(), config(bf16=True), device)}
    if device == "cuda" or (not size and shutil.which("g++")):
        ways["one pass, bfloat16, compiled"] = Kit(fresh(), config(bf16=True, compile=True), device)
    if device == "cuda":
        ways |= {"one pass, bfloat16, graphed": Kit(fresh(), config(bf16=True, graph=True), device),
                 "one pass, bfloat16, compiled and graphed": Kit(fresh(), config(bf16=True, compile=True, graph=True), device)}
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    peak = {k: limit(device, t, bool(size)) for k, t in kinds.items()}
    seconds, losses = race(ways, deck, steps, device, warm=2, each=20 if device == "cuda" else 1)
    work = flops(fresh(), config(), Sampler(deck, PAPER["batch"])(), device)
    deal = Sampler(deck, PAPER["batch"], shots=PAPER["shots"])
    draw = statistics.median(clock(deal, device, 80) for _ in range(5))
    peak = {k: max(peak[k], limit(device, t, bool(size))) for k, t in kinds.items()}  # before and after: others may use the machine
    return {"machine": machine(device), "parameters": sum(p.numel() for p in model.parameters()), "batch": PAPER["batch"],
            "steps": steps, "flop": work, "peak": peak, "draw": draw, "seconds": seconds, "losses": losses}


def table(r):
    "Results as Markdown."
    m, s, plain = r["machine"], r["seconds"], r["seconds"]["plain, float32"]
    lines = [f"## {m['device']}, {m['cores']} cores, {m['threads']} threads" + (f" (load {m['load']})" if m["load"] else ""), "",
             f"torch {m['torch']}, numpy {m['numpy']}, Python {m['python']}, {m['system']}. {r['parameters']/1e6:.1f} million parameters, "
             f"batch {r['batch']}, {r['flop']/1e12:.2f} TFLOP a step. Median of {r['steps']} rounds, all ways taking turns.", "",
             "| step | ms | steps/s | against plain (quartiles) | TFLOP/s | of a large matrix product | 200 000 steps |", "|---|---|---|---|---|---|---|"]
    for name, t in s.items():
        if "other" in name: continue
        ratio = np.quantile(np.array(plain)/np.array(t), [.25, .5, .75])
        ms, rate = statistics.median(t), r["flop"]/statistics.median(t)
        peak = r["peak"]["float32" if "float32" in name else "bfloat16"]
        span = PLAN*ms
        span = f"{span/60:.1f} min" if span < 7200 else f"{span/3600:.0f} h"
        lines.append(f"| {name} | {ms*1e3:.1f} | {1/ms:.3g} | {ratio[1]:.2f}× ({ratio[0]:.2f}–{ratio[2]:.2f}) | {rate/1e12:.3g} | {rate/peak:.0%} | {span} |")
    best = min((k for k in s if "plain" not in k), key=lambda k: statistics.median(s[k]))
    share = r["draw"]/statistics.median(s[best])
    best_ms, least = statistics.median(s[best])*1e3, r["flop"]/r["peak"]["bfloat16"]*1e3
    gap = {k: np.mean(np.abs(np.array(v)/np.array(r["losses"]["plain, float32"]) - 1)) for k, v in r["losses"].items()}
    limit_line = (f"- Limit: at the {r['peak']['bfloat16']/1e12:.3g} TFLOP/s measured here for a large bfloat16 product a step "
                  f"would take {least:.2f} ms; the fastest takes {best_ms/least:.1f} times that.")
    lines += ["", f"- Drawing a batch: {r['draw']*1e3:.2f} ms, {share:.2%} of the fastest step.",
              f"- Losses on the same samples differ from the plain loop's, on average, by {gap['one pass, float32']:.2%} (one pass, "
              f"float32) and {gap['one pass, bfloat16']:.2%} (bfloat16); by {gap['plain, float32, other dropout']:.2%} where only dropout's seed differs.",
              limit_line, ""]
    return "\n".join(lines)


def store(folder, name, title, device, result, table):
    "Keep a result beside those of other machine kinds, as JSON and Markdown."
    folder.mkdir(parents=True, exist_ok=True)
    file = folder/f"{name}.json"
    known = (json.loads(file.read_text()) if file.exists() else {}) | {device: result}
    file.write_text(json.dumps(known, indent=1) + "\n")
    intro = f"# {title}\n\nMade by `python benchmarks/{name}.py`; what is compared is said at its top.\n\n"
    (folder/f"{name}.md").write_text(intro + "\n".join(table(r) for r in known.values()))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--steps", type=int, default=12, help="rounds")
    p.add_argument("--threads", type=int, help="of the CPU")
    p.add_argument("--quick", action="store_true", help="a small network and few rounds, to see that it runs; stores nothing")
    p.add_argument("--out", type=Path, default=HERE, help="folder of train_step.json and train_step.md")
    a = p.parse_args()
    if a.threads: torch.set_num_threads(a.threads)
    size = dict(speech=64, width=64, layers=1, feedforward=64) if a.quick else {}
    result = measure(a.device, 2 if a.quick else a.steps, size)
    print(table(result))
    if not a.quick: store(a.out, "train_step", "A training step", a.device, result, table)


if __name__ == "__main__": main()
