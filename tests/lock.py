"""constraints.txt with the SHA-256 of every file that the package index has of each version, as requirements-lock.txt.

`python tests/lock.py` asks the index through uv (`pip install uv`), once for each Python; `make HASHED=1`
and CI install from it with `pip --require-hashes`, so a file that was changed at the index, or on the way, is refused.
"""
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT/"requirements-lock.txt"
TORCH = "torch==2.13.0"  # the index's own wants NVIDIA's packages; PyTorch's, without CUDA, is not asked, so its file is named by hand
CPU = {"torch==2.13.0+cpu": ["6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"]}  # cp311, Linux, x86-64
HEAD = """# Every pinned package with the SHA-256 of its files: `pip install --require-hashes --no-deps -r requirements-lock.txt`, then
# `pip install --no-deps --no-build-isolation -e .`. Made by `python tests/lock.py` from constraints.txt. PyTorch is the one without CUDA,
# of Python 3.11 on Linux (x86-64), from PyTorch's own index; everywhere else: `pip install -c constraints.txt -e '.[dev]'`.
# No package of NVIDIA is here, because that PyTorch asks for none. The one for graphics cards does: pip then brings the versions which
# that PyTorch names, under NVIDIA's licence and with no hash of ours.
"""


def pins() -> list:  # of (package, its exact requirement, the line of constraints.txt)
    lines = [x.strip().replace(TORCH, *CPU) for x in (ROOT/"constraints.txt").read_text("utf-8").splitlines()]
    return [(re.split("==", x)[0], x.split(";")[0].strip(), x) for x in lines if x and x[0] != "#"]


def hashes(text) -> dict:  # "name==version" -> its hashes, of a file in pip's form
    joined = text.replace("\\\n", " ")
    return {m[1]: re.findall(r"--hash=sha256:([0-9a-f]{64})", m[2]) for m in re.finditer(r"(?m)^([\w.-]+==[^\s;]+)(.*)$", joined)}


def asked() -> dict:
    "What the index has, by uv."
    found = {}
    for python in "3.10", "3.11.9", "3.12":
        run = subprocess.run(["uv", "pip", "compile", "-q", "--no-deps", "--generate-hashes", "--no-annotate", "--no-header",
                              "--python-version", python, "constraints.txt"], cwd=ROOT, capture_output=True, text=True)
        if run.returncode: sys.exit(run.stderr)
        found |= hashes(run.stdout)
    return found | CPU


def written(found) -> str:
    ends = [" \\\n    ".join([line, *(f"--hash=sha256:{h}" for h in sorted(found[exact]))])
            for _, exact, line in pins()]
    return HEAD + "\n".join(ends) + "\n"


if __name__ == "__main__": FILE.write_text(written(asked()), encoding="utf-8")
