"""Inference with a trained model: prediction, and evaluation on other texts."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..contract import RNNScratchError
from ..text import dataset, minibatches, vocabulary
from ..text.corpus import Text
from . import checkpoint, decoding
from . import folder as run_folder
from .checkpoint import Checkpoint
from .setup import Place, Setup, set_up
from .training import beginning, perplexity

PREFIX = "time traveller "


class Evaluation(NamedTuple):
    """How well a model predicts a text, and two baselines that need no model."""

    tokens: int
    perplexity: float | None  # None where it is too large for a float
    uniform: float  # every character of the vocabulary equally likely
    unigram: float  # each as likely as it is frequent in this very text
    skipped: int  # characters left out because the vocabulary lacks them


def load(run: str | Path, place: dict[str, Any]) -> tuple[Setup, Checkpoint]:
    """The model of a run's folder or of a checkpoint file, set up where `place` says.

    `place` may have the fields of `Place`. By default backend, model and number of threads are
    those of the run's last session; a file that lies outside a run is read with NumPy.
    """
    path = checkpoint.find(run)
    saved = checkpoint.load(path)
    default: dict[str, Any] = {"backend": "numpy"}
    if (path.parent / run_folder.RECORD).exists():
        session = run_folder.read(path.parent)["sessions"][-1]
        default = {"backend": session["backend"]}
        if place.get("backend") in (None, session["backend"]):
            # As it was trained: TensorFlow cannot change the number of threads in a process.
            default |= {"model": session["model"], "threads": session["threads"]}
    chosen = {key: value for key, value in place.items() if value is not None}
    return set_up(saved.settings, Place(**{**default, **chosen}), arrays=saved.arrays), saved


def predict(
    run: str | Path,
    prefix: str | None = None,
    length: int = 50,
    *,
    temperature: float | None = None,
    seed: int = 0,
    unknown: str = "error",
    **place: Any,
) -> str:
    """The prefix and `length` characters that the model of a run writes after it.

    Without a prefix it is "time traveller " or, where the vocabulary lacks these letters, the
    beginning of the run's text. Greedy without a temperature; with one, drawn from
    softmax(logits / temperature), where the chapter's exponent α is 1 / temperature. `place` may
    have backend, model, device and threads. Raises RNNScratchError for an empty prefix, characters
    that the vocabulary lacks (unless `unknown` is ``skip``), and as `load` does.
    """
    if length < 1:
        raise RNNScratchError(f"--length is {length}; it must be a whole number from 1 on.")
    if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
        raise RNNScratchError(
            f"--temperature is {temperature}; it must be a finite number above 0."
        )
    if not 0 <= seed < 2**32:
        raise RNNScratchError(f"--seed is {seed}; it must be a whole number from 0 to 2**32 - 1.")
    setup, saved = load(run, place)
    if prefix is None and set(PREFIX) <= set(saved.vocab):
        prefix = PREFIX
    if prefix is None:
        tokens = _beginning(checkpoint.find(run).parent, saved)
    else:
        tokens = vocabulary.encode(prefix, saved.vocab, unknown).tolist()
    if not tokens:
        raise RNNScratchError(
            "The prefix is empty: the model needs at least one character to begin with.\n"
            'Give one, such as --prefix "time traveller ".'
        )
    choose = decoding.greedy if temperature is None else decoding.sampler(temperature, seed)
    with np.errstate(all="ignore"):
        outputs = setup.backend.scratch.predict(setup.model, tokens, length, choose)
    return vocabulary.decode(outputs, saved.vocab)


def _beginning(folder: Path, saved: Checkpoint) -> list[int]:
    # The beginning of the run's text, as a prefix.
    try:
        text = dataset.same_text(run_folder.read(folder), None, lambda line: None)
    except RNNScratchError as error:
        raise RNNScratchError(
            f"The model's vocabulary cannot spell {PREFIX!r}, and the beginning of its text is not "
            f"at hand:\n{error}\nGive a prefix with --prefix."
        ) from error
    return beginning(dataset.prepare(text, saved.settings))


def evaluate(run: str | Path, text: Text, *, unknown: str = "error", **place: Any) -> Evaluation:
    """Perplexity of a run's model on a text, normalized as the run's own was, and baselines.

    `place` may have backend, model, device and threads. Raises RNNScratchError for a text of fewer
    than two characters, and as `predict` does.
    """
    setup, saved = load(run, place)
    normalized = vocabulary.normalize(text.content, saved.settings.normalize)
    tokens = vocabulary.encode(normalized, saved.vocab, unknown)
    if len(tokens) < 2:
        raise RNNScratchError(
            f"The text ({text.origin}) has {len(tokens)} characters that the model knows, after "
            f"--normalize {saved.settings.normalize}; it takes 2 to predict one from another."
        )
    batches = minibatches.whole(tokens, saved.settings)
    with np.errstate(all="ignore"):
        summed, count = setup.backend.scratch.evaluate(setup.model, batches, True)
    frequencies = np.bincount(tokens) / len(tokens)
    frequencies = frequencies[frequencies > 0]
    return Evaluation(
        count,
        perplexity(summed / count),
        float(len(saved.vocab)),
        float(np.exp(-(frequencies * np.log(frequencies)).sum())),
        len(normalized) - len(tokens),
    )
