"""The site's page to play with: its text, its scripts, and the code that it shows."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from . import play, prose, site_code
from .chapter import Code

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
    functions = []
    for name in FUNCTIONS:
        own = site_code.block(Code(function(name, script), "javascript"))
        codes = site_code.of(backends, name)
        functions.append((name, own, site_code.group(codes, backends) if codes else ""))
    rows = [[title, *map(value, networks.values())] for title, value in FACTS.items()]
    values = {
        "networks": networks,
        "functions": functions,
        "prefix": next(iter(networks.values()))["expected"]["prefix"].strip(),
        "training": [["", *(cell.upper() for cell in networks)], *rows],
    }
    return prose.page("play.md", values), {
        f"{site_code.STATIC}/play/{name}": (SOURCES / name).read_bytes() for name in FILES
    }


def function(name: str, script: str) -> str:
    """The source of a function of a script, which ends at the first line that is only a brace."""
    (source,) = re.findall(rf"^function {name}\(.*?^\}}$", script, re.MULTILINE | re.DOTALL)
    return source
