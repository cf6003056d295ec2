"""The commands that use a trained model: `predict`, `evaluate` and `play`."""

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import click
from msgspec import Meta

from .. import api
from ..errors import RNNScratchError
from ..runs import checkpoint
from ..runs.inference import Network, load
from ..runs.presets import SAMPLE
from ..runs.run import resolve_run
from ..settings import option_name
from ..system import files
from .options import GroupedCommand, Number, derived_options, specified
from .screen import Screen

last_epoch_option = click.option(
    "--last-epoch", is_flag=True, help="Use the last epoch's parameters, not the best epoch's."
)
Temperature = Annotated[float, Meta(ge=0)]
COMMON = "prefix length temperature greedy seed last_epoch"


@click.command(cls=GroupedCommand, common=COMMON, rest="Options")
@click.argument("run")
@click.option("--best", is_flag=True, hidden=True)  # the default since version 0.3.0
@click.option("--greedy", is_flag=True, help="Always choose the most likely character.")
@click.option(
    "--temperature",
    type=Number(Temperature),
    default=SAMPLE["temperature"],
    show_default=True,
    metavar="X",
    help="Below 1, likely characters become likelier; 0 means --greedy.",
)
@derived_options(Network.predict, omit=("temperature",), length=SAMPLE["length"])
@derived_options(load, omit=("best",))
@last_epoch_option
def predict(
    run: str, best: bool, greedy: bool, temperature: float, last_epoch: bool, **options: Any
) -> None:
    """Generate text with RUN's model.

    RUN is a folder, a short name from the list of `rnn-scratch runs` (a number, or `last` for the
    run whose session started last), or a checkpoint file.
    """

    screen = Screen()
    stream = screen.print_words if screen.is_terminal else None
    arguments: dict[str, Any] = {"length": SAMPLE["length"], **specified(options)}
    if greedy or not temperature:
        used = [option_name(n) for n in ("top_k", "top_p", "min_p", "seed") if n in arguments]
        if used:
            problem = f"With `--greedy`, {', '.join(used)} has no effect."
            raise RNNScratchError(problem, "Omit one of them.")
    else:
        arguments["temperature"] = temperature
    path = resolve_run(run)
    arguments["best"] = not last_epoch and _has_best_epoch(path)
    text = api.predict(path, stream=stream, **arguments)
    if stream:
        screen.print_words("\n")
    else:
        print(text)


def _has_best_epoch(path: Path) -> bool:
    """Return whether a run's checkpoint has the parameters of a best epoch on held-out text."""
    return checkpoint.load(path).best_epoch > 0


@click.command()
@click.argument("run")
@derived_options(Network.evaluate)
@derived_options(load)
def evaluate(run: str, **options: Any) -> None:
    """Compute the loss and the perplexity of RUN's model on a text.

    The loss is the mean cross-entropy per character in nats and in bits. The perplexity is exp(loss
    in nats), the number of equally likely characters that would be as hard to predict. The command
    also prints the perplexities of two baselines. For the forms of RUN, see `predict --help`.
    """
    Screen().print_line(str(api.evaluate(run, **specified(options))))


@click.command()
@click.argument("run")
@click.option("--best", is_flag=True, hidden=True)  # the default since version 0.3.0
@last_epoch_option
@click.option("--no-browser", is_flag=True, help="Write the page without opening it.")
def play(run: str, best: bool, last_epoch: bool, no_browser: bool) -> None:
    """Write RUN's network to a single HTML file, and open the file in the browser.

    The page generates text, and shows the state, the probabilities of the next character, and the
    earlier characters on which these probabilities depend. The file contains the weights and all
    code, so it works offline. For the forms of RUN, see `predict --help`.
    """
    from ..play import page  # the other commands in this module need no templates

    path = resolve_run(run)
    use_best = not last_epoch and _has_best_epoch(path)
    saved = load(path, best=use_best, backend="numpy", variant="scratch").checkpoint
    file = (path if path.is_dir() else path.parent).absolute() / "play.html"
    files.replace(file, page.render(saved, path.absolute().name).encode())
    screen = Screen()
    screen.print_line(f"Wrote the network of {path} to {file}")
    if not no_browser and not webbrowser.open(file.as_uri()):
        screen.print_line("Could not open a browser. Open this file yourself.")
