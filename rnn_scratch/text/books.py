"""Texts: a built-in one, books that are downloaded and verified, and files of the user."""

import hashlib
import importlib.resources
import os
import re
import threading
from pathlib import Path
from typing import NamedTuple

from ..errors import RNNScratchError
from ..system import files
from ..system.terminal import Say


class Book(NamedTuple):
    """A text that can be downloaded, and how its file is verified."""

    title: str
    url: str
    file: str  # its name in the data folder
    words: str = ""  # their digest, by `digest_of_words`: editions with other lines have the same
    sha256: str = ""  # of all its characters, where these matter, in place of the words' digest


class Text(NamedTuple):
    """A text and its origin."""

    corpus: str  # a name among NAMES, or "file"
    origin: str  # a path, or "built in"
    content: str
    sha256: str  # of the UTF-8 bytes of `content`


BOOKS = {
    "time-machine": Book(
        title="The Time Machine",
        url="https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        file="timemachine.txt",
        words="2332beb8e60d589e4ffe93af561b52c21b74b820549f38fec59577a24b6fd94a",
    ),
    "war-of-the-worlds": Book(
        title="The War of the Worlds",
        url="https://www.gutenberg.org/cache/epub/36/pg36.txt",
        file="pg36.txt",
        words="0eae90474d2609bee0c2760e20d1552135dc84e7fd7347ac841706ba464420e1",
    ),
    # 40,000 lines of Shakespeare's plays, with which other projects train and compare networks:
    # 65 different characters, all of which --normalize none keeps.
    "tiny-shakespeare": Book(
        title="Tiny Shakespeare",
        url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
        "input.txt",
        file="tinyshakespeare.txt",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}
BUILT_IN = "tide-clock"
NAMES = (*BOOKS, BUILT_IN)
# The lines before and after a text in a file of Project Gutenberg.
START, END = (
    re.compile(rf"^\*\*\* {word} OF TH(?:E|IS) PROJECT GUTENBERG EBOOK.*$", re.MULTILINE)
    for word in ("START", "END")
)

SERVER_SILENCE = 10.0  # seconds without any byte after which a download is given up
DEADLINE = 120.0  # seconds for all of it
MOST_BYTES = 2**24  # bytes; a book has less than a tenth of that
NOT_UTF8 = """\
If it is a text, save it as UTF-8 in an editor, or write a copy with this command,
where OLD is the file, NEW the copy, and cp1252 the encoding of Western Europe; of
other texts it may be utf-16, cp1250, cp1251 (Russian), gb18030 or shift_jis:
python -c "open('NEW', 'w', encoding='utf-8').write(open('OLD', encoding='cp1252').read())\""""
LARGEST_FILE = 2**27  # bytes of a user's file; to read one takes four times as much memory
LARGE_FILE = 10**7  # bytes that take a while to read


def data_folder() -> Path:
    """Return the folder of books: RNN_SCRATCH_DATA if set, else in the user's cache folder."""
    if folder := os.environ.get("RNN_SCRATCH_DATA"):
        return Path(folder).absolute()
    import platformdirs  # here, like others below, so that this module is imported quickly

    return platformdirs.user_cache_path("rnn-scratch")


def find(name: str | None, path: str | os.PathLike[str] | None, say: Say) -> Text:
    """Return the text with this name, or the text of a file; RNNScratchError for both.

    Without either it is The Time Machine or, if that is unavailable, the built-in text, after a
    call of `say` with one line about it.
    """
    if name is not None and path is not None:
        raise RNNScratchError(
            f"`--corpus {name}` and `--text {path}` cannot be used together.", "Choose one text."
        )
    if path is not None:
        return read_file(path, say)
    if name is not None:
        return load(name)
    try:
        return load("time-machine")
    except RNNScratchError as error:
        say(f"{error.problem} Using the built-in text {BUILT_IN} instead.")
        return load(BUILT_IN)


def load(name: str) -> Text:
    """Return the text with this name; download a book that the data folder lacks.

    Raises RNNScratchError for an unknown name, and if the book with this name is unavailable.
    """
    if name == BUILT_IN:
        file = importlib.resources.files("rnn_scratch") / "text" / "books" / "the_tide_clock.txt"
        return _text(BUILT_IN, "built in", decode(file.read_bytes(), BUILT_IN))
    if name in BOOKS:
        return _book(name)
    raise RNNScratchError(
        f"There is no text {name!r}. The texts are: {', '.join(NAMES)}.",
        "For a file of your own, use `--text FILE`.",
    )


def read_file(path: str | os.PathLike[str], say: Say = lambda line: None) -> Text:
    """Return the text of a UTF-8 file; RNNScratchError if it cannot be read or has no text.

    The file has at most LARGEST_FILE bytes. It is no pipe or device: those may have no end, and a
    run reads its text again when it is resumed. `path` is a path, or the `origin` of a text. Before
    a large file is read, `say` is called with a line.
    """
    path = Path(path).absolute()
    if not os.path.lexists(path):
        path = Path(
            re.sub(r"\\(udc[89a-f][0-9a-f])", lambda code: chr(int(code[1][1:], 16)), str(path))
        )
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    if LARGE_FILE <= size <= LARGEST_FILE:
        say(f"reading the text, {size / 1e6:,.0f} MB")
    data = _read(path, LARGEST_FILE)
    try:
        content = decode(data, str(path))
    except RNNScratchError as error:
        raise RNNScratchError(error.problem, NOT_UTF8) from error
    if not content or content.isspace():
        problem = "contains only white space" if data else "is empty"
        raise RNNScratchError(f"{path} {problem}.", "Choose a file that contains text.")
    # A record is UTF-8, which a file's name need not be: `read_file` reverses this.
    return _text("file", str(path).encode(errors="backslashreplace").decode(), content)


def decode(data: bytes, source: str) -> str:
    """Decode UTF-8 with any line ends; RNNScratchError, with the offset, for other bytes."""
    try:
        content = data.decode()
    except UnicodeDecodeError as error:
        raise RNNScratchError(
            f"{source} is not UTF-8: the byte at offset {error.start} is 0x{data[error.start]:02x}."
        ) from error
    if "\0" in content:  # which UTF-8 allows, and texts don't have
        raise RNNScratchError(f"{source} is not UTF-8: a byte is 0.")
    return content.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def digest_of_words(content: str) -> str:
    """Return the SHA-256 of a text's words: of its letters a to z, whatever is between them."""
    words = " ".join(re.findall("[a-z]+", content.lower()))
    return hashlib.sha256(words.encode()).hexdigest()


def _read(path: Path, largest: int) -> bytes:
    try:
        return files.read(path, largest)
    except OSError as error:
        problem = f"{path} could not be read: {error.strerror}."
        raise RNNScratchError(problem, "Check the path.") from error
    except ValueError as error:
        raise RNNScratchError(
            f"{path} could not be read: {error}.",
            "Write the text, or a part of it, to a file first, and choose that file.",
        ) from error


def _text(corpus: str, origin: str, content: str) -> Text:
    return Text(corpus, origin, content, hashlib.sha256(content.encode()).hexdigest())


def _book(name: str) -> Text:
    """Return the verified book. `find` prints the problem of an error before its fallback."""
    book = BOOKS[name]
    path = data_folder() / book.file
    try:
        if files.exists(path):
            content = _content(book, _read(path, MOST_BYTES), f"the file {path}")
        else:
            with files.named_in_errors(path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
            data = _download(book)
            content = _content(book, data, "the downloaded file")
            files.replace(path, data)
    except RNNScratchError as error:
        raise RNNScratchError(
            f"{book.title} is unavailable: {error.problem}",
            f"Try again, or download {book.url} by hand and save it as\n"
            f"{path}, replacing any file of that name.\n"
            "The environment variable RNN_SCRATCH_DATA sets another folder.",
        ) from error
    return _text(name, str(path), content)


def _content(book: Book, data: bytes, source: str) -> str:
    """Return the book's text; RNNScratchError if the data are not the book."""
    content = decode(data, source)
    if (start := START.search(content)) and (end := END.search(content, start.end())):
        content = content[start.end() : end.start()].strip("\n") + "\n"
    if book.words and digest_of_words(content) != book.words:
        raise RNNScratchError(f"{source} is not that text: it has other words.")
    if book.sha256 and hashlib.sha256(content.encode()).hexdigest() != book.sha256:
        raise RNNScratchError(f"{source} is not that text: it has other characters.")
    return content


def _download(book: Book) -> bytes:
    """Return the server's response, which may be anything, or a little more than MOST_BYTES of it.

    Raises RNNScratchError if none comes in time. In a thread, which is given up: the time-out of
    `requests` starts again with every byte.
    """
    import requests

    body, reason = bytearray(), f"no answer within {DEADLINE:g} s"

    def fetch() -> None:
        nonlocal reason
        try:
            with requests.get(book.url, stream=True, timeout=SERVER_SILENCE) as response:
                response.raise_for_status()
                for chunk in response.iter_content(2**16):
                    body.extend(chunk)
                    if len(body) > MOST_BYTES:
                        break
            reason = ""
        except requests.HTTPError as error:
            reason = f"{error.response.status_code} {error.response.reason}"[:60]
        except Exception as error:
            reason = type(error).__name__

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    if reason:
        raise RNNScratchError(f"the download failed ({reason}).")
    return bytes(body)
