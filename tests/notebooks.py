"""The cells of every notebook, as nbdev_test runs them and by its flags: two notebooks at once, each in a process of its own
that is forked from one which has imported everything. `python tests/notebooks.py [--times] [part of a path ...]`

nbdev_test runs half of all notebooks in one process after the other, so that one finds what another left.
"""
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import warm
from nbdev.config import get_config
from nbdev.doclinks import nbglob

CONFIG = get_config(path=Path(__file__).parents[1])
NBS = CONFIG.nbs_path
FIRST = ["50_demo", "30_export", "20_judges", "70_loop", "40_pipeline", "6_decoding"]  # the dearest: one that begins last keeps the other processor waiting


def files(*parts):
    "Paths of all notebooks, or of those with all parts in their path; the dearest first."
    late = lambda p: (not any(k in p.name for k in FIRST), p)
    return [f for f in sorted((f.absolute() for f in nbglob(NBS, as_path=True)), key=late) if all(p in str(f) for p in parts)]


def test(path):
    import nbdev.test
    nbdev.test.CaptureShell = partial(nbdev.test.CaptureShell, mpl_format="png")  # as a kernel draws; else twice as wide and high
    passed, _ = nbdev.test.test_nb(Path(path), skip_flags=CONFIG.tst_flags.split(), basepath=CONFIG.config_path)
    spent = sum(sum(getrusage(who)[:2]) for who in (RUSAGE_SELF, RUSAGE_CHILDREN))
    print(f"CPU {spent:.1f}", flush=True)
    sys.exit(not passed)


def tested(path):
    "Path, seconds, CPU seconds, and what was said if a cell failed."
    began, process = time.monotonic(), warm.Started(test, str(path), cwd=NBS)
    try: out, err = process.communicate(timeout=1200)
    finally: process.kill()
    cpu = out.rpartition("CPU ")[2].strip()
    return path, time.monotonic() - began, float(cpu) if cpu else 0, process.returncode and (err or f"ended with {process.returncode}")


def main(*parts, times=False):
    found = files(*parts)
    with ThreadPoolExecutor(2) as two: results = list(two.map(tested, found))
    failed = [(p, said) for p, _, _, said in results if said]
    for p, said in failed: print(f"{p}:\n{said}", file=sys.stderr)
    if times:
        for p, wall, cpu, _ in sorted(results, key=lambda r: -r[2]): print(f"{wall:6.1f} s {cpu:6.1f} CPU s  {p}")
    print(f"{len(found) - len(failed)} notebooks passed", *(f"failed: {p}" for p, _ in failed), sep="\n")
    return bool(failed) or not found


if __name__ == "__main__":
    import notebooks  # so that the process which is forked finds `test` under a name that it can import
    sys.exit(notebooks.main(*(a for a in sys.argv[1:] if a != "--times"), times="--times" in sys.argv))
