"""Grids and their runs: expansion, messages, resumption after SIGKILL, failures, determinism, Ray, the shipped grids."""
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import warm
from hypothesis import given, settings
from hypothesis import strategies as st

from cmet.cli import main
from cmet.core import CmetError
from cmet.experiments.grids import MOST, expand, fill, read_grid, read_template, values
from cmet.experiments.runs import report, run_grid, run_id
from cmet.viz.tables import differences, glance, meaning, over_seeds, pivot, plot, read_runs

GRIDS = Path(__file__).resolve().parents[1]/"nbs"/"97_experiments"/"grids"
COMMAND = "import sys; from cmet.cli import main; sys.exit(main())"
WORK = """import time, numpy as np
from cmet.experiments.runs import report
if a == 'fail': raise ValueError('as ordered')
if a == 'die': import os, signal; os.kill(os.getpid(), signal.SIGKILL)
time.sleep(wait)
report({'draw': float(np.random.default_rng(seed).normal()) + len(str(a)), 'what': 'drawn'}, out)"""


def notebook(path, parameters="a = None\nseed = 0\nwait = 0.0\nmore = {}\nout = None", work=WORK, prose="Prose."):
    code = lambda k, source, **meta: dict(cell_type="code", id=k, source=source, outputs=[], execution_count=None, metadata=meta)
    cells = [dict(cell_type="markdown", id="m", source=prose, metadata={}), code("p", parameters, tags=["parameters"]),
             code("w", work)]
    Path(path).write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))


@pytest.fixture
def make(tmp_path):
    "A grid's file, from its text after the template."
    notebook(tmp_path/"work.ipynb")
    def made(text, name="small"):
        (tmp_path/f"{name}.yaml").write_text(f"template: work.ipynb\n{text}\n")
        return tmp_path/f"{name}.yaml"
    return made


def done(folder): return {p.parent.name: p.stat().st_mtime_ns for p in Path(folder).glob("*/done.json")}


def metrics(outcome): return [(outcome.folder/k/"metrics.json").read_text() for k in outcome.ids]


def start(*argv): return warm.start("run", *argv)


def killed_half_way(argv, out, least):
    "Start the command, kill it without warning once `least` runs are done; nothing goes on after that."
    process = start(*argv)
    try:
        until = time.monotonic() + 240
        while len(done(out)) < least and process.poll() is None and time.monotonic() < until: time.sleep(.05)
        assert process.poll() is None, process.communicate()
    finally: os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    until = time.monotonic() + 10
    while time.monotonic() < until:  # workers see that their parent is gone, and stop
        try: os.killpg(process.pid, 0)
        except ProcessLookupError: break
        time.sleep(.1)
    before = done(out)
    time.sleep(1)
    assert done(out) == before, "runs went on after the command was killed"
    return before


# Expansion

names = st.text("abcdef", min_size=1, max_size=3)
scalars = st.one_of(st.integers(-5, 5), st.text("xyz", max_size=3), st.booleans(), st.none())

@given(st.dictionaries(names, st.lists(scalars, min_size=1, max_size=4), max_size=4), st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_expansion_is_the_product(axes, n):
    cases = [{"case": k} for k in range(n)]
    rows = expand(axes, cases)
    wanted = [dict(zip(axes, some)) | case for case in cases for some in product(*axes.values())]
    assert rows == wanted


@pytest.mark.parametrize("spec, wanted", [
    (3, [3]), ("a", ["a"]), (None, [None]), ([1, 2], [1, 2]), ([[1, 2]], [[1, 2]]), ({"x": 1}, [{"x": 1}]),
    ({"from": 0, "to": 4}, [0, 1, 2, 3, 4]), ({"from": 0, "to": 5, "step": 2}, [0, 2, 4]), ({"from": 2, "to": 0, "step": -1}, [2, 1, 0]),
    ({"range": [0, 5]}, [0, 1, 2, 3, 4]), ({"range": [3]}, [0, 1, 2]), ({"from": 0.1, "to": 0.3, "step": 0.1}, [.1, .2, .3])])
def test_values(spec, wanted):
    assert values(spec) == pytest.approx(wanted) if isinstance(wanted[0], float) else values(spec) == wanted


def test_settings_replace_parameters_and_cases(make):
    grid = make("parameters: {seed: [0, 1], wait: 1}\ncases: [{a: x}, {a: y}]")
    plan = read_grid(grid, ["a=[p, q, q]", "seed={from: 5, to: 6}", "more.k=1"])
    assert [(r["a"], r["seed"]) for r in plan.runs] == [(a, s) for a in "pq" for s in (5, 6)]
    assert all(r["wait"] == 1 and r["more"] == {"k": 1} for r in plan.runs)


@pytest.mark.parametrize("text, number", [("1e-3", .001), ("-2E+4", -2e4), ("5.e1", 50.), (".5e0", .5), ("2000", 2000), ("1.0e-3", .001)])
def test_a_number_is_one_in_a_grid_after_set_and_for_a_mapper(make, text, number):
    from cmet.mappers.registry import configured
    said = [read_grid(make(f"parameters: {{wait: {text}, more.lr: [{text}]}}")).runs[0],
            read_grid(make("parameters: {seed: 0}"), [f"wait={text}", f"more.lr=[{text}]"]).runs[0]]
    for run in said: assert run["wait"] == number and run["more"]["lr"] == number and type(run["wait"]) is type(number)
    assert configured("ridge", [f"penalty={abs(number)}".replace(str(abs(number)), text.lstrip("-"))]).config["penalty"] == abs(number)


@pytest.mark.parametrize("text, said", [
    ("parameters: {sed: 1}", "no parameter 'sed': use seed"), ("parameters: {out: x}", "no parameter 'out'"),
    ("parameters: {seed.x: 1}", "no parameter 'seed.x'"), ("parameters: {wait: soon}", "'soon' is not a number"),
    ("parameters: {seed: [0, one]}", "'one' is not a number"), ("parameters: {a: [1, 2", "cannot be read"),
    ("parameters: {a: 1, a: 2}", "'a' stands twice"), ("parameter: {a: 1}", "unknown key 'parameter'"),
    ("parameters: [1]", "parameters is not a table"), ("cases: [1]", "cases are no tables"), ("cases: []", "cases are no tables"),
    ("parameters: {a: []}", "'a' has no values"), ("parameters: {seed: {from: 0, to: x}}", "'seed' has no values"),
    ("parameters: {seed: {from: 0, to: 1.0e+9}}", "has no values"), ("parameters: {seed: {from: 0, to: 2, step: .inf}}", "'seed' has no values (from, to or step"),
    ("parameters: {a: {range: [0, 99999]}}", f"{MOST} at most"),
    ("parameters: {a: 1}\ncases: [{a: 2}]", "in parameters and in cases"), ("parameters: {a: 2026-01-01}", "neither text nor a number"), ("parameters: {more: {1: 2}}", "the key 1 is not text"),
    ("parameters: {a: [[.inf]]}", "inf is neither"), ("parameters: {a: !!set {x, y}}", "neither text nor a number"),
    ("parameters: {wait: [[5, 6]]}", "[5, 6] is not a number"),
    ("parameters: {seed: .nan}", "seed:"), ("parameters: {a: !!python/object/apply:os.getcwd []}", "cannot be read"),
    ("report: {template: none.ipynb}", "none.ipynb"), ("report: {template: work.ipynb}", "no parameter 'grid'")])
def test_bad_grids(make, text, said, tmp_path, capsys):
    with pytest.raises(CmetError) as e: read_grid(make(text))
    assert said in str(e.value) and e.value.remedy
    assert main(["run", str(tmp_path/"small.yaml"), "-o", str(tmp_path/"runs")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("parameters, said", [
    ("a = 0", "no parameter 'out'"), ("a = f()\nout = None", "cannot be used"), ("a = \nout = None", "cannot be used"),
    ("a = {1, 2}\nout = None", "neither text nor a number"), ("a = {1: 2}\nout = None", "the key 1 is not text"),
    ("a = [1e999]\nout = None", "inf is neither"), ("a = b'x'\nout = None", "neither text"), ("a: int\nout: str", "no parameter 'out'")])
def test_bad_templates(tmp_path, parameters, said):
    notebook(tmp_path/"t.ipynb", parameters)
    with pytest.raises(CmetError, match=said): read_template(tmp_path/"t.ipynb")


@pytest.mark.parametrize("parameters, more, wanted", [
    ("size = (1, 2)", "{seed: [0]}", [1, 2]), ("size = {'cut': (3, (4, 5))}", "{seed: [0]}", {"cut": [3, [4, 5]]}),
    ("size = (1, 2)", "{size: [[5, 6]]}", [5, 6]), ("size: list = [1, 2]", "{seed: [0]}", [1, 2]),
    ("size: tuple = ()", "{size: [[a]]}", ["a"]), ("size: dict = {'a': {}}", "{size.a: {b: [1.5, null, true]}}", {"a": {"b": [1.5, None, True]}})])
def test_what_is_recorded_is_what_ran(tmp_path, parameters, more, wanted):
    import io
    import json

    from papermill.translators import PythonTranslator
    notebook(tmp_path/"t.ipynb", f"{parameters}\nseed: int = 0\nout: str = None")
    (tmp_path/"g.yaml").write_text(f"template: t.ipynb\nparameters: {more}\n")
    row, = read_grid(tmp_path/"g.yaml").runs
    ran = {}
    exec(PythonTranslator.codify(row), ran)  # the cell that papermill puts into the notebook
    assert row["size"] == ran["size"] == wanted == json.load(io.StringIO(json.dumps(row)))["size"] and ran["seed"] == 0


@pytest.mark.parametrize("argv", [["/usr/bin/false"], [str(Path("no")/"such"/"python")], None])
def test_the_kernel_is_the_kits_own_python(tmp_path, monkeypatch, argv):
    "Whatever is registered as python3 elsewhere: one that dies, one that is gone, one that cannot be read."
    spec = tmp_path/"share"/"kernels"/"python3"/"kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text("no json" if argv is None else json.dumps(dict(argv=[*argv, "-f", "{connection_file}"], display_name="x", language="python")))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path/"share"))
    notebook(tmp_path/"t.ipynb", "seed = 0\nout = None", "import sys; from cmet.experiments.runs import report; report({'by': sys.executable}, out)")
    (tmp_path/"g.yaml").write_text("template: t.ipynb\nparameters: {seed: 0}\n")
    made = run_grid(tmp_path/"g.yaml", tmp_path/"runs", progress=False)
    assert json.loads(metrics(made)[0])["by"] == sys.executable


def test_line_ends_change_no_name(tmp_path, monkeypatch):
    from cmet.experiments import runs
    corpus, path, names = tmp_path/"c", tmp_path/"t.ipynb", []
    corpus.mkdir()
    for end in "\n", "\r\n":
        notebook(path, f"a = ''{end}out = None", f"1{end}2")
        (corpus/"meta.json").write_bytes(f'{{"format": 1,{end} "name": "x"}}{end}'.encode())
        (tmp_path/"kit.py").write_bytes(f"x = 1{end}".encode())
        t = read_template(path)
        monkeypatch.setattr(runs.cmet, "__file__", str(tmp_path/"__init__.py"))
        names.append((run_id(t, fill(t, {"a": str(corpus)})), runs.kit_hash()))
        monkeypatch.undo()
    assert names[0] == names[1]


@pytest.mark.parametrize("template, given, said", [
    ("train_eval", "mapper: [label, ridgee]", "unknown mapper 'ridgee': did you mean ridge?"),
    ("train_eval", "corpus: ravdes", "no corpus 'ravdes': did you mean ravdess?"),
    ("train_eval", "{corpus: nowhere, seed: [0, 1]}", "no corpus 'nowhere'"),
    ("train_eval", "{encoder: [egemaps, comapre]}", "'comapre': did you mean compare?"),
    ("train_eval", "{settings.penlty: [1, 2]}", "ridge has no setting 'penlty': did you mean penalty?"),
    ("train_eval", "{mapper: [ridge, transformer], settings.penalty: 1}", "transformer has no setting 'penalty'"),
    ("train_eval", "{mapper: transformer, settings.contrastive: [supcon, infonce]}", "contrastive = 'infonce' is not possible: use one of info_nce"),
    ("train_eval", "{mapper: transformer, settings.window: 0}", "window = 0 is not possible"),
    ("train_eval", "{shots: [all, al]}", "shots: 'al' is not possible"),
    ("leave_one_out", "{emotion: [sad, hapy]}", "unknown emotion 'hapy': did you mean happy?"), ("leave_one_out", "{asked: clips}", "use mean or clip"),
    ("edit_judge", "{speaker: F02}", "no built-in speech of 'F02'"), ("edit_judge", "{judge: [fer, facx]}", "'facx': did you mean facex?"),
    ("edit_judge", "{mapper: rigde}", "unknown mapper 'rigde': did you mean ridge"),
    ("extract", "{layout: meda}", "did you mean mead"), ("extract", "{codec: [mesh, mehs]}", "did you mean mesh"), ("extract", "{data: nowhere}", "no folder 'nowhere'")])
def test_what_no_run_could_use_is_told_before_the_first(tmp_path, monkeypatch, capsys, template, given, said):
    import cmet.experiments.runs as experiment
    monkeypatch.setattr(experiment, "each", lambda *a: pytest.fail("a run was started"))
    (tmp_path/"g.yaml").write_text(f"template: {template}.ipynb\nparameters: {given if given[0] == '{' else '{' + given + '}'}\n")
    assert main(["run", str(tmp_path/"g.yaml"), "-o", str(tmp_path/"runs")]) == 2
    wrong = capsys.readouterr().err
    assert said in wrong and wrong.count("\n") == 1 and not (tmp_path/"runs").exists()


@pytest.mark.parametrize("template", ["train_eval", "leave_one_out"])
@pytest.mark.parametrize("seen, said", [(1, "1 of 4 people (P0) can be asked"), (0, "0 of 4 people (nobody) can be asked"), (4, None)])
def test_people_with_voice_and_face_together_are_counted(tmp_path, monkeypatch, capsys, template, seen, said):
    "Neutral clips there are; what lacks is people of whom voice and face were recorded together."
    import numpy as np

    import cmet.experiments.runs as experiment
    from cmet.corpus.corpus import make_corpus, write_corpus
    rows = [dict(speaker=f"P{k}", emotion=e) for k in range(4) for e in ("neutral", "happy", "sad") for _ in range(2)]
    faces = [np.ones((int(row["speaker"] < f"P{seen}"), 5)) for row in rows]
    write_corpus(make_corpus(rows, np.random.default_rng(0).normal(size=(24, 8)), faces, name="mydata"), tmp_path/"there")
    def started(*a): raise CmetError("a run was started", "")
    monkeypatch.setattr(experiment, "each", started)
    emotion = ", emotion: sad"*(template == "leave_one_out")
    (tmp_path/"g.yaml").write_text(f"template: {template}.ipynb\nparameters: {{corpus: {tmp_path/'there'}{emotion}}}\n")
    assert main(["run", str(tmp_path/"g.yaml"), "-o", str(tmp_path/"runs")]) == 2
    assert (f"corpus '{tmp_path/'there'}': {said}" if said else "a run was started") in capsys.readouterr().err


def test_a_template_of_ones_own_checks_what_it_names_once(tmp_path):
    notebook(tmp_path/"t.ipynb", "a = 0\nseed = 0\nout = None", "import builtins\nbuiltins.told.append(a)\nassert a < 2, 'too many'")
    book = json.loads((tmp_path/"t.ipynb").read_text())
    book["cells"][2]["metadata"]["tags"] = ["check"]
    (tmp_path/"t.ipynb").write_text(json.dumps(book))
    import builtins
    builtins.told = told = []
    try:
        (tmp_path/"g.yaml").write_text("template: t.ipynb\nparameters: {a: [0, 1], seed: {from: 0, to: 9}}")
        assert len(read_grid(tmp_path/"g.yaml").runs) == 20 and told == [0, 1]
        with pytest.raises(CmetError, match=r"'t.ipynb' refuses \{'a': 2\} \(AssertionError: too many\)"): read_grid(tmp_path/"g.yaml", {"a": 2})
    finally: del builtins.told


@pytest.mark.parametrize("asked, said", [("measures: [drwa]", "no column 'drwa'): mend the grid's report, the runs are kept; did you mean draw?"), ("columns: sed", "did you mean seed"), ("rows: zzz", "there are run, template")])
def test_a_column_that_no_run_has_is_told_after_the_first_and_costs_no_run(make, tmp_path, capsys, monkeypatch, asked, said):
    import cmet.experiments.runs as experiment
    seen, do = [], experiment.perform
    monkeypatch.setattr(experiment, "perform", lambda job: seen.append(capsys.readouterr().err) or do(job))
    report = {"rows": "a", "measures": "[draw]"} | dict([asked.split(": ")])
    grid, out = make(f"parameters: {{a: [x, y, z]}}\nreport: {{{', '.join(f'{k}: {v}' for k, v in report.items())}}}"), tmp_path/"runs"
    assert main(["run", str(grid), "-o", str(out)]) == 2
    assert len(seen) == 3 and seen[0] == seen[2] == "" and said in seen[1] and seen[1].startswith("cmet: note: the report of 'small' cannot be made")
    assert said in capsys.readouterr().err and len(done(out)) == 3 and not list(out.glob("report-*"))


def test_no_file_no_yaml_no_template(tmp_path):
    for content in (None, "", "- 1", "about: x", "\0", "template: [1]"):
        if content is not None: (tmp_path/"g.yaml").write_text(content)
        with pytest.raises(CmetError): read_grid(tmp_path/"g.yaml")
    for content in ("no json", "{}", '{"cells": [1]}', '{"cells": []}'):
        (tmp_path/"t.ipynb").write_text(content)
        with pytest.raises(CmetError): read_template(tmp_path/"t.ipynb")
    for bad in (["a"], ["=1"], ["a=["]):
        with pytest.raises(CmetError): read_grid(GRIDS/"ablation.yaml", bad)


def test_a_runs_name_is_what_its_numbers_depend_on(tmp_path):
    path = tmp_path/"t.ipynb"
    def name(row, **more):
        notebook(path, **more)
        t = read_template(path)
        return run_id(t, fill(t, row))
    base = name({"a": 1})
    assert base == name({"a": 1, "seed": 0}) == name({"a": 1}, prose="Better prose.") and len(base) == 12
    corpus = tmp_path/"corpus"
    corpus.mkdir(); (corpus/"meta.json").write_text("{}")
    first = name({"a": None, "more.c": 1}), name({"a": str(corpus)}, parameters="a = ''\nout = None")
    (corpus/"meta.json").write_text('{"hashes": 1}')
    second = name({"a": None, "more.c": 1}), name({"a": str(corpus)}, parameters="a = ''\nout = None")
    assert first[0] == second[0] and first[1] != second[1]
    assert len({base, name({"a": 2}), name({"a": 1}, work=WORK + "\n1"), *first, second[1]}) == 6


# Runs

def test_killed_and_resumed(make, tmp_path):
    grid, out = make("parameters: {a: [x], seed: {from: 0, to: 4}, wait: 0.3}"), tmp_path/"runs"
    before = killed_half_way([grid, "-o", out, "--workers", 2], out, 2)
    assert 2 <= len(before) < 5
    second = start(grid, "-o", out, "--workers", 2)
    said, wrong = second.communicate(timeout=240)
    assert second.returncode == 0, wrong
    assert f"5 runs of 'small', {len(before)} kept" in said
    after = done(out)
    assert len(after) == 5 and {k: after[k] for k in before} == before
    assert list(read_runs(out, "small")["seed"]) == [0, 1, 2, 3, 4]
    third = run_grid(grid, out)
    assert third.executed == 0 and done(out) == after


def test_a_failing_run_is_kept_and_does_not_stop_the_rest(make, tmp_path, capsys):
    grid, out = make("parameters: {a: [fail, die, fine]}"), tmp_path/"runs"
    notebook(tmp_path/"work.ipynb", parameters="a = ''\nseed = 0\nwait = 0\nout = None")
    assert main(["run", str(grid), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert "2 of 3 runs failed, the first with ValueError: as ordered" in said and said.count("\n") == 1
    table = read_runs(out, "small").set_index("a")
    assert dict(table["state"]) == {"fail": "failed", "die": "failed", "fine": "done"}
    failed = out/table.loc["fail", "run"]
    kept = json.loads((failed/"error.json").read_text())
    assert kept["error"] == "ValueError: as ordered" and "as ordered" in kept["traceback"] and "\x1b" not in kept["traceback"]
    book = json.loads((failed/"notebook.ipynb").read_text())
    assert any(o["output_type"] == "error" for c in book["cells"] for o in c.get("outputs", []))
    assert "Dead" in json.loads((out/table.loc["die", "run"]/"error.json").read_text())["error"]
    whole = out/table.loc["fine", "run"]
    environment = json.loads((whole/"environment.json").read_text())
    assert environment["packages"]["numpy"] and environment["platform"] and "git" in environment
    assert json.loads((whole/"parameters.json").read_text()) == {"a": "fine", "seed": 0, "wait": 0}


def test_same_numbers_by_any_engine(make, tmp_path):
    "Here and in two processes; on a Ray cluster: test_encode, where one is started."
    grid = make("parameters: {a: [x, yy], seed: 3}")
    here = run_grid(grid, tmp_path/"one")
    both = run_grid(grid, tmp_path/"two", workers=2)
    assert here.ids == both.ids and metrics(here) == metrics(both)


def test_other_code_of_the_kit_is_told(make, tmp_path):
    grid, out = make("parameters: {a: [x]}"), tmp_path/"runs"
    run = out/run_grid(grid, out).ids[0]
    told = json.loads((run/"environment.json").read_text())
    (run/"environment.json").write_text(json.dumps(told | {"kit": "other"}))
    with pytest.warns(UserWarning, match="1 of 1 finished runs come from another state"): run_grid(grid, out)


def test_a_template_that_changes_under_way_is_refused(make, tmp_path, monkeypatch):
    "A run is named after the code it was to run, so it must not run other code."
    import cmet.experiments.runs as experiment
    grid, each = make("parameters: {a: [x, y]}"), experiment.each
    def change(*args):
        notebook(tmp_path/"work.ipynb", work=WORK + "\n1")
        return each(*args)
    monkeypatch.setattr(experiment, "each", change)
    with pytest.raises(CmetError, match="2 of 2 runs failed.*was changed while"): run_grid(grid, tmp_path/"runs")


@pytest.mark.parametrize("text", ["{", "[1]", "\xff", "["*100_000])
def test_a_run_whose_record_is_damaged_is_named(tmp_path, text):
    (tmp_path/"a").mkdir()
    (tmp_path/"a"/"parameters.json").write_text(text, "latin-1")
    with pytest.raises(CmetError, match="record '.*parameters.json'.*: run it again"): read_runs(tmp_path)


def test_two_do_not_run_the_same_grid_at_once(make, tmp_path):
    from cmet.io.claims import claimed
    grid, out = make("parameters: {a: [x]}"), tmp_path/"runs"
    out.mkdir()
    with ThreadPoolExecutor(1) as other, claimed(out/"small.json"), pytest.raises(CmetError, match="'small' is being run"):
        other.submit(run_grid, grid, out).result()


def test_what_is_no_number_is_null(tmp_path):
    report([{"a": float("nan"), "b": float("inf"), "c": 1}], tmp_path)
    assert json.loads((tmp_path/"metrics.json").read_text()) == [{"a": None, "b": None, "c": 1}]
    with pytest.raises(CmetError): report({}, tmp_path/"nowhere")


def test_no_interval_of_a_share_leaves_nought_to_one():
    import pandas as pd
    runs = pd.DataFrame([dict(run=f"{v}{s}", state="done", variant=v, seed=s, retrieval=x, cosine=x, loss=x, percent=100*x)
                         for v, values in (("a", (.34, .50)), ("b", (.50, .52))) for s, x in enumerate(values)])
    of = over_seeds(runs, "variant", ["retrieval", "cosine", "loss"]).set_index(["variant", "measure"])
    assert of.loc[("a", "retrieval"), ["low", "high"]].tolist() == [0, 1] and of.loc[("a", "cosine"), "high"] == 1
    assert of.loc[("a", "loss"), "high"] > 1, "a loss may be anything"
    table = pivot(over_seeds(runs, "variant", ["retrieval", "loss"]), "variant")
    assert table.loc["a", "retrieval"] == "0.34, 0.50" and table.loc["b", "retrieval"] == "0.50, 0.52", "two values are no interval"
    assert over_seeds(runs.assign(retrieval=runs["percent"]), "variant", "retrieval")["high"][0] > 100, "per cent is no share"
    gain = differences(runs.assign(retrieval=[0, .9, 1, 1]), "variant", "retrieval")
    assert gain["high"][0] == 1 and gain["low"][0] == -1 and gain["half"][0] > 5
    fig = plot(runs, "variant", "retrieval")
    assert all(.4 < y < .6 for line in fig.axes[0].lines for y in line.get_ydata() if y == y), "two runs have no whiskers"
    more = pd.concat([runs, runs.assign(seed=runs["seed"] + 2, retrieval=lambda d: 1 - d["retrieval"])])
    drawn = [y for line in plot(more, "variant", "retrieval").axes[0].lines for y in line.get_ydata() if y == y]
    assert all(0 <= y <= 1 for y in drawn) and min(drawn) < .4
    assert "of two runs both" not in (text := meaning([3, 4])) and "±" in text and "of two runs both" in meaning([2, 3]) and "±" not in meaning([1, 2])


def test_no_heavy_import():
    code = "import sys, cmet.experiments.runs, cmet.viz.tables; print([m for m in ('torch', 'papermill', 'ray', 'seaborn') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# What is shipped

@pytest.mark.parametrize("grid", sorted(GRIDS.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_grids_can_be_run(grid):
    plan = read_grid(grid)
    assert len(plan.runs) >= 4 and plan.about.endswith("?") and plan.report[0].path.name == "report.ipynb"
    columns = {k for row in plan.runs for k in row} | {f"settings.{k}" for row in plan.runs for k in row.get("settings", {})}
    told = plan.report[1]
    assert {told["rows"], told["over"]} <= columns and told["columns"] in {None, *columns}


def test_a_report_is_shown_in_narrow_columns(tmp_path):
    measures, numbers = ["retrieval", "cosine", "shuffled.retrieval", "r2"], dict(half=.1, n=3, low=0, high=1)
    rows = [dict(condition=c, measure=m, value=.2) | numbers for c in ("recon", "a name, " + "long "*20) for m in measures]
    report([*rows, dict(condition="once", measure="r2", value=.2, half=float("nan"), n=1, low=None, high=None)], tmp_path)
    text = glance(tmp_path)
    assert max(map(len, text.splitlines())) <= 79 and all(m in text for m in measures)
    assert text.count("0.20 ± 0.10 (n = 3)") == 8 and text.count("0.20 (n = 1)") == 1 and "long long..." in text
    for other in {"mine": 1}, [], [{"mine": 1}]:
        report(other, tmp_path)
        assert glance(tmp_path) == ""
    assert glance(tmp_path/"nothing") == ""


@pytest.mark.slow
def test_ablation_killed_resumed_and_reported(tmp_path):
    "The shipped grid with a hundredth of its training and a tenth of its questions: its numbers mean nothing, its report has all its parts."
    out = tmp_path/"runs"
    argv = [GRIDS/"ablation.yaml", "-o", out, "--set", "settings.steps=3", "seed=[0, 1]", "shots=all", "--workers"]
    before = killed_half_way([*argv, 2], out, 2)
    second = start(*argv, 1)  # of two it is above; the report that follows is of runs of both
    said, wrong = second.communicate(timeout=400)
    assert second.returncode == 0, wrong
    after = done(out)
    assert {k: after[k] for k in before} == before and "report-ablation" in said
    table = said[:said.index(str(out))].splitlines()  # before the paths
    assert {"retrieval", "cosine", "r2"} <= set(" ".join(table).split()) and " ".join(table).count(", ") == 9 and table[0] == "the values of both runs:" and max(map(len, table)) <= 79
    text = (out/"report-ablation"/"report.md").read_text()
    assert "studio (synthetic)" in text and "the values of both runs" in text and "±" not in text and "n = 2" not in text and "55.91" in text
    assert (out/"report-ablation"/"figure.png").stat().st_size > 5000 and (out/"report-ablation"/"table.tex").exists()
    assert set(over_seeds(read_runs(out, "ablation"), "variant", "cosine")["n"]) == {2}
    rows = read_runs(out, "ablation").set_index(["variant", "seed"])
    run = out/rows.loc[("+ cnt + dir", 1), "run"]  # as its record tells it, and without a report
    (tmp_path/"one.yaml").write_text(f"template: {GRIDS.parent/'train_eval.ipynb'}\nparameters: {(run/'parameters.json').read_text()}")
    again = run_grid(tmp_path/"one.yaml", tmp_path/"again")
    assert again.ids == [run.name] and again.executed == 1
    assert metrics(again) == [(run/"metrics.json").read_text()], "a training was not repeated to the last digit"
