"Many jobs: the same results however they are done; a job that dies costs itself; nothing is left running."
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cmet.core import CmetError
from cmet.io.jobs import Failure, _environment, each, share

HERE = Path(__file__).parent


# Jobs: other processes import them from here by name.

def start():
    "What each worker makes once: where it is, and how often it was made."
    return {"pid": os.getpid(), "done": 0, "threads": os.environ.get("OMP_NUM_THREADS")}


def act(state, job):
    state["done"] += 1
    if job == "segfault": os.kill(os.getpid(), signal.SIGSEGV)
    if job == "killed": os.kill(os.getpid(), signal.SIGKILL)
    if job == "exit": sys.exit("enough")
    if job == "wrong": raise CmetError("file 'a.wav' is silent", "record it again")
    if job == "strange": return lambda: 0  # cannot be pickled
    if isinstance(job, float): time.sleep(job)
    return job, state["done"], state["pid"], state["threads"]


def broken_start(): raise CmetError("no model here", "run `cmet assets get`")
def dying_start(): os._exit(3)


def sleeper(job):
    "Says on disk that it lives, and when it was asked to stop; then sleeps."
    folder, k = job
    (folder/f"{os.getpid()}").touch()
    try: time.sleep(60)
    finally: (folder/f"stopped-{os.getpid()}").touch()


def meet(job):
    "Waits for one file, or makes another."
    awaited, made = job
    if awaited: wait_for(awaited.exists, 120)
    if made: made.touch()


def lives(pid):
    "Is there such a process (a zombie is none)?"
    try: return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError: return False


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(.05)
    return found


# Results

JOBS = ["a", "wrong", "b", .2, "exit", "c", "d"]


def test_here_and_two_processes_agree_and_share_the_setup():
    here, two = (sorted(each(act, JOBS, n, setup=start)) for n in (1, 2))
    assert [k for k, *_ in two] == list(range(len(JOBS)))
    assert [(v and v[0], e) for _, v, e in here] == [(v and v[0], e) for _, v, e in two]
    assert here[1][2] == two[1][2] == "CmetError: file 'a.wav' is silent: record it again"
    assert two[4][2] == "SystemExit: enough" and isinstance(two[4][2], Failure)
    assert "in act" in here[1][2].trace and "in act" in two[1][2].trace
    assert {v[2] for _, v, _ in here if v} == {os.getpid()} and [v[1] for _, v, _ in here if v][-1] == len(JOBS)
    pids = {v[2] for _, v, _ in two if v}
    assert len(pids) <= 2 and os.getpid() not in pids and not any(map(lives, pids))  # one may come too late


def test_results_come_as_they_are_done(tmp_path):
    jobs = [(tmp_path/"last", None), *((None, tmp_path/n) for n in ("one", "two", "last"))]
    assert [k for k, *_ in each(meet, jobs, workers=2)] == [1, 2, 3, 0]


def test_a_worker_that_dies_costs_its_own_job():
    jobs = ["a", "segfault", "b", "killed", "c", "strange", "d", "e"]
    rows = dict((k, (v, e)) for k, v, e in each(act, jobs, 2, setup=start))
    assert {jobs[k] for k, (_, e) in rows.items() if e} == {"segfault", "killed", "strange"}
    assert f"code {-signal.SIGSEGV}" in rows[1][1] and f"code {-signal.SIGKILL}" in rows[3][1]
    assert [rows[k][0][0] for k in (0, 2, 4, 6, 7)] == ["a", "b", "c", "d", "e"]


def test_jobs_that_cannot_travel():
    rows = sorted(each(hash, [3, lambda: 0, 4], workers=2))
    assert [e is None for *_, e in rows] == [True, False, True] and "ickle" in rows[1][2]


def test_each_worker_has_its_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert share(0, 1)["OMP_NUM_THREADS"] == str(cores) and share(0, 10*cores)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert share(0, 1)["OMP_NUM_THREADS"] == "1"
    (_, value, _), = each(act, ["a"], 2, setup=start)
    assert value[3] == "1" and os.environ["OMP_NUM_THREADS"] == "1"


# What cannot be done at all

@pytest.mark.parametrize("options, text", [
    (dict(engine="cloud"), "unknown engine 'cloud'"), (dict(workers=0), "0 workers"),
    (dict(workers=2, setup=broken_start), "no model here"), (dict(workers=2, setup=dying_start), "code 3"),
    (dict(workers=2, setup=lambda: 0), "cannot be sent")])
def test_no_job_can_be_done(options, text):
    with pytest.raises(CmetError, match=text): list(each(act, ["a", "b", "c"], **options))


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CmetError, match=r"cmet\[ray\]"): each(len, [], engine="ray")


def test_a_cluster_that_is_not_there(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(CmetError, match="cannot reach a Ray cluster .*RAY_ADDRESS"): list(each(len, ["a"], engine="ray"))


# Nothing is left running

def test_ctrl_c_stops_the_workers(tmp_path):
    rows = each(sleeper, [(tmp_path, k) for k in range(4)], workers=2)
    def interrupt():
        wait_for(lambda: len(list(tmp_path.glob("[0-9]*"))) == 2)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    begin, before = time.monotonic(), signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored
    try:
        with pytest.raises(KeyboardInterrupt): next(rows)
    finally: signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begin < 55, "the jobs were not waited for"
    pids = [int(p.name) for p in tmp_path.glob("[0-9]*")]
    assert len(pids) == 2 and not any(map(lives, pids))
    assert len(list(tmp_path.glob("stopped-*"))) == 2, "the jobs could tidy up"


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = f"""import sys; sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from cmet.io.jobs import each
from test_engine import sleeper
if __name__ == "__main__": list(each(sleeper, [(Path({str(tmp_path)!r}), k) for k in range(2)], workers=2))"""
    (tmp_path/"run.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path/"run.py"])
    pids = wait_for(lambda: len(found := list(tmp_path.glob("[0-9]*"))) == 2 and [int(p.name) for p in found])
    parent.kill(); parent.wait()
    wait_for(lambda: not any(map(lives, pids)))


def test_a_worker_that_starts_touches_no_variable_but_its_own(monkeypatch):
    "Other threads read and write the environment at any moment."
    monkeypatch.setenv("CMET_MINE", "before")
    monkeypatch.delenv("CMET_THEIRS", raising=False)
    monkeypatch.setattr(type(os.environ), "clear", lambda self: pytest.fail("the environment was emptied"))
    with _environment({"CMET_MINE": "1", "CMET_NEW": "1"}):
        assert os.environ["CMET_MINE"] == os.environ["CMET_NEW"] == "1"
        os.environ["CMET_THEIRS"] = "set by another thread"
    assert os.environ["CMET_MINE"] == "before" and "CMET_NEW" not in os.environ
    assert os.environ.pop("CMET_THEIRS") == "set by another thread"


class Hand:
    "A worker that answers when it is asked; its machine goes away at the jobs in `doom`, each as often as it says."
    def __init__(self, doom, log): self.doom, self.log, self.job = doom, log, None
    def give(self, job): self.job = job; self.log.append(job)
    def stop(self): pass
    def close(self): pass
    def take(self):
        from cmet.io.jobs import Lost
        if self.doom.get(self.job, 0): self.doom[self.job] -= 1; raise Lost("its machine is gone")
        return self.job, None


@pytest.mark.parametrize("doom, bad", [({}, []), ({"b": 1}, []), ({"e": 1, "a": 1}, []), ({"c": 2}, [2]), ({None: 2}, [])])
def test_a_job_whose_machine_is_gone_is_done_by_another(doom, bad):
    "Once: a job that takes two machines with it is left alone. Nor does a machine that goes while a worker starts end it all."
    from cmet.io.jobs import _handed_out
    log, hired = [], []
    shared = dict(doom)
    def hire(i): hired.append(Hand(shared, log)); return hired[-1]
    done = sorted(_handed_out(list("abcde"), hire, lambda busy: busy[:1], 2))
    assert [k for k, _, error in done if error] == bad and [k for k, *_ in done] == list(range(5))
    assert [v for _, v, _ in done] == [None if k in bad else "abcde"[k] for k in range(5)]


def test_who_has_nothing_to_do_takes_over_what_was_lost():
    "A cluster that lost a machine may have no room for a new worker; who waits for one waits for ever."
    from cmet.io.jobs import _handed_out
    log, hired, shared = [], [], {"b": 1}
    def hire(i):
        assert len(hired) < 2, "no room"
        hired.append(Hand(shared, log)); return hired[-1]
    first = lambda busy: [w for w in busy if w.job != "b"][:1] or busy[:1]  # the last answer is that of the lost one
    assert [v for _, v, _ in sorted(_handed_out(["a", "b"], hire, first, 2))] == ["a", "b"] and log == ["a", "b", "b"]
