"What must hold for a folder of pages: links lead somewhere, reading asks nothing of the network, each has one title."
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

FETCHED = {tag: "src" for tag in "script img audio video source iframe".split()} | {"link": "href"}
COLOUR = re.compile(r'<span(?: class="[^"<>]*")?>([^<]*)</span>')
LEFT = re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^)\"']+)")  # what a style sheet fetches


def uncoloured(text):
    "A page without the spans that colour its code: most of its tags, and of a parser's time."
    return COLOUR.sub(r"\1", text)


class Page(HTMLParser):
    "Anchors, links and what a browser fetches by itself."
    def __init__(self, text):
        super().__init__()
        self.anchors, self.links, self.fetched, self.titles, self.odd = set(), [], [], 0, []
        self.feed(uncoloured(text))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.anchors |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"): self.links.append(a["href"])
        to = a.get(FETCHED.get(tag, ""))
        self.titles += tag == "h1"
        if tag == "ol" and "start" in a: self.odd.append(f"a list that begins with {a['start']}")  # mostly a number in a sentence
        if tag == "img" and not to: self.odd.append("a picture without an address")
        if to and a.get("rel") not in ("canonical", "next", "prev"): self.fetched.append(to)


def faults(site):
    "One line for each link that leads nowhere, each thing that would be fetched from elsewhere, each sign of text misread as Markdown."
    site = site.resolve()
    for path in sorted(site.rglob("*.css")):
        yield from (f"{path.relative_to(site)} fetches {to}" for to in LEFT.findall(path.read_text("utf-8")))
    pages = {p: Page(p.read_text("utf-8")) for p in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        here = path.relative_to(site)
        yield from (f"{here}: {what}" for what in page.odd)
        if page.titles > 1: yield f"{here}: {page.titles} titles"
        for to in page.fetched:
            if urlsplit(to).netloc: yield f"{here} fetches {to}"
        for to in page.links + page.fetched:
            url = urlsplit(to)
            if url.scheme or url.netloc: continue
            base = site if url.path.startswith("/") else path.parent
            goal = (base/unquote(url.path).lstrip("/")).resolve() if url.path else path
            if goal.is_dir(): goal = goal/"index.html"
            if not goal.is_file() or not goal.is_relative_to(site): yield f"{here}: no {to}"
            elif url.fragment and goal in pages and unquote(url.fragment) not in pages[goal].anchors:
                yield f"{here}: no anchor {to}"
