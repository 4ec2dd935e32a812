"""Two at once, and what is the user's: one lock for each output, one way to take a name, nothing foreign is touched unasked."""
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import warm

from cmet.cli import main
from cmet.core import CmetError, builtin, sha256
from cmet.corpus.corpus import FILES, read_corpus, write_corpus
from cmet.corpus.studio import demo_speech
from cmet.io.claims import claimed, hidden, listed
from cmet.io.download import fetch
from cmet.io.files import atomic, atomic_folder
from cmet.io.media import open_video, write_video
from test_experiment import notebook


def together(*commands, cwd):
    "Two commands at once: exit statuses and error lines, the one that did it first."
    jobs = [warm.start(*c, cwd=cwd) for c in commands]
    return sorted((j.returncode, err) for j in jobs for _, err in [j.communicate(timeout=300)])


def names(folder): return sorted(p.name for p in Path(folder).iterdir())


@pytest.fixture
def place(tmp_path):
    "Six recordings, and a second of the portrait."
    for e in ("neutral", "happy", "sad"):
        for path in demo_speech(e)[:2]:
            (tmp_path/"data"/"F01"/e).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path/"data"/"F01"/e)
    source = open_video(builtin("portrait.mp4"))
    frames = [f for f, _ in zip(source.frames(), range(8))]
    write_video(tmp_path/"me.mp4", frames, source.fps)
    return tmp_path


# Two at once

@pytest.mark.parametrize("argv, out", [
    (("encode", "data", "-o", "out", "--encoder", "whisper"), "out"),
    (("edit", "me.mp4", "--vector", "happy", "-o", "out.mp4"), "out.mp4"),
    (("train", "-o", "out.safetensors", "--mapper", "transformer", "--set", "steps=20", "batch=8"), "out.safetensors")])
def test_of_two_at_once_one_does_it_and_one_says_so(place, argv, out):
    before = names(place)
    (first, _), (second, err) = together(argv, argv, cwd=place)
    assert (first, second) == (0, 2), err
    assert err.count("\n") == 1 and f"'{out}" in err.replace(f"{place}/", "") and ("is being written" in err or "exists" in err), err
    assert names(place) == sorted({*before, out, *(["out.json"] if out == "out.mp4" else [])}), "and nothing else is left"
    if out == "out": assert len(read_corpus(place/"out", verify=True)) == 6


def test_two_grids_run_what_they_share_once(tmp_path):
    notebook(tmp_path/"work.ipynb", work="open('log', 'a').write('x')\nimport time; time.sleep(2)\n"
             "from cmet.experiments.runs import report\nreport({'v': 1}, out)")
    for name, values in ("a", "[1, 2]"), ("b", "[2, 3]"):
        (tmp_path/f"{name}.yaml").write_text(f"template: work.ipynb\nparameters: {{a: {values}}}\n")
    ended = together(("run", "a.yaml"), ("run", "b.yaml"), cwd=tmp_path)
    assert [code for code, _ in ended] == [0, 0], ended
    assert (tmp_path/"log").read_text() == "xxx" and len(list((tmp_path/"runs").glob("*/done.json"))) == 3
    assert not list((tmp_path/"runs").glob(".*.lock"))


def test_a_report_with_other_settings_does_not_replace_the_first(tmp_path):
    from cmet.experiments.runs import run_grid
    notebook(tmp_path/"work.ipynb", work="from cmet.experiments.runs import report\nreport({'v': 1}, out)")
    notebook(tmp_path/"report.ipynb", parameters="runs = None\ngrid = None\nabout = ''\nout = None", work="print(grid)")
    (tmp_path/"g.yaml").write_text("template: work.ipynb\nparameters: {a: [1]}\nreport: {template: report.ipynb}\n")
    first = run_grid(tmp_path/"g.yaml", tmp_path/"runs", progress=False)
    text = first.report.read_bytes()
    other = run_grid(tmp_path/"g.yaml", tmp_path/"runs", settings=["a=2"], progress=False)
    assert other.report != first.report and first.report.read_bytes() == text
    assert json.loads((tmp_path/"runs"/"g.json").read_text())["runs"] == first.ids


def test_twenty_explorers_save_twenty_pictures(tmp_path):
    from cmet.explorer.export import new_name, save_png
    start = threading.Barrier(20)
    def save(k):
        start.wait()
        with new_name(tmp_path, "happy", ".png") as path: return save_png(path, np.full((4, 4, 3), k, np.uint8))
    with ThreadPoolExecutor(20) as pool: made = list(pool.map(save, range(20)))
    assert len(set(made)) == 20 and len(names(tmp_path)) == 20


def test_writers_of_one_file_take_turns(tmp_path):
    def write(k):
        with atomic(tmp_path/"x") as temp: temp.write_text(str(k)*1000)
    with ThreadPoolExecutor(8) as pool: list(pool.map(write, [k % 10 for k in range(200)]))
    assert names(tmp_path) == ["x"] and len(set((tmp_path/"x").read_text())) == 1


def test_what_appears_meanwhile_is_not_replaced(tmp_path):
    with pytest.raises(CmetError, match="exists"), atomic(tmp_path/"x", force=False) as temp:
        temp.write_text("ours")
        (tmp_path/"x").write_text("theirs")
    assert names(tmp_path) == ["x"] and (tmp_path/"x").read_text() == "theirs"


def test_a_folder_whose_replacement_was_killed_comes_back(tmp_path):
    for text in "old", "new":
        with atomic_folder(tmp_path/"f", ["x"]) as new: (new/"x").write_text(text)
    os.replace(tmp_path/"f", hidden(tmp_path/"f", "old"))
    with pytest.raises(CmetError, match="holds other files"), atomic_folder(tmp_path/"f", ["y"]): pass
    assert (tmp_path/"f"/"x").read_text() == "new" and names(tmp_path) == ["f"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_of_a_corpus_is_refused(tmp_path, name):
    folder, luck = write_corpus(read_corpus("studio").select(range(8)), tmp_path/"c"), np.random.default_rng(0)
    good = (folder/name).read_bytes()
    for _ in range(20):
        bad = bytearray(good)
        bad[luck.integers(len(bad))] ^= 1 << luck.integers(8)
        (folder/name).write_bytes(bad)
        try: again = read_corpus(folder)
        except CmetError: continue
        assert name == "meta.json" and again.meta == json.loads(good) | {"meta_sha256": None} or bad.split() == good.split(), "white space"


# What is the user's

MINE = {"encode": (("encode", "data", "-o", "out"), ["out.rejected.csv", "out.part/notes.txt"]),
        "demo": (("demo", "--out", "out"), ["out/demo.mp4", "out/demo.png"]),
        "studio": (("studio", "--out", "out"), ["out/portrait.mp4", "out/speech/F01_happy_3_001.flac", "out/studio/x"]),
        "train": (("train", "-o", "m.safetensors", "--folder", "out", "--set", "steps=2", "batch=8"),
                  ["out/log.csv", "out/trained.safetensors"]),
        "part": (("train", "-o", "m.safetensors", "--set", "steps=2", "batch=8"), ["m.safetensors.part/x"]),
        "run": (("run", "g.yaml", "-o", "out"), ["out/g.json", "out/report-g/x"]),
        "eval": (("eval", "films", "-o", "out", "--source", "me.mp4"), ["out/metrics.csv", "out/summary.md", "out/summary.json", "out/confusion.png"])}

@pytest.mark.parametrize("kind, name", [(k, n) for k, (_, some) in MINE.items() for n in some])
def test_what_is_not_the_kits_is_never_touched(place, kind, name, monkeypatch, capsys):
    monkeypatch.chdir(place)
    notebook("work.ipynb")
    Path("g.yaml").write_text("template: work.ipynb\nparameters: {a: [1]}\n")
    Path("films").mkdir()
    shutil.copy("me.mp4", "films/anna_happy.mp4")
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("mine")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    assert main(list(MINE[kind][0])) == 2
    err = capsys.readouterr().err.strip()
    assert err.count("\n") == 0 and "not of the kit's making" in err, err
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before, "nothing is replaced, nothing left"


def test_what_the_kit_has_put_there_is_replaced(place, monkeypatch):
    from cmet.evaluate.report import RESULTS
    monkeypatch.chdir(place)
    Path("films").mkdir()
    shutil.copy("me.mp4", "films/anna_happy.mp4")
    again = ["eval", "films", "-o", "out", "--source", "me.mp4"]
    Path("out").mkdir(); Path("out/summary.md").write_text("mine")
    assert main([*again]) == 2 and main([*again, "--force"]) == 0 and main(again) == 0
    assert set(listed("out")) == set(RESULTS) and "mine" not in Path("out/summary.md").read_text()


def test_a_video_never_stands_beside_the_story_of_another(place):
    "Killed after the mp4 of a second edit has its name, before the JSON has."
    assert warm.start("edit", "me.mp4", "--vector", "happy", "-o", "out.mp4", cwd=place).wait() == 0
    first = (place/"out.mp4").read_bytes()
    fuse = ("import os, signal\nreal = os.replace\ndef fuse(a, b):\n    if str(b) == 'out.json': os.kill(os.getpid(), signal.SIGKILL)\n"
            "    real(a, b)\nos.replace = fuse\n")
    again = ["edit", "me.mp4", "--vector", "sad", "-o", "out.mp4", "--force"]
    assert warm.Started(exec, f"{fuse}from cmet.cli import main; main({again})", {}, cwd=place).wait() == -9
    assert (place/"out.mp4").read_bytes() != first and not (place/"out.json").exists()
    assert warm.start("edit", "me.mp4", "--vector", "sad", "-o", "out.mp4", "--force", cwd=place).wait() == 0
    story = json.loads((place/"out.json").read_text())
    assert story["output"]["sha256"] == sha256(place/"out.mp4")
    assert names(place) == ["data", "me.mp4", "out.json", "out.mp4"]


def test_a_claim_ends_with_its_owner(tmp_path):
    code = f"from cmet.io.claims import claimed\nwith claimed({str(tmp_path/'x')!r}): print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        assert p.stdout.readline() == "held\n"
        with pytest.raises(CmetError, match="being written by another process"), claimed(tmp_path/"x"): pass
        p.kill()
    with claimed(tmp_path/"x"): pass
    assert names(tmp_path) == []


# Windows, played: locks of bytes that even their holder cannot take twice, and open files that nobody can delete or rename

class Windows:
    LK_NBLCK = 2
    def __init__(self, monkeypatch):
        import fcntl
        self.flock, self.flags, self.unlink, self.one = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB, os.unlink, threading.Lock()
        monkeypatch.setitem(sys.modules, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", self)
        monkeypatch.setattr(os, "unlink", self.delete)
        self.real = os.replace
        monkeypatch.setattr(os, "replace", self.rename)

    def locking(self, fd, mode, n):
        assert (mode, n) == (self.LK_NBLCK, 1)
        with self.one:
            try:
                with open(f"/proc/self/fd/{fd}", "rb") as another: self.flock(another, self.flags)  # fails also for our own
                self.flock(fd, self.flags)
            except BlockingIOError: raise PermissionError(13, "Permission denied") from None

    def closed(self, path):
        for fd in os.listdir("/proc/self/fd"):
            try: same = os.path.samestat(os.fstat(int(fd)), os.lstat(path))
            except OSError: continue
            if same: raise PermissionError(13, "The process cannot access the file")

    def delete(self, path, **how): self.closed(path); self.unlink(path, **how)
    def rename(self, path, to): self.closed(path); self.closed(to); self.real(path, to)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_windows_keeps_others_out_too(tmp_path, monkeypatch):
    Windows(monkeypatch)
    taken, turns = [], []
    def second(**how):
        try:
            with claimed(tmp_path/"x", **how): turns.append("second")
        except CmetError as e: taken.append(str(e))
    hidden(tmp_path/"killed.mp4", "part.mp4").touch()
    with claimed(tmp_path/"x"):
        assert names(tmp_path) == [hidden(tmp_path/"x", "lock").name]  # and what was left by who is gone is swept
        for how in {}, dict(wait=True):
            (t := threading.Thread(target=second, kwargs=how)).start()
            t.join(.3)
        turns.append("first")
    t.join(30)
    assert taken == [f"'{tmp_path/'x'}' is being written by another process: wait for it, or choose another name"]
    assert turns == ["first", "second"] and names(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
def test_on_windows_writers_of_one_file_take_turns(tmp_path, monkeypatch):
    Windows(monkeypatch)
    def write(k):
        with atomic(tmp_path/"x.txt") as temp: temp.write_text(str(k)*1000)
    with ThreadPoolExecutor(4) as pool: list(pool.map(write, range(12)))
    assert len(set((tmp_path/"x.txt").read_text())) == 1 and names(tmp_path) == ["x.txt"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux does")
@pytest.mark.parametrize("sound", [True, False])
def test_on_windows_two_downloads_do_not_mix(tmp_path, monkeypatch, sound):
    "Nor does an open part keep its name, or stay where it is the wrong file."
    Windows(monkeypatch)
    content, begun, told = bytes(1000), threading.Event(), threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:500])
            begun.set(); told.wait(30)
            self.wfile.write(content[500:])
        def log_message(self, *_): pass

    def check(part):
        if part.read_bytes() != content or not sound: raise CmetError("it is the wrong file", "report it")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    threading.Thread(target=server.serve_forever, args=(.02,), daemon=True).start()
    ask = lambda: fetch(f"http://127.0.0.1:{server.server_port}/x", tmp_path/"x", check=check, progress=False)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask)
        assert begun.wait(30)
        with pytest.raises(CmetError, match="being written by another process: wait for it$"): ask()
        told.set()
        if sound: assert first.result(30).read_bytes() == content
        else:
            with pytest.raises(CmetError, match="the wrong file"): first.result(30)
    server.shutdown(); server.server_close()
    assert names(tmp_path) == ["x"]*sound
