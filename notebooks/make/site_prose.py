"""The master text's prose as a page of the site has it: formulas set, frameworks left open.

What is written here is Markdown with HTML in it, for the generator to finish.
"""

import html
import re
from collections.abc import Callable, Sequence

from rnn_scratch import registry
from rnn_scratch.contract import RNNScratchError

Typeset = Callable[[str, str], str]  # LaTeX and "inline" or "block" to HTML
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# Code between backticks, a formula of its own, a formula in a line; in this order.
SPANS = re.compile(r"(`[^`]+`)|\$\$(.+?)\$\$|\$([^$]+)\$", re.DOTALL)
OPEN = re.compile(r"\{(backend|framework|install)\}")


def framework(backend: str) -> str:
    """What the framework of a backend is called."""
    return registry.FRAMEWORKS.get(backend, "NumPy")


def mathml(latex: str, display: str) -> str:
    """A formula as MathML, which needs no script to be seen."""
    try:
        from latex2mathml import converter
    except ModuleNotFoundError as error:
        raise RNNScratchError(
            f"To write the site's pages takes {error.name}, which is not installed.\n"
            "Install it, in the folder of the clone: pip install -e '.[site]'"
        ) from error
    return str(converter.convert(latex, display=display))


def told(text: str, backends: Sequence[str], typeset: Typeset) -> str:
    """Prose for these backends; fenced code in it stays as it is."""
    # The page is no notebook, and tells the same.
    text = text.replace("this notebook", "this chapter")
    done, end = [], 0
    for fence in FENCE.finditer(text):
        done += [_prose(text[end : fence.start()], backends, typeset), fence.group()]
        end = fence.end()
    return "".join([*done, _prose(text[end:], backends, typeset)])


def _prose(text: str, backends: Sequence[str], typeset: Typeset) -> str:
    lines = []
    for line in text.split("\n"):
        if line.startswith("#"):  # a heading is also an entry of the table of contents
            line = re.sub(r", in \{framework\}$", "", line).replace("$", "")
            line = re.sub(r" ?\\cdot ?", "·", line)
        lines.append(line)

    def span(found: re.Match[str]) -> str:
        code, block, inline = found.groups()
        if code:
            if not OPEN.search(code):
                return str(code)
            return f"<code>{_named(html.escape(code[1:-1]), backends)}</code>"
        if block:
            return f'<span class="formula">{typeset(block.strip(), "block")}</span>'
        # In a span: a line that begins with <math> would be taken for the end of the paragraph.
        return f"<span>{typeset(inline.strip(), 'inline')}</span>"

    return _named(SPANS.sub(span, "\n".join(lines)), backends)


def _named(text: str, backends: Sequence[str]) -> str:
    # A name that depends on the framework: all of them, until a script leaves those that are shown.
    def name(found: re.Match[str]) -> str:
        each = {backend: filled(found.group(), backend) for backend in backends}
        if len(each) == 1:
            return html.escape(next(iter(each.values())))
        data = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in each.items())
        return f'<span class="named" {data}>{html.escape(" / ".join(each.values()))}</span>'

    return OPEN.sub(name, text)


def filled(text: str, backend: str) -> str:
    """Text with the names that belong to one backend."""
    extras = "[notebooks]" if backend == "numpy" else f"[{backend},notebooks]"
    names = {"backend": backend, "framework": framework(backend), "install": f".{extras}"}
    return OPEN.sub(lambda found: names[found.group(1)], text)
