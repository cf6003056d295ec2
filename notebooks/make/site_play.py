"""The site's page to play with: its text, its scripts, and the code that it shows."""

import re
from collections.abc import Sequence

from . import play, prose, site_code
from .lessons import Code

SOURCES = play.SCRIPT.parent
FILES = ("network.js", "play.js", "play.css", play.SCRIPT.name)
FUNCTIONS = ("step", "encode", "rnn", "gate", "lstm")


def render(backends: Sequence[str]) -> tuple[str, dict[str, bytes]]:
    """The page, and the files that it loads by their places in the site."""
    networks = play.read()
    script = (SOURCES / "network.js").read_text(encoding="utf-8")
    functions = []
    for name in FUNCTIONS:
        own = site_code.block(Code(function(name, script), "javascript"))
        codes = site_code.of(backends, name)
        functions.append((name, own, site_code.group(codes, backends) if codes else ""))
    values = {
        "networks": networks,
        "functions": functions,
        "prefix": next(iter(networks.values()))["expected"]["prefix"].strip(),
        "arrays": play.arrays,
    }
    return prose.page("play.md", values), {
        f"{site_code.STATIC}/play/{name}": (SOURCES / name).read_bytes() for name in FILES
    }


def function(name: str, script: str) -> str:
    """The source of a function of a script, which ends at the first line that is only a brace."""
    (source,) = re.findall(rf"^function {name}\(.*?^\}}$", script, re.MULTILINE | re.DOTALL)
    return source
