"""How much faster than another version of the kit? `make bench OLD=122baa8` checks that out beside and runs `python benchmarks/against.py FOLDER`

Each row is one command as a user types it, run by both versions in turn, so that a busy machine hurts both; what counts is the ratio. A frame's
time is that of a long clip less that of a short one, so that starting Python and loading networks are not in it. Memory is the process's peak.
Needs the recordings (CMET_DATA) for the rows of RAVDESS; these and the large pictures are run once.
Prints a table and stores it beside this file, as JSON and Markdown.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from train_step import machine, store  # noqa: E402

START = """import atexit, sys, cmet
from cmet.cli import main
def peak():  # of this program alone: what the system says of a child counts its parent's, too
    try: lines = open("/proc/self/status").read().splitlines()
    except OSError: lines = []
    print("PEAK", next((l.split()[1] for l in lines if l.startswith("VmHWM")), "nan"), file=sys.stderr)
assert cmet.__file__.startswith(sys.argv[1]), cmet.__file__
atexit.register(peak)
sys.exit(main(sys.argv[2:]))"""
ROWS = ["edit", "large", "run", "encode", "train"]
FRAMES = {256: (12, 132), 1080: (12, 60)}  # of the short and the long clip


def run(version, *words, fresh=None):
    "A command of the kit in that folder: wall s, CPU s, peak MB. `fresh`: a folder for what it would keep."
    begun, kept = time.perf_counter(), {} if fresh is None else {"CMET_CACHE": str(fresh), "XDG_CACHE_HOME": str(fresh)}
    p = subprocess.Popen([sys.executable, "-c", START, *map(str, [version, *words])], cwd=tempfile.gettempdir(), stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(version)} | kept)
    said = p.stderr.read().decode()
    _, status, used = os.wait4(p.pid, 0)
    assert status == 0, f"{words}: {said[-600:]}"
    return np.array([time.perf_counter() - begun, used.ru_utime + used.ru_stime, float(said.rsplit("PEAK", 1)[1].split()[0])/1024])


def clip(path, size, frames):
    "The portrait's face, cut out and enlarged until it fills the picture."
    import cv2
    from cmet.core import builtin
    from cmet.io.media import read_video, write_video
    source, fps = read_video(builtin("portrait.mp4"))
    face = [cv2.resize(f[40:210, 45:215], (size, size), interpolation=cv2.INTER_CUBIC) for f in source[:frames]]
    return write_video(path, face, fps)


def edits(versions, place, size, rounds):
    "Seconds a frame by both versions, [round, version, (wall, CPU)], and the peak of the long clip."
    short, long = FRAMES.get(size, (12, 60))
    films = [clip(place/f"{size}_{n}.mp4", size, n) for n in (short, long)]
    made = lambda v, f: run(v, "edit", f, "--vector", "happy - neutral", "--codec", "mesh", "-o", place/"out.mp4", "--force")
    took = np.array([[[made(v, f) for f in films] for v in versions] for _ in range(rounds)])
    return (took[:, :, 1, :2] - took[:, :, 0, :2])/(long - short), took[:, :, 1, 2].max(0)


def large(versions, place):
    "A short clip in 4K, upright as phones film it, and a photograph of 12 megapixels: name -> (whole commands [1, version, (wall, CPU)], peaks)."
    import cv2
    from PIL import Image
    from cmet.core import builtin
    from cmet.io.media import read_video, write_video
    source, fps = read_video(builtin("portrait.mp4"))
    scaled = lambda f, w, h: cv2.resize(f[:, 40:220] if h > w else f, (w, h), interpolation=cv2.INTER_CUBIC)
    film, photo = place/"4k.mp4", place/"12mp.jpg"
    write_video(film, (scaled(f, 2160, 3840) for f in source[:40]), fps)
    Image.fromarray(scaled(source[0], 3464, 3464)).save(photo, quality=92)
    made = lambda v, f: run(v, "edit", f, "--vector", "happy - neutral", "--codec", "mesh", "-o", place/"out.mp4", "--force")
    took = {f: np.array([[made(v, f) for v in versions]]) for f in (film, photo)}
    names = {film: "cmet edit, mesh, 40 frames of 2160 × 3840, the whole command", photo: "cmet edit, mesh, a photograph of 12 megapixels, the whole command"}
    return {names[f]: (t[..., :2], t[0, :, 2]) for f, t in took.items()}


def cells(versions, place, rounds):
    "Seconds that three more cells of a grid take, by both versions, [round, version, (wall, CPU)] a cell, and the peak: the work of a small template is in it."
    def ran(v, k, seeds):
        grid = next(v.glob("nbs/*experiments/grids/leave_one_out.yaml"))
        return run(v, "run", grid, "--set", "mapper=ridge", "emotion=happy", f"seed={{from: 0, to: {seeds}}}", "-o", place/f"runs {k} {v.name} {seeds}")
    took = np.array([[[ran(v, k, seeds) for seeds in (0, 3)] for v in versions] for k in range(rounds)])
    return (took[:, :, 1, :2] - took[:, :, 0, :2])/3, took[:, :, 1, 2].max(0)


def table(r):
    "Results as Markdown."
    m = r["machine"]
    lines = [f"## {m['device']}, {m['cores']} cores, {m['threads']} threads" + (f" (load {m['load']})" if m["load"] else ""), "",
             f"Medians of {r['rounds']} rounds, {r['old']} and this version in turn.", "",
             "| work | before: wall, CPU | now | wall ratio | CPU ratio | memory, MB |", "|---|---|---|---|---|---|"]
    for name, row in r["rows"].items():
        (w0, c0), (w1, c1) = row["took"]
        lines.append(f"| {name} | {w0:.3g} s, {c0:.3g} s | {w1:.3g} s, {c1:.3g} s | {w0/w1:.1f} | {c0/c1:.1f} | "
                     f"{row['peak'][0]:.0f} → {row['peak'][1]:.0f} |")
    return "\n".join([*lines, ""])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("old", type=Path, metavar="FOLDER", help="a checkout of the other version")
    p.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    p.add_argument("--sizes", type=int, nargs="+", default=[256, 1080])
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--out", type=Path, default=HERE, help="folder of against.json and against.md")
    a = p.parse_args()
    versions, rows = [a.old.resolve(), HERE.parent], {}
    from cmet.core import find_data
    ravdess = find_data("ravdess")
    def add(name, took, peak): rows[name] = {"took": np.median(took, 0).tolist(), "peak": list(peak)}; print(name, rows[name], flush=True)
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        if "edit" in a.rows:
            for size in a.sizes: add(f"cmet edit, mesh, {size}², a frame", *edits(versions, place, size, a.rounds))
        if "large" in a.rows:
            for name, row in large(versions, place).items(): add(name, *row)
        if "run" in a.rows: add("cmet run, a cell of leave_one_out, its own work included", *cells(versions, place, a.rounds))
        if ravdess and {"encode", "train"} & {*a.rows}:
            mine = [place/f"c{k}" for k in (0, 1)]
            heard = [run(v, "encode", ravdess, "--encoder", "egemaps", "-o", c, "--workers", 2, fresh=place/f"kept {c.name}") for v, c in zip(versions, mine)]
            if "encode" in a.rows: add("cmet encode of RAVDESS, eGeMAPS, 2 workers", np.array([heard])[..., :2], np.array(heard)[:, 2])
            if "train" in a.rows:
                fit = [run(v, "train", c, "-o", place/f"m{k}.safetensors") for k, (v, c) in enumerate(zip(versions, mine))]
                add("cmet train on RAVDESS, eGeMAPS, defaults", np.array([fit])[..., :2], np.array(fit)[:, 2])
    result = {"machine": machine("cpu"), "old": a.old.name, "rounds": a.rounds, "rows": rows}
    print(table(result))
    store(a.out, "against", "Against another version", "cpu", result, table)


if __name__ == "__main__": main()
