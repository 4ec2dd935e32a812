"A hook of MkDocs: TeX becomes MathML, which a browser draws by itself."
import html
import re

from latex2mathml.converter import convert


def on_page_content(content, **_):
    "Replace what arithmatex has marked."
    def drawn(m): return convert(html.unescape(m[2]), display="block" if m[1] == "[" else "inline")
    return re.sub(r"\\([\[(])\n?((?:(?!</).)+?)\n?\\[\])](?=</(?:span|div)>)", drawn, content, flags=re.S)
