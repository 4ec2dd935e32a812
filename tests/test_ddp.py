"Two processes compute what one computes with the same global batch."
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
import warm

from cmet.train.checkpoint import last_checkpoint, load_tensors

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="torch without gloo")
PLAIN = ["drop=0", "lr=1e-4"]
OPTIONS = [['reference="self"'], ['reference="teacher"', 'contrastive="supcon"', 'direction="squared"', "shots=null"]]
# name -> what `tiny.main` gets after the folder. Starting Python and torch takes longer than all of these, so each process does all.
RUNS = {f"double{k}": [12, *PLAIN, "double=1", *o] for k, o in enumerate(OPTIONS)} | {"one": [1, *PLAIN, *OPTIONS[0]], "twelve": [12, *PLAIN, *OPTIONS[0]]}
MORE = {"whole": [9, "drop=.1"], "odd": [3, *PLAIN, "batch=7"]}

MANY = """import json, sys, tiny
from cmet.core import CmetError
for folder, args in json.loads(sys.argv[1]).items():
    try: tiny.main(folder, *args)
    except CmetError as e: print(folder, e)"""


def start(folder, runs):
    "Two processes train each of some runs in turn, begun by torchrun."
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python", sys.executable, "-c", MANY]
    env = os.environ | {"OMP_NUM_THREADS": "1", "USE_LIBUV": "0", "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    call = [*launcher, json.dumps({str(folder/k): args for k, args in runs.items()})]
    p = subprocess.run(call, env=env, capture_output=True, text=True, timeout=300)
    # On a busy machine torch's gloo was seen to abort once as a process left. As a scheduler would, start it again: the
    # run resumes from its last checkpoint, which is what these tests are about.
    if "SIGABRT" in p.stderr: p = subprocess.run(call, env=env, capture_output=True, text=True, timeout=300)
    assert p.returncode == 0, p.stderr[-2000:]
    return p


def two(folder, *args):
    "Two processes train once, told what torchrun tells them, but with torch imported; exit statuses and error lines of both."
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=False)
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1", "USE_LIBUV": "0",
            "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    jobs = [warm.Started(tiny.main, str(folder), *map(str, args), env=os.environ | told | {"RANK": k, "LOCAL_RANK": k}) for k in "01"]
    return [(j.returncode, err) for j in jobs for _, err in [j.communicate()]]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    "Folders of what one process (this one) and two have trained, and what the two said."
    one, pair, threads = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("pair"), torch.get_num_threads()
    for name, args in RUNS.items(): tiny.main(one/name, *args)
    torch.set_num_threads(threads)
    return one, pair, start(pair, RUNS | MORE)


@pytest.mark.parametrize("name", ["double0", "double1"])
def test_two_processes_equal_one(both, name):
    # In float64, so that what is left of a difference is not rounding: a bias before batch norm has no true gradient, and
    # Adam makes full steps of whatever rounding leaves of one.
    one, pair, _ = both
    (a, m), (b, n) = last_checkpoint(one/name), last_checkpoint(pair/name)
    model = [k for k in a if k.startswith("model/") and a[k].is_floating_point()]
    assert len(model) > 50 and max((a[k] - b[k]).abs().max().item() for k in model) < 1e-6
    assert torch.equal(a["seat"], b["seat"]) and m["step"] == n["step"] == 12
    for x, y in zip(m["history"], n["history"]): assert all(abs(x[k] - y[k]) < 1e-5 for k in x if k != "seconds")
    # Not because nothing was learnt.
    first = load_tensors(sorted((one/name).glob("step-*"))[0])[0]
    assert max((a[k] - first[k]).abs().max().item() for k in model) > 1e-4


def test_gradients_and_losses_are_equal_in_float32_too(both):
    a, b = (last_checkpoint(k/"one")[0] for k in both[:2])
    grads = [k for k in a if k.endswith("exp_avg")]  # after one step a tenth of the gradient
    assert max(10*(a[k] - b[k]).abs().max().item() for k in grads) < 1e-5 < max(a[k].abs().max().item() for k in grads)
    x, y = (last_checkpoint(k/"twelve")[1]["history"] for k in both[:2])
    assert all(abs(p[k]/q[k] - 1) < 1e-3 for p, q in zip(x, y) for k in ("loss", "recon", "contrastive", "direction"))


def test_two_processes_resume_exactly(both, tmp_path):
    killed = two(tmp_path/"parts", *MORE["whole"], "die=5")
    assert -9 in dict(killed), killed
    again = two(tmp_path/"parts", *MORE["whole"])
    if -6 in dict(again): again = two(tmp_path/"parts", *MORE["whole"])
    assert all(status == 0 for status, _ in again), again
    a, b = (last_checkpoint(k)[0] for k in (both[1]/"whole", tmp_path/"parts"))
    assert a["rng/cpu"].shape[0] == 2 and not torch.equal(a["rng/cpu"][0], a["rng/cpu"][1])
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_a_batch_that_does_not_divide_is_refused(both):
    assert "batch = 7 for 2 processes" in both[2].stdout and not list((both[1]/"odd").glob("*"))
