"Silence among threads, files written whole or not at all, and where the built-in data is."
import os
import subprocess
import sys
import threading
import time
import warnings

import pytest

import cmet
from cmet import core
from cmet.cli import main
from cmet.core import CmetError, silent
from cmet.edit import edit_video
from cmet.io.files import atomic


def same_file(a, b): return os.path.samestat(os.fstat(a), os.fstat(b))


def test_silence_that_overlaps_in_two_threads_is_undone():
    "The first in leaves before the second: nobody may restore what the other one saw."
    keep, filters = os.dup(2), warnings.filters[:]
    inside, go_on = threading.Event(), threading.Event()
    def late():
        with silent(): inside.set(); go_on.wait(10)
    other = threading.Thread(target=late)
    with silent():
        other.start()
        assert inside.wait(10)
    try: assert not same_file(2, keep), "one thread still wants silence"
    finally:
        go_on.set()
        other.join()
    assert same_file(2, keep) and warnings.filters == filters
    os.close(keep)


def test_silence_of_many_threads_and_after_errors(capfd):
    keep, before = os.dup(2), len(os.listdir("/dev/fd"))
    def busy():
        for _ in range(200):
            try:
                with silent():
                    with silent(): os.write(2, b"hidden")
                    os.write(2, b"hidden")
                    raise ValueError
            except ValueError: pass
    threads = [threading.Thread(target=busy) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert same_file(2, keep) and len(os.listdir("/dev/fd")) == before
    os.write(2, b"seen")
    os.close(keep)
    assert capfd.readouterr().err == "seen"


def test_silence_without_a_standard_error():
    code = "import os; os.close(2)\nfrom cmet.core import silent\nwith silent(): print('ran')"
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout == "ran\n"


@pytest.mark.parametrize("name", ["話"*80 + ".mp4", "a"*251 + ".mp4", "plain.txt"])
def test_any_legal_name_can_be_written(tmp_path, name):
    with atomic(tmp_path/name) as temp: temp.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_is_one_clear_error(tmp_path):
    with pytest.raises(CmetError):
        with atomic(tmp_path/("a"*300 + ".mp4")) as temp: temp.write_text("whole")
    assert not list(tmp_path.iterdir())


def test_threads_that_write_one_file_take_turns(tmp_path):
    seen = []
    def write(text):
        with atomic(tmp_path/"a.txt") as temp:
            seen.append((text, temp.exists()))
            temp.write_text(text*1000)
            time.sleep(.1)
            assert temp.read_text() == text*1000, "nobody else writes to it meanwhile"
            seen.append((text, True))
    threads = [threading.Thread(target=write, args=(c,)) for c in "ab"]
    for t in threads: t.start()
    for t in threads: t.join()
    assert [t for t, _ in seen] in (list("aabb"), list("bbaa")) and not seen[0][1] and not seen[2][1]
    assert (tmp_path/"a.txt").read_text() == seen[2][0]*1000, "the later one stays"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_of_a_library_has_the_rights_of_any_new_file(tmp_path):
    "safetensors writes through a temporary file that only its owner may read."
    import numpy as np
    from safetensors.numpy import save_file
    before = os.umask(0o022)
    try:
        with atomic(tmp_path/"m.safetensors") as temp: save_file({"x": np.zeros(1)}, temp)
        with atomic(tmp_path/"a.txt") as temp:
            temp.touch()
            temp.chmod(0o600)
    finally: os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o644}


@pytest.mark.parametrize("place, mark, want", [("beside", True, "data"), ("inside", True, "cmet/data"),
                                               ("nowhere", True, "data"), ("nowhere", False, "cmet/data")])
def test_the_data_folder_is_known_before_it_is_there(tmp_path, monkeypatch, place, mark, want):
    (tmp_path/"cmet").mkdir()
    if mark: (tmp_path/"settings.ini").touch()
    if place != "nowhere": (tmp_path/("data" if place == "beside" else "cmet/data")).mkdir()
    monkeypatch.setattr(cmet, "__file__", str(tmp_path/"cmet"/"__init__.py"))
    assert core.data_folder() == tmp_path.resolve()/want
    if place == "nowhere":
        with pytest.raises(CmetError, match="cmet studio"): core.builtin("portrait.mp4")


def test_an_error_speaks_to_both_who_type_and_who_write_python(tmp_path, capsys):
    "The command's line names options; Python's text of the same error also says what they are called there."
    said = lambda remedy: str(CmetError("x", remedy)).removeprefix(f"x: {remedy}")
    assert said("give --force") == " (in Python: force=True)" and said("check the path") == ""
    assert said("give --to, --from or --part; --to again") == " (in Python: to=, frm=, regions=)"
    assert said("see `cmet eval --help`") == said("cut one out: cmet crop FILE --face largest -o face.mp4") == "", "whole commands stay commands"
    (tmp_path/"old.mp4").touch()
    with pytest.raises(CmetError, match=r"give --force \(in Python: force=True\)"): edit_video(core.builtin("portrait.mp4"), tmp_path/"old.mp4", vector="happy")
    assert main(["edit", str(core.builtin("portrait.mp4")), "--vector", "happy", "-o", str(tmp_path/"old.mp4")]) == 2
    assert capsys.readouterr().err.endswith("choose another name or give --force\n")
