"The benchmarks against another version: each row that asks for more than a command runs in small, with this version alone."
import runpy
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROWS = ["edit", "step", "edtalk", "corpus", "slider"]


def test_rows_of_against_run_in_small(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    against = runpy.run_path(str(ROOT/"benchmarks"/"against.py"))
    rows = against["measure"]([ROOT], ROWS, 1, tmp_path, against["QUICK"])
    assert all(np.shape(one) == (1, 3) and np.isfinite(one).all() for one in rows.values()), rows
    text = against["table"](dict(machine=against["machine"]("cpu"), old="itself", rounds=1, rows={name: one*2 for name, one in rows.items()}))
    assert text.count(" | 1 | 1 | ") == len(rows) == 10, text
