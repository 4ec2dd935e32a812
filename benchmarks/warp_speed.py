"""How many frames a second does the mesh move? `python benchmarks/warp_speed.py`

A portrait whose face fills the picture gets a smile and a frown, at several sizes; finding the face is not counted, reading and writing neither.
Prints a table and stores it beside this file, as JSON and Markdown, one entry a machine kind.
"""
import argparse
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from train_step import clock, machine, store  # noqa: E402

from cmet.face import AUS, MeshCodec, Track  # noqa: E402


def speed(size, frames, rounds):
    "Seconds a frame [rounds]."
    import cv2
    from skimage.data import astronaut
    photo, codec = cv2.resize(astronaut()[:256, 96:352], (size, size), interpolation=cv2.INTER_CUBIC), MeshCodec()
    points = codec.track([photo]).points
    assert np.isfinite(points).all(), "the face was not found"
    clip, delta = Track(np.repeat(points, frames, 0), 0, photo), np.zeros((frames, len(AUS)), np.float32)
    for unit, by in dict(AU12=3, AU04=2, AU25=2).items(): delta[:, AUS.index(unit)] = by
    whole = lambda: sum(1 for _ in codec.edit_stream([photo]*frames, clip, delta))
    return [clock(whole, "cpu")/frames for _ in range(rounds + 1)][1:]


def table(r):
    "Results as Markdown."
    m = r["machine"]
    lines = [f"## {m['device']}, {m['cores']} cores, {m['threads']} threads" + (f" (load {m['load']})" if m["load"] else ""), "",
             "| size | frames/s, median | fastest round |", "|---|---|---|"]
    for size, took in r["seconds"].items():
        fast, usual = min(took), np.median(took)
        lines.append(f"| {size}² | {1/usual:.0f} | {1/fast:.0f} |")
    return "\n".join([*lines, ""])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--frames", type=int, default=60)
    p.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1080])
    p.add_argument("--quick", action="store_true", help="few frames of 256², to see that it runs; stores nothing")
    p.add_argument("--out", type=Path, default=HERE, help="folder of warp_speed.json and warp_speed.md")
    a = p.parse_args()
    sizes, frames = ([256], 5) if a.quick else (a.sizes, a.frames)
    result = {"machine": machine("cpu"), "seconds": {str(s): speed(s, frames, 5) for s in sizes}}
    print(table(result))
    if not a.quick: store(a.out, "warp_speed", "Moving a face", "cpu", result, table)


if __name__ == "__main__": main()
