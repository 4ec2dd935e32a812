"""The command in processes that have imported everything already: each is forked from one that waits, is real, has a session
of its own and can be killed. Importing takes most of a short command's time, and a kill while modules are read finds nothing.

What an interpreter that begins would show (which modules a command loads, how its script is found) is for other tests.
"""
import faulthandler
import gc
import multiprocessing as mp
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import NamedTemporaryFile, TemporaryDirectory
from threading import Lock

HEAVY = ["torch", "torch._dynamo", "mediapipe", "cv2", "pandas", "pyarrow.parquet", "scipy.signal", "scipy.stats", "av",
         "matplotlib.pyplot", "papermill", "ipykernel.kernelspec", "opensmile", "cmet.cli", "cmet.edit.pipeline",
         "cmet.corpus.encode", "cmet.corpus.studio", "cmet.experiments.runs", "cmet.train.loop", "cmet.mappers.neural",
         "nbdev.test", "ipywidgets", "seaborn", "skimage", "sklearn", "nbdev.showdoc", "cmet.explorer.app"]
WHERE = "CMET_WARM"  # of the one that waits: its socket
STARTING = Lock()
kept = []  # its folder and the pipe whose end it waits for


def begin():
    "One that waits, for this process and all that it starts; it ends with this process."
    folder = TemporaryDirectory()
    os.environ[WHERE] = os.path.join(folder.name, "door")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(os.environ[WHERE])
        door.listen(64)  # who comes while it still imports waits here
        code = f"import sys; sys.path[:] = {sys.path!r}; import warm; warm.serve({door.fileno()})"
        kept[:] = folder, subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, pass_fds=[door.fileno()])


def serve(door):  # a listening socket's number
    "Import everything, then fork whoever asks; end with the one who began this."
    for name in HEAVY: import_module(name)
    gc.freeze()  # what was imported stays: it is not looked through for garbage, nor its memory written on
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=door) as door:
        while sys.stdin not in select.select([door, sys.stdin], [], [])[0]:
            line = Connection(door.accept()[0].detach())
            if not os.fork(): tend(line)
            line.close()


def tend(line):
    "Fork what is asked for; say its number, and how it ended."
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = mp.get_context("fork").Process(target=_begin, args=line.recv())
    process.start()
    line.send(process.pid)
    process.join()
    with suppress(OSError): line.send(process.exitcode)  # perhaps nobody waits for it any more
    os._exit(0)


def command(argv):
    from cmet.cli import main
    sys.exit(main(argv))


def _begin(work, args, cwd, env, said):
    "What a new process does before its work."
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear(); os.environ.update(env)
    for fd, path in enumerate(said): os.dup2(os.open(path, os.O_RDWR), fd)
    faulthandler.register(signal.SIGUSR1, file=2)  # where it stands, for `stands`
    work(*args)


class Started:
    "A process under way: what tests use of `subprocess.Popen`."
    def __init__(self, work, *args, cwd=".", env=os.environ):
        with STARTING:
            if WHERE not in os.environ: begin()
        self.files, self.returncode = [NamedTemporaryFile("r") for _ in range(2)], None
        said = [os.devnull, *[f.name for f in self.files]]
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(os.environ[WHERE])
            self.line = Connection(s.detach())
        self.line.send((work, args, os.path.abspath(cwd), dict(env), said))
        self.pid = self.line.recv()

    def poll(self, timeout=0):
        if self.returncode is None and self.line.poll(timeout): self.returncode = self.line.recv()
        return self.returncode

    def kill(self): self.send_signal(signal.SIGKILL)

    def send_signal(self, number):
        with suppress(ProcessLookupError):  # as Popen's: nothing where it has ended
            if self.poll() is None: os.kill(self.pid, number)

    def wait(self, timeout=300):
        if self.poll(timeout) is None: raise TimeoutExpired(str(self.pid), timeout, stderr=self.stands())
        return self.returncode

    def stands(self):
        "What it has said and, if Python runs in it, where each of its threads stands."
        self.send_signal(signal.SIGUSR1)
        time.sleep(1)
        print(said := self.files[1].read(), file=sys.stderr)  # what a failing test shows
        return said

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
