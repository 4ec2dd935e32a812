"""The `cmet` command from outside: speed, silence, exit status, the demo."""
import ast
import functools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import warm
from skimage.data import astronaut

from cmet import cli
from cmet.cli import COMMANDS, main, parser
from cmet.core import builtin
from cmet.io import terminal
from cmet.io.media import open_video, write_video
from cmet.io.terminal import terminable

COMMAND = "import sys; from cmet.cli import main; sys.exit(main())"
HEAVY = "torch funasr mediapipe pandas scipy av matplotlib soundfile opensmile cv2 sklearn skimage".split()
UNUSED = "torch matplotlib.pyplot scipy.signal scipy.stats funasr sklearn skimage opensmile transformers yaml papermill IPython".split()


def cmet(*argv, **more):
    argv = [sys.executable, "-c", COMMAND, *map(str, argv)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, **more)


def test_help():
    run = cmet("--help")
    assert run.returncode == 0 and run.stderr == "" and all(c in run.stdout for c in COMMANDS)
    assert "exit status: 0 done, also where of many files some were set aside" in run.stdout


@pytest.mark.parametrize("argv", [["encode", "d", "--encoder", "egemaps"], ["edit", "d", "--vector", "happy", "--preview"]])
def test_some_bad_files_are_no_failure_and_are_named_but_nothing_good_is_one(argv, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    good, bad = ("ann/happy/1.flac", "ann/happy/2.wav") if argv[0] == "encode" else ("a.mp4", "b.mp4")
    (tmp_path/"d"/good).parent.mkdir(parents=True)
    shutil.copy(builtin("speech/F01_happy_3_001.flac" if argv[0] == "encode" else "portrait.mp4"), tmp_path/"d"/good)
    (tmp_path/"d"/bad).write_text("my notes")
    kind = "clip" if argv[0] == "encode" else "file"
    assert main([*argv, "-o", "out"]) == 0
    assert f"out.rejected.csv: 1 {kind} set aside, with reasons: {bad}\n" in capsys.readouterr().out and bad in (tmp_path/"out.rejected.csv").read_text()
    (tmp_path/"d"/good).unlink()
    assert main([*argv, "-o", "none"]) == 2 and "cmet: none of 1 " in capsys.readouterr().err and not (tmp_path/"none").exists()


@pytest.mark.parametrize("module", ["cmet", "cmet.cli"])
def test_no_heavy_import(module):
    code = f"import sys, {module}; print(*[m for m in {HEAVY} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


def test_a_preview_loads_nothing_that_it_does_not_use(tmp_path):
    "Torch, plotting, and the filters for another rate: two seconds on each start."
    code = f"import sys; from cmet.cli import main; main(sys.argv[1:]); print(*[m for m in {UNUSED} if m in sys.modules])"
    argv = ["edit", str(builtin("portrait.mp4")), "-o", str(tmp_path/"x.png"), "--preview", "--vector", "happy"]
    run = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, check=True)
    assert "a few moments" in run.stdout and run.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("more, whole", [([], "one moment; without --preview, 3 s without sound"), (["--strength", "1", "0"], "one moment"),
                                         (["--curve", "0 neutral -> 1 happy"], "a few moments; without --preview, the whole video")])
def test_a_pictures_preview_is_one_moment_unless_it_changes(tmp_path, capsys, more, whole):
    from PIL import Image
    Image.fromarray(next(open_video(builtin("portrait.mp4")).frames())).save(tmp_path/"face.png")
    words = more if "--curve" in more else ["--vector", "happy", *more]
    assert main(["edit", str(tmp_path/"face.png"), "--preview", *words, "-o", str(tmp_path/"x.png")]) == 0
    assert f"x.png: {whole}" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["cmet", "cmet.cli"])
def test_the_command_as_a_module(module):
    run = lambda *argv: subprocess.run([sys.executable, "-m", module, *argv], capture_output=True, text=True, timeout=300)
    assert run("--version").stdout.startswith("cmet ") and run("edit", "--help").stdout.startswith("usage: cmet edit")
    bad = run("audit", "nowhere")
    assert bad.returncode == 2 and bad.stderr.count("\n") == 1 and bad.stderr.startswith("cmet: 'nowhere' is no folder")


@pytest.mark.parametrize("argv", [["--help"], ["audit", "d"], ["assets", "list"], ["edit", "--help"]])
def test_a_reader_that_goes_away_ends_the_command_quietly(argv, tmp_path):
    "`cmet … | head -1`: here the reader is gone before anything is printed."
    for k in range(3):
        (tmp_path/"d"/f"s{k}"/"happy").mkdir(parents=True)
        (tmp_path/"d"/f"s{k}"/"happy"/"a.wav").touch()
    for buffered in "", "1":
        run = subprocess.Popen([sys.executable, "-m", "cmet", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               cwd=tmp_path, env=os.environ | {"PYTHONUNBUFFERED": buffered})
        run.stdout.close()
        assert run.stderr.read() == "" and run.wait(300) == 0
        run.stderr.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device without room")
@pytest.mark.parametrize("argv", [["--help"], ["audit", "d"], ["assets", "list"]])
def test_output_that_finds_no_room_is_one_line(argv, tmp_path):
    for k in range(3):
        (tmp_path/"d"/f"s{k}"/"happy").mkdir(parents=True)
        (tmp_path/"d"/f"s{k}"/"happy"/"a.wav").touch()
    with open("/dev/full", "w") as full:
        run = subprocess.run([sys.executable, "-m", "cmet", *argv], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (2, "cmet: no space left on the disk: choose another folder, or make room\n")


def test_the_pipe_of_a_worker_is_another_matter(monkeypatch):
    def lost(args): raise BrokenPipeError
    monkeypatch.setitem(cli.COMMANDS, "audit", (lost, cli.audit_arguments))
    lost.__doc__ = cli.audit.__doc__
    with pytest.raises(BrokenPipeError): main(["audit", "d"])


def test_version():
    import cmet as package
    assert cmet("--version").stdout.strip() == f"cmet {package.__version__}"


@pytest.mark.parametrize("command", [*COMMANDS])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop: main([command, "--help"])
    assert stop.value.code == 0 and "usage: cmet " + command in capsys.readouterr().out


def test_help_lists_what_there_is(monkeypatch, capsys):
    "Also what has joined since; and the other helps do not look."
    from cmet.face.codecs import CODECS
    from cmet.mappers.registry import MAPPERS
    from cmet.speech.encoders import ENCODERS
    monkeypatch.setitem(CODECS, "newest", object)
    shown = {}
    for command in "edit", "encode", "train":
        with pytest.raises(SystemExit): main([command, "--help"])
        shown[command] = capsys.readouterr().out.split()
    named = {c: {w.strip(",.") for w in words} for c, words in shown.items()}
    assert {"newest", *CODECS, *ENCODERS} <= named["encode"] and {"newest", *MAPPERS, *ENCODERS} <= named["edit"]
    assert set(MAPPERS) <= named["train"]
    monkeypatch.setattr(terminal.Help, "_expand_help", lambda *_: 1/0)
    assert all(isinstance(a, cli.argparse.Action) for a in parser()._actions), "made without a look"


@pytest.mark.parametrize("argv", [["--help"], ["crop", "--help"]])
def test_help_at_once(argv):
    "No registry is loaded for a help that lists none."
    code = f"import sys; from cmet.cli import main\ntry: main({argv})\nexcept SystemExit: print('LOADED', *[m for m in sys.modules if 'encoders' in m])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "LOADED"


def test_every_option_of_edit_has_help():
    edit = parser()._subparsers._group_actions[0].choices["edit"]
    assert all(a.help for a in edit._actions)
    for option in "--to --from --vector --strength --mapper --codec --encoder --force --out".split():
        assert option in edit.format_help()


@pytest.mark.parametrize("argv", [[], ["fly"], ["edit"], ["demo", "x"], ["studio", "--seed", "one"], ["--nope"]])
def test_wrong_arguments_are_one_line(argv, capsys):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and re.fullmatch(r"cmet: .+: .+\n", err)


@pytest.mark.parametrize("argv, said", [
    ("edit a.mp4 -o b.mp4 --prev", "'--prev' is not understood: use --preview"),
    ("edit a.mp4 -o b.mp4 --preview=x", "--preview takes no value, and is given 'x': leave it out"),
    ("edit a.mp4 c.mp4 -o b.mp4", "'c.mp4' is not understood: name one VIDEO, or a folder of them; speech goes after --to, the name of an emotion after --vector"),
    ("crop a.mp4 c.mp4 -o b.mp4", "'c.mp4' is not understood: see `cmet crop --help`"),
    ("edit a.mp4 --audio c.wav", "'--audio' is not understood: use --to FILE for the emotion of its speech; with --codec edtalk, --lips FILE has the face say it"),
    ("edit -i a.mp4 -o b.mp4", "'-i' is not understood: VIDEO stands first, without an option"),
    ("edit --input=a.mp4 -o b.mp4", "'--input=a.mp4' is not understood: VIDEO stands first, without an option"),
    ("edit a.mp4 --output b.mp4", "'--output' is not understood: use --out"),
    ("edit a.mp4 --vector -o b.mp4", "--vector has no value: give one; where it begins with -, write --vector=-X"),
    ("edit a.mp4", "no -o/--out given: see `cmet edit --help`"),
    ("crop a.mp4 -o b.mp4 --face up", "unknown --face 'up': use 'largest', 'left', 'right'")])
def test_wrong_arguments_have_a_remedy(argv, said, capsys):
    assert main(argv.split()) == 2 and capsys.readouterr().err.replace("largest, left, right", "'largest', 'left', 'right'") == f"cmet: {said}\n"


@pytest.mark.parametrize("verb", ["get", "where"])
def test_an_asset_that_is_not_named_is_asked_for(verb, capsys):
    assert main(["assets", verb]) == 2
    assert capsys.readouterr().err == "cmet: no asset is named: `cmet assets list` shows their names\n"


def test_assets_are_listed(capsys):
    assert main(["assets"]) == 0 and "face_landmarker.task" in capsys.readouterr().out
    assert main(["assets", "list"]) == 0 and main(["assets", "shelve"]) == 2


@pytest.mark.parametrize("command, ends", [("demo", "cmet: stopped\n"), ("studio", "cmet: stopped\n")])
def test_a_stopped_command_says_only_what_is_true(command, ends, monkeypatch, capsys, tmp_path):
    def stop(*_, **__): raise KeyboardInterrupt
    import cmet.edit.demo
    import cmet.corpus.studio
    monkeypatch.setattr(cmet.edit.demo, "make_demo", stop)
    monkeypatch.setattr(cmet.corpus.studio, "make", stop)
    assert main([command, "--out", str(tmp_path)]) == 130 and capsys.readouterr().err == ends


def test_notes_are_the_kits_own(monkeypatch, capsys):
    import warnings
    import cmet.io.assets
    from cmet.core import warn
    def noisy():
        warn("ours")
        warnings.warn_explicit("also ours", UserWarning, cmet.io.assets.__file__, 1)
        warnings.warn_explicit("theirs", UserWarning, "/home/me/cmet/.venv/lib/other.py", 1)
        return "a list"
    monkeypatch.setattr(cmet.io.assets, "overview", noisy)
    assert main(["assets"]) == 0 and capsys.readouterr().err == "cmet: note: ours\ncmet: note: also ours\n"


def test_silence_leaves_pythons_own_voice():
    code = ("import os, sys; from cmet.cli import quiet\nwith quiet(): os.write(2, b'native'); print('ours', file=sys.stderr)\n"
            "print('after', file=sys.stderr)")
    err = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    assert err == "ours\nafter\n"


def test_studio_is_called_with_its_arguments(monkeypatch, tmp_path, capsys):
    import cmet.corpus.studio
    calls = []
    monkeypatch.setattr(cmet.corpus.studio, "make", lambda out, seed, force=False: calls.append((out, seed)) or out)
    assert main(["studio", "--out", str(tmp_path), "--seed", "3"]) == 0
    assert [(str(o), s) for o, s in calls] == [(str(tmp_path), 3)]


def test_bugs_are_not_hidden(monkeypatch):
    import cmet.io.assets
    def broken(): raise ZeroDivisionError
    monkeypatch.setattr(cmet.io.assets, "where", broken)
    with pytest.raises(ZeroDivisionError): main(["assets"])


@pytest.fixture(scope="module")
def long_talk(tmp_path_factory):
    warm.ready()
    face = astronaut()[:256, 96:352]
    return write_video(tmp_path_factory.mktemp("long")/"talk.mp4", (face for _ in range(400)), 25)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["tracking", "writing"])
def test_stopping_leaves_no_file(long_talk, sig, when):
    folder = long_talk.parent
    job = warm.start("edit", "talk.mp4", "--vector", "happy", "-o", "new.mp4", cwd=folder)
    end = time.time() + 90
    while time.time() < end and job.poll() is None:
        if when == "tracking" and time.time() > end - 89: break
        with suppress(FileNotFoundError):  # one of them was there for a moment only
            if when == "writing" and any(p.name.startswith(".") and p.stat().st_size for p in folder.iterdir()): break
        time.sleep(.01)
    assert job.poll() is None, "it ended before it could be stopped"
    job.send_signal(sig)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 130, err
    assert err == "cmet: stopped, nothing was written\n"
    assert [p.name for p in folder.iterdir()] == ["talk.mp4"]


@pytest.mark.parametrize("sig", ["SIGINT", "SIGTERM"])
def test_a_module_that_is_being_loaded_is_loaded_before_the_stop(sig, tmp_path):
    (tmp_path/"slow.py").write_text(f"import os, signal, time\nos.kill(os.getpid(), signal.{sig})\ntime.sleep(.3)\nprint('loaded')")
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\nfrom cmet.cli import terminable\n"
            "try:\n  with terminable():\n    import slow, time\n    time.sleep(20)\nexcept KeyboardInterrupt: print('stopped')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.stdout == "loaded\nstopped\n", done.stderr


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_lock_is_let_go_before_the_stop(sig):
    "A signal that comes when a queue has just taken its lock, and before the `with` that would let it go: a thread would wait for ever."
    let_go, waited, lock = [], [], threading.Condition()
    lock._lock = type("Lock", (), {"__enter__": functools.partial(signal.raise_signal, sig), "__exit__": lambda *_: let_go.append(True)})()
    before = signal.signal(sig, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), terminable():
            with lock: time.sleep(20)
        with pytest.raises(KeyboardInterrupt), terminable():  # who only waits is not kept from ending
            threading.Timer(.1, os.kill, (os.getpid(), sig)).start()
            waited.append(threading.Event().wait(20))
    finally: signal.signal(sig, before)
    assert let_go and not waited


def test_edit_prints_where_the_result_is(tmp_path):
    write_video(tmp_path/"talk.mp4", [astronaut()[:256, 96:352]]*5, 25)
    run = cmet("edit", "talk.mp4", "--vector", "happy", "-o", "new.mp4", cwd=tmp_path)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    heard, *files = run.stdout.splitlines()
    assert re.fullmatch(r"by name: the voices it learned from sound happy \d+% on average \(by [\w-]+\), strength 1", heard), "what was understood comes first"
    assert [line.split(":")[0] for line in files] == ["new.mp4", "new.json"]
    assert all((tmp_path/n).stat().st_size for n in ("new.mp4", "new.json"))


def test_lost_faces_are_counted_in_a_note(tmp_path):
    face, cup = astronaut()[:256, 96:352], np.full((256, 256, 3), 90, np.uint8)
    write_video(tmp_path/"talk.mp4", [face]*8 + [cup]*4, 25)
    run = warm.run("edit", "talk.mp4", "--vector", "happy", "-o", "new.mp4", cwd=tmp_path)
    assert run.returncode == 0 and open_video(tmp_path/"new.mp4").n_frames == 12
    assert re.fullmatch(r"cmet: note: .*\b4\b.*\n", run.stderr), run.stderr


def test_folders_that_cannot_be_made(tmp_path, capsys):
    (tmp_path/"file").write_text("x")
    for command in "demo", "studio":
        assert main([command, "--out", str(tmp_path/"file")]) == 2
        assert re.fullmatch(r"cmet: cannot make folder '.*file'.*: .*\n", capsys.readouterr().err)


@pytest.mark.parametrize("page, options", [("lab", "LAB"), ("app", "APP")])
def test_a_page_starts_without_a_librarys_warnings(page, options, tmp_path):
    "What `make lab` and `make app` print before anybody visits them; and the explorer's page, when somebody does."
    if not shutil.which("make"): pytest.skip("no make here")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "JUPYTER", "JPY", "PYTHONWARNINGS"))}
    env |= {f"JUPYTER_{k}_DIR": str(tmp_path/k) for k in ("CONFIG", "DATA", "RUNTIME")}
    line = ["make", "-o", "install", page, f"VENV={sys.prefix}", f"{options}=--no-browser --port={port}"]  # -o: as installed
    with open(tmp_path/"log", "w+") as log:
        server = subprocess.Popen(line, cwd=builtin().parent, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            end = time.monotonic() + 90
            while f"localhost:{port}/" not in (said := (tmp_path/"log").read_text()):
                assert server.poll() is None and time.monotonic() < end, said[-2000:]
                time.sleep(.1)
            if page == "app": _visit(re.search(r"http://\S+", said)[0])
            said = (tmp_path/"log").read_text()
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)
    assert not re.search("warning|deprecated|not trusted|cannot be longer", said, re.I), said


def _visit(address):
    "Open the page and the line to its kernel, as a browser does."
    import websocket
    from http.cookiejar import CookieJar
    from urllib.request import HTTPCookieProcessor, build_opener
    read = build_opener(HTTPCookieProcessor(CookieJar())).open(address, timeout=60).read().decode()
    kernel = re.search(r'"kernelId": "([-0-9a-f]+)"', read)[1]
    place, token = address.split("//")[1].split("/?")
    websocket.create_connection(f"ws://{place}/api/kernels/{kernel}/channels?session_id=me&{token}", timeout=60).close()


def test_a_signal_that_meets_a_lock_is_still_a_stop():
    "A wait that is interrupted between letting its lock go and waiting cannot let it go again, and Python says only that."
    from cmet.io.terminal import terminable
    with pytest.raises(KeyboardInterrupt), terminable():
        try: raise KeyboardInterrupt
        finally: threading.Lock().release()
    with pytest.raises(RuntimeError), terminable(): threading.Lock().release()


def test_bars_are_for_whoever_looks_on(tmp_path, capfd):
    "In a file or a pipe a bar is a long line of carriage returns; one function makes the kit's bars, and asks who looks on (`io.progress`)."
    from cmet.corpus.corpus import encode_corpus
    from cmet.corpus.studio import call_sheet, record
    from cmet.speech.encoders import speech_encoder
    from cmet.train.loop import _bar
    files = sorted(builtin("speech").glob("F01_happy_3_00[12].flac"))
    encode_corpus([dict(audio=str(f)) for f in files], speech_encoder("egemaps"), progress=True)
    list(record(call_sheet(sentences=1)[:2], tmp_path, progress=True))
    _bar(10, 0).close()
    assert capfd.readouterr().err == ""
    asked = [p.name for p in Path(cli.__file__).parent.rglob("*.py") for n in ast.walk(ast.parse(p.read_text("utf-8")))
             if isinstance(n, ast.Call) and ast.unparse(n.func) == "tqdm"]
    assert asked == ["progress.py"]


def test_left_and_right_say_whose(capsys):
    "Of a face's parts the person's own; of several faces, sides of the picture."
    with suppress(SystemExit): main(["edit", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "or the person's own left or right, times K, 0 to 2: mouth=0 left=1.5" in said and "several: largest, or that on the picture's left or right (for mesh: first cmet crop --face)" in said
