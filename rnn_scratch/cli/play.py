"""The command `play`: write a page that shows the network of a run, and open it."""

import webbrowser

import click

from ..play import page
from ..runs import inference
from ..runs.run import resolve_run
from ..system import files
from .screen import Screen


@click.command()
@click.argument("run")
@click.option("--best", is_flag=True, help="Use the epoch with the lowest held-out loss.")
@click.option("--no-browser", is_flag=True, help="Write the page without opening it.")
def play(run: str, best: bool, no_browser: bool) -> None:
    """Open RUN's network in the browser, as an HTML file that you can share.

    RUN is the folder of a run, its short name, or a checkpoint file (see `predict`).

    The page generates text, and shows the state, the probabilities of the next character, and the
    earlier characters on which these probabilities depend. The file contains the weights and all
    code, so it works offline.
    """
    path = resolve_run(run)
    _, saved = inference.load(path, best, backend="numpy", model="scratch")
    folder = path if path.is_dir() else path.parent
    file = (folder / "play.html").absolute()
    files.replace(file, page.render(saved, path.absolute().name).encode())
    screen = Screen()
    screen.print_line(f"The network of {path} is in {file}")
    if not no_browser and not webbrowser.open(file.as_uri()):
        screen.print_line("Cannot open a browser. Open this file yourself.")
