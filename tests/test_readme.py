"""Every command of README.md is checked, and this is how.

- `make` lines: `make -n` says whether such a target exists and what it would run. (They are run for real by
  whoever runs the tests: `make test` cannot run itself, and `make lab` is in test_frame.)
- `cmet` lines and the Python block: run for real, with the arguments that the shell makes of them, in a folder that holds a copy of
  `data/`, its portrait cut to a second; for `cmet demo` the script is asked, which the wheel's test runs whole.
- `pip install` lines: the same packages as the Makefile installs; where make has made the environment, pip is
  asked (`--dry-run`) and must find nothing left to install. PyTorch's index is a public address, not asked.
- Windows lines: only compared with those of the other block; there is no Windows here.
"""
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import warm

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT/"README.md").read_text(encoding="utf-8")
TEXT = dict(capture_output=True, text=True)


def blocks(language): return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def lines(first, language="bash"):
    return [line for b in blocks(language) for line in b.splitlines() if shlex.split(line)[0] == first]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A folder in which the reader's commands are run."
    path = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT/"data", path/"data")
    cut(path/"data"/"portrait.mp4")
    return path


def cut(video, frames=25):
    "The same file with only its first frames, and its sound: whether a command finds what it needs does not depend on length."
    from cmet.io.media import open_video, write_video
    source = open_video(video)
    write_video(video.with_name("short.mp4"), islice(source.frames(), frames), source.fps, sound=video)
    video.with_name("short.mp4").replace(video)


def reader(command, folder, **more):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, timeout=300, **TEXT, **more)


def test_length_and_links():
    assert len(README.splitlines()) <= 150
    links = [a for a in re.findall(r"\]\(([^)]+)\)", README) if "://" not in a]
    assert len(links) > 20 and not [a for a in links if not (ROOT/a.partition("#")[0]).exists()]


def headings(book):
    "Of a notebook, as JupyterLab writes them into an address, and in how many words what is below them defines something."
    found, name = {}, None
    for cell in json.loads(book.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        for line in source.splitlines() if cell["cell_type"] == "markdown" else ():
            if line.startswith("#"): name, words = line.lstrip("# ").replace(" ", "-"), 0
            else: words += len(line.split())
        if cell["cell_type"] == "code" and re.search(r"(?m)^(def|class) ", source) and name: found.setdefault(name, words)
    return found


def test_a_link_to_a_part_of_a_notebook_leads_to_a_heading_with_its_code_in_sight():
    "Within a minute of reading, at four words a second."
    parts = [a.split("#") for a in re.findall(r"\]\((nbs/[^)]+#[^)]+)\)", README)]
    assert len(parts) == 5 and [(book, part) for book, part in parts if headings(ROOT/book).get(part, 999) > 240] == []


def listed(index):
    "The notebooks that an index links to."
    cells = json.loads(index.read_text("utf-8"))["cells"]
    links = re.findall(r"^- \[.*?\]\((.*?\.ipynb)\)", "".join("".join(c["source"]) + "\n" for c in cells), re.M)
    return {(index.parent/a).resolve() for a in links}


def test_every_room_has_its_place_and_every_notebook_its_room():
    nbs, named = ROOT/"nbs", {(ROOT/a).resolve() for a in re.findall(r"\((nbs/\S+?\.ipynb)\)", README)}
    assert not {*nbs.glob("*.ipynb"), *nbs.glob("[0-9]*/00_index.ipynb")} - named, "README names every room"
    for index in nbs.glob("[0-9]*/**/00_index.ipynb"):
        books = {p for p in [*index.parent.glob("*.ipynb"), *index.parent.glob("*/00_index.ipynb")] if p != index}
        assert books and books == listed(index), f"{index.parent.name}: its index names every notebook of it"


def test_the_picture_is_small():
    picture, = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert (ROOT/picture).stat().st_size < 400_000


def test_every_line_is_of_a_kind_that_is_checked():
    kinds = {shlex.split(line)[0] for b in blocks("bash") for line in b.splitlines()}
    assert kinds == {"make", "cmet", "python3", ".", "pip"}
    assert set(re.findall(r"```(\w+)", README)) == {"bash", "python", "powershell"}


@pytest.mark.parametrize("line", lines("make") + ["make lab", "make nbs", "make bench", "make docs"])
def test_make(line):
    if not shutil.which("make"): pytest.skip("no make here")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run([*shlex.split(line), "-n"], cwd=ROOT, env=env, **TEXT)
    assert run.returncode == 0, run.stderr
    wanted = {"demo": "cmet demo", "test": "pytest", "lab": "jupyter lab", "nbs": "nbconvert", "bench": "train_step.py", "docs": "build.py"}
    assert wanted[line.split()[1]] in run.stdout and f"`{line}`" in README


@pytest.mark.parametrize("line", [line for line in dict.fromkeys(lines("cmet")) if line != "cmet demo"])
def test_cmet(line, folder):
    words = reader(["bash", "-c", line.replace("cmet ", "printf '%s\\0' ", 1)], folder).stdout
    run = warm.run(*words.split("\0")[:-1], cwd=folder)
    assert run.returncode == 0, run.stderr
    assert all((folder/name).stat().st_size > 10_000 for name in re.findall(r"-o (\S+)", line)) and run.stdout.strip()


def test_cmet_demo(folder):
    "The script that the reader's shell finds knows it. What it makes is looked at in test_wheel; the notebook of it makes it from the clone."
    assert "cmet demo" in lines("cmet")
    run = reader(["bash", "-c", "cmet demo --help"], folder)
    assert run.returncode == 0 and "usage: cmet demo" in run.stdout and run.stderr == "", run.stderr


def test_python(folder):
    code, = blocks("python")
    assert len(code.splitlines()) == 5
    run = reader([sys.executable, "-c", code], folder)
    assert run.returncode == 0, run.stderr
    heard, line = run.stdout.splitlines()
    video, size = line.split()
    assert "strength" in heard and (folder/video).stat().st_size > 10_000 and int(size) > 500


def test_pip_shows_its_progress_where_there_is_a_terminal():
    "It said nothing for minutes; in a log it still does not."
    quiet = re.search(r"(?m)^PIP = (.*); \$", (ROOT/"Makefile").read_text())[1]
    line, out = ["sh", "-c", f"{quiet}; echo quiet=$PIP_QUIET"], []
    assert subprocess.run(line, capture_output=True, text=True).stdout == "quiet=2\n"
    pty.spawn(line, lambda end: out.append(os.read(end, 99)) or out[-1])
    assert b"".join(out).split() == [b"quiet="]


def test_pip_lines_are_those_of_the_makefile():
    hashed, plain = re.search(r"(?s)\nifdef HASHED(.*?)\nelse(.*?)\nendif", (ROOT/"Makefile").read_text()).groups()
    assert "--require-hashes --no-deps -r requirements-lock.txt" in hashed and hashed.count(" install ") == 2
    made = re.findall(r"\$\(PIP\) (install .*)", plain)
    plain = [a.removeprefix("pip ") for a in lines("pip")]
    torch = [a for a in plain if "torch" in a]
    assert made == [a for a in plain if a not in torch]
    assert f"{shlex.split(torch[0])[1]}\n" in (ROOT/"constraints.txt").read_text() and len(torch) == 1
    windows = [line for b in blocks("powershell") for line in b.splitlines()]
    assert windows[-3:] == ["pip " + a for a in plain if a not in torch] + ["cmet demo"]


@pytest.mark.parametrize("line", [a for a in lines("pip") if "--index-url" not in a])
def test_pip_finds_nothing_left_to_install(line):
    if not (Path(sys.prefix)/"installed").exists(): pytest.skip("this environment was not made by make")
    command = [sys.executable, "-m", *shlex.split(line), "--dry-run", "--no-build-isolation"]
    run = subprocess.run(command, cwd=ROOT, timeout=300, **TEXT)
    assert run.returncode == 0, run.stderr
    assert set(re.findall(r"Would install (.*)", run.stdout)) <= {f"cmet-{__import__('cmet').__version__}"}


def test_venv_line(tmp_path):
    line, = lines("python3")
    assert line == "python3 -m venv .venv" and lines(".") == [". .venv/bin/activate"]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=tmp_path, check=True)
    run = subprocess.run(["bash", "-c", lines(".")[0] + " && which python"], cwd=tmp_path, check=True, **TEXT)
    assert run.stdout.strip() == str(tmp_path/".venv"/"bin"/"python")


def test_changelog_knows_every_mapper():
    from cmet.mappers.registry import MAPPERS
    text = (Path(__file__).resolve().parents[1]/"CHANGELOG.md").read_text("utf-8")
    numbers = "no one two three four five six seven eight nine ten eleven twelve".split()
    line = next(x for x in text.splitlines() if "mappers to fit" in x)
    assert line == f"- {numbers[len(MAPPERS)].title()} mappers to fit: {', '.join(MAPPERS)}."
