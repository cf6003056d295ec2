"""Interactive parts of the site: networks that generate text or train, and their scripts."""

import json

from rnn_scratch.play import page
from rnn_scratch.text import books

from . import play, prose, site_code
from .readme import RECORDS

SOURCES = play.SCRIPT.parent  # folder of scripts for the site only, not for `rnn-scratch play`
TRAINING = ("training.js", "train.js")
# Scripts that run in the training thread. A page opened as a local file cannot load scripts into
# a thread, so another script contains them as a string.
WORKER = (
    *(page.FOLDER / name for name in ("arrays.js", "scratch.js")),
    *(SOURCES / name for name in ("random.js", "training.js", "worker.js")),
)
DATA, START = "data.js", "start.js"


def parts() -> dict[str, str]:
    """Return the HTML of the interactive parts, keyed by the name in a page's marks."""
    networks = play.read()
    values = {
        "network": play.PRESET,
        "written": networks[play.PRESET]["expected"]["greedy"],
        "start_scripts": (play.SCRIPT.name, *page.SCRIPTS[:-1], START),
        "scripts": (play.SCRIPT.name, *page.SCRIPTS, DATA, *TRAINING),
        "controls": (page.FOLDER / page.CONTROLS).read_text(encoding="utf-8"),
        "prefixes": dict.fromkeys(saved["expected"]["prefix"] for saved in networks.values()),
    }
    names = ("writer", "networks", "difference")
    html = {name: prose.TEMPLATES.get_template(f"{name}.html").render(values) for name in names}
    return html | {"training": (SOURCES / "train.html").read_text(encoding="utf-8")}


def scripts() -> dict[str, bytes]:
    """Return the scripts and the style sheet of the interactive parts, keyed by path."""
    files = {name: (page.FOLDER / name).read_bytes() for name in (*page.SCRIPTS, page.STYLE)}
    files |= {name: (SOURCES / name).read_bytes() for name in (play.SCRIPT.name, *TRAINING, START)}
    files[DATA] = data().encode()
    return {f"{site_code.STATIC}/play/{name}": content for name, content in files.items()}


def data() -> str:
    """Return a script with the story, the recorded digests, and the code of the training thread."""
    values = {
        "CORPUS": play.CORPUS,
        "STORY": books.load(play.CORPUS).content,
        "RECORDED": json.loads((RECORDS / "digests.json").read_text(encoding="utf-8")),
        "WORKER": "\n".join(path.read_text(encoding="utf-8") for path in WORKER),
    }
    return "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
