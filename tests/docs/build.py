"""The site of the kit as plain files, from its notebooks, docstrings and texts: `make docs`.

    python tests/docs/build.py [FOLDER]

Notebooks become markdown as they are kept (none is run), with their pictures as files beside them: a converter
that carries a style sheet of its own makes pages of 700 kB. The site is `site` in the folder, by default `_docs`.
"""
import base64
import io
import json
import logging
import os
import re
import shutil
import sys
from pathlib import Path

import api
import check
from markdown.extensions.toc import slugify
from mkdocs.commands.build import build
from mkdocs.config import load_config
from PIL import Image

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parents[2]
OUT = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT/"_docs").resolve()
NBS, PAGES, SITE = ROOT/"nbs", OUT/"pages", OUT/"site"
TEXTS = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md",
         "LICENSE": "licence.md", "data/README.md": "data.md",
         "nbs/97_experiments/README.md": "97_experiments/studies.md"}


def notebooks(folder=NBS):
    "Paths below a folder in reading order, without what the kit writes there."
    ours = {".ipynb_checkpoints", "out"}
    return sorted(p for p in folder.rglob("*.ipynb") if not ours & {*p.relative_to(NBS).parts})


def place(book): return book.relative_to(NBS).with_suffix(".md").as_posix().replace("00_index", "index")


PLACE = {ROOT/a: b for a, b in TEXTS.items() if (ROOT/a).is_file()} | {p: place(p) for p in notebooks()}


def away(path, page):
    "The address of a page as seen from another."
    return os.path.relpath(PAGES/page, (PAGES/path).parent).replace(os.sep, "/")


def listing(folder):
    "A page that shows the files of a folder which is linked to."
    page = PAGES/"files"/f"{folder.relative_to(ROOT)}.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    files = [p for p in sorted(folder.iterdir()) if p.is_file()]
    files = [f"## {p.name}\n\n{fenced(p.read_text('utf-8'), p.suffix[1:])}" for p in files]
    page.write_text(f"# {folder.name}\n\n" + "\n".join(files), "utf-8")
    return page.relative_to(PAGES).as_posix()


def address(target, source):
    "Where a link of a text leads on the site: another page, or a copy of a small file of the checkout."
    target, _, anchor = target.partition("#")
    if not target or "://" in target or target.startswith("mailto:"): return None
    goal = (source.parent/target).resolve()
    if goal.is_dir(): goal = next((p for p in (goal/"00_index.ipynb", goal/"README.md") if p.is_file()), goal)
    page = PLACE.get(goal) or goal.is_dir() and listing(goal)
    if not page and goal.is_file() and goal.is_relative_to(ROOT):
        page = f"files/{goal.relative_to(ROOT)}"
        (PAGES/page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(goal, PAGES/page)
    if goal.suffix == ".ipynb": anchor = slugify(anchor, "-")  # JupyterLab keeps the capitals of a heading, MkDocs does not
    return page and away(PLACE[source], page) + (anchor and f"#{anchor}")


def relinked(text, source):
    "A text whose links lead to pages; `70_mappers/10_ear` in code leads to that notebook."
    def link(m):
        if m["code"]:
            goal = NBS/f"{m['code'].strip('`')}.ipynb"
            if goal not in PLACE or goal == source: return m[0]
            return f"[{m[0]}]({away(PLACE[source], PLACE[goal])})"
        return f"]({address(m['to'], source) or m['to']})"
    code = r"```.*?```|\[`[^`]+`(?=\])|`[^`\n]+`"
    return re.sub(rf"(?P<code>{code})|\]\((?P<to>[^)\s]+)\)", link, text, flags=re.S)


def spaced(text):
    "Markdown of notebooks as MkDocs reads it: an empty line before a list or table, two spaces to break a line."
    lines, made, fence = text.split("\n"), [], False
    starts, item = re.compile(r"(?:[-*+]|1\.) |\|").match, re.compile(r"(?:[-*+]|\d+\.) |\|").match  # "512. " goes on with a sentence
    for before, line in zip(["", *lines], lines):
        if not fence and starts(line) and before.strip() and not item(before) and before[0] != " ":
            made.append("")
        if line.startswith("```"): fence = not fence
        made.append(line if fence else re.sub(r"\\$", "  ", line))
    return "\n".join(made).replace("<details>", '<details markdown="1">')


def lowered(text):
    "Markdown that a cell has shown: a title of its own stands below the section of the cell."
    return re.sub(r"(?m)^#+ ", r"##\g<0>", text) if re.search(r"(?m)^# ", text) else text


def fenced(text, head=""):
    ticks = "`"*max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{ticks}{head}\n{text}\n{ticks}\n"


def picture(data, name, alt):
    "Kept as WebP where that is smaller, in no more than 1600 columns; a click shows the file, which is often wider than the page."
    raw = base64.b64decode(data)
    image, small = Image.open(io.BytesIO(raw)), io.BytesIO()
    image.thumbnail((1600, 6000))
    image.save(small, "webp", quality=88, method=2)
    raw, end = min((small.getvalue(), ".webp"), (raw, ".png"), key=lambda x: len(x[0]))
    path = (PAGES/name).with_suffix(end)
    path.write_bytes(raw)
    return f"[![{alt}]({path.name}){{ width={image.width} height={image.height} loading=lazy }}]({path.name})\n"


def joined(outputs):
    "Outputs, of which neighbouring pieces of one stream are one: a notebook keeps it as it came."
    made = []
    for o in outputs:
        if made and o.get("name") and o["name"] == made[-1].get("name"):
            made[-1] = o | {"text": [*made[-1]["text"], *o["text"]]}
        else: made.append(o)
    return made


def said(cell, name, alt):
    "Markdown of what a cell has shown."
    for n, o in enumerate(joined(cell["outputs"])):
        data = {k: "".join(v) for k, v in o.get("data", {}).items() if isinstance(v, (str, list))}
        text = "".join(o.get("text", "")) or data.get("text/plain", "")
        image = data.get("image/png") or data.get("image/jpeg")
        if image: yield picture(image, f"{name}-{n}", alt)
        elif "text/markdown" in data: yield spaced(lowered(data["text/markdown"])) + "\n"
        elif "text/html" in data: yield re.sub(r"\s*\n\s*", "\n", data["text/html"]).strip() + "\n"  # indented it would be code
        elif text: yield fenced(re.sub(r"\x1b\[[\d;]*m", "", text).rstrip("\n"), "text")


def page(path):
    "A notebook as markdown."
    text, alt, module = [], path.stem, ""
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            text.append(spaced(relinked(source, path)) + "\n")
            alt = (re.findall(r"(?m)^#+ (.+)", source) or [alt])[-1].replace("[", "").replace("]", "")
        if cell["cell_type"] != "code": continue
        if found := re.match(r"#\| default_exp (\S+)", source): module = found[1]
        code = re.sub(r"(?m)^#\|.*\n?", "", source).strip("\n")
        title = f' title="cmet/{module.replace(".", "/")}.py"' if source.startswith("#| export") else ""
        if code: text.append(fenced(code, f"python{title}"))
        if shown := "".join(said(cell, PLACE[path][:-3] + "-" + cell["id"], alt)):
            text.append(f'<div class="output" markdown="1">\n\n{shown}\n</div>\n')
    return "\n".join(text)


def title(path):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return next(m for c in cells for m in re.findall(r"(?m)^# (.+)", "".join(c["source"])))


def entries(folder):
    "The navigation of a folder: its index, its notebooks, its folders."
    for p in sorted(folder.iterdir()):
        index = p/"00_index.ipynb"
        if p.name[0].isdigit() and index.is_file(): yield {title(index): [*entries(p)]}
        elif p.name == "00_index.ipynb": yield PLACE[p]
        elif p in PLACE and re.match(r"\d\d_", p.name): yield {title(p): PLACE[p]}


def modules():
    "Packages in order, each with its modules and their notebooks."
    found = {}
    for path in (p for p in PLACE if p.suffix == ".ipynb"):
        if name := re.search(r'"#\| default_exp ([\w.]+)', path.read_text("utf-8")):
            package, _, rest = name[1].partition(".")
            if rest != "__init__": found.setdefault(package, []).append((name[1], f"../{PLACE[path]}"))
    return found


def write_pages():
    "Write all pages; their order, as MkDocs wants it."
    shutil.rmtree(PAGES, ignore_errors=True)
    for source, name in PLACE.items():
        (PAGES/name).parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb": text = page(source)
        elif source.name == "LICENSE": text = f"# Licence\n\n{fenced(source.read_text('utf-8'), 'text')}"
        else: text = spaced(relinked(source.read_text("utf-8"), source))
        (PAGES/name).write_text(text, "utf-8")
    shutil.copy(HERE/"style.css", PAGES)
    (PAGES/"api").mkdir()
    for package, names in modules().items():
        (PAGES/"api"/f"{package}.md").write_text(api.page(package, names, ROOT), "utf-8")
    course, studies = NBS/"tutorials", sorted((NBS/"97_experiments").glob("[a-z]*.ipynb"))
    first = [course/"first_steps.ipynb", *sorted(course.glob("[1-9]_*.ipynb"))]
    begin, own = course/"00_index.ipynb", course/"extend.ipynb"
    more = [p for p in sorted(course.glob("*.ipynb")) if p not in (*first, begin, own)]
    listed = lambda books: [{title(p): PLACE[p]} for p in books]
    return [{"Home": "index.md"}, {"Course": [PLACE[begin], *listed(first + more)]},
            {"Library": [*entries(NBS)]},
            {"Extend it": PLACE[own]},
            {"Reference": [{f"cmet.{p}": f"api/{p}.md"} for p in modules()]},
            {"Experiments": [TEXTS["nbs/97_experiments/README.md"], *listed(studies)]},
            {"About": [{"Contributing": "contributing.md"}, {"Changes": "changelog.md"}, {"Data": "data.md"},
                       {"Licence": "licence.md"}]}]


class Keep(logging.Handler):
    "What MkDocs warns of."
    def __init__(self, lines):
        super().__init__(logging.WARNING)
        self.lines = lines
    def emit(self, record): self.lines.append(record.getMessage())


def main():
    "Build, look at every link, say how large it is; a fault ends with status 1."
    sys.modules["jieba"] = None  # a dictionary of Chinese that the search would load
    from material.plugins.search.plugin import Parser
    read = Parser.feed
    Parser.feed = lambda self, text: read(self, check.uncoloured(text))  # the same words
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    heard = []
    logging.getLogger("mkdocs").addHandler(Keep(heard))
    config = load_config(str(HERE/"mkdocs.yml"), nav=write_pages(), docs_dir=str(PAGES), site_dir=str(SITE))
    config.plugins.run_event("startup", command="build", dirty=False)
    build(config)
    for p in SITE.rglob("*.map"): p.unlink()  # for those who mend the theme
    faults = heard + [*check.faults(SITE)]
    files = [p for p in SITE.rglob("*") if p.is_file()]
    print(*faults, f"{SITE}: {len([*SITE.rglob('*.html')])} pages, {len(files)} files, "
          f"{sum(p.stat().st_size for p in files)/1e6:.1f} MB, {len(faults)} faults", sep="\n")
    return bool(faults)


if __name__ == "__main__": sys.exit(main())
