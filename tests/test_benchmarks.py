"The benchmarks against another version: each row that asks for more than a command runs in small, this version alone."
import runpy
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROWS = ["edit", "step", "edtalk", "corpus", "slider"]


def test_rows_of_against_run_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    against = runpy.run_path(str(ROOT/"benchmarks"/"against.py"))
    gap = against["apart"]  # of one version alone there is no difference, so its outcomes are held against zeros
    monkeypatch.setitem(against["told"].__globals__, "apart", lambda a: gap(a, np.zeros_like(a)))
    rows, apart = against["measure"]([ROOT], ROWS, 1, tmp_path, against["QUICK"])
    assert all(np.shape(one) == (1, 3) and np.isfinite(one).all() for one in rows.values()), rows
    assert len(apart) == 7 and all(0 < mean < largest for mean, largest in apart.values()), apart
    assert gap(np.array([0, 2, 4, 2]), np.array([0, 2, 4, 3])) == (.25/2**.5, 1/2**.5)
    two = dict(machine=against["machine"]("cpu"), old="itself", rounds=1, rows={name: one*2 for name, one in rows.items()}, apart=dict.fromkeys(apart, (0, 0)))
    text = against["table"](two)
    assert text.count(" | 1 | 1 | ") == len(rows) == 10 and text.count("| equal |") == 7, text
