"""The cells of every notebook, as nbdev_test runs them: each notebook in a process of its own. Here, among the other tests, since
notebooks compute while browsers and kills wait. `python tests/notebooks.py` runs them alone and says what they cost."""
import subprocess
import sys

import notebooks
import pytest
import sync

FILES = notebooks.files()


def test_notebooks_and_modules_say_the_same():
    run = subprocess.run([sys.executable, sync.__file__], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(notebooks.NBS)) for p in FILES])
def test_every_cell_runs(path):
    *_, said = notebooks.tested(path)
    assert not said, said


def test_all_are_found():
    assert len(FILES) > 100


def test_some_alone():
    "As CONTRIBUTING says to test the notebooks of one idea."
    run = subprocess.run([sys.executable, notebooks.__file__, "50_vectors/10_grammar"], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout == "1 notebooks passed\n", run.stdout + run.stderr
