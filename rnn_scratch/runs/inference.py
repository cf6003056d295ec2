"""Inference with a trained model: text generation, and evaluation on other texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from ..errors import RNNScratchError
from ..text import books, dataset, minibatches, vocabulary
from ..training import decoding
from ..training.events import EMPTY_EPOCH, perplexity
from ..training.runtime import Runtime
from ..training.setup import LoadedModel, start_model
from . import checkpoint, run_folder
from .checkpoint import Checkpoint
from .run import Run, resolve_run

PREFIX = "time traveller "


class Evaluation(NamedTuple):
    """The loss of a model on a text, and the perplexities of two baselines."""

    tokens: int  #: number of evaluated tokens
    loss: float  #: mean loss per character in nats; divide by log(2) for bits
    perplexity: float | None  #: exp(loss), or None if it is too large for a float
    uniform: float  #: perplexity of a uniform model, which equals the vocabulary size
    unigram: float  #: perplexity of a unigram model with this text's character frequencies
    skipped: int  #: number of characters omitted because the vocabulary lacks them
    source: str  #: description of the text
    trained: str  #: description of the training progress, such as "epoch 3"
    held_out: "Evaluation | None" = None  #: result on the run's held-out text, or None


def load(run: str | Path, best: bool = False, **runtime: Any) -> tuple[LoadedModel, Checkpoint]:
    """Build a model from a run's folder or a checkpoint file; return it and the checkpoint.

    The model has the latest parameters or, with `best`, the parameters after the epoch with the
    lowest held-out loss. The backend defaults to the last session's; if it is the same, so do the
    variant and the number of threads.
    """
    saved = checkpoint.load(run)
    if best:
        if not saved.best:
            problem = f"{run} has no best epoch: it needs held-out text (`valid_share` 0.1)."
            raise RNNScratchError(problem, "Omit `best` to use the latest state of the training.")
        progress: dict[str, Any] = {"epoch": saved.best_epoch, "incomplete": EMPTY_EPOCH}
        saved = replace(saved, arrays=saved.best, **progress)
    last_runtime = saved.runtime
    default = Runtime(last_runtime.backend)
    if runtime.get("backend") in (None, last_runtime.backend):
        # Keep the number of threads, because TensorFlow cannot change it within a process.
        default = Runtime(last_runtime.backend, last_runtime.model, threads=last_runtime.threads)
    runtime_in_use = default.override(**runtime)
    loaded = start_model(saved.settings, runtime_in_use, len(saved.vocab), saved.arrays)
    return loaded, saved


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

    Characters are sampled from softmax(logits / temperature), restricted by `top_k`, `top_p` and
    `min_p`. Without these four arguments, the most likely character is chosen.
    `stream` is called with the prefix, and with each character as soon as it is chosen.
    """
    loaded, saved = load(resolve_run(run), best, **runtime)
    if prefix is None:
        prefix = PREFIX if set(PREFIX) <= set(saved.vocab) else saved.vocab[1]
    tokens = vocabulary.encode(prefix, saved.vocab, unknown).tolist()
    if not tokens:
        raise RNNScratchError(
            "The prefix is empty: the model needs at least one character to start from.",
            'Pass a `prefix` such as "time traveller ".',
        )
    if any(value is not None for value in (temperature, top_k, top_p, min_p)):
        temperature = 1.0 if temperature is None else temperature
        choose_token = decoding.sampler(temperature, seed, top_k, top_p, min_p)
    else:
        choose_token = decoding.greedy
    write = stream or (lambda text: None)
    write(vocabulary.decode(tokens, saved.vocab))

    def choose_and_write(logits: np.ndarray) -> int:
        token = choose_token(logits)
        write(saved.vocab[token])
        return token

    with np.errstate(all="ignore"):
        outputs = loaded.backend.scratch.predict(loaded.model, tokens, length, choose_and_write)
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
    """Evaluate a run's model on a text, which is normalized like the run's text.

    Without `corpus` and `text`, evaluate on the run's text: on the training part and, in the field
    `held_out`, on the held-out part.
    """
    loaded, saved = load(resolve_run(run), best, **runtime)
    record = saved.text
    if corpus is None and text is None:
        content = run_folder.reload_text(resolve_run(run), record)
        prepared = dataset.prepare(content, saved.settings)
        name = f"the first {record.train_tokens:,} characters of {_name(record)} (training text)"
        result = _evaluation(loaded, saved, prepared.train, name)
        if not record.valid_tokens:
            return result
        name = f"the next {record.valid_tokens:,} characters (held-out text)"
        return result._replace(held_out=_evaluation(loaded, saved, prepared.valid, name))
    new_text = books.find(corpus, text, lambda line: None)
    normalized = vocabulary.normalize(new_text.content, saved.settings.normalize)
    tokens = vocabulary.encode(normalized, saved.vocab, unknown)
    if len(tokens) < 2:
        raise RNNScratchError(
            f"The text ({new_text.origin}) has {len(tokens)} characters of the model's vocabulary, "
            f"after `normalize` {saved.settings.normalize}.",
            "Evaluate on a text with at least 2 known characters.",
        )
    name = _name(new_text)
    if new_text.sha256 == record.sha256:
        name += f" (its first {record.train_tokens:,} characters are the training text)"
    return _evaluation(loaded, saved, tokens, name, len(normalized) - len(tokens))


def _name(text: dataset.TextRecord | books.Text) -> str:
    return text.origin if text.corpus == "file" else text.corpus


def _evaluation(
    loaded: LoadedModel, saved: Checkpoint, tokens: np.ndarray, source: str, skipped: int = 0
) -> Evaluation:
    batches = minibatches.evaluation_batches(tokens, saved.settings)
    with np.errstate(all="ignore"):
        total_loss, count = loaded.backend.scratch.evaluate(loaded.model, batches)
    uniform, loss = float(len(saved.vocab)), float(total_loss / count)
    return Evaluation(
        count, loss, perplexity(loss), uniform, unigram(tokens), skipped, source, saved.position
    )


def unigram(tokens: np.ndarray) -> float:
    """Return a text's perplexity under a unigram model with the text's token frequencies."""
    frequencies = np.bincount(tokens) / len(tokens)
    frequencies = frequencies[frequencies > 0]
    return float(np.exp(-(frequencies * np.log(frequencies)).sum()))
