"""Text sources: a built-in text, verified book downloads, and user files."""

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ..errors import RNNScratchError
from ..system import files
from ..system.terminal import LogLine


@dataclass(frozen=True)
class Book:
    """A downloadable book; books without a digest come from Project Gutenberg."""

    url: str
    file: str  # file name in the cache folder
    sha256: str | None  # digest of the file; None if the file changes between editions


@dataclass(frozen=True)
class Text:
    """A text and its origin."""

    corpus: str  # a name in NAMES, or "file"
    origin: str  # a path, or "built in"
    content: str
    sha256: str  # digest of `content` encoded as UTF-8


BOOKS = {
    "time-machine": Book(
        "https://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        "timemachine.txt",
        "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
    ),
    "war-of-the-worlds": Book("https://www.gutenberg.org/cache/epub/36/pg36.txt", "pg36.txt", None),
    # 40,000 lines from Shakespeare's plays, a common benchmark with 65 distinct characters.
    "tiny-shakespeare": Book(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "tinyshakespeare.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
}
BUILT_IN = "tide-clock"
NAMES = (*BOOKS, BUILT_IN)
# Pattern for the text between the start and end notices of a Project Gutenberg file.
FRAME = re.compile(
    r"^\*\*\* START OF TH\w+ PROJECT GUTENBERG[^\n]*(.*?)^\*\*\* END OF TH", re.M | re.DOTALL
)
TIMEOUT_SECONDS = 10.0  # longest wait for data from the server


def find(name: str | None, path: str | os.PathLike[str] | None, log: LogLine) -> Text:
    """Return the text with this name or at this path; raise RNNScratchError if both are given.

    By default, return The Time Machine; if it is unavailable, log a line and return the built-in
    text.
    """
    if name is not None and path is not None:
        problem = f"`corpus` {name} and `text` {path} cannot be used together."
        raise RNNScratchError(problem, "Choose one text.")
    if path is not None:
        return read_file(path)
    try:
        return load(name or "time-machine")
    except RNNScratchError as error:
        if name is not None:
            raise
        log(f"{error.problem} Using the built-in text {BUILT_IN} instead.")
        return load(BUILT_IN)


def load(name: str) -> Text:
    """Return the text with this name; download a book if it is not in the cache folder.

    Raises RNNScratchError if the name is unknown or the book is unavailable.
    """
    if name == BUILT_IN:
        file = Path(__file__).parent / "books" / "the_tide_clock.txt"
        return _make_text(name, "built in", file.read_text("utf-8"))
    if name not in BOOKS:
        problem = f"Unknown text {name!r}. The texts are: {', '.join(NAMES)}."
        raise RNNScratchError(problem, "To use a text file, pass its path as `text`.")
    import pooch  # imported when needed, so that commands start quickly

    book = BOOKS[name]
    pooch.get_logger().setLevel("WARNING")
    folder = os.environ.get("RNN_SCRATCH_DATA") or files.cache_folder()
    path = Path(folder, book.file).absolute()
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=TIMEOUT_SECONDS)
    try:
        pooch.retrieve(book.url, book.sha256, book.file, folder, downloader=download)
        content = path.read_text("utf-8-sig")
        if book.sha256 is None:
            match = FRAME.search(content)
            if match is None:
                path.unlink()  # pooch itself removes only files with a wrong SHA-256
                raise ValueError
            content = match[1].strip("\n") + "\n"
    except (OSError, ValueError) as error:  # `requests` exceptions are OSErrors
        reason = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, PermissionError):  # pooch's exception has no `strerror`
            reason = f"the folder {folder} is not writable"
        if isinstance(error, ValueError):
            reason = "the file is corrupted or contains another text"
        raise RNNScratchError(
            f"Could not download {name}: {reason}.",
            f"Try again, or download {book.url}\nand save it as {path}.\n"
            "The environment variable RNN_SCRATCH_DATA sets another folder.",
        ) from error
    return _make_text(name, str(path), content)


def read_file(path: str | os.PathLike[str]) -> Text:
    """Return the text of a UTF-8 file; raise RNNScratchError if it is unreadable or empty."""
    path = files.user_path(path).absolute()
    try:
        content = path.read_text("utf-8-sig")
    except OSError as error:
        raise RNNScratchError(f"{path} could not be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        problem = f"{path} is not UTF-8: {error.reason} at offset {error.start}."
        hint = "If it is a text file, open it in an editor and save it as UTF-8."
        raise RNNScratchError(problem, hint) from error
    if not content.strip():
        raise RNNScratchError(f"{path} contains no text.", "Choose a file that contains text.")
    return _make_text("file", str(path), content)


def _make_text(corpus: str, origin: str, content: str) -> Text:
    return Text(corpus, origin, content, hashlib.sha256(content.encode()).hexdigest())
