"""The master text's prose for the site: formulas typeset, names for every framework.

The result is Markdown with HTML in it, for the site generator.
"""

import html
import re
from collections.abc import Callable, Sequence

from rnn_scratch.contract import RNNScratchError

from .names import PLACEHOLDER, fill

Typeset = Callable[[str, str], str]  # LaTeX and "inline" or "block" to HTML
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
# Code between backticks, a displayed formula, a formula in a line; in this order.
SPANS = re.compile(r"(`[^`]+`)|\$\$(.+?)\$\$|\$([^$]+)\$", re.DOTALL)


def mathml(latex: str, display: str) -> str:
    """A formula as MathML, which browsers display without a script."""
    try:
        from latex2mathml import converter
    except ModuleNotFoundError as error:
        raise RNNScratchError(
            f"Writing the site's pages needs {error.name}, which is not installed.\n"
            "Install it, in the folder of the clone: pip install -e '.[site]'"
        ) from error
    return str(converter.convert(latex, display=display))


def render(text: str, backends: Sequence[str], typeset: Typeset) -> str:
    """Prose for these backends; fenced code in it stays as it is."""
    text = text.replace("this notebook", "this chapter")  # which the page is not
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [_prose(text[end : fence.start()], backends, typeset), fence.group()]
        end = fence.end()
    return "".join([*parts, _prose(text[end:], backends, typeset)])


def _prose(text: str, backends: Sequence[str], typeset: Typeset) -> str:
    lines = []
    for line in text.split("\n"):
        if line.startswith("#"):  # a heading is also an entry of the table of contents
            line = re.sub(r", in \{framework\}$", "", line).replace("$", "")
            line = re.sub(r" ?\\cdot ?", "·", line)
        lines.append(line)

    def span(match: re.Match[str]) -> str:
        code, block, inline = match.groups()
        if code:
            if not PLACEHOLDER.search(code):
                return str(code)
            words = _names(html.escape(code[1:-1]), backends)
            return f'<code class="docutils literal">{words}</code>'
        if block:
            return f'<span class="formula">{typeset(block.strip(), "block")}</span>'
        # In a span: Markdown would end the paragraph at a line that begins with <math>.
        return f"<span>{typeset(inline.strip(), 'inline')}</span>"

    return _names(SPANS.sub(span, "\n".join(lines)), backends)


def _names(text: str, backends: Sequence[str]) -> str:
    # A name that depends on the framework: all of them, of which a script leaves those on display.
    def name(match: re.Match[str]) -> str:
        each = {backend: fill(match.group(), backend) for backend in backends}
        if len(each) == 1:
            return html.escape(next(iter(each.values())))
        data = " ".join(f'data-{key}="{html.escape(value)}"' for key, value in each.items())
        return f'<span class="term" {data}>{html.escape(" / ".join(each.values()))}</span>'

    return PLACEHOLDER.sub(name, text)
