"""The command `play`: a page on the network of a run, served on this machine alone."""

import webbrowser
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from ..runs import inference, page
from ..runs.run import folder_of
from ..system.terminal import echo
from .options import best_option

HOST, NAMES = "127.0.0.1", ("127.0.0.1", "localhost")
POLICY = "default-src 'self'; img-src data:"  # the page loads its own files, and no others


class Handler(BaseHTTPRequestHandler):
    """Answers requests for the files of a page."""

    def __init__(self, files: dict[str, bytes], *request: Any) -> None:
        """Answer a request with these files, by name."""
        self.files = files
        super().__init__(*request)

    def do_GET(self) -> None:
        """Send a file."""
        name = self.path.removeprefix("/") or "index.html"
        # The name of another site, which leads here as well, would let that site read the files.
        known = self.headers.get("Host", "").rpartition(":")[0] in NAMES
        if not known or name not in self.files:
            self.send_error(HTTPStatus.NOT_FOUND if known else HTTPStatus.FORBIDDEN)
            return
        content = self.files[name]
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{page.TYPES[name.rpartition('.')[2]]}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing about requests."""


@click.command()
@click.argument("run")
@best_option
@click.option("--no-browser", is_flag=True, help="Only print the address of the page.")
def play(run: str, best: bool | None, no_browser: bool) -> None:
    """Open a page in the browser with the network of RUN, until Ctrl-C.

    RUN is the folder of a run, its short name, or a checkpoint file, as in `predict`.

    The page continues texts, and shows the state, the probabilities of the next character, and on
    which earlier characters they depend. It is served to this machine alone.
    """
    path = folder_of(run)
    with serve(path, bool(best)) as server:
        echo(f"The network of {path} is at {address(server)} until Ctrl-C.")
        try:
            if not no_browser and not webbrowser.open(address(server)):
                echo("No browser could be opened here: open that address in one.")
            server.serve_forever()
        except KeyboardInterrupt:
            echo("The page is closed.")


def serve(run: Path, best: bool = False) -> ThreadingHTTPServer:
    """A server of the page on the network of a run, at a free port."""
    _, saved = inference.load(run, best, backend="numpy", model="scratch")
    return ThreadingHTTPServer((HOST, 0), partial(Handler, page.files(saved, run.name)))


def address(server: ThreadingHTTPServer) -> str:
    """Where the page is."""
    return f"http://{HOST}:{server.server_port}/"
