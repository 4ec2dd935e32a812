"""The site: every link and anchor of it leads somewhere, and reading it asks nothing of the network."""
import functools
import http.server
import re
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest

from cmet.io.claims import claimed

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT/"tests"/"docs"))
import check  # noqa: E402

CHROMIUM = Path("/usr/bin/chromium")
if find_spec("mkdocs") is None: pytest.skip("MkDocs is not installed (make install)", allow_module_level=True)


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    "Built once, whichever of pytest's workers comes first."
    out = tmp_path_factory.getbasetemp()/("." if worker_id == "master" else "..")/"docs"
    with claimed(out, wait=True):
        if not (out/"whole").exists():
            command = [sys.executable, ROOT/"tests"/"docs"/"build.py", out]
            run = subprocess.run(command, capture_output=True, text=True)
            assert run.returncode == 0, run.stdout + run.stderr
            (out/"whole").touch()
    return out/"site"


def test_every_notebook_has_a_page_and_every_public_name_an_entry(site):
    pages = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    books = {p.relative_to(ROOT/"nbs") for p in (ROOT/"nbs").rglob("*.ipynb")}
    books = {p for p in books if not {".ipynb_checkpoints", "out"} & {*p.parts}}
    books = {p.with_suffix(".html").as_posix().replace("00_index", "index") for p in books}
    assert len(books) > 100 and books <= pages
    for path in (ROOT/"cmet").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT/"cmet").with_suffix("").parts)
        names = re.search(r"(?s)^__all__ = (\[.*?\])", path.read_text("utf-8"), re.M)
        if path.name.startswith("_") or not names: continue
        page = check.Page((site/"api"/f"{name.split('.')[0]}.html").read_text("utf-8"))
        entries = {a.rpartition(".")[2] for a in (*page.anchors, *page.links)}  # a name taken from elsewhere is a link
        assert name in page.anchors and {*re.findall(r"'(\w+)'", names[1])} <= entries, name


def test_a_signature_comes_with_its_docments(site):
    page = (site/"api"/"vectors.html").read_text("utf-8")
    entry = re.sub(r"<[^>]+>", "", page.partition('id="vectors.vector.direction"')[2].partition("<h3")[0])
    assert all(t in entry for t in ("direction(corpus", "C-MET, eq. 1", "clips drawn from each pool"))


def test_formulas_are_drawn_without_a_script(site):
    pages = [p.read_text("utf-8") for p in site.rglob("*.html")]
    assert sum("<math" in p for p in pages) > 15
    assert not [p for p in pages if re.search(r'class="arithmatex">\s*\\[\[(]', p) or "MathJax" in p]


def test_a_sound_is_a_player(site):
    "IPython indents its tags, which in Markdown is code: the page showed them as text."
    page = (site/"tutorials"/"1_hear_and_see.html").read_text("utf-8")
    assert page.count("<audio") == 3 and "&lt;audio" not in page and not re.search(r"&lt;(?:div|table|img|video) ", page)


def test_what_a_cell_has_shown_reads_as_in_the_notebook(site):
    "A list right under a line is a list; a stream that came in pieces is one; a picture leads to its file, which is larger."
    page = (site/"85_evaluate"/"60_report.html").read_text("utf-8")
    assert "<li>identity distance: " in page and '<h3 id="made-' in page
    page = (site/"35_edtalk"/"50_codec.html").read_text("utf-8")
    between = page.rpartition("batches of 1 and 3")[2].partition("no frame 99")
    assert between[1] and "<pre" not in between[0]
    page = (site/"tutorials"/"1_hear_and_see.html").read_text("utf-8")
    pictures = re.findall(r'(?:<a href="([^"]+)">)?<img alt="([^"]*)"[^>]* src="([^"]+)"', page)
    assert len(pictures) > 2 and all(to == src and alt for to, alt, src in pictures), pictures


def test_a_wrong_address_leads_home(site):
    assert '<a href="/index.html">Home</a>' in (site/"404.html").read_text("utf-8")


def test_it_is_small_enough_to_lie_anywhere(site):
    files = [p.stat().st_size for p in site.rglob("*") if p.is_file()]
    assert sum(files) < 40e6 and max(files) < 5e6


def test_the_check_finds_what_is_wrong(tmp_path):
    links = "".join(f'<a href="{a}">x</a>' for a in "b.html#y #x c.html ../d.html https://example.org".split())
    (tmp_path/"a.html").write_text(f'<h1 id="x">A</h1>{links}<script src="//example.org/x.js"></script>')
    (tmp_path/"e.html").write_text('<h1>E</h1><h1>F</h1><ol start="512"><li>x</ol>which take an <img> as long')
    (tmp_path/"b.html").write_text('<img src="none.png"><a href="a.html#x">a</a><link href="s.css">')
    (tmp_path/"s.css").write_text('@import "https://example.org/f.css"; b { background: url(data:image/png,A) }')
    assert sorted(check.faults(tmp_path)) == [
        "a.html fetches //example.org/x.js", "a.html: no ../d.html", "a.html: no anchor b.html#y",
        "a.html: no c.html", "b.html: no none.png",
        "e.html: 2 titles", "e.html: a list that begins with 512", "e.html: a picture without an address",
        "s.css fetches https://example.org/f.css"]


@pytest.mark.skipif(not CHROMIUM.exists() or not find_spec("playwright"), reason="no Chromium or no playwright")
def test_a_browser_asks_nobody_else_and_finds_a_word(site):
    from playwright.sync_api import sync_playwright
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home, asked, errors = f"http://127.0.0.1:{server.server_port}/", [], []
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 420, "height": 900})
        page.on("request", lambda r: asked.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        for name in "index", "85_evaluate/35_frechet", "api/face", "tutorials/1_hear_and_see":
            page.goto(f"{home}{name}.html")
            page.wait_for_load_state("load")
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 420, f"{name}: wider than a telephone"
        ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
        before = ground()
        page.emulate_media(color_scheme="dark")  # the system's evening, after the first page
        page.wait_for_function(f"getComputedStyle(document.body).backgroundColor != '{before}'")
        page.goto(f"{home}95_explorer/40_widgets.html")
        label = page.evaluate("getComputedStyle(document.querySelector('.output .cmet')).color")
        assert label == page.evaluate("getComputedStyle(document.querySelector('article')).color"), "labels as dark as the ground"
        page.set_viewport_size({"width": 1400, "height": 900})
        column = page.evaluate("document.querySelector('.output').offsetWidth")
        assert column > 800, f"{column} pixels for lines of 110 characters"
        page.wait_for_function("document.documentElement.scrollWidth <= 1400")  # a telephone's menu takes a moment to slide away
        page.set_viewport_size({"width": 1200, "height": 900})
        page.fill("input[name=query]", "syncnet")
        page.wait_for_selector("a.md-search-result__link[href*='40_syncnet']", timeout=60_000)
        browser.close()
    server.shutdown()
    assert not errors and not [a for a in asked if not a.startswith((home, "data:", "blob:"))]
