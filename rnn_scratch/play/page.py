"""Render a network as a single HTML file that contains its weights and scripts.

The file needs no server and loads no other files. The project's site uses the same scripts.
"""

import base64
import importlib.resources
import json
from typing import Any

import numpy as np
from jinja2 import Environment

from ..runs.checkpoint import Checkpoint
from ..settings import model_options
from ..system.terminal import printable

FOLDER = importlib.resources.files(__package__)
SCRIPTS = ("arrays.js", "scratch.js", "network.js", "play.js")  # in loading order
STYLE, CONTROLS = "play.css", "network.html"


def network(saved: Checkpoint) -> dict[str, Any]:
    """Return the checkpoint data that the scripts need."""
    options = model_options(saved.settings, len(saved.vocab))
    return {
        "options": {**options._asdict(), "num_states": options.num_states},
        "vocab": saved.vocab,
        "normalize": saved.settings.normalize,
        "beginning": saved.text.beginning or saved.vocab[1],
        "params": {name: encode(saved.arrays[name]) for name in options.shapes()},
    }


def encode(array: np.ndarray) -> dict[str, Any]:
    """Return an array's shape, and its values as base64-encoded little-endian bytes."""
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"shape": list(array.shape), "data": base64.b64encode(data).decode()}


def script(networks: dict[str, dict[str, Any]]) -> str:
    """Return the script that defines the networks, escaped for use in an HTML file."""
    # Escape `<`, because `</script>` or `<!--` in a network's strings would break the script.
    content = json.dumps(networks).replace("<", "\\u003c")
    return f'"use strict";\nconst NETWORKS = {content};\n'


def render(saved: Checkpoint, run: str) -> str:
    """Return the HTML page that runs the network of the checkpoint of this run."""
    parts = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir() if path.is_file()}
    scripts = [script({saved.settings.cell: network(saved)}), *(parts[name] for name in SCRIPTS)]
    title = f"{saved.settings.cell.upper()} trained on {saved.text.name}"
    names = {"title": printable(title), "run": printable(run)}
    values = {"style": parts[STYLE], "controls": parts[CONTROLS], "scripts": scripts}
    template = Environment(autoescape=True).from_string(parts["page.html"])
    return template.render(saved=saved, **names, **values)
