"""Where text comes from: built in, downloaded and verified, or a file of the user's."""

import difflib
import hashlib
import importlib.resources
import multiprocessing.pool
import os
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from ..contract import RNNScratchError


class Book(NamedTuple):
    """A text that can be downloaded, and what tells the right file from a wrong one."""

    name: str
    title: str
    url: str
    sha1: str | None  # of the file; None: its edition changes, and the markers must do
    filename: str
    markers: tuple[str, str] | None  # how the two lines begin between which the text stands


class Text(NamedTuple):
    """A text, and where it came from."""

    corpus: str  # a name among NAMES, or "file"
    origin: str  # a path, or "built in"
    content: str
    sha256: str  # of the UTF-8 bytes of `content`


D2L = "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
D2L_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"
PG36 = "https://www.gutenberg.org/cache/epub/36/pg36.txt"
MARKERS = ("*** START OF THE PROJECT GUTENBERG EBOOK", "*** END OF THE PROJECT GUTENBERG EBOOK")
TIME_MACHINE = Book("time-machine", "The Time Machine", D2L, D2L_SHA1, "timemachine.txt", None)
WORLDS = Book("war-of-the-worlds", "The War of the Worlds", PG36, None, "pg36.txt", MARKERS)
BOOKS = {book.name: book for book in (TIME_MACHINE, WORLDS)}
BUILT_IN = "tide-clock"
NAMES = (*BOOKS, BUILT_IN)

CONNECT_TIMEOUT, READ_TIMEOUT, DEADLINE = 5.0, 30.0, 300.0  # seconds; the last for all of it
LARGEST = 2**24  # bytes; a book has less than a thirtieth of that


def data_folder() -> Path:
    """The folder of downloaded books: RNN_SCRATCH_DATA if set, else in the user's cache folder."""
    if folder := os.environ.get("RNN_SCRATCH_DATA"):
        return Path(folder).absolute()
    import platformdirs  # only here, as others below, so that the module is imported quickly

    return platformdirs.user_cache_path("rnn-scratch")


def load(name: str | None, say: Callable[[str], None]) -> Text:
    """The text of that name; a book that is not in the data folder yet is downloaded into it.

    Without a name it is The Time Machine or, where that cannot be had, the built-in text, and
    `say` is called with one line that tells so. Raises RNNScratchError for an unknown name, and
    for a book asked for by name that cannot be had.
    """
    if name is None:
        try:
            return load("time-machine", say)
        except RNNScratchError as error:
            say(f"{str(error).splitlines()[0]} The built-in text {BUILT_IN} is used instead.")
            return load(BUILT_IN, say)
    if name == BUILT_IN:
        file = importlib.resources.files("rnn_scratch") / "text" / "books" / "the_tide_clock.txt"
        return _text(BUILT_IN, "built in", _decoded(file.read_bytes(), BUILT_IN))
    if name in BOOKS:
        return _book(BOOKS[name])
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0)[0]
    raise RNNScratchError(f"No text is named {name!r}. Known: {', '.join(NAMES)}; closest: {near}.")


def read_file(path: str | os.PathLike[str]) -> Text:
    """The text in a UTF-8 file; RNNScratchError if it cannot be read or has no text in it."""
    path = Path(path).absolute()
    try:
        data = path.read_bytes()
    except OSError as error:
        why = "it is a folder" if os.path.isdir(path) else error.strerror
        raise RNNScratchError(f"Cannot read {path}: {why}. Name a file you may read.") from error
    if (offset := data.find(0)) >= 0:
        what = f"{path} is binary: it has a NUL at byte offset {offset}."
        raise RNNScratchError(f"{what} Name a text file; convert one in UTF-16 to UTF-8 first.")
    content = _decoded(data, str(path))
    if not content.strip():
        what = "has nothing but white space in it" if data else "is empty"
        raise RNNScratchError(f"{path} {what}. Name a file with text in it.")
    return _text("file", str(path), content)


def _text(corpus: str, origin: str, content: str) -> Text:
    return Text(corpus, origin, content, hashlib.sha256(content.encode()).hexdigest())


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:  # with "utf-8-sig", not counting the byte-order mark
        raise RNNScratchError(
            f"{what} is not UTF-8: it has 0x{data[error.start]:02x} at byte offset {error.start}.\n"
            "Convert it from the encoding it is in, e.g. iconv -f LATIN1 -t UTF-8 FILE > NEW_FILE"
        ) from error


def _book(book: Book) -> Text:
    """The book, verified. An error's first line stands by itself: `load` says it, falling back."""
    path = data_folder() / book.filename
    there = os.path.lexists(path)
    try:
        data = path.read_bytes() if there else _download(book, path)
        return _text(book.name, str(path), _verified(book, data, f"the file {path}"))
    except (RNNScratchError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):  # of the disk: `_received` makes the network's our own
            why = "its folder is a file" if os.path.isfile(path.parent) else error.strerror
            reason = f"the file {path} cannot be {'read' if there else 'written'}: {why}."
        todo = "Delete the file or replace it" if there else "Try again or put the file there"
        raise RNNScratchError(
            f"{book.title} cannot be had: {reason}\n"
            f"{todo} by hand: what is at {book.url} goes into {path.parent} as {path.name}.\n"
            "The environment variable RNN_SCRATCH_DATA names another folder."
        ) from error


def _verified(book: Book, data: bytes, what: str) -> str:
    """The book's text; RNNScratchError if the data are not the book."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    wrong = f"{what} is not that text.\nExpected: "
    if book.sha1 not in (None, sha1):
        raise RNNScratchError(f"{wrong}SHA-1 {book.sha1}. Found: SHA-1 {sha1}.")
    content = _decoded(data, what)
    if not book.markers:
        return content
    start, end = (re.escape(marker).replace("THE", "TH(?:E|IS)") for marker in book.markers)
    found = re.search(rf"^{start}.*\n((?s:.*?))^{end}", content, re.MULTILINE)
    if not found or not found[1].strip():
        raise RNNScratchError(f"{wrong}text between the lines {book.markers}. Found: none.")
    return found[1].strip("\n") + "\n"


def _download(book: Book, path: Path) -> bytes:
    """The book's bytes, which are in the file `path` from then on; nothing else stays behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        data = _received(book)
        _verified(book, data, "what came")
        part = Path(folder) / path.name
        part.write_bytes(data)
        part.replace(path)
    return data


def _received(book: Book) -> bytes:
    """What the server sends; RNNScratchError with a short reason where that fails."""
    import requests
    from rich import console, progress

    bar = progress.Progress(console=console.Console(stderr=True))
    task = bar.add_task(book.title, total=None)

    def receive() -> tuple[bytes, int | None]:
        body = b""
        timeouts = (CONNECT_TIMEOUT, READ_TIMEOUT)
        plain = {"Accept-Encoding": "identity"}  # so that lengths can be compared
        with requests.get(book.url, stream=True, timeout=timeouts, headers=plain) as response:
            response.raise_for_status()
            length = response.headers.get("Content-Length", "")
            coded = "Content-Encoding" in response.headers
            total = int(length) if length.isdecimal() and not coded else None
            for piece in response.iter_content(2**14):
                body += piece
                bar.update(task, completed=len(body), total=total)
                if len(body) > LARGEST:
                    break  # it will not pass for the book
        return body, total

    with bar if sys.stderr.isatty() else nullcontext(), multiprocessing.pool.ThreadPool(1) as pool:
        try:
            body, total = pool.apply_async(receive).get(DEADLINE)
        except multiprocessing.TimeoutError:  # so a thread: other time-outs restart at each byte
            raise RNNScratchError(f"it did not come within {DEADLINE:g} seconds.") from None
        except Exception as error:
            got = getattr(error, "response", None)  # a server's refusal has one
            what = type(error).__name__ if got is None else f"{got.status_code} {got.reason}"
            raise RNNScratchError(f"the download failed ({what}).") from error
    if total not in (None, len(body)):
        raise RNNScratchError(f"{len(body)} bytes came instead of {total}.")
    return body
