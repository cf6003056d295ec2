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


# A book. The first line of each error stands by itself, for `load` to fall back with.


def _book(book: Book) -> Text:
    path = data_folder() / book.filename
    try:
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            data = _download(book, path)
        else:
            if fault := _fault(book, data):
                raise RNNScratchError(
                    f"the file {path} is something else.\n{fault}\nDelete it or replace it."
                )
    except (RNNScratchError, OSError) as error:
        pass
