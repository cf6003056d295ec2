"""The commands `predict` and `evaluate`: inference with a trained model."""

import sys
from typing import Any

import click

from .. import api
from ..runs.inference import Evaluation
from ..runs.progress import format_nats, format_perplexity
from ..system.terminal import printable
from .options import function_options, specified
from .screen import Screen


@click.command()
@click.argument("run")
@function_options(api.predict)
def predict(run: str, **options: Any) -> None:
    """Generate text from a prefix with RUN's model.

    RUN is the folder of a run, its short name in the list of `rnn-scratch runs` (a number, or last
    for the run whose session started last), or a checkpoint file.
    """
    stream = _print_characters if sys.stdout.isatty() else None
    text = api.predict(run, stream=stream, **specified(options))
    print("" if stream else text)


@click.command()
@click.argument("run")
@function_options(api.evaluate)
def evaluate(run: str, **options: Any) -> None:
    """Compute the loss of RUN's model on a text, and the perplexities of two baselines.

    RUN is the folder of a run, its short name, or a checkpoint file (see `predict`).

    The loss is the mean cross-entropy per character: in nats, with the natural logarithm, and in
    bits, with the logarithm to base 2. The perplexity is exp(loss in nats), the number of equally
    likely characters that would be as hard to predict.
    """
    result = api.evaluate(run, **specified(options))
    descriptions = [f"model      {result.trained}\n{_description(result)}"]
    if result.held_out is not None:
        descriptions.append(_description(result.held_out))
    Screen().print_line("\n\n".join(descriptions))


def _print_characters(text: str) -> None:
    print(printable(text), end="", flush=True)


def _description(result: Evaluation) -> str:
    perplexity = format_perplexity(result.perplexity)
    skipped = f" ({result.skipped:,} unknown characters skipped)" if result.skipped else ""
    return f"""\
text       {result.source}
perplexity {perplexity} on {result.tokens:,} characters{skipped}
loss       {format_nats(result.loss)}
uniform    {result.uniform:.2f}  all characters of the vocabulary equally likely
unigram    {result.unigram:.2f}  each character as likely as its frequency in this text"""
