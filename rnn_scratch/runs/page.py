"""A network as a page to play with: its weights as a script, beside the scripts that compute it.

The scripts are in the folder ``play`` of the package; the project's site has the same ones.
"""

import base64
import importlib.resources
import json
from typing import Any

import numpy as np
from jinja2 import Environment

from ..settings import model_options
from .checkpoint import Checkpoint

FOLDER = importlib.resources.files("rnn_scratch") / "play"
SCRIPTS = ("arrays.js", "scratch.js", "network.js", "play.js")  # in their order
STYLE, NETWORK, WEIGHTS = "play.css", "network.html", "weights.js"
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


def network(saved: Checkpoint) -> dict[str, Any]:
    """What the page's scripts need of a checkpoint."""
    options = model_options(saved.settings, len(saved.vocab))
    return {
        "options": {**options._asdict(), "num_states": options.num_states},
        "vocab": saved.vocab,
        "normalize": saved.settings.normalize,
        "params": {name: encode(saved.arrays[name]) for name in options.shapes()},
    }


def encode(array: np.ndarray) -> dict[str, Any]:
    """An array as its shape and the bytes of its values, the lowest byte of each first."""
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return {"shape": list(array.shape), "data": base64.b64encode(data).decode()}


def files(saved: Checkpoint, title: str) -> dict[str, bytes]:
    """The files of the page by name; the page itself is ``index.html``."""
    found = {name: (FOLDER / name).read_bytes() for name in (*SCRIPTS, STYLE)}
    networks = json.dumps({saved.settings.cell: network(saved)})
    found[WEIGHTS] = f'"use strict";\nconst NETWORKS = {networks};\n'.encode()
    template = Environment(autoescape=True).from_string((FOLDER / "page.html").read_text("utf-8"))
    network_part = (FOLDER / NETWORK).read_text("utf-8")
    page = template.render(title=title, network=network_part, saved=saved)
    return {**found, "index.html": page.encode()}
