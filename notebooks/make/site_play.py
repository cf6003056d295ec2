"""The site's page to play with: its text, its scripts, and the code that it shows."""

import json
import re
from collections.abc import Sequence
from typing import Any

from rnn_scratch.play import page
from rnn_scratch.text import books

from . import play, prose, site_code
from .lessons import Code
from .readme import RECORDS

SOURCES = play.SCRIPT.parent  # of what the page of `rnn-scratch play` does not have
TRAINING = ("training.js", "train.js")
# The scripts of the training's thread. A page in a folder may load none into a thread, so that they
# are a string of another script.
WORKER = (
    *(page.FOLDER / name for name in ("arrays.js", "scratch.js")),
    *(SOURCES / name for name in ("random.js", "training.js", "worker.js")),
)
DATA, START = "data.js", "start.js"
FUNCTIONS = ("step", "encode", "rnn", "gate", "lstm")


def render(backends: Sequence[str]) -> tuple[str, dict[str, bytes]]:
    """Render the page, and the files that it loads by their places in the site."""
    networks = play.read()
    script = (page.FOLDER / "scratch.js").read_text(encoding="utf-8")
    functions = []
    for name in FUNCTIONS:
        block = site_code.block(Code(function(name, script), "javascript"))
        codes = site_code.of(backends, name)
        functions.append((name, block, site_code.group(codes, backends) if codes else ""))
    values = {
        "networks": networks,
        "functions": functions,
        "prefixes": dict.fromkeys(network["expected"]["prefix"] for network in networks.values()),
        "arrays": play.arrays,
        "scripts": (play.SCRIPT.name, *page.SCRIPTS, DATA, *TRAINING),
        "training": (SOURCES / "train.html").read_text(encoding="utf-8"),
        "network": (page.FOLDER / page.CONTROLS).read_text(encoding="utf-8"),
    }
    files = {name: (page.FOLDER / name).read_bytes() for name in (*page.SCRIPTS, page.STYLE)}
    files |= {name: (SOURCES / name).read_bytes() for name in (play.SCRIPT.name, *TRAINING, START)}
    files[DATA] = data().encode()
    return prose.page("play.md", values), {
        f"{site_code.STATIC}/play/{name}": content for name, content in files.items()
    }


def writer() -> dict[str, Any]:
    """Return what the start page needs for its network, which writes: name, scripts, a text."""
    expected = play.read()[play.LONG]["expected"]
    scripts = (play.SCRIPT.name, *page.SCRIPTS[:-1], START)
    return {"network": play.LONG, "scripts": scripts, "written": expected["greedy"]}


def data() -> str:
    """Return a script with what a training needs: story, NumPy's digests, the thread's scripts."""
    values = {
        "CORPUS": play.CORPUS,
        "STORY": books.load(play.CORPUS).content,
        "RECORDED": json.loads((RECORDS / "digests.json").read_text(encoding="utf-8")),
        "WORKER": "\n".join(path.read_text(encoding="utf-8") for path in WORKER),
    }
    return "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())


def function(name: str, script: str) -> str:
    """Return the source of a function of a script, up to the first line that is only a brace."""
    (source,) = re.findall(rf"^function {name}\(.*?^\}}$", script, re.MULTILINE | re.DOTALL)
    return source
