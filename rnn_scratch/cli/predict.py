"""The commands `predict` and `evaluate`: inference with a trained model."""

import json
import sys
from functools import partial
from typing import Any

import click
import msgspec

from ..runs import inference
from ..runs.inference import Evaluation
from ..runs.progress import format_perplexity, losses
from ..system.terminal import echo
from ..text import books
from .options import json_option, option, options, runtime_options, specified, text_options

inference_options = options(
    option("best"),
    option("unknown", default="error"),
    runtime_options(backend="the run's", model="the run's", device="auto", threads="the run's"),
)


@click.command()
@click.argument("run")
@option(
    "prefix",
    "Text to continue (-: read it from standard input).",
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
@inference_options
def predict(run: str, prefix: str | None, **more: Any) -> None:
    """Generate text from a prefix with RUN's model.

    RUN is the folder of a run, its short name in the list of `rnn-scratch runs` (a number, or last
    for the newest), or a checkpoint file.
    """
    if prefix == "-":
        prefix = books.decode(sys.stdin.buffer.read(), "standard input").removesuffix("\n")
    stream = partial(echo, end="") if sys.stdout is not None and sys.stdout.isatty() else None
    text = inference.predict(run, prefix, stream=stream, **specified(more))
    echo("" if stream else text)


@click.command()
@click.argument("run")
@text_options("the run's, the training part and the held-out part separately")
@json_option
@inference_options
def evaluate(run: str, as_json: bool, **more: Any) -> None:
    """Compute the loss of RUN's model on a text, and the perplexity of two baselines.

    RUN is the folder of a run, its short name, or a checkpoint file, as in `predict`.

    The loss is the mean cross-entropy of a character: in nats, with the natural logarithm, and in
    bits, with the logarithm to base 2. The perplexity is exp(loss in nats), the number of equally
    likely characters that would be as hard to predict.
    """
    result = inference.evaluate(run, **specified(more))
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
