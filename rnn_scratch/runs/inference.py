"""A trained model put to use: it writes, and it is measured on other texts."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import registry
from ..contract import Backend, Model, Options, RNNScratchError
from ..text import minibatches, vocabulary
from ..text.corpus import Text
from . import checkpoint, decoding
from . import folder as run_folder
from .checkpoint import Checkpoint
from .training import perplexity


class Evaluation(NamedTuple):
    """How well a model predicts a text, beside what it takes no model for."""

    tokens: int
    perplexity: float | None  # None where it is too large for a float
    uniform: float  # every character of the vocabulary equally likely
    unigram: float  # each as likely as it is frequent in this very text
    skipped: int  # characters left out because the vocabulary lacks them


def load(
    run: str | Path, backend: str | None, model: str, device: str, threads: int | None
) -> tuple[Backend, Model, Checkpoint]:
    """The model of a run's folder or of a checkpoint file, in the backend asked for.

    With backend None it is the run's own; a file that lies outside a run is read with NumPy.
    """
    path = checkpoint.find(run)
    saved = checkpoint.load(path)
    if backend is None:
        has_record = (path.parent / run_folder.RECORD).exists()
        backend = run_folder.read(path.parent)["sessions"][-1]["backend"] if has_record else "numpy"
    module, _ = registry.start(backend, threads)
    where = registry.choose_device(module, device, saved.settings.dtype)
    options = Options(saved.settings.activation, saved.settings.dtype, where)
    return module, registry.build(module, model, saved.arrays, options), saved


def predict(
    run: str | Path,
    prefix: str,
    length: int = 50,
    *,
    backend: str | None = None,
    model: str = "scratch",
    temperature: float | None = None,
    seed: int = 0,
    unknown: str = "error",
    device: str = "auto",
    threads: int | None = None,
) -> str:
    """The prefix and `length` characters that the model of a run writes after it.

    Greedy without a temperature; with one, drawn from softmax(logits / temperature), where the
    chapter's exponent α is 1 / temperature. Raises RNNScratchError for an empty prefix, characters
    that the vocabulary lacks (unless `unknown` is ``skip``), and all that `load` may find.
    """
    if length < 1:
        raise RNNScratchError(f"--length is {length}; it must be a whole number from 1 on.")
    if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
        raise RNNScratchError(
            f"--temperature is {temperature}; it must be a finite number above 0."
        )
    if not 0 <= seed < 2**32:
        raise RNNScratchError(f"--seed is {seed}; it must be a whole number from 0 to 2**32 - 1.")
    module, network, saved = load(run, backend, model, device, threads)
    tokens = vocabulary.encode(prefix, saved.vocab, unknown)
    if not len(tokens):
        raise RNNScratchError(
            "The prefix is empty: the model needs one character at least to begin with.\n"
            'Give one, such as --prefix "time traveller ".'
        )
    choose = decoding.greedy if temperature is None else decoding.sampler(temperature, seed)
    with np.errstate(all="ignore"):
        predicted = module.predict(network, tokens.tolist(), length, choose)
    return vocabulary.decode(predicted, saved.vocab)


def evaluate(
    run: str | Path,
    text: Text,
    *,
    backend: str | None = None,
    model: str = "scratch",
    unknown: str = "error",
    device: str = "auto",
    threads: int | None = None,
) -> Evaluation:
    """Perplexity of a run's model on a text, normalised as the run's own was, and baselines.

    Raises RNNScratchError for a text of fewer than two characters, and as `predict` does.
    """
    module, network, saved = load(run, backend, model, device, threads)
    normalized = vocabulary.normalize(text.content, saved.settings.normalize)
    tokens = vocabulary.encode(normalized, saved.vocab, unknown)
    if len(tokens) < 2:
        raise RNNScratchError(
            f"The text ({text.origin}) has {len(tokens)} characters that the model knows, after "
            f"--normalize {saved.settings.normalize}; to predict one from another it takes 2."
        )
    batches = minibatches.whole(tokens, saved.settings.batch_size, saved.settings.num_steps)
    with np.errstate(all="ignore"):
        summed, count = module.evaluate(network, batches, True)
    frequencies = np.bincount(tokens) / len(tokens)
    frequencies = frequencies[frequencies > 0]
    return Evaluation(
        count,
        perplexity(summed / count),
        float(len(saved.vocab)),
        float(np.exp(-(frequencies * np.log(frequencies)).sum())),
        len(normalized) - len(tokens),
    )
