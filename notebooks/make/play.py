"""Trains the networks of the site's page to play with: `python -m make.play`, or `nox -s play`.

It runs in the folder of the clone, and takes a minute or a few. The weights, and what NumPy
computes with them, are written to a script that assigns them: a page in a folder may load scripts,
but no data.
"""

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import asdict, replace

import rnn_scratch
from rnn_scratch.contract import Arrays
from rnn_scratch.runs import inference, page
from rnn_scratch.settings import Settings
from rnn_scratch.text import corpus, dataset, vocabulary

from .lessons import TEXTS

SCRIPT = TEXTS / "site" / "play" / "weights.js"
BEFORE, AFTER = '"use strict";\nconst NETWORKS = ', ";\n"
CORPUS, PREFIX, LENGTH = "tide-clock", "the tide clock ", 100
HELD_OUT = 2000  # characters, of which the page shows a part: the networks have never seen them
PASSAGE = 1500
COMMON = Settings(num_hiddens=128, batch_size=16, max_tokens=0, valid_tokens=HELD_OUT)
SETTINGS = (
    replace(COMMON, num_epochs=200),
    replace(COMMON, cell="lstm", num_epochs=40, lr=2.0, sigma=0.05),
)
Networks = dict[str, dict[str, Any]]  # by cell


def train(settings: Settings) -> dict[str, Any]:
    """A trained network, with all that the page needs of it."""
    with tempfile.TemporaryDirectory() as folder:
        run = rnn_scratch.train(
            "numpy",
            corpus=CORPUS,
            model="fast",
            threads=1,
            run=Path(folder, "run"),
            **asdict(settings),
        )
        text = rnn_scratch.predict(run, PREFIX, LENGTH)
        setup, saved = inference.load(run.folder, backend="numpy", model="scratch")
        tokens = vocabulary.encode(PREFIX, run.vocab)
        logits, _ = setup.model.forward(tokens[None], setup.model.state(1))
    prepared = dataset.prepare(corpus.load(CORPUS), settings)
    return {
        **page.network(saved),
        "passage": vocabulary.decode(prepared.valid[:PASSAGE].tolist(), run.vocab),
        "settings": asdict(settings),
        "text": msgspec.to_builtins(run.record.text),
        "perplexity": run.perplexity,
        "valid_perplexity": run.history[-1].valid_perplexity,
        "expected": {"prefix": PREFIX, "logits": logits.tolist(), "greedy": text},
    }


def read(path: Path = SCRIPT) -> Networks:
    """The networks of a script of weights."""
    text = path.read_text(encoding="utf-8")
    networks: Networks = json.loads(text.removeprefix(BEFORE).removesuffix(AFTER))
    return networks


def arrays(saved: dict[str, Any]) -> Arrays:
    """The parameters of one of them."""
    return {
        name: np.frombuffer(base64.b64decode(each["data"]), "<f4").reshape(each["shape"])
        for name, each in saved["params"].items()
    }


def main() -> None:
    """Train both networks, and write the script."""
    networks = {}
    for settings in SETTINGS:
        saved = networks[settings.cell] = train(settings)
        print(f"{settings.cell}: perplexity {saved['perplexity']:.2f}, held out", end=" ")
        print(f"{saved['valid_perplexity']:.2f}: {saved['expected']['greedy']}")
    SCRIPT.write_text(f"{BEFORE}{json.dumps(networks)}{AFTER}", encoding="utf-8")
    print(f"{SCRIPT}: {SCRIPT.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
