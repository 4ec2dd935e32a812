"""In which order pytest's workers take the tests, so that none has a long one left when the others have done.

`--dist worksteal` cuts the list into one slice a worker, and who has done takes the later half of the longest rest. So tests that
take long, by `durations.txt`, are dealt over the slices and come first in each; all others fill up what is equal in number. Tests
that share what is made once for their file stay together, since each worker that takes one of them makes it anew.
"""
import gc
import os
from pathlib import Path

import warm


def durations():
    "Seconds of each test that takes some, from lines as `pytest --durations` prints them."
    took = {}
    for line in Path(__file__).with_name("durations.txt").read_text("utf-8").splitlines():
        seconds, _, test = line.split(maxsplit=2)
        took[test] = took.get(test, 0) + float(seconds.rstrip("s"))
    return took


def together(item):
    "The file of a test that uses what is made once for the file; of any other its own name."
    made = [d[-1] for d in item._fixtureinfo.name2fixturedefs.values()]
    once = any(d.scope in ("module", "session") and d.func.__module__ == item.module.__name__ for d in made)
    return item.path.as_posix() if once else item.nodeid


def dealt(items, workers, took):
    "The items in slices for so many workers, the longest first."
    place = {}
    for item in items: place.setdefault(together(item), []).append(item)
    seconds = {name: sum(took.get(i.nodeid, 0) for i in unit) for name, unit in place.items()}
    slices, loads = [[] for _ in range(workers)], [0]*workers
    for name in sorted(filter(seconds.get, place), key=seconds.get, reverse=True):
        k = loads.index(min(loads))
        slices[k] += place.pop(name)
        loads[k] += seconds[name]
    rest = [i for unit in place.values() for i in unit]
    left = len(items)
    for k, part in enumerate(slices):  # as many items each as xdist will count off
        room = max(0, left//(workers - k) - len(part))
        part += rest[:room]
        del rest[:room]
        left -= len(part)
    return [i for part in slices for i in part] + rest


def pytest_configure(config):
    if getattr(config.option, "numprocesses", None): warm.begin()  # one for all workers


def pytest_collection_modifyitems(items):
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    if workers > 1: items[:] = dealt(items, workers, durations())


def pytest_collection_finish():
    from cmet.io import progress
    progress.EVERY = 1e6  # seconds: what is said by the clock would be said on a slow day only
    gc.freeze()  # what was imported stays: it is not looked through for garbage
