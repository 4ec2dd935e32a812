"""The command in processes that have imported everything already: each is forked from one that waits, is real, has a session
of its own and can be killed. Importing takes most of a short command's time, and a kill while modules are read finds nothing.

What an interpreter that begins would show (which modules a command loads, how its script is found) is for other tests.
"""
import gc
import multiprocessing as mp
import os
import signal
import sys
from contextlib import suppress
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import NamedTemporaryFile

HEAVY = ["torch", "torch._dynamo", "mediapipe", "cv2", "pandas", "pyarrow.parquet", "scipy.signal", "scipy.stats", "av",
         "matplotlib.pyplot", "papermill", "ipykernel.kernelspec", "opensmile", "cmet.cli", "cmet.edit.pipeline",
         "cmet.corpus.encode", "cmet.corpus.studio", "cmet.experiments.runs", "cmet.train.loop", "cmet.mappers.neural", "warm"]


def command(argv):
    from cmet.cli import main
    sys.exit(main(argv))


def _begin(work, args, cwd, env, said):
    "What a new process does before its work."
    gc.freeze()  # what was imported stays: it is not looked through for garbage, nor its memory written on
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear(); os.environ.update(env)
    for fd, path in enumerate(said): os.dup2(os.open(path, os.O_RDWR), fd)
    work(*args)


class Started:
    "A process under way: what tests use of `subprocess.Popen`."
    def __init__(self, work, *args, cwd=".", env=os.environ):
        fork = mp.get_context("forkserver")
        fork.set_forkserver_preload(HEAVY)
        self.files = [NamedTemporaryFile("r") for _ in range(2)]
        said = [os.devnull, *[f.name for f in self.files]]
        self.process = fork.Process(target=_begin, args=(work, args, os.path.abspath(cwd), dict(env), said))
        self.process.start()
        self.pid = self.process.pid

    @property
    def returncode(self): return self.process.exitcode
    def poll(self): return self.process.exitcode
    def kill(self): self.process.kill()

    def send_signal(self, number):
        with suppress(ProcessLookupError): os.kill(self.pid, number)  # as Popen's: nothing where it has ended

    def wait(self, timeout=300):
        self.process.join(timeout)
        if self.returncode is None: raise TimeoutExpired(self.process.name, timeout)
        return self.returncode

    def communicate(self, timeout=300):
        self.wait(timeout)
        return [f.read() for f in self.files]


def start(*argv, cwd=".", **env):
    "`cmet ARGV` in the folder `cwd`, under way."
    return Started(command, [str(a) for a in argv], cwd=cwd, env=os.environ | {"OMP_NUM_THREADS": "1"} | env)


def run(*argv, cwd=".", **env):
    "`cmet ARGV` in the folder `cwd`, to its end; what `subprocess.run` says of a command."
    job = start(*argv, cwd=cwd, **env)
    said = job.communicate()
    return CompletedProcess(argv, job.returncode, *said)


def ready():
    "Comes back once all is imported, for who measures how long a command takes."
    Started(len, ()).wait()
