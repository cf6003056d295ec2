"""The command `site`: serve the built site on this machine, and nowhere else."""

import contextlib
import functools
import http.server
import socketserver
import webbrowser
from pathlib import Path

import click

from .contract import RNNScratchError

HOST = "127.0.0.1"
SITE = Path("build/site")  # as rnn_scratch.site has it, which is not needed to serve it


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
              help="Where to listen; 0: wherever there is room.")  # fmt: skip
@click.option("--open", "opened", is_flag=True, help="Open it in the browser.")
def site(port: int, opened: bool) -> None:
    """Serve the site: the chapter in four frameworks side by side, errata, figures, reference.

    Until Ctrl-C. `nox -s site` builds it.
    """
    handler = functools.partial(Quiet, directory=str(_built()))
    try:
        server = Server((HOST, port), handler)
    except OSError as error:
        raise RNNScratchError(
            f"--port {port} was asked for; it can't be had: {error.strerror}.\n"
            "Take another one: rnn-scratch site --port 0"
        ) from error
    with server:
        address = f"http://{HOST}:{server.server_address[1]}/"
        click.echo(f"{address}  (Ctrl-C ends it)")
        if opened:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def _built() -> Path:
    # Here, or in the clone that this is installed from.
    places = dict.fromkeys([Path.cwd() / SITE, Path(__file__).resolve().parent.parent / SITE])
    for place in places:
        if (place / "index.html").exists():
            return place
    raise RNNScratchError(
        f"The site is not built: there is no {SITE / 'index.html'} here.\n"
        "Build it, in the folder of the clone: nox -s site"
    )


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A page asks for several files at once."""

    daemon_threads = True


class Quiet(http.server.SimpleHTTPRequestHandler):
    """It serves files, and does not tell of each."""

    def log_message(self, format: str, *values: object) -> None:
        """Say nothing."""
