"""Texts: a built-in one, books that are downloaded and verified, and files of the user."""

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
    """A text that can be downloaded, and how its file is verified."""

    name: str
    title: str
    url: str
    sha1: str | None  # of the file; None: editions change, and only the markers are verified
    filename: str
    markers: tuple[str, str] | None  # beginnings of the lines before and after the text


class Text(NamedTuple):
    """A text and its origin."""

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

CONNECT_TIMEOUT, READ_TIMEOUT, DEADLINE = 5.0, 30.0, 300.0  # seconds; the last one in total
LARGEST = 2**24  # bytes; a book has less than a thirtieth of that


def data_folder() -> Path:
    """The folder of downloaded books: RNN_SCRATCH_DATA if set, else in the user's cache folder."""
    if folder := os.environ.get("RNN_SCRATCH_DATA"):
        return Path(folder).absolute()
    import platformdirs  # here, like others below, so that this module is imported quickly

    return platformdirs.user_cache_path("rnn-scratch")


def load(name: str | None, say: Callable[[str], None]) -> Text:
    """The text with this name; a book is downloaded if it is not in the data folder yet.

    Without a name it is The Time Machine or, if that is unavailable, the built-in text, after a
    call of `say` with one line about it. Raises RNNScratchError for an unknown name, and if the
    book with this name is unavailable.
    """
    if name is None:
        try:
            return load("time-machine", say)
        except RNNScratchError as error:
            say(f"{str(error).splitlines()[0]} The built-in text {BUILT_IN} is used instead.")
            return load(BUILT_IN, say)
    if name == BUILT_IN:
        file = importlib.resources.files("rnn_scratch") / "text" / "books" / "the_tide_clock.txt"
        return _text(BUILT_IN, "built in", _decode(file.read_bytes(), BUILT_IN))
    if name in BOOKS:
        return _book(BOOKS[name])
    (closest,) = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0)
    raise RNNScratchError(
        f"There is no text {name!r}. Did you mean {closest}?\nThe texts are: {', '.join(NAMES)}."
    )


def read_file(path: str | os.PathLike[str]) -> Text:
    """The text of a UTF-8 file; RNNScratchError if it cannot be read or contains no text."""
    path = Path(path).absolute()
    try:
        data = path.read_bytes()
    except OSError as error:
        why = "it is a folder" if os.path.isdir(path) else error.strerror
        raise RNNScratchError(
            f"{path} could not be read: {why}. Choose a file that you may read."
        ) from error
    if (offset := data.find(0)) >= 0:
        raise RNNScratchError(
            f"{path} is a binary file: it has a NUL byte at offset {offset}.\n"
            "Choose a text file; convert one in UTF-16 to UTF-8 first."
        )
    content = _decode(data, str(path))
    if not content.strip():
        problem = "contains only white space" if data else "is empty"
        raise RNNScratchError(f"{path} {problem}. Choose a file that contains text.")
    return _text("file", str(path), content)


def _text(corpus: str, origin: str, content: str) -> Text:
    return Text(corpus, origin, content, hashlib.sha256(content.encode()).hexdigest())


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:  # with "utf-8-sig", not counting the byte-order mark
        raise RNNScratchError(
            f"{source} is not UTF-8: the byte at offset {error.start} is "
            f"0x{data[error.start]:02x}.\n"
            "Convert it from its encoding, for example: iconv -f LATIN1 -t UTF-8 FILE > NEW_FILE"
        ) from error


def _book(book: Book) -> Text:
    """The verified book. The first line of an error is also the message of `load`'s fallback."""
    path = data_folder() / book.filename
    exists = os.path.lexists(path)
    try:
        data = path.read_bytes() if exists else _download(book, path)
        return _text(book.name, str(path), _verify(book, data, f"the file {path}"))
    except (RNNScratchError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):  # of the disk; `_receive` converts those of the network
            why = "its folder is a file" if os.path.isfile(path.parent) else error.strerror
            reason = f"the file {path} could not be {'read' if exists else 'written'}: {why}."
        remedy = "Delete the file, or replace it" if exists else "Try again, or add the file"
        raise RNNScratchError(
            f"{book.title} is unavailable: {reason}\n"
            f"{remedy} by hand: download {book.url} and save it in {path.parent} as {path.name}.\n"
            "The environment variable RNN_SCRATCH_DATA sets another folder."
        ) from error


def _verify(book: Book, data: bytes, source: str) -> str:
    """The book's text; RNNScratchError if the data are not the book."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    wrong = f"{source} is not that text.\n"
    if book.sha1 not in (None, sha1):
        raise RNNScratchError(f"{wrong}Its SHA-1 is {sha1} instead of {book.sha1}.")
    content = _decode(data, source)
    if not book.markers:
        return content
    start, end = (re.escape(marker).replace("THE", "TH(?:E|IS)") for marker in book.markers)
    match = re.search(rf"^{start}.*\n((?s:.*?))^{end}", content, re.MULTILINE)
    if not match or not match[1].strip():
        raise RNNScratchError(f"{wrong}It has no text between the lines {book.markers}.")
    return match[1].strip("\n") + "\n"


def _download(book: Book, path: Path) -> bytes:
    """Download the book into the file `path`, and return its bytes; no other file remains."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        data = _receive(book)
        _verify(book, data, "the downloaded file")
        part = Path(folder) / path.name
        part.write_bytes(data)
        part.replace(path)
    return data


def _receive(book: Book) -> bytes:
    """The server's response; RNNScratchError with a short reason if that fails."""
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
                    break  # this is not the book; its verification will fail
        return body, total

    with bar if sys.stderr.isatty() else nullcontext(), multiprocessing.pool.ThreadPool(1) as pool:
        try:
            body, total = pool.apply_async(receive).get(DEADLINE)
        # The reason for the thread: the time-outs of requests restart with each byte received.
        except multiprocessing.TimeoutError:
            raise RNNScratchError(f"the download took more than {DEADLINE:g} seconds.") from None
        except Exception as error:
            response = getattr(error, "response", None)  # the server's, if it refused
            reason = type(error).__name__
            if response is not None:
                reason = f"{response.status_code} {response.reason}"
            raise RNNScratchError(f"the download failed ({reason}).") from error
    if total not in (None, len(body)):
        raise RNNScratchError(f"the download ended after {len(body)} of {total} bytes.")
    return body
