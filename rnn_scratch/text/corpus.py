"""Texts: a built-in one, books that are downloaded and verified, and files of the user."""

import difflib
import hashlib
import importlib.resources
import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..contract import RNNScratchError
from ..system import files
from . import encodings


class Book(NamedTuple):
    """A text that can be downloaded, and how its file is verified."""

    name: str
    title: str
    url: str
    sha1: str | None  # of the file; None: editions change, and only the markers are verified
    filename: str
    markers: tuple[str, str] | None  # beginnings of the lines before and after the text
    words: tuple[str, ...] = ()  # digests of the words of known editions, by `digest_of_words`


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
# Gutenberg makes its files anew from time to time, with other lines, and the words remain.
PG36_WORDS = ("0eae90474d2609bee0c2760e20d1552135dc84e7fd7347ac841706ba464420e1",)
WORLDS = Book(
    "war-of-the-worlds", "The War of the Worlds", PG36, None, "pg36.txt", MARKERS, PG36_WORDS
)
BOOKS = {book.name: book for book in (TIME_MACHINE, WORLDS)}
BUILT_IN = "tide-clock"
NAMES = (*BOOKS, BUILT_IN)

TIMEOUT, DEADLINE = 10.0, 120.0  # seconds without any byte, and in total
MOST_BYTES = 2**24  # bytes; a book has less than a thirtieth of that
LARGEST_FILE = 2**27  # bytes of a user's file; its tokens take eight times as much memory


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
        text = _book(BOOKS[name])
        if not is_verified(text):
            say(
                f"{BOOKS[name].title} ({text.origin}) is an unverified edition: it is complete, "
                "but its words are not those of an edition that is known here."
            )
        return text
    (closest,) = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0)
    raise RNNScratchError(
        f"There is no text {name!r}. Did you mean {closest}?\nThe texts are: {', '.join(NAMES)}."
    )


def read_file(path: str | os.PathLike[str]) -> Text:
    """The text of a UTF-8 file; RNNScratchError if it cannot be read or contains no text.

    The file has at most LARGEST_FILE bytes. It is no pipe or device: those may have no end, and a
    run reads its text again when it is resumed.
    """
    path = Path(path).absolute()
    try:
        data = _read(path, LARGEST_FILE)
    except OSError as error:
        why = "it is a folder" if os.path.isdir(path) else error.strerror
        raise RNNScratchError(
            f"{path} could not be read: {why}. Choose a file that you may read."
        ) from error
    try:
        if b"\0" in data:  # which UTF-8 allows, and texts don't have
            raise RNNScratchError(f"{path} is not UTF-8.")
        content = _decode(data, str(path))
    except RNNScratchError as error:
        raise encodings.error(path, data, str(error)) from error
    if not content.strip():
        problem = "contains only white space" if data else "is empty"
        raise RNNScratchError(f"{path} {problem}. Choose a file that contains text.")
    # A record is UTF-8, which a file's name need not be.
    return _text("file", str(path).encode(errors="backslashreplace").decode(), content)


def is_verified(text: Text) -> bool:
    """Whether the words of a book are those of an edition that is known here.

    Any other text is what its SHA-256 says it is.
    """
    book = BOOKS.get(text.corpus)
    return book is None or not book.words or digest_of_words(text.content) in book.words


def digest_of_words(content: str) -> str:
    """The SHA-256 of a text's words: of its letters a to z, whatever is between them."""
    words = " ".join(re.findall("[a-z]+", content.lower()))
    return hashlib.sha256(words.encode()).hexdigest()


def _read(path: Path, largest: int) -> bytes:
    # The bytes of a regular file; RNNScratchError for a larger one, and for a pipe or a device.
    # Without waiting, as the opening of a pipe waits for somebody who writes to it.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise RNNScratchError(
                f"{path} is no file on a disk, and may have no end.\n"
                "Write the text to a file first, and choose that file."
            )
        data = file.read(largest + 1)
    if len(data) > largest:
        raise RNNScratchError(
            f"{path} has more than {largest:,} bytes, the most that is read.\nChoose a part of it."
        )
    return data


def _text(corpus: str, origin: str, content: str) -> Text:
    return Text(corpus, origin, content, hashlib.sha256(content.encode()).hexdigest())


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:  # with "utf-8-sig", not counting the byte-order mark
        raise RNNScratchError(
            f"{source} is not UTF-8: the byte at offset {error.start} is 0x{data[error.start]:02x}."
        ) from error


def _book(book: Book) -> Text:
    """The verified book. The first line of an error is also the message of `load`'s fallback."""
    path = data_folder() / book.filename
    exists = os.path.lexists(path)
    try:
        if not exists:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = _download(book)
            _verify(book, data, "the downloaded file")
            files.replace(path, data)
        return _text(
            book.name, str(path), _verify(book, _read(path, MOST_BYTES), f"the file {path}")
        )
    except (RNNScratchError, OSError) as error:
        reason = str(error)
        if isinstance(error, OSError):  # of the disk; `_download` converts those of the network
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
    # One after the other: if no end follows the first start, none follows a later one, and looking
    # for it from each would take a time that is the square of the file's size.
    first = re.compile(rf"^{start}.*\n", re.MULTILINE).search(content)
    last = first and re.compile(rf"^{end}", re.MULTILINE).search(content, first.end())
    text = content[first.end() : last.start()] if first and last else ""
    if not text.strip():
        raise RNNScratchError(f"{wrong}It has no text between the lines {book.markers}.")
    return text.strip("\n") + "\n"


def _download(book: Book) -> bytes:
    """The server's response, which may be anything; RNNScratchError if there is none in time."""
    import requests

    body = bytearray()
    end = time.monotonic() + DEADLINE
    try:
        with requests.get(book.url, stream=True, timeout=TIMEOUT) as response:
            response.raise_for_status()
            # Small pieces, as the time-out starts again with each byte that is received.
            for piece in response.iter_content(1024):
                body += piece
                if len(body) > MOST_BYTES or time.monotonic() > end:
                    break
    except Exception as error:
        refusal = getattr(error, "response", None)
        reason = type(error).__name__
        if refusal is not None:
            reason = f"{refusal.status_code} {refusal.reason}"[:60]
        raise RNNScratchError(f"the download failed ({reason}).") from error
    if time.monotonic() > end:
        raise RNNScratchError(f"the download took more than {DEADLINE:g} seconds.")
    return bytes(body)
