"""Inference with a trained network: text generation and evaluation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from .. import registry
from ..contract import Arrays, Backend, Model
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
    show_plain_types,
    validate_call,
)
from ..text import books, dataset, minibatches, vocabulary
from ..training import decoding
from ..training.events import EMPTY_EPOCH, perplexity
from ..training.runtime import Runtime
from ..training.setup import start_model
from . import checkpoint, run_folder
from .checkpoint import Checkpoint
from .progress import format_nats, format_perplexity
from .run import Run, resolve_run

RUNTIME = ("backend", "variant", "device", "threads", "eager")  # arguments stored in `Runtime`


@dataclass(frozen=True)
class Evaluation:
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

    def __str__(self) -> str:
        """Return a description of each result, in the lines that the command `evaluate` prints."""
        parts = [self] if self.held_out is None else [self, self.held_out]
        descriptions = "\n\n".join(map(_describe, parts))
        return f"model      {self.trained}\n{descriptions}"


def _describe(result: Evaluation) -> str:
    perplexity = format_perplexity(result.perplexity)
    uniform, unigram = result.uniform_perplexity, result.unigram_perplexity
    skipped = f" (unknown characters skipped: {result.num_skipped:,})" if result.num_skipped else ""
    return f"""\
text       {result.source}
perplexity {perplexity} on {result.num_tokens:,} characters{skipped}
loss       {format_nats(result.loss)}
uniform    {uniform:.2f}  all characters of the vocabulary equally likely
unigram    {unigram:.2f}  each character as likely as its frequency in this text"""


@dataclass(frozen=True, repr=False, eq=False)
class Network:
    """A trained network and the backend that runs it; `load` returns one.

    For example, to continue a prefix with the latest run's network::

        net = rnn_scratch.load("last", best=True)
        print(net.predict("The ", 200, temperature=0.5))
        print(net.evaluate())
    """

    path: Path  #: run folder or checkpoint file
    checkpoint: Checkpoint  #: settings, vocabulary, text and training progress
    runtime: Runtime  #: variant, device and number of threads in use
    backend: Backend
    model: Model

    @property
    def params(self) -> Arrays:
        """The parameters as NumPy arrays, by name."""
        return self.model.to_arrays(self.model.params)

    def __repr__(self) -> str:
        """Return a single-line summary of the network."""
        settings, position = self.checkpoint.settings, self.checkpoint.position
        backend, variant = self.runtime.backend, self.runtime.variant
        return f"<Network {self.path}: {settings.network}, {position}, {backend} ({variant})>"

    @show_plain_types
    def predict(
        self,
        prefix: Prefix | None = None,
        length: PositiveInt = 50,
        *,
        temperature: Positive | None = None,
        top_k: PositiveInt | None = None,
        top_p: Probability | None = None,
        min_p: Probability | None = None,
        seed: NonNegativeInt | None = None,
        unknown: Unknown = "error",
        stream: Callable[[str], object] | None = None,
    ) -> str:
        """Generate text.

        Args:
            prefix: Text to continue. Default: the first words of the run's text.
            length: Number of characters to generate.
            temperature: Sampling temperature: values below 1 prefer likely characters, values above
                1 make unlikely characters more frequent. Default: 1 with `top_k`, `top_p` or
                `min_p`; otherwise, always choose the most likely character.
            top_k: Sample only from the N most likely characters.
            top_p: Sample only from the smallest set of characters whose probabilities sum to P.
            min_p: Sample only from characters at least P times as likely as the most likely
                character.
            seed: Random seed for sampling. Default: 0.
            unknown: Handling of characters missing from the vocabulary: error, or skip to ignore
                them.
            stream: Function called with the prefix, and then with each character as it is
                generated.

        Returns:
            The prefix followed by the generated characters.

        Raises:
            RNNScratchError: If an argument is invalid.
        """
        arguments, saved = validate_call(Network.predict, locals()), self.checkpoint
        samples = any(value is not None for value in (temperature, top_k, top_p, min_p))
        if seed is not None and not samples:
            problem = f"`seed` {seed} has no effect: the most likely character is always chosen."
            hint = "To sample, add a `temperature`, such as `temperature=0.5`."
            raise RNNScratchError(problem, hint)
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
        generate, length = self.backend.scratch.predict, arguments["length"]
        with np.errstate(all="ignore"):
            outputs = generate(self.model, tokens, length, choose_and_write)
        return vocabulary.decode(outputs, saved.vocab)

    @show_plain_types
    def evaluate(
        self,
        *,
        corpus: str | None = None,
        text: str | Path | None = None,
        unknown: Unknown = "error",
    ) -> Evaluation:
        """Compute the loss on a text, and two baseline perplexities.

        Args:
            corpus: Name of a text: time-machine, war-of-the-worlds, tiny-shakespeare or tide-clock.
                Default: the run's text, whose training part and held-out part give separate
                results.
            text: Text file (UTF-8) to use instead of `corpus`. It is normalized like the run's
                text.
            unknown: Handling of characters missing from the vocabulary: error, or skip to ignore
                them.

        Returns:
            The loss and perplexities; `held_out` is the result on the run's held-out text.

        Raises:
            RNNScratchError: If an argument or the run's text is invalid, or the text is too short.
        """
        validate_call(Network.evaluate, locals())
        saved = self.checkpoint
        record = saved.text
        if corpus is None and text is None:
            data = dataset.prepare(run_folder.reload_text(self.path, record), saved.settings)
            name = (
                f"the first {record.train_tokens:,} characters of {_name(record)} (training text)"
            )
            result = self._evaluation(data.train, name)
            if not record.valid_tokens:
                return result
            name = f"the next {record.valid_tokens:,} characters (held-out text)"
            return replace(result, held_out=self._evaluation(data.valid, name))
        new_text = books.find(corpus, text, lambda line: None)
        normalized_text = vocabulary.normalize(new_text.content, saved.settings.normalize)
        tokens = vocabulary.encode(normalized_text, saved.vocab, unknown)
        if len(tokens) < 2:
            problem = f"The text ({new_text.origin}) has too few known characters ({len(tokens)})."
            raise RNNScratchError(problem, "Evaluate on a text with at least 2 known characters.")
        return self._evaluation(tokens, _name(new_text), len(normalized_text) - len(tokens))

    def _evaluation(self, tokens: np.ndarray, source: str, skipped: int = 0) -> Evaluation:
        batches = minibatches.evaluation_batches(tokens, self.checkpoint.settings)
        with np.errstate(all="ignore"):
            total_loss, count = self.backend.scratch.evaluate(self.model, batches)
        loss, frequencies = float(total_loss / count), np.bincount(tokens) / len(tokens)
        return Evaluation(
            num_tokens=count,
            loss=loss,
            perplexity=perplexity(loss),
            uniform_perplexity=float(len(self.checkpoint.vocab)),
            unigram_perplexity=float(np.prod(frequencies**-frequencies)),
            num_skipped=skipped,
            source=source,
            trained=self.checkpoint.position,
        )


def _name(text: dataset.TextRecord | books.Text) -> str:
    return text.origin if text.corpus == "file" else text.corpus


@show_plain_types
def load(
    run: Run | str | Path,
    *,
    best: Flag = False,
    backend: str | None = None,
    variant: Variant | None = None,
    device: str | None = None,
    threads: Threads | None = None,
    eager: Flag | None = None,
) -> Network:
    """Start a backend and build a run's network.

    Args:
        run: A run, its folder, its short name, such as "last", or a checkpoint file.
        best: Whether to use the parameters after the epoch with the lowest held-out loss.
        backend: Name of the backend. Default: the last session's backend.
        variant: Variant. Default: the last session's variant; with another backend, scratch.
        device: Device: cpu, cuda, mps, or auto for the best available device. Default: cpu.
        threads: Number of threads. Default: the last session's number for its backend.
        eager: Whether to run functions uncompiled, for debugging.

    Returns:
        The network.

    Raises:
        RNNScratchError: If an argument or run file is invalid, or the backend cannot be used.
    """
    arguments, path = validate_call(load, locals()), resolve_run(run)
    saved = checkpoint.load(path)
    if best:
        if not saved.best:
            problem = f"{path} has no best epoch, because no text was held out (`valid_share`)."
            raise RNNScratchError(problem, "Omit `best` to use the latest state of the training.")
        saved = msgspec.structs.replace(
            saved, epoch=saved.best_epoch, arrays=saved.best, incomplete=EMPTY_EPOCH
        )
    default = Runtime(saved.runtime.backend)
    if backend in (None, default.backend):
        # Keep the number of threads, because TensorFlow cannot change it within a process.
        default = default.override(variant=saved.runtime.variant, threads=saved.runtime.threads)
    if backend is None:
        require_last_backend(default.backend)
    requested = default.override(**{name: arguments[name] for name in RUNTIME})
    loaded = start_model(saved.settings, requested, len(saved.vocab), saved.arrays)
    return Network(path, saved, *loaded)


def require_last_backend(name: str) -> None:
    """Raise RNNScratchError if the backend of a run's last session can no longer be loaded."""
    try:
        registry.load(name)
    except RNNScratchError as error:
        hint = f'To use another backend, pass `backend="numpy"`. {error.hint}'
        raise RNNScratchError(error.problem, hint) from error
