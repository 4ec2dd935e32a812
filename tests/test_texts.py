"""Is the kit a text? Prose beside code, and code that is seen at work rather than only exported.

Prose and code are counted in characters (lines of prose and of code are of different lengths). A cell of nothing but
imports or directives is neither shown nor exported.
"""
import ast
import json
import re
from pathlib import Path

import pytest

NBS = Path(__file__).resolve().parents[1]/"nbs"
PROSE = .35  # characters of prose for one of code, over the library
SHOWN = .45  # of the code cells of a notebook
LONG = {f"97_experiments/{name}.ipynb" for name in ("ravdess_mappers", "reference_leak", "zero_shot")}  # studies that keep the pictures of their run


def cells(path):
    "(kind, text) of each cell."
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text("utf-8"))["cells"]]


def library():
    "Notebooks of the library in reading order: those that export, and the indexes of rooms."
    for path in sorted(NBS.rglob("*.ipynb")):
        ours = path.name == "00_index.ipynb" or any(t.startswith("#| default_exp") for k, t in cells(path) if k == "code")
        if ours and ".ipynb_checkpoints" not in path.parts: yield path


LIBRARY = [*library()]
BOOKS = {p.relative_to(NBS).with_suffix("").as_posix(): p for p in LIBRARY if p.name != "00_index.ipynb"}


def works(text):
    "Whether a code cell does more than import."
    try: body = ast.parse(text).body
    except SyntaxError: return True  # a magic of the notebook
    return not all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body)


def shown(path):
    "(cells that show, all) of a notebook's code cells."
    code = [t for k, t in cells(path) if k == "code" and works(t)]
    return sum(not t.startswith("#| export") for t in code), len(code)


def lengths(path):
    "(characters of prose, of code)."
    return [sum(len(t) for k, t in cells(path) if k == kind) for kind in ("markdown", "code")]


def test_there_is_as_much_prose_as_a_text_needs():
    prose, code = map(sum, zip(*map(lengths, LIBRARY)))
    assert prose >= PROSE*code, f"{prose/code:.3f}"


@pytest.mark.parametrize("name", BOOKS)
def test_code_is_seen_at_work(name):
    some, every = shown(BOOKS[name])
    assert some >= SHOWN*every, f"{some} of {every} code cells show something"


@pytest.mark.parametrize("name", BOOKS)
def test_it_opens_with_a_title_a_promise_and_a_reason(name):
    first = next(t for k, t in cells(BOOKS[name]) if k == "markdown")
    title, promise, *reason = [p for p in first.split("\n\n") if p.strip()]
    assert re.fullmatch(r"# [A-Z\w].*", title) and promise.startswith("> ") and len(" ".join(reason)) > 150


@pytest.mark.parametrize("name", BOOKS)
def test_it_speaks_of_others_by_name(name):
    "Rooms move; \"the last notebook\" does not."
    prose = " ".join(t for k, t in cells(BOOKS[name]) if k == "markdown")
    assert not re.findall(r"(?i)\b(?:last|next|previous|following) (?:two |three )?notebooks?\b", " ".join(prose.split()))


def test_figures_are_sharp():
    "At 80 dots an inch a label of a figure is a blur on most of today's screens."
    books = {path.relative_to(NBS).as_posix(): path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts}
    assert not {name for name in books.keys() - LONG for kind, text in cells(books[name])
                if kind == "code" and text.count("figsize=") != text.count("dpi=144")}


if __name__ == "__main__":
    total = [sum(x) for x in zip(*map(lengths, LIBRARY))]
    for name, path in BOOKS.items():
        (a, b), (prose, code) = shown(path), lengths(path)
        print(f"{name:45} shown {a:3}/{b:<3} {a/b:.2f} {'  ' if a >= SHOWN*b else '< '}prose {prose/code:.2f}")
    print(f"{len(LIBRARY)} notebooks, characters of prose {total[0]:,}, of code {total[1]:,}: {total[0]/total[1]:.3f}")
