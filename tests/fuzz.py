"""Small real files, damaged in every way files get damaged, through the command's own doors.

`python tests/fuzz.py [N] [--seed S] [--first I]` tries inputs I … I+N-1 (2,000 from 0). Each must end in one line and exit 2, or in
a result that is right: no traceback, no death of the process, at most 60 s, at most `MOST` of memory, nothing half written,
no input changed. What fails is told with its number, and is done alone by `--first NUMBER` with N = 1.
"""
import argparse
import contextlib
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process that is forked must not have threads
MOST, ROOM, LONG = 1024, 3072, 60  # MB above what a worker has; MB of addresses above them; seconds
KINDS = "mp4 wav flac png jpg csv npy parquet safetensors json yaml ipynb".split()
ENCODER, SEALS = "whisper", {"hashes", "samples", "meta_sha256"}  # a corpus with these is refused before it is read
TEXT, INSIDE = {"csv", "json", "yaml", "ipynb"}, {"npy", "parquet", "safetensors", "png"}


# The files, as they are before anything happens to them

def cell(k, source, *tags):
    return dict(cell_type="code", id=k, source=source, outputs=[], execution_count=None, metadata=dict(tags=list(tags)))


def openface(path, frames=4):
    from cmet.face.action_units import AUS
    head = ["frame", "face_id", "timestamp", "confidence", "success", *(f"{a}_r" for a in AUS)]
    rows = [[k + 1, 0, k/25, .98, 1, *np.round(np.linspace(0, 2, 17) + .1*k, 2)] for k in range(frames)]
    path.write_text("\n".join(", ".join(map(str, r)) for r in [head, *rows]) + "\n")


def dim():
    from cmet.speech.encoders import speech_encoder
    return speech_encoder(ENCODER).dim


def corpus(folder):
    from cmet.corpus.corpus import make_corpus, write_corpus
    g, emotions = np.random.default_rng(0), ("neutral", "happy", "sad")
    rows = [dict(speaker=s, emotion=e, intensity=3, sentence=str(k)) for s in "ab" for e in emotions for k in range(2)]
    felt = [emotions.index(r["emotion"]) + .2*g.normal(size=dim()) for r in rows]
    faces = [np.abs(v[:17] + .2*g.normal(size=(3, 17))) for v in felt]
    write_corpus(make_corpus(rows, np.array(felt), faces, name="tiny", encoder=ENCODER, codec="mesh"), folder)
    meta = json.loads((folder/"meta.json").read_text())
    (folder/"meta.json").write_text(json.dumps({k: v for k, v in meta.items() if k not in SEALS}))
    return folder


def unsealed(source, path):
    "A file of tensors without the hash that would stop every change at the door."
    from safetensors import safe_open
    from safetensors.numpy import save_file
    with safe_open(source, "np") as f: tensors, meta = {k: f.get_tensor(k) for k in f.keys()}, f.metadata()
    save_file(tensors, path, {k: v for k, v in meta.items() if k != "cmet_sha256"})


def make_seeds(root):
    "One good file of each kind and what they need around them, in `root`."
    import soundfile
    from PIL import Image
    from skimage.data import astronaut
    from cmet.core import builtin
    from cmet.corpus.corpus import read_corpus
    from cmet.face.mesh import MeshCodec, learned, save_codec
    from cmet.io.media import write_video
    from cmet.mappers.registry import mapper
    face = np.asarray(Image.fromarray(astronaut()[:256, 96:352]).resize((160, 160)))
    heard, rate = soundfile.read(sorted(builtin("speech").glob("*angry*.flac"))[0], dtype="float32")
    calm = soundfile.read(sorted(builtin("speech").glob("*neutral*.flac"))[0], dtype="float32")[0]
    soundfile.write(root/"wav", heard[:rate], rate, format="WAV")
    soundfile.write(root/"flac", heard[:rate], rate, format="FLAC")
    soundfile.write(root/"calm.wav", calm, rate)
    write_video(root/"talk.mp4", [face, face[:, ::-1], face, face], 25, sound=root/"calm.wav")
    write_video(root/"still.mp4", [face], 25)
    shutil.copy(root/"talk.mp4", root/"mp4")
    for kind in ("png", "jpeg"): Image.fromarray(face[30:140, 30:140]).save(root/kind.replace("e", "", kind == "jpeg"), kind)
    openface(root/"csv"); openface(root/"calm.csv")
    with open(root/"npy", "wb") as f: np.save(f, np.linspace(0, 2, 4*17, dtype=np.float32).reshape(4, 17))
    np.save(root/"heard.npy", np.linspace(-1, 1, dim(), dtype=np.float32))
    made = corpus(root/"tiny")
    unsealed(mapper("ridge", pairs=60).fit(read_corpus(made)).save(root/"sealed.safetensors"), root/"safetensors")
    big, smile = astronaut()[:256, 96:352][None].repeat(2, 0), np.zeros((2, 17))
    smile[:, 8] = 3
    save_codec(learned({"neutral": big, "happy": MeshCodec().edit(big, smile)}), root/"sealed.codec.safetensors")
    unsealed(root/"sealed.codec.safetensors", root/"codec.safetensors")
    shutil.copy(made/"index.parquet", root/"parquet")
    (root/"json").write_text(json.dumps({"inputs": {"video": {"file": "still.mp4"}}, "doubt": None, "more": [1, 2.5, {"a": "b"}]}))
    (root/"yaml").write_text("template: work.ipynb\nabout: a try\nparameters:\n  a: [1]\n  rate: {from: 1, to: 1, step: 1}\ncases:\n- {b: x}\n")
    work = "from cmet.experiments.runs import report\nreport({'n': a*2}, out)"
    cells = [cell("p", "a = 1\nrate = 1\nb = 'y'\nout = None", "parameters"), cell("w", work)]
    (root/"ipynb").write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5), indent=1))


# What happens to them

def words(rng, text):
    "One or two words of a text become others that somebody may have written."
    odd = ["null", "NaN", "-1", "1e999", "1" + "0"*400, "true", '""', "[]", "{}", "[[]]", "2020-01-01", "*a", "&a [*a, *a]", "\x00", "é", "=1",
           "!!python/object/apply:os.getcwd []", "{\"a\": 1}", "9"*20, "/dev/zero", "../..", "[1, 2", "'", "\ud800".encode("utf-16", "surrogatepass").hex()]
    for _ in range(rng.integers(1, 3)):
        found = list(re.finditer(r'"[^"\n]*"|[\w.+-]+|[\[{][^\[\]{}]*[\]}]', text)) or [re.match("", text)]
        at, new = found[rng.integers(len(found))].span(), odd[rng.integers(len(odd))]
        text = text[:at[0]] + new + text[at[1]:]
    return text


def nested(rng, kind):
    "Text that grows when it is read, or is deeper than anybody looks."
    n = int(rng.choice([500, 5000, 100_000]))
    bomb = "a0: &a0 [x]\n" + "".join(f"a{k}: &a{k} [{', '.join(8*[f'*a{k-1}'])}]\n" for k in range(1, 12))
    if kind == "yaml": return [bomb + "template: work.ipynb\nparameters: {a: *a11}\n", "["*n, "- "*n + "x", "{a: "*n, "template: " + "&a "*9 + "x"][rng.integers(5)]
    return ["["*n, "["*n + "]"*n, '{"a":'*n + "1" + "}"*n, '"' + "x"*n, "{" + '"a":1,'*n + '"b":2}'][rng.integers(5)]


def inside(rng, kind, data):
    "A file whose checks of itself are right and whose content is not: its head in other words, a chunk or a column of another kind."
    if kind == "safetensors":
        n = int.from_bytes(data[:8], "little")
        head = words(rng, data[8:8 + n].decode()).encode("utf-8", "surrogatepass")
        return len(head).to_bytes(8, "little") + head + data[8 + n:]
    if kind == "npy":
        head = words(rng, data[10:128].decode("latin1")).encode("utf-8", "surrogatepass")[:60_000]
        return data[:8] + len(head).to_bytes(2, "little") + head + data[128:]
    if kind == "png":
        n = int.from_bytes(data[8:12], "big")
        chunk = bytearray(data[12:16 + n])
        for at in rng.integers(4, len(chunk), 2): chunk[at] = rng.choice([0, 1, 3, 16, 64, 127, 255])
        return data[:12] + bytes(chunk) + zlib.crc32(chunk).to_bytes(4, "big") + data[20 + n:]
    import pandas as pd
    table = pd.read_parquet(io.BytesIO(data))
    odd = [None, 1.5, b"x", [1], {"a": 1}, pd.Timestamp("2020-01-01"), "x"*100_000, float("nan"), 2**62, True, ""]
    column, value = table.columns[rng.integers(len(table.columns))], odd[rng.integers(len(odd))]
    some = rng.random() < .5
    values = [value if not some or k < 2 else old for k, old in enumerate(table[column])]
    table[column] = pd.Series(values, dtype=object)
    if rng.random() < .2: table = [table[:0], table.drop(columns=column), pd.concat([table]*200)][rng.integers(3)]
    file = io.BytesIO()
    try: table.to_parquet(file)
    except Exception: return data[:-1]  # two kinds in one column are no table
    return file.getvalue()


def damaged(rng, kind, data, others):
    "(name of what was done, bytes): one of the ways in which a file goes wrong."
    ways = ["flips", "start", "cut", "splice", "again", "hole", "sizes", "sizes", "other", "none", "zeros", "tail"]
    ways += [*4*["words"], "nested"] if kind in TEXT else 5*["inside"] if kind in INSIDE else []
    way = ways[rng.integers(len(ways))]
    raw, n = bytearray(data), len(data)
    a, b = sorted(int(k) for k in rng.integers(0, n, 2))
    if way in ("flips", "start"):
        for k in rng.integers(0, n if way == "flips" else min(n, 128), rng.integers(1, 17)): raw[k] ^= 1 << rng.integers(8)
    elif way == "cut": del raw[a:]
    elif way == "splice": raw = raw[:a] + bytearray((other := others[rng.integers(len(others))])[int(rng.integers(len(other))):])
    elif way == "again": raw[b:b] = raw[a:b]*int(min(rng.choice([2, 9, 200]), 2e6//max(1, b - a)))
    elif way == "hole": del raw[a:b]
    elif way == "sizes":
        for _ in range(rng.integers(1, 4)):
            size = int(rng.choice([2, 4, 4, 8]))
            number = int(rng.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 10**9, 65535])) % 2**(8*size)
            at = int(rng.integers(0, max(1, min(n - 8, int(rng.choice([64, 256, n]))))))
            raw[at:at + size] = number.to_bytes(size, "big" if rng.random() < .5 else "little")
    elif way == "other": raw = bytearray(others[rng.integers(len(others))])
    elif way == "none": raw = bytearray()
    elif way == "zeros": raw[a:b] = bytes(b - a)
    elif way == "tail": raw += bytes(rng.integers(0, 256, int(rng.choice([1, 100, 100_000])), np.uint8))
    elif way == "inside": raw = inside(rng, kind, data)
    elif way == "words": raw = bytearray(words(rng, data.decode()).encode("utf-8", "surrogatepass"))
    elif way == "nested": raw = bytearray(nested(rng, kind).encode())
    return way, bytes(raw)


# The doors

def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes): path.write_bytes(content)
    else: shutil.copy(content, path)


def dataset(seeds, bad, name, folder="d"):
    "A data set with one file of each sort, one of them bad."
    for path, source in (("ann/neutral/1.wav", "calm.wav"), ("ann/happy/2.wav", "wav"), ("ann/neutral/1.csv", "calm.csv")):
        put(Path(folder)/path, seeds/source)
    put(Path(folder)/name, bad)


def stored(seeds, bad, name):
    "A corpus of which one file is bad."
    shutil.copytree(seeds/"tiny", "c")
    put(Path("c")/name, bad)


EDIT, SAY = ["--strength", ".5", "-o", "out.mp4"], ["--mapper", "m.safetensors", "--corpus", "tiny", "--encoder", ENCODER]
TRAIN = ["train", "c", "--mapper", "ridge", "--set", "pairs=60", "-o", "out.safetensors"]


def edit(seeds, bad, suffix, *args, rest=SAY):
    "An edit with the seeds around it, the bad file as `x`."
    put(Path("m.safetensors"), seeds/"safetensors")
    for name in ("talk.mp4", "still.mp4"): put(Path(name), seeds/name)
    os.symlink(seeds/"tiny", "tiny")
    put(Path("x" + suffix), bad)
    return ["edit", *args, *rest, *EDIT]


def scored(seeds, bad, name):
    for to in ("a_happy.mp4", "still.mp4"): put(Path("v")/to, seeds/"still.mp4")
    put(Path("v")/name, bad)
    return ["eval", "v", "--judge", "fer", "-o", "out"]


def grid(seeds, bad, name):
    for to, kind in (("g.yaml", "yaml"), ("work.ipynb", "ipynb")): put(Path(to), seeds/kind)
    put(Path(name), bad)
    return ["run", "g.yaml", "-o", "out"]


def room(make, *argv): return lambda seeds, bad: make(seeds, bad) or list(argv)


ENCODE, AUDIT = ["encode", "d", "-o", "out"], ["audit", "d"]
DOORS = {
    "mp4": [lambda s, b: edit(s, b, ".mp4", "x.mp4", "--vector", "happy"), lambda s, b: edit(s, b, ".mp4", "still.mp4", "--to", "x.mp4"),
            room(lambda s, b: dataset(s, b, "ann/happy/3.mp4"), *AUDIT), lambda s, b: scored(s, b, "b_sad.mp4"),
            room(lambda s, b: (put(Path("d/ann/neutral/1.mp4"), s/"talk.mp4"), put(Path("d/ann/happy/2.mp4"), b)) and None, *ENCODE, "--codec", "mesh")],
    **{k: [lambda s, b, k=k: edit(s, b, f".{k}", "still.mp4", "--to", f"x.{k}"), room(lambda s, b, k=k: dataset(s, b, f"ann/happy/3.{k}"), *ENCODE),
           room(lambda s, b, k=k: dataset(s, b, f"ann/happy/3.{k}"), *AUDIT)] for k in ("wav", "flac")},
    **{k: [lambda s, b, k=k: edit(s, b, f".{k}", f"x.{k}", "--vector", "happy"), lambda s, b, k=k: edit(s, b, f".{k}", f"x.{k}", "--vector", "sad")]
       for k in ("png", "jpg")},
    "csv": [room(lambda s, b: dataset(s, b, "ann/happy/2.csv"), *ENCODE), lambda s, b: scored(s, b, "clips.csv"),
            room(lambda s, b: dataset(s, b, "openface_aus.csv"), *ENCODE)],
    "npy": [room(lambda s, b: dataset(s, b, "ann/happy/2.npy"), *ENCODE), room(lambda s, b: stored(s, b, "speech.npy"), *TRAIN),
            room(lambda s, b: stored(s, b, "face.npy"), *TRAIN), room(lambda s, b: stored(s, b, "offsets.npy"), *TRAIN),
            lambda s, b: edit(s, b, ".npy", "still.mp4", "--to", "whisper_features/x.npy")],
    "parquet": [room(lambda s, b: stored(s, b, "index.parquet"), *TRAIN)],
    "safetensors": [lambda s, b: edit(s, b, ".safetensors", "still.mp4", "--vector", "happy", rest=["--mapper", "x.safetensors", "--corpus", "tiny"]),
                    lambda s, b: edit(s, b, ".safetensors", "still.mp4", "--vector", "happy", "--codec", "x.safetensors")],
    "json": [room(lambda s, b: stored(s, b, "meta.json"), *TRAIN), lambda s, b: scored(s, b, "a_happy.json")],
    "yaml": [lambda s, b: grid(s, b, "g.yaml")], "ipynb": [lambda s, b: grid(s, b, "work.ipynb")]}
# which seed stands behind a door that wants another than the kind's own
OWN = {("npy", 1): "tiny/speech.npy", ("npy", 2): "tiny/face.npy", ("npy", 3): "tiny/offsets.npy", ("npy", 4): "heard.npy",
       ("safetensors", 1): "codec.safetensors", ("json", 0): "tiny/meta.json"}


# One input

def state(folder): return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def checked(argv):
    "What is wrong with a result that was reported as good, or nothing."
    out = Path(argv[argv.index("-o") + 1]) if "-o" in argv else None
    if argv[0] == "edit":
        from cmet.io.media import open_video
        json.loads(out.with_suffix(".json").read_text("utf-8"))
        frames = [f.shape for f in open_video(out).frames()]
        return "" if frames and len(set(frames)) == 1 else f"a film of frames {set(frames)}"
    if argv[0] == "encode":
        from cmet.corpus.corpus import read_corpus
        made = read_corpus(out, verify=True)
        return "" if np.abs(made.face, dtype=float).max(initial=0) < 1e6 else "a face that is none"
    if argv[0] == "train":
        from cmet.mappers.registry import load_mapper
        made = load_mapper(out)
        return "" if np.isfinite(made.predict(np.ones(dim()), np.zeros((1, 17)))).all() else "a mapper that predicts nothing"
    return "" if argv[0] != "eval" or (out/"summary.json").is_file() else "no summary"


def judged(argv, before):
    "What is wrong with what the command does; nothing if all is well."
    from cmet.cli import main
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err): code = main(argv)
        said, after = err.getvalue(), state(".")
        if code not in (0, 2): return f"exit {code}"
        if changed := [str(p) for p in before if after.get(p) != before[p]]: return f"changed {changed}"
        if half := [str(p) for p in after if re.search(r"\.(part|tmp|new|old)\b|\.part", p.name)]: return f"left {half}"
        lines = said.splitlines()
        if strange := [x for x in lines if not x.startswith("cmet: ")]: return f"said {strange[0][:200]}"
        if code == 2:
            if len(lines) != 1 or len(said) > 800: return f"{len(lines)} lines, {len(said)} characters: {said[:200]}"
            new = [p.parts[0] for p in after if p not in before]
            return f"exit 2 and wrote {new}" if argv[0] in ("edit", "train", "encode") and new else ""
        return checked(argv)
    except BaseException: return "traceback\n" + traceback.format_exc()


def memory(field):  # MB
    return int(re.search(rf"^{field}:\s+(\d+)", Path("/proc/self/status").read_text(), re.M)[1])/1024


def one(seeds, number, seed):
    "Make input `number`, try it; {number, kind, way, door, seconds, MB, wrong}."
    rng = np.random.default_rng([seed, number])
    kind, turn = KINDS[number % len(KINDS)], number//len(KINDS)
    door = turn % len(DOORS[kind])
    data = (seeds/OWN.get((kind, door), kind)).read_bytes()
    way, bad = damaged(rng, kind, data, [(seeds/k).read_bytes() for k in KINDS])
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.chdir(work)
    signal.alarm(LONG)
    try:
        argv = DOORS[kind][door](seeds, bad)
        if kind == "npy" and door == 4: put(Path("whisper_features/x.npy"), bad)
        start, before = time.monotonic(), state(".")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
        had = memory("VmRSS")
        wrong = judged(argv, before)
        took, peak = time.monotonic() - start, memory("VmHWM") - had
        if peak > MOST: wrong = wrong or f"took {peak:.0f} MB"
        return dict(number=number, kind=kind, way=way, door=argv[0], seconds=round(took, 2), MB=round(peak), wrong=wrong)
    finally:
        signal.alarm(0)
        os.chdir("/")
        if not os.environ.get("FUZZ_KEEP"): shutil.rmtree(work, ignore_errors=True)


# Many inputs

def warm(seeds):
    "Import and open what every input needs, once."
    warnings.simplefilter("ignore")
    for kind, door in (("mp4", 0), ("wav", 0), ("wav", 1), ("mp4", 3), ("npy", 1)):
        work = Path(tempfile.mkdtemp(prefix="fuzz-"))
        os.chdir(work)
        argv = DOORS[kind][door](seeds, (seeds/OWN.get((kind, door), kind)).read_bytes())
        if wrong := judged(argv, state(".")): raise SystemExit(f"a good {kind} fails at {argv}: {wrong}")
        os.chdir("/")
        shutil.rmtree(work)


def worker(seeds, numbers, seed, pipe):
    "Tries inputs one after the other, telling each before and after."
    say = lambda x: os.write(pipe, json.dumps(x).encode() + b"\n")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1); os.dup2(nowhere, 2)
    warm(seeds)
    room = int((memory("VmSize") + ROOM)*2**20)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    for number in numbers:
        say(dict(begins=number))
        say(one(seeds, number, seed))
    os._exit(0)


def lines_of(pipe, pid):
    "What a worker tells, line by line; one that stands still is killed."
    text = b""
    while True:
        if not select.select([pipe], [], [], 3*LONG)[0]: os.kill(pid, signal.SIGKILL)
        part = os.read(pipe, 1 << 16)
        if not part: return
        *whole, text = (text + part).split(b"\n")
        yield from map(json.loads, whole)


def tried(numbers, seed=0, seeds=None):
    "Results of inputs, by workers that are replaced where they die; a generator."
    seeds, todo = Path(seeds or tempfile.mkdtemp(prefix="seeds-")), list(numbers)
    os.environ["CMET_CACHE"] = str(seeds/"cache")
    if not (seeds/"ipynb").exists():
        if not (pid := os.fork()): make_seeds(seeds); os._exit(0)
        if os.waitpid(pid, 0)[1]: raise SystemExit("the good files cannot be made")
    while todo:
        there, here = os.pipe()
        if not (pid := os.fork()):
            try: worker(seeds, todo, seed, here)
            except BaseException: (seeds/"worker.txt").write_text(traceback.format_exc())
            os._exit(1)
        os.close(here)
        doing = None
        for told in lines_of(there, pid):
            doing = told.get("begins")
            if doing is None: todo.remove(told["number"]); yield told
        os.close(there)
        status = os.waitpid(pid, 0)[1]
        if not todo: return
        if doing is None: raise SystemExit(f"a worker does not start: {(seeds/'worker.txt').read_text()}")
        kind, name = KINDS[doing % len(KINDS)], signal.Signals(status & 127).name if status & 127 else f"exit {status >> 8}"
        todo.remove(doing)
        yield dict(number=doing, kind=kind, way="", door="", seconds=LONG, MB=0, wrong=f"death by {name}")


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("n", nargs="?", type=int, default=2000)
    for name in "seed", "first": p.add_argument(f"--{name}", type=int, default=0)
    p.add_argument("--all", action="store_true", help="tell of every input")
    p.add_argument("--seeds", help="folder of good files, made if it is empty")
    a = p.parse_args()
    start, count, worst = time.monotonic(), {}, []
    for r in tried(range(a.first, a.first + a.n), a.seed, a.seeds):
        count[r["kind"]] = count.get(r["kind"], 0) + 1
        worst.append((r["seconds"], r["MB"]))
        if r["wrong"] or a.all: print(f"{r['number']}: {r['kind']} {r['way']} {r['door']} {r['seconds']} s {r['MB']} MB: {r['wrong']}", flush=True)
        failed = r["wrong"] and 1
        count["failed"] = count.get("failed", 0) + (failed or 0)
    took, failed = time.monotonic() - start, count.pop("failed")
    print(f"{len(worst)} inputs of seed {a.seed} in {took:.0f} s, {failed} failed; longest {max(w[0] for w in worst)} s, largest "
          f"{max(w[1] for w in worst)} MB; " + ", ".join(f"{k} {n}" for k, n in count.items()))
    return failed and 1


if __name__ == "__main__": sys.exit(main())
