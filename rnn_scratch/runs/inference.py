"""Inference with a trained model: text generation and evaluation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace

from ..errors import RNNScratchError
from ..settings import (
    Flag,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Prefix,
    Probability,
    Threads,
    Unknown,
    Variant,
    validate_call,
)
from ..text import books, dataset, minibatches, vocabulary
from ..training import decoding
from ..training.events import EMPTY_EPOCH, perplexity
from ..training.runtime import Runtime
from ..training.setup import LoadedModel, start_model
from . import checkpoint, run_folder
from .checkpoint import Checkpoint
from .run import Run, resolve_run

RUNTIME = ("backend", "variant", "device", "threads", "eager")  # arguments stored in `Runtime`


class Evaluation(NamedTuple):
    """A model's loss on a text, and two baseline perplexities."""

    num_tokens: int  #: number of evaluated tokens
    loss: float  #: mean loss per character in nats; divide by log(2) for bits
    perplexity: float | None  #: exp(loss), or None if it is too large for a float
    uniform_perplexity: float  #: perplexity of a uniform model (the vocabulary size)
    unigram_perplexity: float  #: perplexity of a model with this text's character frequencies
    num_skipped: int  #: number of characters skipped because they are not in the vocabulary
    source: str  #: description of the text
    trained: str  #: description of training progress, such as "epoch 3"
    held_out: "Evaluation | None" = None  #: result on the run's held-out text, or None


def load(run: str | Path, best: bool = False, **runtime: Any) -> tuple[LoadedModel, Checkpoint]:
    """Build a model from a run folder or checkpoint file; return the model and checkpoint.

    With `best`, use the parameters after the epoch with the lowest held-out loss. By default,
    use the last session's backend and, with that backend, the session's variant and thread count.
    """
    saved = checkpoint.load(run)
    if best:
        if not saved.best:
            problem = f"{run} has no best epoch, because no text was held out (`valid_share`)."
            raise RNNScratchError(problem, "Omit `best` to use the latest state of the training.")
        saved = replace(saved, epoch=saved.best_epoch, arrays=saved.best, incomplete=EMPTY_EPOCH)
    default = Runtime(saved.runtime.backend)
    if runtime.get("backend") in (None, default.backend):
        # Keep the number of threads, because TensorFlow cannot change it within a process.
        default = default.override(variant=saved.runtime.variant, threads=saved.runtime.threads)
    requested = default.override(**runtime)
    return start_model(saved.settings, requested, len(saved.vocab), saved.arrays), saved


def predict(
    run: Run | str | Path,
    prefix: Prefix | None = None,
    length: PositiveInt = 50,
    *,
    temperature: Positive | None = None,
    top_k: PositiveInt | None = None,
    top_p: Probability | None = None,
    min_p: Probability | None = None,
    seed: NonNegativeInt | None = None,
    unknown: Unknown = "error",
    best: Flag = False,
    stream: Callable[[str], object] | None = None,
    backend: str | None = None,
    variant: Variant | None = None,
    device: str | None = None,
    threads: Threads | None = None,
    eager: Flag | None = None,
) -> str:
    """Generate text with a run's model.

    For example, to continue a prefix with the latest run::

        rnn_scratch.predict("last", "the ", 200, temperature=0.5)

    Args:
        run: A run, its folder, its short name, such as "last", or a checkpoint file.
        prefix: Text to continue. Default: the first words of the run's text.
        length: Number of characters to generate.
        temperature: Sampling temperature: values below 1 prefer likely characters, values above 1
            make unlikely characters more frequent. Default: 1 with `top_k`, `top_p` or `min_p`;
            otherwise, always choose the most likely character.
        top_k: Sample only from the N most likely characters.
        top_p: Sample only from the smallest set of characters whose probabilities sum to P.
        min_p: Sample only from characters at least P times as likely as the most likely character.
        seed: Random seed for sampling. Default: 0.
        unknown: Handling of characters missing from the vocabulary: error, or skip to ignore them.
        best: Whether to use the parameters after the epoch with the lowest held-out loss.
        stream: Function called with the prefix, and then with each character as it is generated.
        backend: Name of the backend. Default: the last session's backend.
        variant: Variant. Default: the last session's variant; with another backend, scratch.
        device: Device: cpu, cuda, mps, or auto for the best available device. Default: cpu.
        threads: Number of threads. Default: the last session's number for its backend.
        eager: Whether to run functions uncompiled, for debugging.

    Returns:
        The prefix followed by the generated characters.

    Raises:
        RNNScratchError: If an argument or run file is invalid.
    """
    arguments = validate_call(predict, locals())
    samples = any(value is not None for value in (temperature, top_k, top_p, min_p))
    if seed is not None and not samples:
        problem = f"`seed` {seed} has no effect: the most likely character is always chosen."
        raise RNNScratchError(problem, "To sample, add a `temperature`, such as `temperature=0.5`.")
    loaded, saved = load(resolve_run(run), best, **{name: arguments[name] for name in RUNTIME})
    beginning = saved.text.beginning or saved.vocab[1]
    prefix = beginning if prefix is None else prefix
    tokens = vocabulary.encode(prefix, saved.vocab, unknown).tolist()
    if not tokens:
        problem = "The prefix is empty: the model needs at least one character to start from."
        raise RNNScratchError(problem, f"Pass a `prefix` such as {beginning!r}.")
    write = stream or (lambda text: None)
    choose_token: Callable[[np.ndarray], int] = decoding.greedy
    if samples:
        values = {name: arguments[name] for name in ("top_k", "top_p", "min_p")}
        values["seed"] = arguments["seed"] or 0
        choose_token = decoding.sampler(arguments["temperature"] or 1.0, **values)

    def choose_and_write(logits: np.ndarray) -> int:
        token = choose_token(logits)
        write(saved.vocab[token])
        return token

    write(vocabulary.decode(tokens, saved.vocab))
    generate, length = loaded.backend.scratch.predict, arguments["length"]
    with np.errstate(all="ignore"):
        outputs = generate(loaded.model, tokens, length, choose_and_write)
    return vocabulary.decode(outputs, saved.vocab)


def evaluate(
    run: Run | str | Path,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    unknown: Unknown = "error",
    best: Flag = False,
    backend: str | None = None,
    variant: Variant | None = None,
    device: str | None = None,
    threads: Threads | None = None,
    eager: Flag | None = None,
) -> Evaluation:
    """Compute a model's loss on a text, and two baseline perplexities.

    For example, to print the perplexity of the latest run on the built-in text::

        print(rnn_scratch.evaluate("last", corpus="tide-clock", unknown="skip").perplexity)

    Args:
        run: A run, its folder, its short name, such as "last", or a checkpoint file.
        corpus: Name of a text: time-machine, war-of-the-worlds, tiny-shakespeare or tide-clock.
            Default: the run's text, whose training part and held-out part give separate results.
        text: Text file (UTF-8) to use instead of `corpus`. It is normalized like the run's text.
        unknown: Handling of characters missing from the vocabulary: error, or skip to ignore them.
        best: Whether to use the parameters after the best epoch, as in `predict`.
        backend: Name of the backend. Default: the last session's backend.
        variant: Variant. Default: the last session's variant; with another backend, scratch.
        device: Device, as in `predict`. Default: cpu.
        threads: Number of threads. Default: the last session's number for its backend.
        eager: Whether to run functions uncompiled, for debugging.

    Returns:
        The loss and perplexities; `held_out` is the result on the run's held-out text.

    Raises:
        RNNScratchError: If an argument or run file is invalid, or the text is too short.
    """
    arguments = validate_call(evaluate, locals())
    path = resolve_run(run)
    loaded, saved = load(path, best, **{name: arguments[name] for name in RUNTIME})
    record = saved.text
    if corpus is None and text is None:
        data = dataset.prepare(run_folder.reload_text(path, record), saved.settings)
        name = f"the first {record.train_tokens:,} characters of {_name(record)} (training text)"
        result = _evaluation(loaded, saved, data.train, name)
        if not record.valid_tokens:
            return result
        name = f"the next {record.valid_tokens:,} characters (held-out text)"
        return result._replace(held_out=_evaluation(loaded, saved, data.valid, name))
    new_text = books.find(corpus, text, lambda line: None)
    normalized_text = vocabulary.normalize(new_text.content, saved.settings.normalize)
    tokens = vocabulary.encode(normalized_text, saved.vocab, unknown)
    if len(tokens) < 2:
        problem = f"The text ({new_text.origin}) has too few known characters ({len(tokens)})."
        raise RNNScratchError(problem, "Evaluate on a text with at least 2 known characters.")
    return _evaluation(loaded, saved, tokens, _name(new_text), len(normalized_text) - len(tokens))


def _name(text: dataset.TextRecord | books.Text) -> str:
    return text.origin if text.corpus == "file" else text.corpus


def _evaluation(
    loaded: LoadedModel, saved: Checkpoint, tokens: np.ndarray, source: str, skipped: int = 0
) -> Evaluation:
    batches = minibatches.evaluation_batches(tokens, saved.settings)
    with np.errstate(all="ignore"):
        total_loss, count = loaded.backend.scratch.evaluate(loaded.model, batches)
    loss, frequencies = float(total_loss / count), np.bincount(tokens) / len(tokens)
    return Evaluation(
        num_tokens=count,
        loss=loss,
        perplexity=perplexity(loss),
        uniform_perplexity=float(len(saved.vocab)),
        unigram_perplexity=float(np.prod(frequencies**-frequencies)),
        num_skipped=skipped,
        source=source,
        trained=saved.position,
    )
