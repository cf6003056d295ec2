"""The commands `predict` and `evaluate`: inference with a trained model."""

import sys
from typing import Any

import click

from .. import api
from ..runs.inference import Evaluation
from ..runs.progress import format_nats, format_perplexity
from ..settings import Length, NonNegativeInt, Positive, Probability, TopK, Unknown
from ..system.terminal import printable
from .options import best_option, option, options, runtime_options, specified, text_options
from .screen import Screen

inference_options = options(
    best_option,
    option("--unknown", Unknown, "How to treat unknown characters.  [default: error]"),
    runtime_options,
)


@click.command()
@click.argument("run")
@click.option(
    "--prefix",
    help='Text to continue.  [default: "time traveller ", or the most frequent character]',
)
@option("--length", Length, "Number of characters to generate.  [default: 50]")
@option(
    "--temperature",
    Positive,
    "Sample at this temperature: values below 1 prefer likely characters, values above 1 make "
    "unlikely characters more frequent.  [default: 1 with --top-k, --top-p or --min-p; otherwise "
    "always choose the most likely character]",
)
@option("--top-k", TopK, "Sample only from the K most likely characters.")
@option("--top-p", Probability, "Sample only from likely characters with this total probability.")
@option("--min-p", Probability, "Sample only above this fraction of the highest probability.")
@option("--seed", NonNegativeInt, "Random seed.  [default: 0]")
@inference_options
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
@text_options("the run's, the training part and the held-out part separately")
@inference_options
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
