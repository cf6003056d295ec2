"""Inference with a trained model: text generation, and evaluation on other texts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from ..errors import RNNScratchError
from ..system import files
from ..text import books, dataset, minibatches, vocabulary
from . import checkpoint, decoding, run_folder
from .checkpoint import NOTHING, Checkpoint
from .run import Run, folder_of
from .runtime import Runtime
from .setup import Setup, set_up
from .training import perplexity

PREFIX = "time traveller "


class Evaluation(NamedTuple):
    """How well a model predicts a text, and two baselines without a model."""

    tokens: int
    loss: float  #: mean per character, in nats; divided by log(2) it is in bits
    perplexity: float | None  #: None where it is too large for a float
    uniform: float  #: every character of the vocabulary equally likely
    unigram: float  #: every character as likely as it is frequent in this text
    skipped: int  #: characters omitted because the vocabulary lacks them
    source: str  #: which characters of which text these are
    trained: str  #: how far the model has been trained, in words
    held_out: "Evaluation | None" = None  #: with the run's own text, on what it was not trained on


def load(run: str | Path, best: bool = False, **runtime: Any) -> tuple[Setup, Checkpoint]:
    """Build the model of a run's folder or of a checkpoint file; return it and the checkpoint.

    It is the latest state of the run or, with `best`, that of the epoch with the lowest loss on
    held-out text. By default backend, model and number of threads are those that it was trained
    with; a checkpoint outside a run's folder is loaded with NumPy.
    """
    saved = checkpoint.load(run)
    if best:
        if not saved.best:
            raise RNNScratchError(
                f"{run} has no best epoch. A run has one only with held-out text (`--valid-share "
                "0.1`), after its first epoch.",
                "Omit `--best` to use the latest state of the training.",
            )
        progress: dict[str, Any] = {"epoch": saved.best_epoch, "incomplete": NOTHING}
        saved = replace(saved, arrays=saved.best, **progress)
    default, last = Runtime("numpy"), saved.runtime
    folder = Path(run) if os.path.isdir(run) else Path(run).parent
    if files.exists(folder / run_folder.RUN_FILE):
        default = Runtime(last.backend)
        if runtime.get("backend") in (None, last.backend):
            # As it was trained: TensorFlow cannot change the number of threads in a process.
            default = Runtime(last.backend, last.model, threads=last.threads)
    return set_up(saved.settings, default.but(**runtime), arrays=saved.arrays), saved


def predict(
    run: Run | str | Path,
    prefix: str | None = None,
    length: int = 50,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int = 0,
    unknown: str = "error",
    best: bool = False,
    stream: Callable[[str], object] | None = None,
    **runtime: Any,
) -> str:
    """Return the prefix and the `length` characters that a run's model generates after it.

    The default prefix is "time traveller " or, if the vocabulary lacks these letters, its most
    frequent character. Without a temperature the most likely character is chosen; with one,
    characters are sampled from softmax(logits / temperature), where the chapter's exponent α is
    1 / temperature. `top_k`, `top_p` and `min_p` leave out unlikely characters, as in
    `decoding.likely`; with one of them the default temperature is 1. `stream` is called with the
    prefix, and with each character as soon as it is chosen. `best` and `runtime`, which may have
    backend, model, device, threads and eager, are those of `load`. Raises RNNScratchError for an
    empty prefix, for characters that the vocabulary lacks (unless `unknown` is ``skip``), and as
    `load` does.
    """
    setup, saved = load(folder_of(run), best, **runtime)
    if prefix is None:
        prefix = PREFIX if set(PREFIX) <= set(saved.vocab) else saved.vocab[1]
    tokens = vocabulary.encode(prefix, saved.vocab, unknown).tolist()
    if not tokens:
        raise RNNScratchError(
            "The prefix is empty: the model needs at least one character to start from.",
            'Pass one, such as `--prefix "time traveller "`.',
        )
    if any(value is not None for value in (temperature, top_k, top_p, min_p)):
        temperature = 1.0 if temperature is None else temperature
        choose = decoding.sampler(temperature, seed, top_k, top_p, min_p)
    else:
        choose = decoding.greedy
    write = stream or (lambda text: None)
    write(vocabulary.decode(tokens, saved.vocab))

    def choose_and_write(logits: np.ndarray) -> int:
        token = choose(logits)
        write(saved.vocab[token])
        return token

    with np.errstate(all="ignore"):
        outputs = setup.backend.scratch.predict(setup.model, tokens, length, choose_and_write)
    return vocabulary.decode(outputs, saved.vocab)


def evaluate(
    run: Run | str | Path,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    unknown: str = "error",
    best: bool = False,
    **runtime: Any,
) -> Evaluation:
    """Return the loss of a run's model on a text, normalized as the run's own, and baselines.

    Without `corpus` and `text` it is the run's own text: what was trained on and, as `held_out`,
    what was held out. `best` and `runtime` are those of `predict`. Raises RNNScratchError for a
    text of fewer than two characters, if the run's own has changed, and as `predict` does.
    """
    other = None
    if corpus is not None or text is not None:
        other = books.find(corpus, text, lambda line: None)
    setup, saved = load(folder_of(run), best, **runtime)
    trained = saved.text
    if other is None:
        prepared = dataset.prepare(dataset.reload_and_verify(trained, None), saved.settings)
        first = f"the first {trained.train_tokens:,} characters"
        name = f"{first} of {_name(trained)}, which were trained on"
        result = _evaluation(setup, saved, prepared.train, name)
        if not trained.valid_tokens:
            return result
        name = f"the next {trained.valid_tokens:,} characters, which were held out"
        return result._replace(held_out=_evaluation(setup, saved, prepared.valid, name))
    normalized = vocabulary.normalize(other.content, saved.settings.normalize)
    tokens = vocabulary.encode(normalized, saved.vocab, unknown)
    if len(tokens) < 2:
        raise RNNScratchError(
            f"The text ({other.origin}) has {len(tokens)} characters of the model's vocabulary, "
            f"after `--normalize {saved.settings.normalize}`.",
            "Evaluate on a text with at least 2 of them.",
        )
    name = _name(other)
    if other.sha256 == trained.sha256:
        name += f", whose first {trained.train_tokens:,} characters were trained on"
    return _evaluation(setup, saved, tokens, name, len(normalized) - len(tokens))


def _name(text: dataset.TextRecord | books.Text) -> str:
    return text.origin if text.corpus == "file" else text.corpus


def _evaluation(
    setup: Setup, saved: Checkpoint, tokens: np.ndarray, source: str, skipped: int = 0
) -> Evaluation:
    batches = minibatches.whole(tokens, saved.settings)
    with np.errstate(all="ignore"):
        summed, count = setup.backend.deep.evaluate(setup.model, batches)
    uniform, loss = float(len(saved.vocab)), float(summed / count)
    return Evaluation(
        count, loss, perplexity(loss), uniform, unigram(tokens), skipped, source, saved.position
    )


def unigram(tokens: np.ndarray) -> float:
    """Return the perplexity of a text if every token is as likely as it is frequent in it."""
    frequencies = np.bincount(tokens) / len(tokens)
    frequencies = frequencies[frequencies > 0]
    return float(np.exp(-(frequencies * np.log(frequencies)).sum()))
