"""The commands `predict` and `evaluate`: a trained model at work."""

from typing import Any

import click

from .. import api
from . import display
from .options import given, place_options, show_messages, text_options, unknown_option


@click.command()
@click.argument("run")
@click.option("--prefix", help="Text to begin with.  "
              "[default: \"time traveller \", or the beginning of the run's text]")  # fmt: skip
@click.option("--length", default=50, show_default=True, help="Characters to write after it.")
@click.option("--temperature", type=float, help="Draw the characters; low is careful, high is wild."
              "  [default: always the most likely one]")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Where chance begins.")
@unknown_option
@place_options("Who computes.  [default: the run's own]")
def predict(run: str, prefix: str | None, verbose: bool, **options: Any) -> None:
    """Let the model of RUN, a folder or a checkpoint, write on from a prefix."""
    show_messages(verbose)
    click.echo(api.predict(run, prefix, **given(options)))


@click.command()
@click.argument("run")
@text_options
@unknown_option
@place_options("Who computes.  [default: the run's own]")
def evaluate(run: str, verbose: bool, **options: Any) -> None:
    """Perplexity of the model of RUN on a text, with what takes no model beside it."""
    show_messages(verbose)
    found = api.evaluate(run, report=display.Lines(display.console()), **given(options))
    skipped = f" ({found.skipped:,} unknown ones skipped)" if found.skipped else ""
    click.echo(
        f"perplexity {display.shown(found.perplexity)} on {found.tokens:,} characters{skipped}"
    )
    click.echo(f"uniform    {found.uniform:.2f}  all characters of the vocabulary equally likely")
    click.echo(f"unigram    {found.unigram:.2f}  each as likely as it is frequent in this text")
