"""The site's page to play with: its text, its scripts, and the code that it shows."""

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

from rnn_scratch.show import source_code

from . import play, readme, site_chapter, site_code
from .site_code import Code

SOURCES = play.SCRIPT.parent
FILES = ("network.js", "play.js", "play.css", play.SCRIPT.name)
FUNCTIONS = ("step", "encode", "rnn", "gate", "lstm")
# What the page says of each network.
FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "Hidden units": lambda saved: str(saved["settings"]["num_hiddens"]),
    "Parameters": lambda saved: f"{sum(each.size for each in play.arrays(saved).values()):,}",
    "Characters to train on": lambda saved: f"{saved['text']['train_tokens']:,}",
    "Epochs": lambda saved: str(saved["settings"]["num_epochs"]),
    "Learning rate": lambda saved: f"{saved['settings']['lr']:g}",
    "σ of the starting weights": lambda saved: f"{saved['settings']['sigma']:g}",
    "Perplexity": lambda saved: f"{saved['perplexity']:.2f}",
    "Perplexity on held-out text": lambda saved: f"{saved['valid_perplexity']:.2f}",
}


def render(backends: Sequence[str]) -> tuple[str, dict[str, bytes]]:
    """The page, and the files that it loads by their places in the site."""
    networks = play.read()
    script = (SOURCES / "network.js").read_text(encoding="utf-8")
    prefix = next(iter(networks.values()))["expected"]["prefix"]
    values = {
        "choices": "".join(_choice(cell, cell == "lstm") for cell in networks),
        "functions": "\n\n".join(_both(name, script, backends) for name in FUNCTIONS),
        "prefix": html.escape(prefix.strip()),
        "training": _training(networks),
    }
    text = (SOURCES / "play.md").read_text(encoding="utf-8")
    page = re.sub(r"\{(\w+)\}", lambda match: values[match.group(1)], text)
    return page, {
        f"{site_code.STATIC}/play/{name}": (SOURCES / name).read_bytes() for name in FILES
    }


def function(name: str, script: str) -> str:
    """The source of a function of a script, which ends at the first line that is only a brace."""
    (source,) = re.findall(rf"^function {name}\(.*?^\}}$", script, re.MULTILINE | re.DOTALL)
    return source


def _both(name: str, script: str, backends: Sequence[str]) -> str:
    own = site_code.block(Code(function(name, script), "javascript"))
    codes = {}
    for backend in backends:
        for piece in source_code.find(backend, name)[:1]:  # the others are its helpers
            place = f"{site_chapter.relative(piece.file)}, line {piece.line}"
            codes[backend] = Code(piece.source, place=place)
    return (
        f'<h3 id="play-{name}">{name}</h3>'
        f'<div class="both"><div><p class="name">JavaScript</p>{own}</div>'
        f"<div>{site_code.group(codes, backends) if codes else ''}</div></div>"
    )


def _choice(cell: str, checked: bool) -> str:
    mark = " checked" if checked else ""
    return f'<label><input type="radio" name="cell" value="{cell}"{mark}> {cell.upper()}</label>'


def _training(networks: play.Networks) -> str:
    rows = [["", *(cell.upper() for cell in networks)]]
    for title, value in FACTS.items():
        rows.append([title, *(value(saved) for saved in networks.values())])
    return readme.markdown(rows)
