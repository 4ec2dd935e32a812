"""How long does it take to edit a video with EDTalk, and why? `python benchmarks/edit_speed.py`

A 256² video of 100 frames is given another expression, in several ways, taking turns on the same frames:

released script   Its procedure and its formulation (`tests/plain_edtalk.py`): a first pass reads every frame's
                  expression; then for each frame the identity's picture, the frame for the lips and the frame for
                  the head are encoded, the bases taken by QR, and one picture drawn. Filters run channel by channel,
                  weights are scaled and modulated at each call, half of the emotion module's work is thrown away.
procedure         The same procedure, frame by frame, with the kit's layers, so it gains with them: at 122baa8 the kit was 3.2 times as fast as
                  the procedure was then (5.8 in bfloat16); what the kit has gained since is in `against.md`.
kit               `EDTalkCodec`: each frame encoded once, the identity once, the bases never; then with larger
                  batches, in bfloat16, and compiled. On a CPU its convolutions of 128 channels and more take fewer products
                  (`35_edtalk/15_winograd`), so its share of a plain matrix product can pass 100 %.

Limit: a plain kit at the full speed of plain products would reach 2.9 times the procedure in float32 (175 against 61 GFLOP a
frame), and as many times more in bfloat16 as the machine multiplies faster in it (2 times by AVX512-BF16).

Needs only torch and numpy. Weights are random, as speed does not depend on them; those of the flow are made small, so
that rounding is not blown up and pictures can be compared (see `tests/test_edtalk.py`). Frames are moving blobs.
Prints a table and stores it beside this file, as JSON and Markdown, one entry a machine kind.
"""
import argparse
import copy
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent/"tests"), str(HERE)]  # the benchmark also runs where cmet is not installed

import plain_edtalk as plain  # noqa: E402
from train_step import clock, limit, machine, store  # noqa: E402

from cmet.edtalk import EDTalkCodec, to_frames, to_tensor  # noqa: E402
from cmet.edtalk import EDTalk, stand_in  # noqa: E402


def video(n, size, seed=0):
    "Coloured blobs that move slowly."
    g = np.random.default_rng(seed)
    at, y = np.linspace(-1, 1, size), np.linspace(-1, 1, size)[:, None]
    out = np.zeros((n, size, size, 3))
    for _ in range(12):
        (a, b), (c, d), width, colour = g.uniform(-1, 1, 2), g.normal(0, .01, 2), g.uniform(.1, .5), g.uniform(-160, 160, 3)
        t = np.arange(n)[:, None, None]
        out += (np.exp(-((at - a - c*t)**2 + (y - b - d*t)**2)/width**2))[..., None]*colour
    return (out + 128).clip(0, 255).astype(np.uint8)


class Released:
    "The released script, frame by frame: encode (identity, lips, head, and expression before), QR, decode."
    def __init__(self, encode, decode, device): self.encode, self.decode, self.device = encode, decode, device

    def __call__(self, frames, person, delta):
        picture, change = to_tensor(person[None], self.device), torch.from_numpy(delta).to(self.device)
        tensors = [to_tensor(f[None], self.device) for f in frames]
        felt = [self.encode(x)[0] for x in tensors]
        out = []
        for x, e, d in zip(tensors, felt, change):
            lip, pose = self.encode(x)[2], self.encode(x)[1]
            out.append(to_frames(self.decode(picture, lip, pose, e + d[None])))
        return np.concatenate(out)


class Kit:
    "The kit's codec, in its two passes; compiling happens before the clock starts."
    def __init__(self, codec): self.codec = codec

    def __call__(self, frames, person, delta):
        track = self.codec.track(frames)
        track.identity = person
        return np.stack(list(self.codec.edit_stream(frames, track, delta)))


def ways(state, model, device, size, compiled):
    "Name -> way."
    def again(x, lip, pose, expression):  # the kit's layers; everything else as in the released script
        model.bases.straighten()
        return model.decode(x, lip, pose, expression)
    moved = {k: v.to(device) for k, v in state.items()}
    kit = lambda **o: Kit(EDTalkCodec(copy.deepcopy(model), device=device, crop=False, **o))
    none = torch.no_grad()
    out = {"released script": Released(none(lambda x: plain.encode(moved, x)), none(lambda *x: plain.decode(moved, *x)), device),
           "procedure, frame by frame": Released(model.encode, again, device)}
    if device == "cuda":
        out |= {"kit, one frame at a time": kit(batch=1), "kit, batched": kit(), "kit, batched, bfloat16": kit(bf16=True),
                "kit, batched, bfloat16, compiled": kit(bf16=True, compile=True)}
    else:
        out |= {"kit": kit(), "kit, batches of 4": kit(batch=4), "kit, bfloat16": kit(bf16=True)}
        if compiled: out |= {"kit, compiled": kit(compile=True), "kit, bfloat16, compiled": kit(bf16=True, compile=True)}
    return out


def race(ways, frames, delta, rounds, device):
    "Seconds a frame [rounds] by way, and the pictures; each way edits the same part of the video in turn."
    seconds, pictures, n = {k: [] for k in ways}, {k: [] for k in ways}, len(frames)//rounds
    few = {"released script": max(1, n//5)}  # it takes so long that it draws only some of the frames
    for way in ways.values(): way(frames[:2], frames[0], delta[:2])  # warm
    for k in range(rounds):
        part = slice(k*n, (k + 1)*n)
        for name, way in ways.items():
            use = slice(part.start, part.start + few.get(name, n))
            result = []
            spent = clock(lambda: result.append(way(frames[use], frames[0], delta[use])), device)  # noqa: B023
            seconds[name].append(spent/(use.stop - use.start))
            pictures[name].append((use.start, result[0]))
    return seconds, pictures


def apart(pictures, reference):
    "Mean and largest distance from the reference's pictures, in grey levels."
    gaps = [np.abs(a[:min(len(a), len(b))].astype(int) - b[:min(len(a), len(b))]) for (_, a), (_, b) in zip(pictures, reference)]
    return float(np.mean([g.mean() for g in gaps])), int(max(g.max() for g in gaps))


def flops(model, device):
    "Operations of the matrix products to encode and to draw one frame."
    from torch.utils.flop_counter import FlopCounterMode
    x = torch.zeros(1, 3, model.size, model.size, device=device)
    who = model.identify(x)
    with FlopCounterMode(display=False) as counter:
        expression, pose, lip = model.encode(x)
        model.decode(who, lip, pose, expression)
    return counter.get_total_flops()


PEAK = """import resource, sys, numpy as np, torch
sys.path[:0] = [{root!r}]
torch.set_num_threads(1)
from cmet.edtalk import EDTalk, EDTalkCodec, stand_in
codec, n = EDTalkCodec(EDTalk.load_official(stand_in(64)), device={device!r}, crop=False), int(sys.argv[1])
film = lambda: (np.full((64, 64, 3), i % 256, np.uint8) for i in range(n))
track, count = codec.track(film()), 0
for frame in codec.edit_stream(film(), track, np.zeros((n, 10))): count += 1
card = torch.cuda.max_memory_allocated()/2**20 if {device!r} == "cuda" else 0
try: most = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
except OSError: most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # on Linux it would hold what the parent took, too
print(count, most/1024, card)"""


def peak(device, n):
    "Peak memory of the process and of the GPU in MB, editing n frames of 64²."
    code = PEAK.format(root=str(HERE.parent), device=device)
    run = subprocess.run([sys.executable, "-c", code, str(n)], capture_output=True, text=True, check=True)
    return [float(x) for x in run.stdout.split()[1:]]


def measure(device, n, size, rounds, compiled, lengths):
    "Everything, as a dictionary."
    state = stand_in(size)
    for k in state:
        if "to_flows" in k and k.endswith("conv.weight"): state[k] *= .02
    model = EDTalk.load_official(state).to(device).requires_grad_(False)
    frames, delta = video(n, size), np.random.default_rng(1).normal(0, .5, (n, 10)).astype(np.float32)
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    best = {k: limit(device, t, size < 256) for k, t in types.items()}
    entrants = ways(state, model, device, size, compiled)
    seconds, pictures = race(entrants, frames, delta, rounds, device)
    best = {k: max(best[k], limit(device, t, size < 256)) for k, t in types.items()}  # before and after: others may use the machine
    gaps = {k: apart(v, pictures["procedure, frame by frame"]) for k, v in pictures.items()}
    spread = float(np.std(np.concatenate([p for _, p in pictures["procedure, frame by frame"]])))
    return {"machine": machine(device), "frames": n, "size": size, "rounds": rounds, "flop": flops(model, device), "peak": best,
            "batch": {k: w.codec.batch for k, w in entrants.items() if isinstance(w, Kit)}, "seconds": seconds, "apart": gaps,
            "spread": spread, "memory": {str(k): peak(device, k) for k in lengths}}


def table(r):
    "Results as Markdown."
    m, s = r["machine"], r["seconds"]
    script, step = np.array(s["released script"]), np.array(s["procedure, frame by frame"])
    lines = [f"## {m['device']}, {m['cores']} cores, {m['threads']} threads" + (f" (load {m['load']})" if m["load"] else ""), "",
             f"torch {m['torch']}, numpy {m['numpy']}, Python {m['python']}, {m['system']}. {r['frames']} frames of {r['size']}², reading and "
             f"drawing; {r['flop']/1e9:.0f} GFLOP a frame for the kit. Median of {r['rounds']} rounds, all ways taking turns.", "",
             "| way | ms a frame | frames/s | against the released script (quartiles) | against its procedure with our layers | "
             "of a large matrix product | mean and largest distance of the pictures, of 255 |", "|---|---|---|---|---|---|---|"]
    for name, t in s.items():
        t, ms = np.array(t), statistics.median(t)*1e3
        low, mid, high = np.quantile(script/t, [.25, .5, .75])
        best = r["peak"]["bfloat16" if "bfloat16" in name else "float32"]
        share = f"{r['flop']/ms*1e3/best:.0%}" if name.startswith("kit") else ""
        mean, worst = r["apart"][name]
        near = "the reference" if name.startswith("procedure") else f"{mean:.3f}, {worst}"
        lines.append(f"| {name} | {ms:.0f} | {1e3/ms:.3g} | {mid:.1f}× ({low:.1f}–{high:.1f}) | {np.median(step/t):.1f}× | {share} | {near} |")
    (few, short), (many, long) = r["memory"].items()
    kinds = [("process", 0)] + [("GPU", 1)]*(long[1] > 0)
    lines += ["", f"- The pictures have a spread of {r['spread']:.0f} of 255 grey levels."]
    lines += [f"- Peak memory of the {what}, editing frames of 64²: {short[k]:.0f} MB for {few}, {long[k]:.0f} MB for {many}." for what, k in kinds]
    lines += [f"- Limit: at the {r['peak'][k]/1e12:.3g} TFLOP/s measured here for a large {k} product, "
              f"{r['peak'][k]/r['flop']:.3g} frames/s." for k in r["peak"]]
    return "\n".join(lines + [""])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--frames", type=int, default=100)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, help="of the CPU")
    p.add_argument("--compile", action="store_true", help="on a CPU too (needs a C++ compiler and minutes)")
    p.add_argument("--quick", action="store_true", help="small pictures, few frames, to see that it runs; stores nothing")
    p.add_argument("--out", type=Path, default=HERE, help="folder of edit_speed.json and edit_speed.md")
    a = p.parse_args()
    if a.threads: torch.set_num_threads(a.threads)
    result = measure(a.device, *((10, 64, 2) if a.quick else (a.frames, 256, a.rounds)), a.compile,
                     (10, 30) if a.quick else (100, 1000))
    print(table(result))
    if not a.quick: store(a.out, "edit_speed", "Editing a video with EDTalk", a.device, result, table)


if __name__ == "__main__": main()
