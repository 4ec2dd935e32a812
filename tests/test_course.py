"""The course: every hidden solution is run, every link leads somewhere, no notebook is heavy.

The notebooks themselves are run by `notebooks.py`. Running them again for the solutions would cost minutes, so a
solution is run after only those cells that define a name it uses, or a name those cells use, and so on back. They
share one namespace, as in the notebook. No data set is given (`CMET_DATA` is taken away), so cells that ask for real
recordings do without.
"""
import ast
import builtins
import json
import re
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1]/"nbs"/"tutorials"
COURSE = sorted(HERE.glob("[1-9]_*.ipynb"))
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.S)
named = pytest.mark.parametrize("book", COURSE, ids=lambda p: p.stem)


def cells(book, kind):
    "Texts of the cells of one kind, in order."
    content = json.loads(book.read_text("utf-8"))["cells"]
    return ["".join(c["source"]) for c in content if c["cell_type"] == kind]


def python(text):
    "A cell without what only a notebook understands."
    return "\n".join("" if re.match(r"\s*[%!]|#\|", line) else line for line in text.splitlines())


def solutions(book):
    "The Python of every hidden solution."
    hidden = [body for text in cells(book, "markdown") for _, body in DETAILS.findall(text)]
    return [code for body in hidden for code in re.findall(r"```python\n(.*?)```", body, re.S)]


def arguments(node): return [a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)]


class Names(ast.NodeVisitor):
    "Names that some code takes from outside, and those it leaves behind; a function's own are its own."
    def __init__(self, code):
        self.used, self.made = set(), set()
        self.visit(code if isinstance(code, ast.AST) else ast.parse(code))

    def inside(self, parts, own=()):
        "Parts with a scope of their own."
        found = [Names(p) for p in parts]
        self.used |= set().union(*(n.used for n in found)) - self.made.union(own, *(n.made for n in found))

    def visit_Name(self, node):
        if not isinstance(node.ctx, ast.Load): self.made.add(node.id)
        elif node.id not in self.made: self.used.add(node.id)

    def in_order(self, node, first, *rest):
        "As Python runs it: what is given a name is computed before."
        for part in (first, *rest):
            value = getattr(node, part)
            for child in value if isinstance(value, list) else [value]:
                if child is not None: self.visit(child)

    def visit_Assign(self, node): self.in_order(node, "value", "targets")
    def visit_For(self, node): self.in_order(node, "iter", "target", "body", "orelse")
    def visit_AugAssign(self, node):
        self.visit(node.value)
        self.used |= Names(ast.Expr(node.target)).made - self.made

    def visit_alias(self, node): self.made.add((node.asname or node.name).split(".")[0])
    def visit_Lambda(self, node): self.inside([node.body], arguments(node))
    def visit_ClassDef(self, node): self.made.add(node.name); self.inside([*node.body, *node.bases])
    def visit_GeneratorExp(self, node): self.inside(list(ast.iter_child_nodes(node)))
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp

    def visit_FunctionDef(self, node):
        self.made.add(node.name)
        self.inside(node.body, arguments(node))
        for x in [*node.args.defaults, *filter(None, node.args.kw_defaults), *node.decorator_list]: self.visit(x)


def needed(code, before):
    "Those of the cells `before` that some code rests on, in their order."
    wanted, keep = Names(code).used - set(dir(builtins)), []
    for cell in reversed(before):
        found = Names(cell)
        if found.made & wanted: keep.append(cell); wanted |= found.used
    return keep[::-1]


def test_there_are_nine():
    assert [int(p.name[0]) for p in COURSE] == list(range(1, 10))


@named
def test_solutions(book, tmp_path, monkeypatch):
    for name in "97_experiments", "tutorials": (tmp_path/name).mkdir()
    for table in HERE.parent.glob("97_experiments/*.csv"): shutil.copy(table, tmp_path/"97_experiments")
    monkeypatch.chdir(tmp_path/"tutorials")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.delenv("CMET_DATA", raising=False)
    told = solutions(book)
    assert 3 <= len(told) <= 4 and all(re.search(r"^ *assert ", s, re.M) for s in told)
    before = [python(c) for c in cells(book, "code") if not re.search(r"#\| *eval: *false", c)]
    space = {"__name__": "course"}
    for k, cell in enumerate(needed("\n".join(told), before)):
        exec(compile(cell, f"{book.stem}, needed cell {k}", "exec"), space)
    for k, code in enumerate(told, 1):
        exec(compile(code, f"{book.stem}, solution {k}", "exec"), space)


@named
def test_form(book):
    "Goals in the first cell, solutions that are hidden, links that lead somewhere, outputs that are small."
    text = "\n".join(cells(book, "markdown"))
    assert len(re.findall(r"^> ", cells(book, "markdown")[0], re.M)) == 2
    assert text.count("```python") == len(solutions(book)), "a solution stands in the open"
    links = [a for a in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in a]
    assert len(links) > 2 and not [a for a in links if not (HERE/a).exists()]
    content = json.loads(book.read_text("utf-8"))
    assert sum(len(json.dumps(c.get("outputs", []))) for c in content["cells"]) < 1e6


def test_a_solution_gets_the_cells_it_needs():
    before = ["import numpy as np", "x = 1", "y = x + 1", "z = np.zeros(3)", "x = 5"]
    one, five = before[1], before[4]
    assert needed("assert y", before) == ["x = 1", "y = x + 1"]
    assert needed("assert z.any() or x", before) == [before[0], one, before[3], five]
    assert needed("for x in [1]: print(x)\nx += 1", before) == [] and needed("x += 1", before) == [one, five]
    assert needed("assert sum(x for x in [1, 2])", before) == []
    assert needed("def f(x): return x + y\nassert f(1)", before) == ["x = 1", "y = x + 1"]
