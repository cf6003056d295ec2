"""The commands `predict` and `evaluate`: inference with a trained model."""

from typing import Any

import click

from .. import api
from ..runs.progress import format_perplexity
from ..system.terminal import echo
from . import display
from .options import place_options, show_messages, specified, text_options, unknown_option

DEFAULTS = {"backend": "the run's", "model": "the run's", "device": "auto", "threads": "the run's"}


@click.command()
@click.argument("run")
@click.option(
    "--prefix",
    help="Text to continue.  "
    '[default: "time traveller ", or the beginning of the run\'s text if that is not possible]',
)
@click.option("--length", default=50, show_default=True, help="Number of characters to generate.")
@click.option(
    "--temperature",
    type=float,
    help="Sample the characters at this temperature: below 1 likely ones are preferred, above 1 "
    "less likely ones occur more often.  [default: 1 with --top-k, --top-p or --min-p; otherwise "
    "always choose the most likely character]",
)
@click.option(
    "--top-k", type=int, help="Sample only from this number of the most likely characters."
)
@click.option(
    "--top-p",
    type=float,
    help="Sample only from the smallest set of most likely characters whose probabilities add up "
    "to this or more.",
)
@click.option(
    "--min-p",
    type=float,
    help="Sample only from characters whose probability is at least this share of the highest one.",
)
@click.option("--seed", default=0, show_default=True, help="Random seed for sampling.")
@unknown_option
@place_options(**DEFAULTS)
def predict(run: str, prefix: str | None, verbose: bool, **options: Any) -> None:
    """Continue a prefix with the model of RUN, the folder of a run or a checkpoint file."""
    show_messages(verbose)
    echo(api.predict(run, prefix, **specified(options)))


@click.command()
@click.argument("run")
@text_options
@unknown_option
@place_options(**DEFAULTS)
def evaluate(run: str, verbose: bool, **options: Any) -> None:
    """Compute the perplexity of the model of RUN on a text, and of two baselines."""
    show_messages(verbose)
    result = api.evaluate(
        run, report=display.ConsoleReport(display.console()), **specified(options)
    )
    perplexity = format_perplexity(result.perplexity)
    skipped = f" ({result.skipped:,} unknown ones skipped)" if result.skipped else ""
    echo(f"perplexity {perplexity} on {result.tokens:,} characters{skipped}")
    echo(f"uniform    {result.uniform:.2f}  all characters of the vocabulary equally likely")
    echo(f"unigram    {result.unigram:.2f}  characters as likely as they are frequent here")
