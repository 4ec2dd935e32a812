"""The rooms: imports go down only, no circles, short modules, every notebook in its place, public names that load."""
import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT/"nbs"
ORDER = ("core io speech face edtalk corpus vectors network align transformer train mappers edit evaluate viz explorer experiments cli").split()
UPWARD = set()  # (module, module) that may import upward; each with the reason beside it
LIGHT = "network align transformer train vectors mappers edtalk".split()
CONTRACT = """from cmet.transformer import CrossModalTransformer, load_official, rollout
from cmet.train import focal_mse, directional, supcon, info_nce
from cmet.edtalk import EDTalk, Audio2Lip, lip_mel
from cmet.corpus import read_corpus, encode_folder
from cmet.vectors import direction, compose
from cmet.speech import speech_encoder
from cmet.mappers import mapper, load_mapper
from cmet.edit import edit_video"""


def name_of(path):
    "A module's name without `cmet.`; of a package, its own."
    return ".".join(path.relative_to(ROOT/"cmet").with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(p): p for p in (ROOT/"cmet").rglob("*.py") if p.name != "_modidx.py" and p.parent.name != "__pycache__"
           and p not in (ROOT/"cmet"/"__init__.py", ROOT/"cmet"/"__main__.py")}
PACKAGES = {n for n, p in MODULES.items() if p.name == "__init__.py"}


def absolute(module, node):
    "What an import statement names, without `cmet.`; None if it is not the kit's."
    if not node.level: return node.module.partition(".")[2] if node.module.split(".")[0] == "cmet" else None
    here = module.split(".") if module in PACKAGES else module.split(".")[:-1]
    return ".".join([*here[:len(here) - node.level + 1], *filter(None, [node.module])])


def taken(module, path):
    "Modules of the kit that a module takes something from, anywhere in it; packages stand for what their tables name."
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (base := absolute(module, node)) is not None:
            for a in node.names:
                full = f"{base}.{a.name}".strip(".")
                if full in MODULES: yield full
                elif base: yield base
        if isinstance(node, ast.Import):
            yield from (a.name.partition(".")[2] for a in node.names if a.name.startswith("cmet."))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "public" and module in PACKAGES:
            keys = [k.value for k in node.args[1].keys]
            yield from (module + k if k.startswith(".") else k.removeprefix("cmet.") for k in keys)


@pytest.fixture(scope="module")
def graph(): return {m: set(taken(m, p)) - {m} for m, p in MODULES.items()}


def test_the_graph_is_read(graph):
    assert {"core", "io.files"} <= graph["io.media"] and "corpus.corpus" in graph["corpus.encode"]
    assert "vectors.curves" in graph["edit.request"], "imports inside functions count"
    assert all(n in MODULES for names in graph.values() for n in names), "an import leads nowhere"
    assert {m.split(".")[0] for m in MODULES} == set(ORDER)


def test_imports_go_down_only(graph):
    rank = {name: i for i, name in enumerate(ORDER)}
    up = {(m, n) for m, names in graph.items() for n in names if rank[n.split(".")[0]] > rank[m.split(".")[0]]}
    assert up == UPWARD


def test_inside_the_kit_a_module_is_taken_not_its_room(graph):
    "A room's public names are for others: the kit itself takes a name from where it is written."
    assert {(m, n) for m, names in graph.items() for n in names if n in PACKAGES} == set()


def test_no_circles(graph):
    done, way = set(), []
    def visit(m):
        assert m not in way, f"a circle: {' -> '.join([*way[way.index(m):], m])}"
        if m in done: return
        way.append(m)
        for n in sorted(graph[m]): visit(n)
        done.add(way.pop())
    for m in sorted(MODULES): visit(m)


def test_modules_are_short_and_a_look_at_the_notebooks_shows_the_method():
    assert {m: k for m, p in MODULES.items() if (k := len(p.read_text("utf-8").splitlines())) > 300} == {}
    shown = [p.name for p in NBS.iterdir() if not p.name.startswith((".", "README")) and p.name != "out"]
    assert len(shown) <= 16
    unlike = "shelf obtain desk deck bench wish plane scene mapping corpora folder layouts measure metrics".split()
    assert not {n.split(".")[-1] for n in MODULES} & {*unlike}, "a name of the field"


def library():
    "Notebooks that export, by what they write."
    for path in sorted(NBS.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts: continue
        text = "\n".join("".join(c["source"]) for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == "code")
        found = re.findall(r"(?m)^#\| default_exp (\S+)", text)
        if found: yield path.relative_to(NBS), *found


def test_each_notebook_writes_the_module_of_its_place():
    plain = lambda part: re.sub(r"^\d\d_", "", part)
    for path, module in library():
        *rooms, stem = [plain(p) for p in path.with_suffix("").parts if p != "60_method"]
        assert module == ".".join([*rooms, "__init__" if stem == "index" else stem]), path
    assert len([*library()]) == len(MODULES)


def test_each_room_has_its_index_and_each_notebook_a_way_on():
    for folder in {p.parent for p in NBS.glob("[0-9]*/**/[0-9]*.ipynb") if ".ipynb_checkpoints" not in p.parts}:
        assert (folder/"00_index.ipynb").is_file(), folder
    for path, _ in library():
        last = "".join(json.loads((NBS/path).read_text("utf-8"))["cells"][-1]["source"])
        links = re.findall(r"\]\((\S+?)\)", last)
        assert "←" in last + "←"*(str(path) == "00_core.ipynb") and links, path
        assert all((NBS/path.parent/a).exists() for a in links), path


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_public_names_load_and_hide_no_module(package):
    room = import_module(f"cmet.{package}")
    assert room.__all__ and not {f"{package}.{n}" for n in room.__all__} & set(MODULES), "a name and a module of one name"
    assert all(getattr(room, n) is not None for n in room.__all__) and set(room.__all__) <= set(dir(room))
    with pytest.raises(ImportError): exec(f"from cmet.{package} import no_such_name")


def test_a_folder_called_cmet_does_not_hide_the_package(tmp_path):
    "Python started in the folder above a clone: a folder without `__init__.py` comes after an installed package."
    (tmp_path/"cmet").mkdir()
    run = subprocess.run([sys.executable, "-c", "import cmet; print(cmet.__file__)"], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.strip().endswith("__init__.py"), run.stderr or "install it again: make install"


def test_contract():
    exec(CONTRACT, {})


def test_rooms_open_without_loading_what_is_heavy():
    code = f"""import sys
from importlib import import_module
for name in {sorted(PACKAGES)}: import_module(f"cmet.{{name}}")
print(sorted({{"torch", "funasr", "mediapipe", "pandas", "matplotlib", "cv2"}} & set(sys.modules)))"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_bare_method_needs_torch_and_numpy_only():
    "On a machine with a GPU and nothing else."
    code = f"""import sys
for name in "scipy pandas pyarrow PIL av soundfile mediapipe cv2 opensmile skimage matplotlib funasr omegaconf ipywidgets papermill yaml filelock".split():
    sys.modules[name] = None
from importlib import import_module
for name in {LIGHT}: import_module(f"cmet.{{name}}")
{chr(10).join(line for line in CONTRACT.splitlines() if line.split()[1].split(".")[1] in LIGHT)}
print("fine")"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "fine", run.stderr


def test_old_names_are_found_for_one_more_version():
    import importlib
    from cmet import MOVED
    for old, new in MOVED.items():
        sys.modules.pop(f"cmet.{old}", None)  # another test may have asked before
        with pytest.warns(DeprecationWarning, match=f"cmet.{new} now"): module = importlib.import_module(f"cmet.{old}")
        assert module is importlib.import_module(f"cmet.{new}") and module.__spec__.name == f"cmet.{new}"
        sys.modules.pop(f"cmet.{old}")
