"""SIGKILL at random moments, also of two on one output, and a full disk: the same bytes in the end, nothing left, nothing of the user's lost.

`CMET_KILLS=20 python -m pytest tests/test_kills.py -s` kills each command twenty times and prints a table; without it, twice.
"""
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import warm

from cmet.core import builtin
from cmet.corpus.studio import demo_speech
from cmet.io.claims import LEFT, MARK
from cmet.io.media import open_video, write_video
from test_experiment import notebook

KILLS, SEED = int(os.environ.get("CMET_KILLS", 2)), int(os.environ.get("CMET_SEED", 0))
STUDIO = """import sys
from cmet.core import CmetError
from cmet.corpus.studio import make
try: make('out', speakers=('F01',), sentences=1, portrait=False, progress=False)
except CmetError as e: sys.exit(print(f"cmet: {e}", file=sys.stderr) or 2)  # as the command ends"""
JOBS = {"train": ["train", "-o", "out.safetensors", "--mapper", "transformer", "--set", "steps=60", "batch=8", "save=2", "every=5"],
        "encode": ["encode", "data", "-o", "out", "--encoder", "whisper"],
        "run": ["run", "g.yaml", "-o", "out"],
        "edit": ["edit", "me.mp4", "--vector", "happy", "-o", "out.mp4", "--force"],
        "studio": STUDIO}
MINE = {"out.txt": "mine", "out/notes.txt": "mine", ".hidden.part": "mine", "out.part.bak": "mine", ".out.mp4.tmp": "mine"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    "What the five commands need."
    here = tmp_path_factory.mktemp("inputs")
    for e in ("neutral", "happy", "sad", "angry"):
        for path in demo_speech(e)[:2]:
            (here/"data"/"F01"/e).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, here/"data"/"F01"/e)
    source = open_video(builtin("portrait.mp4"))
    write_video(here/"me.mp4", [f for f, _ in zip(source.frames(), range(16))], source.fps)
    notebook(here/"work.ipynb", work="import time; time.sleep(.5)\nfrom cmet.experiments.runs import report\nreport({'v': a}, out)")
    (here/"g.yaml").write_text("template: work.ipynb\nparameters: {a: [1, 2]}\n")
    warm.ready()
    return here


def start(job, folder, cache):
    own = {"CMET_CACHE": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    if job == "studio": return warm.Started(exec, STUDIO, {}, cwd=folder, env=os.environ | own | {"OMP_NUM_THREADS": "1"})
    return warm.start(*JOBS[job], cwd=folder, **own)


def ended(process, seconds=300):
    "Its exit status and error text, once nothing of it runs any more."
    err = process.communicate(timeout=seconds)[1]
    until = time.monotonic() + 20
    with suppress(ProcessLookupError):
        while time.monotonic() < until: os.killpg(process.pid, 0); time.sleep(.05)
    return process.returncode, err


def fresh(inputs, folder, job):
    "A folder with the inputs, and with files of the user's that look like the kit's."
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(inputs, folder)
    for name, text in MINE.items():
        if name.startswith("out/") and job == "encode": continue  # it wants a folder of its own
        (folder/name).parent.mkdir(exist_ok=True)
        (folder/name).write_text(text)
    return folder


def mine(folder): return {n: (folder/n).read_text() for n in MINE if (folder/n).is_file()}


def result(folder):
    "What a command has made, but for clocks; and what lies about."
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in ("done.json", "environment.json", "notebook.ipynb")]
    told = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()[:12] for p in files}
    left = sorted(n for n in told if LEFT.fullmatch(Path(n).name) or ".part/" in n and not n.startswith("out.part.bak"))
    return told, left


def whole(job, folder):
    "Is there a result?"
    if job == "run": return len(list(folder.glob("out/*/done.json"))) == 2
    return (folder/{"train": "out.safetensors", "encode": "out/meta.json", "edit": "out.json", "studio": "out/studio/meta.json"}[job]).exists()


def agree(folder):
    "A video and its JSON are of one edit."
    if not ((folder/"out.mp4").exists() and (folder/"out.json").exists()): return True
    return json.loads((folder/"out.json").read_text())["output"]["sha256"] == hashlib.sha256((folder/"out.mp4").read_bytes()).hexdigest()


def marks(folder): return {p.name for p in folder.rglob(".*") if p.name != MARK}


@pytest.fixture(scope="module")
def once(inputs, tmp_path_factory):
    "What each command makes when nobody kills it, and how long that takes; made when asked for."
    known = {}
    def of(job):
        if job not in known:
            folder, begin = fresh(inputs, tmp_path_factory.mktemp("once")/job, job), time.monotonic()
            code, err = ended(start(job, folder, folder.parent/"cache"))
            assert code == 0, err
            known[job] = *result(folder), time.monotonic() - begin
            assert known[job][1] == [] and marks(folder) <= {".hidden.part", ".out.mp4.tmp"}
        return known[job]
    return of


@pytest.mark.parametrize("two", [False, True], ids=["one", "two at once"])
@pytest.mark.parametrize("job", JOBS)
def test_killed_at_random_moments(inputs, once, tmp_path, job, two):
    wanted, _, seconds = once(job)
    most = max(1, KILLS//(1 + two))
    luck, folder, kills, rounds = random.Random(f"{SEED}{job}{two}"), tmp_path/"work", 0, 1
    fresh(inputs, folder, job)
    before = mine(folder)
    while kills < most:
        shutil.rmtree(tmp_path/"cache", ignore_errors=True)
        jobs = [start(job, folder, tmp_path/"cache") for _ in range(1 + two)]
        begun = time.monotonic()
        moment = begun + luck.uniform(.3, 1)*seconds*(1 + .7*two)
        while time.monotonic() < moment and any(j.poll() is None for j in jobs): time.sleep(.002)
        for j in jobs: j.send_signal(signal.SIGKILL)
        done = time.monotonic() - begun
        if any(code == -signal.SIGKILL for code, _ in [ended(j) for j in jobs]): kills += 1
        else: seconds = min(seconds, done)  # it was measured on a busier machine: at that pace no kill would ever come in time
        assert mine(folder) == before and agree(folder)
        if job != "edit" and whole(job, folder) and kills < most:  # it was done: begin anew
            fresh(inputs, folder, job); rounds += 1
    jobs = [start(job, folder, tmp_path/"cache") for _ in range(1 + two)]
    codes = sorted(ended(j) for j in jobs)
    done = whole(job, folder)
    assert done and all(code in (0, 2) for code, _ in codes), codes
    got, left = result(folder)
    assert left == [] and got == wanted and mine(folder) == before and agree(folder)
    print(f"\n| {job} | {'two at once' if two else 'one'} | {kills} kills in {rounds} rounds | same bytes | nothing left | nothing lost |")


@contextmanager
def small_disk(folder, megabytes):
    "A disk with little room; where none can be made, the test is skipped."
    folder.mkdir()
    size = f"size={megabytes}m"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], capture_output=True).returncode: pytest.skip("no disk can be mounted here")
    try: yield folder/"work"
    finally: subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("job", JOBS)
def test_a_full_disk(inputs, once, tmp_path, job):
    wanted, _, _ = once(job)
    with small_disk(tmp_path/"disk", 24) as folder:
        fresh(inputs, folder, job)
        before, told = mine(folder), result(folder)[0]
        room = os.statvfs(folder).f_bavail*os.statvfs(folder).f_frsize
        with open(folder.parent/"ballast", "wb") as f: f.write(bytes(room - 12_288))
        code, err = ended(start(job, folder, tmp_path/"cache"))
        assert code and (job == "studio" or code == 2 and err.count("\n") == 1 and "Traceback" not in err), err
        assert mine(folder) == before and {n: h for n, h in result(folder)[0].items() if n in told} == told
        assert not whole(job, folder)
        (folder.parent/"ballast").unlink()
        code, err = ended(start(job, folder, tmp_path/"cache"))
        assert code == 0, err
        got, left = result(folder)
        assert left == [] and got == wanted and mine(folder) == before
