"""One piece of work in whichever version of the kit is imported: `against.py` runs it in two, `PYTHONPATH=FOLDER python works.py FOLDER NAME …`

What has moved is looked for where it is now, then where it was. Works that clock themselves print a JSON list a line: name, wall s, CPU s, and, where two
versions are to come to the same, the numbers it came to. The peak of memory in kB comes last, on stderr.
"""
import atexit
import base64
import json
import sys
import time
from types import SimpleNamespace

import numpy as np

import cmet


def peak():
    "Of this program alone: what the system says of a child counts its parent's, too."
    try: lines = open("/proc/self/status").read().splitlines()
    except OSError: lines = []
    print("PEAK", next((line.split()[1] for line in lines if line.startswith("VmHWM")), "nan"), file=sys.stderr)


def clocked(name, work, n=1, outcome=None):
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    spent = [(time.perf_counter() - wall)/n, (time.process_time() - cpu)/n]
    numbers = [base64.b64encode(np.float32(outcome(result)).tobytes()).decode()] if outcome else []
    print(json.dumps([name, *spent, *numbers]))
    return result


def command(*words):
    from cmet.cli import main
    sys.exit(main(words))


def step(file, kind, n, size):
    "n training steps on a file's clips, after two to warm up."
    import torch
    from cmet.transformer import Config, CrossModalTransformer
    try: from cmet.train import Deck, Sampler, Stepper, TrainConfig
    except ImportError:
        from cmet.pairs import Deck, Sampler
        from cmet.step import Stepper, TrainConfig
    with np.load(file) as z: clips, parts = {k: z[k] for k in ("speaker", "emotion")}, {k: z[k] for k in ("speech", "face", "offsets")}
    torch.manual_seed(0)
    config = TrainConfig(reference="teacher", batch=128, shots=10, bf16=kind == "bfloat16", device="cpu")
    network = CrossModalTransformer(Config(**json.loads(size)))
    step = Stepper(network, config)
    deal, n = Sampler(Deck(SimpleNamespace(name="random", clips=clips, **parts)), 128, 0, 10), int(n)
    for k in range(2): step(deal(), k)
    clocked(f"a training step of the paper's network, batch 128, {kind}", lambda: [step(deal(), 2 + k) for k in range(n)], n,
            lambda _: torch.cat([p.detach().flatten()[:1000] for p in network.parameters()]))


def edtalk(file, kind):
    "A file's frames read and drawn by a network of random weights, after a warming edit."
    from cmet.edtalk import EDTalk, stand_in
    try: from cmet.edtalk import EDTalkCodec
    except ImportError: from cmet.codec import EDTalkCodec
    frames = np.load(file)
    state, delta = stand_in(frames.shape[1]), np.random.default_rng(1).normal(0, .5, (len(frames), 10))
    for k in state:
        if "to_flows" in k and k.endswith("conv.weight"): state[k] *= .02  # else random flows lead nowhere
    codec = EDTalkCodec(EDTalk.load_official(state), device="cpu", crop=False, bf16=kind == "bfloat16")
    codec.edit(frames[:2], delta[:2])
    clocked(f"EDTalk, {frames.shape[1]}², {kind}, a frame", lambda: codec.edit(frames, delta), len(frames), np.asarray)


def corpus(folder, size):
    "A corpus opened, composed from and drawn from; the built-in one before, so that importing is not counted."
    try:
        from cmet.corpus.corpus import read_corpus
        from cmet.corpus.sampling import draw_pairs
    except ImportError:
        from cmet.corpus import read_corpus
        from cmet.sampling import draw_pairs
    from cmet.vectors import compose, direction
    def works(c):
        return {"direction happy - neutral": (lambda: direction(c, "happy"), np.asarray),
                "compose happy - .5*sad - .5*neutral, faces": (lambda: compose("happy - .5*sad - .5*neutral", c, space="face"), np.asarray),
                "a pair for each clip": (lambda: draw_pairs(c, len(c)), None)}
    for work, _ in works(read_corpus("studio")).values(): work()
    c = clocked(f"{size} clips: open", lambda: read_corpus(folder), outcome=lambda c: c.speech)
    for name, (work, outcome) in works(c).items(): clocked(f"{size} clips: {name}", work, outcome=outcome)


def slider(file, side, n):
    "n movements of a slider, after two to warm up; the wall time that 95 % stay below, and CPU with all that follows a movement."
    side, n = int(side), int(n)
    try: from cmet.explorer import Explorer
    except ImportError:
        from cmet import scene
        from cmet.explore import Explorer
        scene.open_clip.__defaults__ = scene.LENGTH, side
    e, times, spent = Explorer(file, mapper="transformer").wait(120), [], []
    for k in [.5, 1.5, *np.tile(np.linspace(-2, 2, 41), 1 + n//41)[:n]]:
        before, start, cpu = e.faces.after.value, time.perf_counter(), time.process_time()
        e.emotions.sliders["happy"].value = float(k)
        while e.faces.after.value is before and time.perf_counter() - start < 5: time.sleep(2e-4)
        times.append(time.perf_counter() - start)
        e.wait()
        spent.append(time.process_time() - cpu)
    assert e.view.after.shape[0] == side, e.view.after.shape
    print(json.dumps([f"slider to picture, {side}², without a browser, 95 % below", float(np.quantile(times[2:], .95)), float(np.mean(spent[2:]))]))
    e.live.close()


if __name__ == "__main__":
    folder, name, *words = sys.argv[1:]
    assert cmet.__file__.startswith(folder), cmet.__file__
    atexit.register(peak)
    {f.__name__: f for f in (command, step, edtalk, corpus, slider)}[name](*words)
