"""How much faster than another version of the kit? `make bench OLD=122baa8` checks that out beside and runs `python benchmarks/against.py FOLDER`

Both versions do each piece of work in turn, so that a busy machine hurts both; what counts is the ratio. Rows (`--rows`; all but `test` if not told):

edit     `cmet edit` of a face that fills the picture. A frame's time is that of a long clip less that of a short one, so that starting Python and
         loading networks are not in it.
large    `cmet edit` of 4K film and of a photograph of 12 megapixels, whole commands.
run      `cmet run`: three more cells of a grid, the work of a small template included.
encode   `cmet encode` of RAVDESS, eGeMAPS, by two workers and by one, whole commands.
many     `cmet encode` by two workers of clips whose features are stored, so that only the kit's own work is in it: a clip's time, by 5,000 clips
         less 200, and by 20,000 less 5,000. (Up to 1,000 starting takes longer than the clips.)
train    `cmet train` on RAVDESS as each version encoded it, all settings as they come.
wide     The same with 768 numbers a clip in the place of its speech (planted: one for each emotion and noise), as emotion2vec's are.
step     A training step of the paper's network, batch 128, with the drawing of its samples, in one process after two steps to warm up.
edtalk   Reading and drawing a frame of 256² with EDTalk's network of random weights, in one process after two frames to warm up.
corpus   100,000 random clips, 88 speech numbers and 25 frames each: opening, a direction, a composed vector of faces, a pair for each clip.
slider   The explorer without a browser, a picture of 512²: from a slider's new value to the picture; the wall time that 95 % stay below, CPU as it
         comes for each movement, with all that follows. The other version's preview is enlarged to that size if it was smaller.
test     What `make test` does, by each version in its folder with this Python's programs; a step that fails does not keep the next from its work. Half an
         hour and more.

Where both versions are to come to the same, the table says how far apart they are: the mean and the largest difference of the numbers that came out, in
parts of their spread: pixels, the weights after the steps, vectors, what was encoded. Edits by the mesh, mappers and the explorer are to differ. What
is heard may lie far apart in single numbers: eGeMAPS has ratios, and some of RAVDESS' divide by a mean near 0.

Memory is the process's peak; where a short work is taken off, the long one's. Rows of RAVDESS need the recordings (CMET_DATA); they, `large` and
`test` are run once, the others in several rounds. `works.py` holds what runs in both. Prints a table and, if all rows were asked for, stores it beside this file, as JSON and Markdown.
"""
import argparse
import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from train_step import corpus as mead, machine, store  # noqa: E402

TWO, ONE = (f"cmet encode of RAVDESS, eGeMAPS, {n}" for n in ("2 workers", "1 worker"))
EDIT = "--vector", "happy - neutral", "--codec", "mesh"
FULL = SimpleNamespace(edits={256: (12, 132), 1080: (12, 60)}, film=(2160, 3840, 40), photo=3464, cells=3, many=(200, 5000, 20_000), train=(),
                       actors=None, network={}, steps=3, edtalk=(256, 20), crowd=100_000, side=512, moves=60)
QUICK = SimpleNamespace(edits={64: (2, 6)}, film=(96, 160, 4), photo=128, cells=1, many=(4, 8), train=("--mapper", "ridge"), actors=2,
                        network=dict(speech=64, width=64, layers=1, feedforward=64), steps=1, edtalk=(64, 3), crowd=400, side=128, moves=3)


def spend(*words, **options):
    "A program: wall s, CPU s with its children's, what it says on stderr, and its stdout."
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        p = subprocess.Popen([*map(str, words)], stdout=out, stderr=err, **options)
        _, status, used = os.wait4(p.pid, 0)
        p.returncode, wall = status, time.perf_counter() - begun
        texts = [f.seek(0) or f.read().decode() for f in (err, out)]
    assert status == 0, f"{words[3:]}: {texts[0][-600:]}{texts[1][-600:]}"
    return wall, used.ru_utime + used.ru_stime, *texts


def work(version, name, *words, fresh=None):
    "One of `works.py` in that folder's kit: wall s, CPU s, peak MB, and what it printed. `fresh`: a folder for what it would keep."
    kept = {} if fresh is None else {"CMET_CACHE": str(fresh), "XDG_CACHE_HOME": str(fresh)}
    wall, cpu, said, out = spend(sys.executable, HERE/"works.py", version, name, *words, cwd=tempfile.gettempdir(),
                                 env=os.environ | {"PYTHONPATH": str(version)} | kept)
    return wall, cpu, float(said.rsplit("PEAK", 1)[1].split()[0])/1024, out


def command(version, *words, **options):
    "A command of the kit in that folder: wall s, CPU s, peak MB."
    return work(version, "command", *words, **options)[:3]


def race(versions, rounds, take):
    "What each version takes in turn, [round, version, (wall, CPU, MB)], or more dimensions after the version."
    return np.array([[take(v) for v in versions] for _ in range(rounds)])


def apart(a, b):
    "Mean and largest difference of two outcomes, in parts of the spread of the first."
    gap = np.abs(np.float64(a) - b)/np.std(a)
    return float(gap.mean()), float(gap.max())


def told(versions, rounds, *words):
    "(name, the same, how far apart) of a work that clocks itself."
    outcomes = {}
    def once(v):
        *_, mb, out = work(v, *words)
        rows = [json.loads(line) for line in out.splitlines() if line.startswith('["')]
        for name, *_, numbers in (row for row in rows if len(row) > 3): outcomes[name, v] = np.frombuffer(base64.b64decode(numbers), np.float32)
        return {name: (*spent[:2], mb) for name, *spent in rows}
    found = [[once(v) for v in versions] for _ in range(rounds)]
    for name in found[0][0]:
        gap = [apart(*(outcomes[name, v] for v in versions))] if (name, versions[0]) in outcomes else []
        yield name, np.array([[one[name] for one in turn] for turn in found]), *gap


def packed(a, b):
    "How far apart the speech of two corpora is."
    from cmet.corpus.corpus import read_corpus
    return apart(*(read_corpus(f).speech for f in (a, b)))


def less(took, n):
    "Of a shorter and a longer work [round, version, 2, 3] one of the n things that only the longer did; the longer's peak."
    return np.concatenate([(took[..., 1, :2] - took[..., 0, :2])/n, took[..., 1, 2:]], -1)


def portrait(n, w, h=None):
    "The portrait's face, cut out and enlarged until it fills the picture: n frames and their rate."
    import cv2
    from cmet.core import builtin
    from cmet.io.media import read_video
    source, fps = read_video(builtin("portrait.mp4"))
    return (cv2.resize(f[:, 40:220] if h else f[40:210, 45:215], (w, h or w), interpolation=cv2.INTER_CUBIC) for f in source[:n]), fps


def edit(versions, rounds, place, s):
    from cmet.io.media import write_video
    made = lambda v, f: command(v, "edit", f, *EDIT, "-o", place/"out.mp4", "--force")
    for size, n in s.edits.items():
        films = [write_video(place/f"{size}_{k}.mp4", *portrait(k, size)) for k in n]
        yield f"cmet edit, mesh, {size}², a frame", less(race(versions, rounds, lambda v: [made(v, f) for f in films]), n[1] - n[0])  # noqa: B023


def large(versions, rounds, place, s):
    from PIL import Image
    from cmet.core import builtin
    from cmet.io.media import read_video, write_video
    w, h, n = s.film
    film, photo = write_video(place/"4k.mp4", *portrait(n, w, h)), place/"12mp.jpg"
    Image.fromarray(read_video(builtin("portrait.mp4"))[0][0]).resize((s.photo, s.photo), Image.Resampling.BICUBIC).save(photo, quality=92)
    for name, f in {f"{n} frames of {w} × {h}": film, f"a photograph of {round(s.photo**2/1e6)} megapixels": photo}.items():
        yield f"cmet edit, mesh, {name}, the whole command", race(versions, 1, lambda v: command(v, "edit", f, *EDIT, "-o", place/"out.mp4", "--force"))  # noqa: B023


def run(versions, rounds, place, s):
    def cells(v, seeds):
        with tempfile.TemporaryDirectory(dir=place) as out:
            return command(v, "run", next(v.glob("nbs/*experiments/grids/leave_one_out.yaml")), "--set", "mapper=ridge", "emotion=happy",
                           f"seed={{from: 0, to: {seeds}}}", "-o", Path(out)/"runs")
    yield "cmet run, a cell of leave_one_out, its own work included", less(race(versions, rounds, lambda v: [cells(v, n) for n in (0, s.cells)]), s.cells)


def recordings(place, s):
    "RAVDESS, or of so many actors a few clips; None without it."
    from cmet.core import find_data
    found = find_data("ravdess")
    if not found or s.actors is None: return found
    for f in (f for k in range(1, 1 + s.actors) for f in sorted((found/f"Actor_{k:02}").iterdir())[::6]):
        (place/"ravdess"/f.parent.name).mkdir(parents=True, exist_ok=True)
        (place/"ravdess"/f.parent.name/f.name).symlink_to(f)
    (place/"ravdess"/"openface_aus.csv").symlink_to(found/"openface_aus.csv")
    return place/"ravdess"


def heard(versions, place, s, workers):
    "RAVDESS encoded by each version, nothing known from before: [1, version, (wall, CPU, MB)], in folders heard 0, 1."
    with tempfile.TemporaryDirectory(dir=place) as d:
        return race(versions, 1, lambda v: command(v, "encode", place/"recordings", "--layout", "ravdess", "--encoder", "egemaps", "--workers", workers, "--force",
                                                   "-o", place/f"heard {versions.index(v)}", fresh=Path(d)/f"kept {versions.index(v)}"))


def encode(versions, rounds, place, s):
    for name, n in (TWO, 2), (ONE, 1): yield name, heard(versions, place, s, n), packed(place/"heard 0", place/"heard 1")


def stored(folder, n):
    "n clips with stored features, as the layout of folders has them; what is heard does not matter then."
    for k, feature in enumerate(np.random.default_rng(0).standard_normal((n, 1024), np.float32)):
        at = folder/f"S{k//100:03}"/("neutral", "happy", "sad", "angry")[k % 4]
        (at/"emotion2vec+large_features").mkdir(parents=True, exist_ok=True)
        (at/f"{k:05}.wav").touch()
        np.save(at/"emotion2vec+large_features"/f"{k:05}.npy", feature)
    return folder


def many(versions, rounds, place, s):
    folders = [stored(place/f"many {n}", n) for n in s.many]
    took = race(versions, rounds, lambda v: [command(v, "encode", f, "--layout", "folder", "--encoder", "emotion2vec-large", "--workers", 2, "--force",
                                                     "-o", place/f"packed {versions.index(v)}") for f in folders])
    for k, (a, b) in enumerate(zip(s.many, s.many[1:])):
        yield f"cmet encode, stored features, a clip from the {a:,}th to the {b:,}th", less(took[:, :, k:k + 2], b - a), packed(place/"packed 0", place/"packed 1")


def trained(versions, corpus, place, s):
    return race(versions, 1, lambda v: command(v, "train", corpus(v), "-o", place/"mapper.safetensors", "--force", *s.train))


def train(versions, rounds, place, s):
    if not (place/"heard 0").exists(): heard(versions, place, s, 2)
    yield "cmet train on RAVDESS, eGeMAPS, defaults", trained(versions, lambda v: place/f"heard {versions.index(v)}", place, s)


def wide(versions, rounds, place, s):
    from cmet.corpus.corpus import Corpus, read_corpus, write_corpus
    if not (place/"heard 0").exists(): heard(versions[:1], place, s, 2)
    c, g = read_corpus(place/"heard 0"), np.random.default_rng(0)
    felt = np.searchsorted(c.emotions, c.column("emotion"))
    speech = (g.standard_normal((len(c.emotions), 768))[felt] + g.standard_normal((len(c), 768))).astype(np.float32)
    made = write_corpus(Corpus(c.clips, speech, c.face, c.offsets, dict(name="wide", encoder="planted", codec=c.meta["codec"])), place/"wide")
    yield "cmet train on RAVDESS, 768 planted numbers a clip, defaults", trained(versions, lambda v: made, place, s)


def step(versions, rounds, place, s):
    c = mead(S=s.network.get("speech", 1024), clips=10)
    np.savez(place/"mead.npz", speech=c.speech, face=c.face, offsets=c.offsets, **c.clips)
    for kind in ("float32", "bfloat16"): yield from told(versions, rounds, "step", place/"mead.npz", kind, s.steps, json.dumps(s.network))


def edtalk(versions, rounds, place, s):
    size, n = s.edtalk
    np.save(place/"faces.npy", np.stack([*portrait(n, size)[0]]))
    for kind in ("float32", "bfloat16"): yield from told(versions, rounds, "edtalk", place/"faces.npy", kind)


def corpus(versions, rounds, place, s):
    from cmet.corpus.corpus import Corpus, clip_table, write_corpus
    g, n = np.random.default_rng(0), s.crowd
    table = clip_table([dict(speaker=f"S{k//100:04}", emotion=("neutral", "happy", "sad", "angry")[k % 4]) for k in range(n)])
    faces = g.standard_normal((n*25, 17), np.float32)
    made = write_corpus(Corpus(table, g.standard_normal((n, 88), np.float32), faces, np.arange(n + 1)*25, dict(name="crowd")), place/"crowd")
    yield from told(versions, rounds, "corpus", made, f"{n:,}")


def slider(versions, rounds, place, s):
    from cmet.io.media import write_video
    film = write_video(place/"slider.mp4", *portrait(75, s.side))
    yield from told(versions, rounds, "slider", film, s.side, s.moves)


def test(versions, rounds, place, s):
    failed = []
    def suite(v):
        wall, cpu, said, out = spend("make", "-i", "-o", "install", "test", f"VENV={sys.prefix}", cwd=v, env=os.environ | {"PYTHONPATH": str(v)})
        failed.append(str(said.count("(ignored)")))
        print(f"{v}:\n{out[-2000:]}{said[-2000:]}", file=sys.stderr)
        return wall, cpu, np.nan
    took = race(versions, 1, suite)
    yield f"make test; steps of it that failed: {' and '.join(failed)}", took


ROWS = {f.__name__: f for f in (edit, large, run, encode, many, train, wide, step, edtalk, corpus, slider, test)}
USUAL = [*ROWS][:-1]


def measure(versions, rows, rounds, place, s):
    "Name -> (wall s, CPU s, MB) of each version, for the rows asked for; name -> how far apart outcomes are."
    found = recordings(place, s)
    if found: (place/"recordings").symlink_to(found)
    out, gaps = {}, {}
    for name in (r for r in rows if found or r not in ("encode", "train", "wide")):
        for what, took, *gap in ROWS[name](versions, rounds, place, s):
            if gap: gaps[what] = gap[0]
            out[what] = np.concatenate([np.median(took[..., :2], 0), took[..., 2:].max(0)], -1).tolist()
            print(what, out[what], flush=True)
    return out, gaps


def table(r):
    "Results as Markdown."
    m = r["machine"]
    lines = [f"## {m['device']}, {m['cores']} cores, {m['threads']} threads" + (f" (load {m['load']})" if m["load"] else ""), "",
             f"{r['old']} and this version in turn. Medians of {r['rounds']} rounds; rows of RAVDESS, of 4K, of 12 megapixels and of the tests: of one.", "",
             "| work | before: wall, CPU | now | wall ratio | CPU ratio | memory, MB | outcomes apart: mean, largest |", "|---|---|---|---|---|---|---|"]
    for name, ((w0, c0, m0), (w1, c1, m1)) in r["rows"].items():
        gap = r.get("apart", {}).get(name)
        gap = "" if gap is None else "{:.2g}, {:.2g}".format(*gap) if any(gap) else "equal"
        memory = "" if np.isnan(m0 + m1) else f"{m0:.0f} → {m1:.0f}"
        lines.append(f"| {name} | {w0:.3g} s, {c0:.3g} s | {w1:.3g} s, {c1:.3g} s | {w0/w1:.3g} | {c0/c1:.3g} | {memory} | {gap} |")
    if {ONE, TWO} <= {*r["rows"]}:
        before, now = (one[0]/two[0] for one, two in zip(r["rows"][ONE], r["rows"][TWO]))
        lines += ["", f"Two workers encode RAVDESS {now:.2f} times as fast as one does; before {before:.2f}."]
    return "\n".join([*lines, ""])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("old", type=Path, metavar="FOLDER", help="a checkout of the other version")
    p.add_argument("--rows", nargs="+", default=["usual"], choices=["usual", *ROWS], help="usual: all but test")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--quick", action="store_true", help="everything in small, to see that it runs; stores nothing")
    p.add_argument("--out", type=Path, default=HERE, help="folder of against.json and against.md")
    a = p.parse_args()
    asked = {*a.rows} | ({*USUAL} if "usual" in a.rows else set())
    with tempfile.TemporaryDirectory() as place:
        rows, gaps = measure([a.old.resolve(), HERE.parent], [r for r in ROWS if r in asked], a.rounds, Path(place), QUICK if a.quick else FULL)
    result = {"machine": machine("cpu"), "old": a.old.name, "rounds": a.rounds, "rows": rows, "apart": gaps}
    print(table(result))
    if not a.quick and {*USUAL} <= asked: store(a.out, "against", "Against another version", "cpu", result, table)


if __name__ == "__main__": main()
