"""Train the networks that the site's pages run: `python -m make.play`, or `nox -s play`.

Run it from the repository root; it takes about two minutes. It writes the weights and NumPy's
results to a script, because a page opened from disk can load scripts but not data.
"""

import base64
import json
import math
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
from rnn_scratch.text import books, dataset, minibatches, vocabulary
from rnn_scratch.training import decoding
from rnn_scratch.training.events import perplexity
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import start_model

from .lessons import NOTEBOOKS

SCRIPT = NOTEBOOKS / "site" / "play" / "weights.js"
PRESET, CELLS = "minute", ("rnn", "lstm")  # each cell is trained with the preset's other options
PREFIX, LENGTH = "The tide clock ", 100
PASSAGE = 600  # number of held-out characters that the page shows
Networks = dict[str, dict[str, Any]]  # networks, keyed by cell


def describe_network(folder: Path) -> dict[str, Any]:
    """Return the data that the pages need for a run's network, with weights in half precision."""
    saved = inference.load(folder, backend="numpy", variant="scratch").checkpoint
    settings, vocab = saved.settings, saved.vocab
    arrays = {name: array.astype("<f2") for name, array in saved.arrays.items()}
    saved = replace(saved, arrays=arrays)
    loaded = start_model(settings, Runtime("numpy"), len(vocab), arrays)
    scratch, model = loaded.backend.scratch, loaded.model
    tokens = vocabulary.encode(PREFIX, vocab)
    state = scratch.init_state(1, model.options)
    logits, _ = model.forward(tokens[None], state, model.params, model.options)
    greedy_tokens = scratch.predict(model, tokens.tolist(), LENGTH, decoding.greedy)
    held_out = dataset.prepare(books.load(saved.text.corpus), settings).valid
    batches = minibatches.evaluation_batches(held_out, settings)
    total_loss, count = scratch.evaluate(model, batches)
    return {
        **page.network(saved),
        "settings": asdict(settings),
        "text": msgspec.to_builtins(saved.text),
        "perplexity": run_folder.read_history(folder)[-1].perplexity,
        "valid_perplexity": perplexity(total_loss / count),
        "passage": vocabulary.decode(held_out[:PASSAGE].tolist(), vocab),
        "expected": {
            "prefix": PREFIX,
            "logits": logits.astype(float).round(7).tolist(),
            "greedy": vocabulary.decode(greedy_tokens, vocab),
        },
    }


def read(path: Path = SCRIPT) -> Networks:
    """Read the networks from the script that `main` writes."""
    text = path.read_text(encoding="utf-8")
    networks: Networks = json.loads(text[text.index("{") : text.rindex("}") + 1])
    return networks


def arrays(saved: dict[str, Any]) -> Arrays:
    """Return a saved network's parameters, decoded to float32 arrays."""
    arrays = {}
    for name, param in saved["params"].items():
        data = base64.b64decode(param["data"])
        dtype = f"<f{len(data) // math.prod(param['shape'])}"
        arrays[name] = np.frombuffer(data, dtype).reshape(param["shape"]).astype(np.float32)
    return arrays


def main() -> None:
    """Train the networks and write the script."""
    networks = {}
    for cell in CELLS:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder, "run")
            arguments = PRESETS[PRESET] | {"cell": cell}
            rnn_scratch.train("torch", threads=1, output=run, **arguments)
            networks[cell] = describe_network(run)
    SCRIPT.write_text(page.script(networks), encoding="utf-8")
    print(f"made {SCRIPT}")


if __name__ == "__main__":
    main()
