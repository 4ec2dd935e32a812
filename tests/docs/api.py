"""The reference: one page a package, one entry a public name, read from the modules without importing them.

A *docment* is a comment beside a parameter; it stands in the table under the signature.
"""
import ast
import io
import re
import textwrap
import tokenize
from pathlib import Path


def plain(text):
    "What is said, where `<` begins no tag."
    return re.sub(r"`[^`]*`|<", lambda m: m[0] if m[0][0] == "`" else "&lt;", text)


def doc(node): return plain(ast.get_docstring(node) or "")


def comments(source):
    "Comment text by line number."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: plain(t.string.lstrip("# ")) for t in tokens if t.type == tokenize.COMMENT}


def segment(lines, node):
    "The text of a node, from a file's lines as bytes: Python's own function takes the whole file apart each time."
    part = lines[node.lineno - 1:node.end_lineno]
    part[-1] = part[-1][:node.end_col_offset]
    part[0] = part[0][node.col_offset:]
    return b"".join(part).decode()


def wrapped(text):
    whole = dict(break_long_words=False, break_on_hyphens=False)
    return "\n".join(textwrap.wrap(text, 84, subsequent_indent="    ", **whole))


def called(tree, name):
    "The first call of a function of this name, or None."
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    return next((n for n in calls if getattr(n.func, "id", "") == name), None)


def parameters(node):
    "(name as shown, default or None, line on which it ends) of a function's parameters, without self."
    a = node.args
    plain = a.posonlyargs + a.args
    given = [*zip(plain[::-1], a.defaults[::-1]), *zip(a.kwonlyargs, a.kw_defaults)]
    defaults = {p.arg: d for p, d in given if d}
    every = [*((p, "") for p in plain), (a.vararg, "*"), *((p, "") for p in a.kwonlyargs), (a.kwarg, "**")]
    for p, star in every:
        if p is None or p.arg in ("self", "cls"): continue
        d = defaults.get(p.arg)
        yield star + p.arg, d and ast.unparse(d), (d or p).end_lineno


def fields(node):
    "The same for the fields of a dataclass."
    for f in node.body:
        if isinstance(f, ast.AnnAssign): yield f.target.id, f.value and ast.unparse(f.value), f.end_lineno


def signature(name, node):
    args = re.sub(r"^(self|cls)(, |$)", "", ast.unparse(node.args))
    back = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return wrapped(f"{name}({args}){back}")


def table(rows, said):
    "Parameters that have a docment or a default; those on one line share what is said there."
    groups = {}
    for name, default, line in rows: groups.setdefault(line, []).append((name, default))
    groups = {k: v for k, v in groups.items() if k in said}
    if not groups: return
    cell = lambda text: text.replace("|", r"\|")
    code = lambda text: f"`{cell(text)}`" if text else ""
    yield "\n| parameter | default | |\n|---|---|---|"
    for line, group in groups.items():
        names, defaults = (", ".join(filter(None, map(code, part))) for part in zip(*group))
        yield f"| {names} | {defaults} | {cell(said[line])} |"
    yield ""


def function(node, said, head, name):
    "Heading, signature, docstring, docments."
    yield f"{head}\n\n```python\n{signature(name, node)}\n```\n\n{doc(node)}\n"
    rows = [*parameters(node)]
    last = max([line for *_, line in rows], default=node.lineno)
    end = (node.returns or node.args).end_lineno if node.returns else last
    within = {node.lineno, *range(node.lineno, node.body[0].lineno)}
    lines = {line: text for line, text in said.items() if line in within}
    what, _, back = (lines.pop(end, "") if node.returns or node.lineno == end else "").rpartition("->")
    yield from table(rows, lines)
    if what.strip(" ;"): yield f"\n{what.strip(' ;')}\n"
    if back: yield f"\n*Returns* {back.strip()}\n"


def klass(node, said, head, name):
    "A class: its fields or `__init__`, then what it can do."
    methods = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef)}
    sign, rows = name, [*fields(node)]
    if init := methods.get("__init__"): sign, rows = signature(name, init), [*parameters(init)]
    elif rows: sign = wrapped(f"{name}({', '.join(n + (f'={d}' if d else '') for n, d, _ in rows)})")
    elif node.bases: sign = f"{name}({', '.join(map(ast.unparse, node.bases))})"
    yield f"{head}\n\n```python\nclass {sign}\n```\n\n{doc(node)}\n"
    yield from table(rows, said)
    for m in methods.values():
        if m.name[0] == "_": continue
        prop = any(getattr(d, "id", "") == "property" for d in m.decorator_list)
        brief = doc(m).split("\n\n")[0].replace("\n", " ")
        shown = f".{m.name}" if prop else signature(f".{m.name}", m).replace("\n   ", "")
        yield f"- `{shown}` {brief}"
    yield ""


def exported(tree):
    "What `__all__` names."
    for n in tree.body:
        if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__": return {*ast.literal_eval(n.value)}
    return set()


def public(tree):
    "The nodes that define what is exported, by name, in the order of the text."
    found = {}
    for n in tree.body:
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)): found[n.name] = n
        elif isinstance(n, ast.Assign):
            for t in n.targets:
                for e in getattr(t, "elts", [t]): found[getattr(e, "id", "")] = n
    return {name: node for name, node in found.items() if name in exported(tree)}


def module(path, name, notebook):
    "Markdown of one module; the link leads to the notebook it is written in."
    source = path.read_text("utf-8")
    tree, said, lines = ast.parse(source), comments(source), source.encode().splitlines(True)
    yield f"\n## {name} {{#{name}}}\n\n{doc(tree)} [Read it as a notebook]({notebook}).\n"
    items, room = public(tree), name.partition(".")[0]
    near = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.level and n.module]
    taken = [(f"{room}." * (n.level == 1) + n.module, a.name) for n in near for a in n.names]
    rest = [f"[`{what}`]({where.split('.')[0]}.md#{where}.{what})" for where, what in taken if what in exported(tree)]
    if rest: yield f"Also found here: {', '.join(rest)}.\n"
    for item, node in items.items():
        same = [n for n in items if items[n] is node]
        if item != same[0]: continue
        head = f"### `{item}` {{#{name}.{item}}}"
        if isinstance(node, ast.ClassDef): yield from klass(node, said, head, item)
        elif isinstance(node, ast.FunctionDef): yield from function(node, said, head, item)
        else:
            text = textwrap.shorten(segment(lines, node), 200, placeholder=" …")
            marks = "".join(f'<span id="{name}.{n}"></span>\n' for n in same[1:])
            head = f"{marks}\n### `{', '.join(same)}` {{#{name}.{item}}}"
            yield f"{head}\n\n```python\n{text}\n```\n\n{said.get(node.end_lineno, '')}\n"


def offered(path, package):
    "What a room offers under its own name: links to the entries."
    if not path.is_file(): return
    call = called(ast.parse(path.read_text("utf-8")), "public")
    if call is None: return
    links = []
    for where, names in ast.literal_eval(call.args[1]).items():
        full = f"{package}{where}" if where.startswith(".") else where.removeprefix("cmet.")
        links += [f"[`{n}`]({full.split('.')[0]}.md#{full}.{n})" for n in names.split()]
    yield f"`from cmet.{package} import …`: {', '.join(links)}\n"


def page(
    package:str,  # "vectors"
    modules,  # (module name, its notebook's address from this page), in reading order
    root:Path,  # of the checkout
) -> str:
    "The page of a package."
    text = [f"# cmet.{package}\n", *offered(root/"cmet"/package/"__init__.py", package)]
    for name, notebook in modules: text += module(root/"cmet"/f"{name.replace('.', '/')}.py", name, notebook)
    return "\n".join(text)
