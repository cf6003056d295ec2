"""The commands `predict` and `evaluate`: inference with a trained model."""

import json
import sys
from typing import Any

import click
import msgspec

from ..runs import inference
from ..runs.inference import Evaluation
from ..runs.progress import format_perplexity, losses
from ..system.terminal import echo, printable
from ..text import books
from .options import (
    best_option,
    json_option,
    option,
    runtime_options,
    specified,
    text_options,
    unknown_option,
)

DEFAULTS = {"backend": "the run's", "model": "the run's", "device": "auto", "threads": "the run's"}


@click.command()
@click.argument("run")
@option(
    "prefix",
    "Text to continue; - reads it from standard input.",
    implied='"time traveller ", or the most frequent character',
)
@option("length", default=50)
@option(
    "temperature",
    implied="1 with --top-k, --top-p or --min-p; otherwise always choose the most likely character",
)
@option("top_k")
@option("top_p")
@option("min_p")
@option("seed", default=0)
@best_option
@unknown_option
@runtime_options(**DEFAULTS)
def predict(run: str, prefix: str | None, **options: Any) -> None:
    """Generate text from a prefix with the model of RUN.

    RUN is the folder of a run, its short name in the list of `rnn-scratch runs` (a number, or last
    for the newest), or a checkpoint file.
    """
    if prefix == "-":
        prefix = books.decode(sys.stdin.buffer.read(), "standard input").removesuffix("\n")
    arguments = {"run": run, "prefix": prefix, **specified(options)}
    if sys.stdout is None or not sys.stdout.isatty():
        echo(inference.predict(**arguments))
    else:
        inference.predict(**arguments, stream=_show)
        print()


def _show(text: str) -> None:
    # The terminal breaks the lines: where a word ends, nobody knows yet.
    print(printable(text), end="", flush=True)


@click.command()
@click.argument("run")
@text_options("the run's, the training part and the held-out part separately")
@best_option
@unknown_option
@json_option
@runtime_options(**DEFAULTS)
def evaluate(run: str, as_json: bool, **options: Any) -> None:
    """Compute the loss of the model of RUN on a text, and the perplexity of two baselines.

    RUN is the folder of a run, its short name, or a checkpoint file, as in `predict`.

    The loss is the mean cross-entropy of a character: in nats, with the natural logarithm, and in
    bits, with the logarithm to base 2. The perplexity is exp(loss in nats): so many equally likely
    characters would be as hard to predict.
    """
    result = inference.evaluate(run, **specified(options))
    if as_json:
        held_out = None if result.held_out is None else result.held_out._asdict()
        encoded = msgspec.json.encode({**result._asdict(), "held_out": held_out})
        print(json.dumps(msgspec.json.decode(encoded), indent=2))  # with null in place of NaN
        return
    echo(f"model      {result.trained}")
    _print(result)
    if result.held_out is not None:
        echo()
        _print(result.held_out)


def _print(result: Evaluation) -> None:
    # One line for the text, and one for each figure.
    perplexity = format_perplexity(result.perplexity)
    skipped = f" ({result.skipped:,} unknown ones skipped)" if result.skipped else ""
    echo(f"text       {result.source}")
    echo(f"perplexity {perplexity} on {result.tokens:,} characters{skipped}")
    echo(f"loss       {losses(result.loss)}")
    echo(f"uniform    {result.uniform:.2f}  all characters of the vocabulary equally likely")
    echo(f"unigram    {result.unigram:.2f}  characters as likely as they are frequent here")
