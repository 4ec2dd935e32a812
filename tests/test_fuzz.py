"A small part of `make fuzz`, and that it would see what it looks for."
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import fuzz
import numpy as np
import pytest


def test_damaged_files_end_in_one_line_or_in_a_right_result():
    "Five of each kind, through every door."
    run = subprocess.run([sys.executable, fuzz.__file__, "60"], capture_output=True, text=True, timeout=900)
    told = re.search(r"^60 inputs of seed 0 in \d+ s, 0 failed; .*; mp4 5, .*ipynb 5$", run.stdout, re.M)
    assert run.returncode == 0 and told, run.stdout + run.stderr


@pytest.mark.parametrize("what, said", [("raises", "traceback"), ("two lines", "2 lines"), ("wrong exit", "exit 1"), ("half", "left"),
                                        ("changes", "changed"), ("writes", "and wrote"), ("noise", "said")])
def test_what_goes_wrong_is_seen(tmp_path, monkeypatch, what, said):
    import cmet.cli
    monkeypatch.chdir(tmp_path)
    Path("in.wav").write_text("sound")

    def main(argv):
        if what == "raises": raise ZeroDivisionError
        if what == "half": Path(".1.part.mp4").touch()
        if what == "changes": Path("in.wav").write_text("other")
        if what == "writes": Path("out.mp4").touch()
        print({"noise": "Warning: x", "two lines": "cmet: a\ncmet: b"}.get(what, "cmet: wrong: mend it"), file=sys.stderr)
        return 1 if what == "wrong exit" else 2
    monkeypatch.setattr(cmet.cli, "main", main)
    assert said in fuzz.judged(["edit", "in.wav", "-o", "out.mp4"], fuzz.state("."))
    Path(".1.part.mp4").unlink(missing_ok=True)
    monkeypatch.setattr(cmet.cli, "main", lambda argv: print("cmet: wrong: mend it", file=sys.stderr) or 2)
    assert fuzz.judged(["edit", "in.wav", "-o", "out.mp4"], fuzz.state(".")) == ""


@pytest.mark.parametrize("end, said", [(lambda: os.kill(os.getpid(), signal.SIGKILL), "death by SIGKILL"), (lambda: os._exit(3), "death by exit 3")])
def test_a_worker_that_dies_is_told_and_replaced(tmp_path, monkeypatch, end, said):
    (tmp_path/"ipynb").touch()  # the good files are there
    monkeypatch.setattr(fuzz, "warm", lambda seeds: None)
    monkeypatch.setenv("CMET_CACHE", str(tmp_path))
    monkeypatch.setattr(fuzz, "one", lambda seeds, n, seed: end() if n == 1 else dict(number=n, kind="mp4", wrong=""))
    assert [(r["number"], r["wrong"]) for r in fuzz.tried(range(3), 0, tmp_path)] == [(0, ""), (1, said), (2, "")]


def test_inputs_are_the_same_each_time():
    data, others = b"0123456789"*40, [b"abc", b"xyz"]
    made = [[fuzz.damaged(np.random.default_rng([0, k]), "mp4", data, others) for k in range(40)] for _ in range(2)]
    assert made[0] == made[1] and len({way for way, _ in made[0]}) > 6
