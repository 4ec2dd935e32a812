"Hooks of MkDocs: TeX becomes MathML, which a browser draws by itself; the page for a wrong address leads home."
import html
import re

from latex2mathml.converter import convert


def on_page_content(content, **_):
    "Replace what arithmatex has marked."
    def drawn(m): return convert(html.unescape(m[2]), display="block" if m[1] == "[" else "inline")
    return re.sub(r"\\([\[(])\n?((?:(?!</).)+?)\n?\\[\])](?=</(?:span|div)>)", drawn, content, flags=re.S)


def on_post_template(output, template_name, **_):
    "The theme's page has a title and nothing else."
    if template_name != "404.html": return output
    return re.sub("(<h1>404.*?</h1>)", r'\1<p>No page lies at this address. <a href="/index.html">Home</a>, or use the search.</p>', output)
