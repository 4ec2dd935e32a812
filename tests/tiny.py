"""A tiny corpus and a tiny network with C-MET's interface, for tests of the training, and a program that trains on them.

`python tests/tiny.py FOLDER STEPS [FIELD=JSON …] [die=STEP | die=write:N]` trains, and may kill itself with SIGKILL before
a step, or in the middle of the Nth write of a checkpoint. Needs only torch and numpy.
"""
import json
import os
import signal
import sys
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from cmet.align import AudioTokenizer, VisualTokenizer

EMOTIONS = ("neutral", "happy", "sad", "angry")


def arrays(seed=0, speakers=4, clips=4, S=12, D=6, emotions=EMOTIONS):
    "A planted corpus: face = speech times a matrix, plus speaker and noise. No pandas: clips is a dictionary."
    g = np.random.default_rng(seed)
    felt, M = {e: 2*g.normal(size=S) for e in emotions}, g.normal(size=(S, D))/np.sqrt(S)
    who, what, speech, faces = [], [], [], []
    for s in range(speakers):
        voice, face = g.normal(size=S), g.normal(size=D)
        for e in emotions:
            for _ in range(clips):
                who.append(f"S{s}"); what.append(e)
                speech.append(voice + felt[e] + .3*g.normal(size=S))
                faces.append(face + felt[e] @ M + .3*g.normal(size=(int(g.integers(3, 23)), D)))
    offsets = np.cumsum([0, *map(len, faces)])
    return SimpleNamespace(clips={"speaker": np.array(who), "emotion": np.array(what)}, speech=np.array(speech, np.float32),
                           face=np.concatenate(faces).astype(np.float32), offsets=offsets, name="planted")


class Net(nn.Module):
    "Tokens, one transformer layer, a projector; batch norm inside, like the paper's."
    def __init__(self, S=12, D=6, width=32, drop=.1, T=5, kind="conv", seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.eye, self.ear, self.T = VisualTokenizer(D, width, kind), AudioTokenizer(S, width), T
        self.place = nn.Parameter(.02*torch.randn(2*T + 1, width))
        layer = nn.TransformerEncoderLayer(width, 2, width, drop, batch_first=True)
        self.mix, self.out = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(width, D)

    def forward(self, reference, speech, face):
        reference, speech, face = (x.to(self.place.dtype) for x in (reference, speech, face))
        z = self.eye(reference, True), self.ear(speech), self.eye(face)
        return self.out(self.mix(torch.cat(z, 1) + self.place)[:, self.T + 1:]), z


def main(folder, steps, *rest):
    import cmet.train.pairs
    from cmet.train.loop import TrainConfig, Trainer
    torch.set_num_threads(1)
    options = dict(a.split("=", 1) for a in rest)
    die, drop, double = options.pop("die", ""), float(options.pop("drop", .1)), options.pop("double", "")
    base = dict(held_speakers=["S3"], reference="scheduled", batch=8, lr=1e-3, shots=2, every=4, evaluate=5, save=3, ahead=4,
                device="cpu")
    config = TrainConfig(steps=int(steps), **base | {k: json.loads(v) for k, v in options.items()})
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    if die.startswith("write:"):
        left, sync = [int(die[6:])], os.fsync
        def fsync(f):
            left[0] -= 1
            if not left[0]: kill()
            sync(f)
        os.fsync = fsync
    net = Net(drop=drop)
    t = Trainer(net.double() if double else net, arrays(), config, folder)
    if die.isdigit():
        deal = t.sampler.__call__
        t.sampler = type("Fuse", (), {"__call__": lambda s: kill() if t.at == int(die) else deal(), "state": lambda s: cmet.train.pairs.Sampler.state(deal.__self__)})()
    t.run()
    if not t.rank: print(json.dumps({"at": t.at, "history": t.history}))


if __name__ == "__main__": main(*sys.argv[1:])
