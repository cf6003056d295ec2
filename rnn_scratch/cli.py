"""The command line: parses, calls, prints."""

import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .cli_compare import compare, report
from .cli_site import site
from .contract import RNNScratchError
from .options import (
    given,
    place_options,
    settings_from,
    settings_options,
    text_options,
    unknown_option,
)
from .settings import option_of

WANT_OF_MEMORY = re.compile(
    "out of memory|enough memory|allocate.* memory|bad_alloc|OOM when", re.I
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rnn-scratch", prog_name="rnn-scratch")
def cli() -> None:
    """One recurrent language model, from scratch, in several frameworks.

    Train one:  rnn-scratch train --backend torch
    """


cli.add_command(compare)
cli.add_command(report)
cli.add_command(site)


@cli.command()
@place_options("Who computes: torch, numpy, ...  [default: torch; a resumed run's own]")
@click.option("--resume", metavar="RUN", help="Go on with this run, to --epochs.")
@click.option("--run", metavar="FOLDER", help="Where the run goes.  [default: a new one in runs/]")
@text_options
@click.option("--eager", is_flag=True, help="Run uncompiled what is compiled, to step through it.")
@settings_options
def train(
    resume: str | None, run: str | None, no_clip: bool, verbose: bool,
    corpus: str | None, text: str | None, **options: Any,
) -> None:  # fmt: skip
    """Train a model on a text, and read what it writes."""
    from . import api, display

    _let_through(verbose)
    place = {name: options.pop(name) for name in ("backend", "model", "device", "threads", "eager")}
    settings = settings_from(options, no_clip)
    screen = display.console()
    report = (display.Bar if screen.is_terminal else display.Lines)(screen)
    try:
        if resume is None:
            done = api.train(
                corpus=corpus, text=text, run=run, report=report, **given(place), **settings
            )  # fmt: skip
        else:
            if run is not None:
                raise RNNScratchError("--resume goes on in the run's own folder: leave out --run.")
            if "num_epochs" not in settings:
                raise RNNScratchError("--resume needs --epochs N: to how many epochs should it go?")
            done = api.resume(
                resume, corpus=corpus, text=text, report=report, **place, **settings
            )  # fmt: skip
    except (KeyboardInterrupt, RNNScratchError) as stopped:
        diverged = getattr(stopped, "exit_code", 2) == 1  # and would do so again
        if report.folder is not None and not diverged:
            interrupted = isinstance(stopped, KeyboardInterrupt)
            report.say(display.how_to_go_on(report.folder, interrupted))
        raise
    for line in display.ending(done.history, done.record["sessions"][-1]):
        report.say(line)


@cli.command()
@click.argument("run")
@click.option("--prefix", default="time traveller ", show_default=True, help="What it begins with.")
@click.option("--length", default=50, show_default=True, help="Characters to write after it.")
@click.option("--temperature", type=float, help="Draw the characters; low is careful, high is wild."
              "  [default: always the most likely one]")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Where chance begins.")
@unknown_option
@place_options("Who computes.  [default: the run's own]")
def predict(run: str, prefix: str, verbose: bool, **options: Any) -> None:
    """Let the model of RUN, a folder or a checkpoint, write on from a prefix."""
    from . import api

    _let_through(verbose)
    click.echo(api.predict(run, prefix, **given(options)))


@cli.command()
@click.argument("run")
@text_options
@unknown_option
@place_options("Who computes.  [default: the run's own]")
def evaluate(run: str, verbose: bool, **options: Any) -> None:
    """Perplexity of the model of RUN on a text, with what takes no model beside it."""
    from . import api, display

    _let_through(verbose)
    found = api.evaluate(run, report=display.Lines(display.console()), **given(options))
    skipped = f" ({found.skipped:,} unknown ones skipped)" if found.skipped else ""
    click.echo(
        f"perplexity {display.shown(found.perplexity)} on {found.tokens:,} characters{skipped}"
    )
    click.echo(f"uniform    {found.uniform:.2f}  all characters of the vocabulary equally likely")
    click.echo(f"unigram    {found.unigram:.2f}  each as likely as it is frequent in this text")


@cli.command()
@click.argument("folder", default="runs")
def runs(folder: str) -> None:
    """List the runs in FOLDER, newest first."""
    from . import display
    from . import runs as run_folders

    if not (found := run_folders.listing(Path(folder))):
        click.echo(f"There are no runs in {folder}. Make one: rnn-scratch train")
        return
    display.console().print(display.runs_table(found))


@cli.command()
def backends() -> None:
    """List the backends: version, devices, ready or not, and what installs what is missing."""
    from . import display, registry

    screen = display.console()
    probes = {}
    for name in registry.names():
        if screen.is_terminal:
            with screen.status(f"asking {name} ..."):
                probes[name] = registry.probe(name)
        else:
            probes[name] = registry.probe(name)
    screen.print(display.backends_table(probes))


@cli.command()
@click.argument("piece")
@click.option("--backends", metavar="A,B,...", help="Only these, in this order.  [default: all]")
@click.option("--diff", nargs=2, metavar="A B", help="Mark what differs in these two.")
def show(piece: str, backends: str | None, diff: tuple[str, str] | None) -> None:
    """Show the source of PIECE in several backends side by side.

    PIECE is params, state, step, forward, clip, train_epoch, predict, or any other function of a
    backend; or all. No framework needs to be installed.
    """
    from . import showing

    showing.show(piece, backends, diff)


@cli.command()
@click.argument("backends", nargs=-1)
@click.option(
    "--model", type=click.Choice(["scratch", "concise"]), help="One only.  [default: both]"
)
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda, mps.")
@click.option(
    "--all", "everything", is_flag=True, help="Show every comparison, not the worst ones."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@text_options
@click.option("--every", type=click.IntRange(1), default=10, show_default=True,
              help="In exact mode: epochs between two digests.")  # fmt: skip
@settings_options
def check(
    backends: Sequence[str], model: str | None, device: str, everything: bool, as_json: bool,
    corpus: str | None, text: str | None, every: int, no_clip: bool, **options: Any,
) -> None:  # fmt: skip
    """Hold backends against the NumPy reference, piece by piece; NumPy, to numbers kept of it.

    With --exact, train them in exact mode instead, with the settings of `train` (50 epochs if not
    given), and compare their parameters to the last bit. The exit code is 1 when anything is off.
    """
    from . import checking

    settings = settings_from(options, no_clip)
    exact = settings.pop("exact", False)
    if not exact and (settings or corpus or text):
        stray = ", ".join(map(option_of, settings)) or "A text"
        stray = stray.replace("--theta", "--no-clip") if no_clip else stray
        raise RNNScratchError(f"{stray} goes with --exact: the pieces are checked on fixed sizes.")
    if exact:
        chosen = model or "scratch"
        settings = {"num_epochs": 50, **settings}
        good = checking.exact(backends, chosen, device, settings, corpus, text, every, as_json)
    else:
        models = [model] if model else ["scratch", "concise"]
        good = checking.pieces(backends, models, device, everything, as_json)
    sys.exit(0 if good else 1)


def _let_through(verbose: bool) -> None:
    # Backends read this when they load their framework.
    if verbose:
        os.environ["RNN_SCRATCH_VERBOSE"] = "1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; a fault is told in words, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        # A text may have letters that the terminal's encoding lacks: no reason to stop training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(arguments, prog_name="rnn-scratch", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RNNScratchError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except OSError as error:
        if error.filename is None:
            # Of the output: whoever read it has gone, or its disk is full. Python would say so at
            # exit once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        click.echo(f"Error: {error.filename or 'The output'}: {error.strerror}.", err=True)
        sys.exit(2)
    except Exception as error:
        # Frameworks have exceptions of their own for want of memory: only their words are alike.
        if not isinstance(error, MemoryError) and not WANT_OF_MEMORY.search(str(error)):
            raise
        reason = (str(error).splitlines() or ["no more to be had"])[0].removesuffix(".")
        click.echo(f"Error: There is not enough memory: {reason}.", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
