"""Functions that notebooks call to load the backend, story and records."""

import json
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import Batch
from rnn_scratch.runs import run_folder
from rnn_scratch.settings import Settings
from rnn_scratch.text import books, vocabulary
from rnn_scratch.text import minibatches as batching
from rnn_scratch.training.events import Report

RECORDS = Path(__file__).parents[1] / "records"  # also where the package is installed
NUM_TRAIN_TOKENS = 10_000  # training characters of the story; the next 5,000 are held out


def start(backend: str) -> Any:
    """Load the backend on one thread and set the plot style; return the backend."""
    from . import drawings  # it needs IPython, which only notebooks have

    installed, _ = registry.start(backend, threads=1)
    drawings.style()
    print("backend:", backend, installed.machine.versions()[backend])
    return installed


def story(normalize: str = "spaced") -> str:
    """Return the built-in story, reduced to lowercase letters and spaces."""
    return vocabulary.normalize(books.load(books.BUILT_IN).content, normalize)


def text(normalize: str = "spaced") -> tuple[list[str], Any, Any]:
    """Return the story's vocabulary, 10,000 training tokens, and 5,000 held-out tokens."""
    content = story(normalize)
    vocab = vocabulary.build(content)
    tokens = vocabulary.encode(content, vocab)
    return vocab, tokens[:NUM_TRAIN_TOKENS], tokens[NUM_TRAIN_TOKENS : NUM_TRAIN_TOKENS * 3 // 2]


def minibatches(
    tokens: Any, epoch: int, sampling: Literal["sequential", "random"] = "sequential"
) -> Iterator[Batch]:
    """Return the minibatches of an epoch, each with 32 rows of 35 tokens."""
    return batching.epoch_batches(tokens, Settings(sampling=sampling), epoch)


def sample() -> str:
    """Return text that a trained network wrote, in lines of 76 characters."""
    return textwrap.fill(record("presets")["command"]["sample"], 76)


def train(backend: str, **arguments: Any) -> Any:
    """Train on the story with `rnn_scratch.train`, using a temporary folder; return the run."""
    with tempfile.TemporaryDirectory() as folder:
        return rnn_scratch.train(
            backend,
            corpus="tide-clock",
            max_tokens=NUM_TRAIN_TOKENS,
            threads=1,
            output=Path(folder, "run"),
            report=Report(),  # ignores all events
            **{"normalize": "spaced", **arguments},
        )


def record(name: str) -> Any:
    """Read the measurement record that `nox -s records -- NAME` writes."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def run(name: str) -> tuple[Any, Any]:
    """Return the history and record of a run created by `nox -s records`."""
    return run_folder.read_history(RECORDS / name), run_folder.read(RECORDS / name)
