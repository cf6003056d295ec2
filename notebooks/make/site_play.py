"""The site's page to play with: its text, its scripts, and the code that it shows."""

import re
from collections.abc import Sequence

from rnn_scratch.runs import page

from . import play, prose, site_code
from .lessons import Code

SCRIPTS = (play.SCRIPT.name, *page.SCRIPTS)
FUNCTIONS = ("step", "encode", "rnn", "gate", "lstm")


def render(backends: Sequence[str]) -> tuple[str, dict[str, bytes]]:
    """The page, and the files that it loads by their places in the site."""
    networks = play.read()
    script = (page.FOLDER / "scratch.js").read_text(encoding="utf-8")
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
        "scripts": SCRIPTS,
        "network": (page.FOLDER / page.NETWORK).read_text(encoding="utf-8"),
    }
    files = {name: (page.FOLDER / name).read_bytes() for name in (*page.SCRIPTS, page.STYLE)}
    files[play.SCRIPT.name] = play.SCRIPT.read_bytes()
    return prose.page("play.md", values), {
        f"{site_code.STATIC}/play/{name}": content for name, content in files.items()
    }


def function(name: str, script: str) -> str:
    """The source of a function of a script, which ends at the first line that is only a brace."""
    (source,) = re.findall(rf"^function {name}\(.*?^\}}$", script, re.MULTILINE | re.DOTALL)
    return source
