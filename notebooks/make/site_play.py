"""The interactive parts of the site's pages: networks that write and train, and their scripts."""

import json
import re
from collections.abc import Sequence

from rnn_scratch.play import page
from rnn_scratch.text import books

from . import play, prose, site_code
from .lessons import Code
from .readme import RECORDS

SOURCES = play.SCRIPT.parent  # scripts that the page of `rnn-scratch play` does not have
TRAINING = ("training.js", "train.js")
# The scripts of the training's thread. A page in a folder cannot load scripts into a thread, so
# they are a string in another script.
WORKER = (
    *(page.FOLDER / name for name in ("arrays.js", "scratch.js")),
    *(SOURCES / name for name in ("random.js", "training.js", "worker.js")),
)
DATA, START = "data.js", "start.js"
FUNCTIONS = ("step", "encode", "rnn", "gate", "lstm")


def parts(backends: Sequence[str]) -> dict[str, str]:
    """Return the interactive parts by the name of their place in a page."""
    expected = play.read()[play.LONG]["expected"]
    values = {
        "network": play.LONG,
        "written": expected["greedy"],
        "start_scripts": (play.SCRIPT.name, *page.SCRIPTS[:-1], START),
        "scripts": (play.SCRIPT.name, *page.SCRIPTS, DATA, *TRAINING),
        "controls": (page.FOLDER / page.CONTROLS).read_text(encoding="utf-8"),
        "functions": _functions(backends),
        "prefixes": dict.fromkeys(saved["expected"]["prefix"] for saved in play.read().values()),
    }
    names = ("writer", "networks", "functions", "difference")
    html = {name: prose.TEMPLATES.get_template(f"{name}.html").render(values) for name in names}
    return html | {"training": (SOURCES / "train.html").read_text(encoding="utf-8")}


def scripts() -> dict[str, bytes]:
    """Return the scripts and the style that these parts load, by their place in the site."""
    files = {name: (page.FOLDER / name).read_bytes() for name in (*page.SCRIPTS, page.STYLE)}
    files |= {name: (SOURCES / name).read_bytes() for name in (play.SCRIPT.name, *TRAINING, START)}
    files[DATA] = data().encode()
    return {f"{site_code.STATIC}/play/{name}": content for name, content in files.items()}


def _functions(backends: Sequence[str]) -> list[tuple[str, str, str]]:
    # Functions in JavaScript and in the frameworks.
    script = (page.FOLDER / "scratch.js").read_text(encoding="utf-8")
    functions = []
    for name in FUNCTIONS:
        block = site_code.block(Code(function(name, script), "javascript"))
        codes = site_code.of(backends, name)
        functions.append((name, block, site_code.group(codes, backends) if codes else ""))
    return functions


def data() -> str:
    """Return a script with the data of training: story, NumPy's digests, the thread's scripts."""
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
