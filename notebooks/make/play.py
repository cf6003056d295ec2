"""Train the networks that the site's pages run: `python -m make.play`, or `nox -s play`.

Run it in the clone's folder. It takes several minutes, or fewer with the folder of an existing run
of the preset `shakespeare`. It writes the weights and NumPy's results to a script, because a page
opened from a folder may load scripts, but not data.
"""

import base64
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import asdict, replace

import rnn_scratch
from rnn_scratch.contract import Arrays
from rnn_scratch.play import page
from rnn_scratch.runs import inference, run_folder
from rnn_scratch.runs.presets import PRESETS
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, dataset, minibatches, vocabulary
from rnn_scratch.training import decoding
from rnn_scratch.training.events import perplexity
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import start_model

from .lessons import NOTEBOOKS

SCRIPT = NOTEBOOKS / "site" / "play" / "weights.js"
CORPUS, PREFIX, LENGTH = "tide-clock", "the tide clock ", 100
HELD_OUT = 2000  # number of held-out characters
PASSAGE = 1500
COMMON = Settings(num_hiddens=128, batch_size=16, max_tokens=0, valid_tokens=HELD_OUT)
SETTINGS = (
    replace(COMMON, num_epochs=200),
    replace(COMMON, cell="lstm", num_epochs=40, lr=2.0, sigma=0.05),
)
PRESET, PRESET_PREFIX = "shakespeare", "ROMEO:"  # preset whose weights are stored in half precision
Networks = dict[str, dict[str, Any]]  # networks, keyed by cell or preset


def train(settings: Settings) -> dict[str, Any]:
    """Train a network on the story; return the network's data for the page."""
    with tempfile.TemporaryDirectory() as folder:
        run = rnn_scratch.train(
            "numpy",
            corpus=CORPUS,
            model="fast",
            threads=1,
            run=Path(folder, "run"),
            **asdict(settings),
        )
        assert run is not None  # only workers other than worker 0 return None
        saved = describe_network(run.folder, PREFIX, "<f4")
    prepared = dataset.prepare(books.load(CORPUS), settings)
    passage = vocabulary.decode(prepared.valid[:PASSAGE].tolist(), run.vocab)
    return {**saved, "passage": passage}


def describe_network(folder: Path, prefix: str, dtype: str) -> dict[str, Any]:
    """Return the data about a run's network that pages need, with parameters of this dtype."""
    _, saved = inference.load(folder, backend="numpy", model="scratch")
    settings, text = saved.settings, books.load(saved.text.corpus)
    arrays = {name: array.astype(dtype) for name, array in saved.arrays.items()}
    saved = replace(saved, arrays=arrays)
    loaded = start_model(settings, Runtime("numpy"), len(saved.vocab), saved.arrays)
    scratch, model = loaded.backend.scratch, loaded.model
    tokens = vocabulary.encode(prefix, saved.vocab)
    logits, _ = model.forward(tokens[None], model.state(1))
    greedy_tokens = scratch.predict(model, tokens.tolist(), LENGTH, decoding.greedy)
    held_out = minibatches.evaluation_batches(dataset.prepare(text, settings).valid, settings)
    total_loss, count = scratch.evaluate(model, held_out)
    return {
        **page.network(saved),
        "settings": asdict(settings),
        "text": msgspec.to_builtins(saved.text),
        "perplexity": run_folder.history(folder)[-1].perplexity,
        "valid_perplexity": perplexity(total_loss / count),
        "expected": {
            "prefix": prefix,
            "logits": logits.tolist(),
            "greedy": vocabulary.decode(greedy_tokens, saved.vocab),
        },
    }


def read(path: Path = SCRIPT) -> Networks:
    """Read the networks from the script that `main` writes."""
    text = path.read_text(encoding="utf-8")
    networks: Networks = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return networks


def arrays(saved: dict[str, Any]) -> Arrays:
    """Return the parameters of a saved network, decoded to float32 arrays."""
    arrays = {}
    for name, param in saved["params"].items():
        data = base64.b64decode(param["data"])
        dtype = f"<f{len(data) // math.prod(param['shape'])}"
        arrays[name] = np.frombuffer(data, dtype).reshape(param["shape"]).astype(np.float32)
    return arrays


def main() -> None:
    """Train the networks, or reuse a given run of `shakespeare`, and write the script."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/run")
        if not run.exists():
            rnn_scratch.train("torch", threads=1, run=run, **PRESETS[PRESET])
        networks = {PRESET: describe_network(run, PRESET_PREFIX, "<f2")}
    for settings in SETTINGS:
        networks[settings.cell] = train(settings)
    SCRIPT.write_text(page.script(networks), encoding="utf-8")
    print(f"made {SCRIPT}")


if __name__ == "__main__":
    main()
