"""Where text comes from: built in, downloaded and verified, or a file of the user's."""

import concurrent.futures
import contextlib
import difflib
import hashlib
import importlib.resources
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rnn_scratch.contract import RNNScratchError


class Book(NamedTuple):
    """A text that can be downloaded, and what tells the right file from a wrong one."""

    name: str
    title: str
    url: str
    sha1: str | None  # of the file; None: its edition changes, and the markers must do
    filename: str
    markers: tuple[str, str] | None  # how the lines begin between which the text stands


class Text(NamedTuple):
    """A text, and where it came from."""

    corpus: str  # a name among NAMES, or "file"
    origin: str  # a path, or "built in"
    content: str
    sha256: str  # of the UTF-8 bytes of `content`


MARKERS = ("*** START OF THE PROJECT GUTENBERG EBOOK", "*** END OF THE PROJECT GUTENBERG EBOOK")
D2L = "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt"
D2L_SHA1 = "090b5e7e70c295757f55df93cb0a180b9691891a"
PG36 = "https://www.gutenberg.org/cache/epub/36/pg36.txt"
BOOKS = {
    book.name: book
    for book in (
        Book("time-machine", "The Time Machine", D2L, D2L_SHA1, "timemachine.txt", None),
        Book("war-of-the-worlds", "The War of the Worlds", PG36, None, "pg36.txt", MARKERS),
    )
}
BUILT_IN = "tide-clock"
NAMES = (*BOOKS, BUILT_IN)

CONNECT_TIMEOUT = 5.0  # seconds
READ_TIMEOUT = 30.0  # seconds without a single byte
DEADLINE = 300.0  # seconds for all of it
LARGEST = 2**24  # bytes; a book has less than a thirtieth of that


def data_folder() -> Path:
    """The folder of downloaded books: RNN_SCRATCH_DATA if set, else the user's cache folder."""
    if folder := os.environ.get("RNN_SCRATCH_DATA"):
        return Path(folder).absolute()
    import platformdirs

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
            reason = str(error).splitlines()[0]
            say(f"{reason} The built-in text {BUILT_IN} is used instead.")
            return load(BUILT_IN, say)
    if name == BUILT_IN:
        file = importlib.resources.files("rnn_scratch") / "texts" / "the_tide_clock.txt"
        return _text(BUILT_IN, "built in", _decode(file.read_bytes()))
    if name in BOOKS:
        return _book(BOOKS[name])
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise RNNScratchError(f"There is no text named {name!r}; known are {', '.join(NAMES)}.{hint}")


def read_file(path: str | os.PathLike[str]) -> Text:
    """The text in a UTF-8 file; RNNScratchError if it cannot be read or has no text in it."""
    path = Path(path).absolute()
    try:
        data = path.read_bytes()
    except OSError as error:
        why = "it is a folder" if os.path.isdir(path) else error.strerror
        raise RNNScratchError(f"Cannot read {path}: {why}. Name a file you may read.") from error

    convert = "If it is text, convert it: iconv -f {} -t UTF-8 FILE > NEW_FILE"
    if (offset := data.find(0)) >= 0:
        what = f"is binary (a NUL at byte offset {offset})"
        raise RNNScratchError(f"{path} {what}, not UTF-8 text. {convert.format('UTF-16')}")
    try:
        content = _decode(data)
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte 0x{data[error.start]:02x} at byte offset {error.start})"
        raise RNNScratchError(f"{path} {what}. {convert.format('WINDOWS-1252')}") from error
    if not content.strip():
        what = "has nothing but white space" if data else "is empty"
        raise RNNScratchError(f"{path} {what}. Name a file with text in it.")
    return _text("file", str(path), content)


def _text(corpus: str, origin: str, content: str) -> Text:
    return Text(corpus, origin, content, hashlib.sha256(content.encode()).hexdigest())


def _decode(data: bytes) -> str:
    # not "utf-8-sig", whose errors count their offset from behind the byte-order mark
    return data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


# A book is verified whenever it is read. The first line of an error stands by itself: it is what
# `load` says when it falls back.


def _book(book: Book) -> Text:
    path = data_folder() / book.filename
    there = os.path.lexists(path)
    try:
        data = path.read_bytes() if there else _download(book, path)
        return _text(book.name, str(path), _verified(book, data, f"the file {path}"))
    except (RNNScratchError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):  # the disk's: `_body` has made the network's our own
            why = "its folder is a file" if path.parent.is_file() else error.strerror
            reason = f"the file {path} cannot be {'read' if there else 'written'}: {why}."
        todo = "Delete the file or replace it" if there else "Try again or put the file there"
        raise RNNScratchError(
            f"{book.title} cannot be had: {reason}\n"
            f"{todo} by hand: from {book.url} into the folder {path.parent} as {path.name}.\n"
            "The environment variable RNN_SCRATCH_DATA names another folder."
        ) from error


def _verified(book: Book, data: bytes, what: str) -> str:
    """The book's text; RNNScratchError if the data are not the book."""
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    if book.sha1 not in (None, sha1):
        fault = f"Expected: SHA-1 {book.sha1}. Found: SHA-1 {sha1}."
        raise RNNScratchError(f"{what} is not that text.\n{fault}")
    try:
        content = _decode(data)
    except UnicodeDecodeError as error:
        fault = f"Expected: UTF-8. Found: byte 0x{data[error.start]:02x} at offset {error.start}."
        raise RNNScratchError(f"{what} is not that text.\n{fault}") from error
    if not book.markers:
        return content
    start, end = (re.escape(marker).replace("THE", "TH(?:E|IS)") for marker in book.markers)
    found = re.search(rf"^{start}.*\n((?s:.*?))^{end}", content, re.MULTILINE)
    if not found or not found[1].strip():
        fault = "Expected: text between the lines '{}' and '{}'. Found: none.".format(*book.markers)
        raise RNNScratchError(f"{what} is not that text.\n{fault}")
    return found[1].strip("\n") + "\n"


def _download(book: Book, path: Path) -> bytes:
    """The book's bytes, which are in the file `path` from then on; nothing else stays behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        data = _received(book)
        _verified(book, data, "what came")
        part = Path(folder) / book.filename
        part.write_bytes(data)
        os.replace(part, path)
    return data


def _received(book: Book) -> bytes:
    """What the server sends; RNNScratchError with a short reason where that fails.

    In a thread, as nothing else ends on time: time-outs start again with each byte, and looking up
    a host has none. A daemon, so that the program can end before it does.
    """
    outcome: concurrent.futures.Future[bytes] = concurrent.futures.Future()
    with _progress_bar(book.title) as show:

        def work() -> None:
            try:
                outcome.set_result(_request(book.url, show))
            except Exception as error:
                outcome.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            return outcome.result(DEADLINE)
        except concurrent.futures.TimeoutError:
            raise RNNScratchError(f"it did not come within {DEADLINE:g} seconds.") from None
        except Exception as error:
            raise RNNScratchError(_reason(error)) from error


def _request(url: str, show: Callable[[int, int | None], object]) -> bytes:
    import requests

    timeouts = (CONNECT_TIMEOUT, READ_TIMEOUT)
    plain = {"Accept-Encoding": "identity"}  # so that lengths can be compared
    with requests.get(url, stream=True, timeout=timeouts, headers=plain) as response:
        response.raise_for_status()
        length = response.headers.get("Content-Length", "")
        encoded = "Content-Encoding" in response.headers or "Transfer-Encoding" in response.headers
        total = int(length) if length.isdecimal() and not encoded else None
        body = bytearray()
        for piece in response.iter_content(2**13):
            body += piece
            show(len(body), total)
            if len(body) > LARGEST:
                raise RNNScratchError(f"more than {LARGEST} bytes came.")
    if total is not None and len(body) != total:
        raise RNNScratchError(f"{len(body)} bytes came instead of {total}.")
    return bytes(body)


def _reason(error: Exception) -> str:
    import requests

    match error:
        case RNNScratchError(): return str(error)
        case requests.HTTPError(): return f"the server answered {error.response.status_code} {error.response.reason}."
        case requests.exceptions.ChunkedEncodingError: "the connection broke off."
    ...
