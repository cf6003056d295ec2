"""The command `play`: writes a page on the network of a run, and opens it."""

import webbrowser
from pathlib import Path

import click

from ..play import page
from ..runs import inference
from ..runs.run import folder_of
from ..system import files
from ..system.terminal import echo
from .options import option

FILE = "play.html"


@click.command()
@click.argument("run")
@option("best")
@click.option(
    "--output", metavar="FILE", help=f"HTML file to write.  [default: {FILE} in the run's folder]"
)
@click.option("--no-browser", is_flag=True, help="Write the page without opening it.")
def play(run: str, best: bool | None, output: str | None, no_browser: bool) -> None:
    """Open RUN's network in the browser, as an HTML file that you can share.

    RUN is the folder of a run, its short name, or a checkpoint file, as in `predict`.

    The page generates text, and shows the state, the probabilities of the next character, and the
    earlier characters that they depend on. The file contains the weights and everything that
    computes the network: it works without a connection, and you can mail it.
    """
    place = folder_of(run)
    _, saved = inference.load(place, bool(best), backend="numpy", model="scratch")
    folder = place if place.is_dir() else place.parent
    file = (Path(output) if output else folder / FILE).absolute()
    files.replace(file, page.render(saved, place.absolute().name).encode())
    echo(f"The network of {place} is in {file}")
    if not no_browser and not webbrowser.open(file.as_uri()):
        echo("No browser could be opened here. Open the file in a browser.")
