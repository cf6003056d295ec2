"""Text sources: books from a local server, and the user's files."""

import hashlib
import http.server
import socket
import threading
from dataclasses import replace

import pytest
from helpers import raised_message

from rnn_scratch.text import books, dataset

STORY = "A traveller told of a clock.\n\nNobody believed him.\n" * 400
BODY = STORY.encode()
SHA256 = hashlib.sha256(BODY).hexdigest()
FRAMED = (
    "\ufeffAbout this book\r\n\r\n"
    "*** START OF THE PROJECT GUTENBERG EBOOK A STORY ***\r\n\r\n\r\n"
    + STORY.replace("\n", "\r\n")
    + "\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK A STORY ***\r\n\r\nA licence\r\n"
).encode()


class Server(http.server.ThreadingHTTPServer):
    """A server that records requests and answers them by calling the function `answer`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests, self.answer, self.is_closing = [], send(BODY), threading.Event()

    def handle_error(self, request, client_address):
        """Ignore errors, because some tests close the connection early."""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        self.server.answer(self)

    def log_message(self, format, *args):
        pass


def send(body, status=200, length=None):
    """Return a function that sends `body`; `length` overrides the true Content-Length."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def keep_silent(handler):
    handler.server.is_closing.wait(10)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Return the path of The Time Machine in a cache folder that does not exist yet."""
    monkeypatch.setenv("RNN_SCRATCH_DATA", str(tmp_path / "books" / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "books" / "cache" / "timemachine.txt"


@pytest.fixture
def server(file, monkeypatch):
    """Start a server that sends a shorter story instead of The Time Machine."""
    with Server() as server:
        move(f"http://127.0.0.1:{server.server_port}/timemachine.txt", monkeypatch)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.is_closing.set()
        server.shutdown()
        thread.join()


def move(url, monkeypatch, sha256=SHA256):
    book = replace(books.BOOKS["time-machine"], url=url, sha256=sha256)
    monkeypatch.setitem(books.BOOKS, "time-machine", book)


def load():
    return books.load("time-machine")


def assert_unavailable(file, reason):
    """Check that the error names the book, reason and remedy, and that no file remains."""
    problem, *hints = raised_message(load).splitlines()
    assert problem.startswith("Could not download time-machine: ")
    assert reason in problem
    assert len(problem) < 200
    for hint in (books.BOOKS["time-machine"].url, str(file), "RNN_SCRATCH_DATA"):
        assert hint in "\n".join(hints)
    assert [path for path in file.parent.rglob("*") if path.is_file()] == []


# Books


def test_book_is_downloaded_once(server, file):
    text = load()
    assert text == load() == books.Text("time-machine", str(file), STORY, SHA256)
    assert server.requests == ["/timemachine.txt"]
    assert list(file.parent.rglob("*")) == [file]
    assert file.read_bytes() == BODY


@pytest.mark.parametrize("word", [b"THE", b"THIS"])
def test_notices_of_gutenberg_are_removed(server, word, monkeypatch):
    move(books.BOOKS["time-machine"].url, monkeypatch, sha256=None)
    server.answer = send(FRAMED.replace(b"OF THE PROJECT", b"OF %b PROJECT" % word))
    assert load().content == STORY


@pytest.mark.parametrize(
    ("answer", "reason", "sha256"),
    [
        (send(BODY, 404), "HTTPError", SHA256),
        (send(BODY[:-9], length=len(BODY)), "", SHA256),  # the error depends on the HTTP library
        (keep_silent, "ReadTimeout", SHA256),
        (send(BODY.replace(b"clock", b"glock", 1)), "another text", SHA256),
        (send(b"<html>Please log in to the network</html>"), "another text", None),
        (send(FRAMED.partition(b"*** END")[0]), "another text", None),
    ],
    ids=["refused", "cut off", "silent", "another word", "page", "no end"],
)
def test_failed_download_names_the_reason(server, file, answer, reason, sha256, monkeypatch):
    monkeypatch.setattr(books, "TIMEOUT_SECONDS", 0.2)
    move(books.BOOKS["time-machine"].url, monkeypatch, sha256)
    server.answer = answer
    assert_unavailable(file, reason)


def test_missing_network_is_named(file, monkeypatch):
    with socket.socket() as closed:  # bind the port so that no other program uses it
        closed.bind(("127.0.0.1", 0))
        move(f"http://127.0.0.1:{closed.getsockname()[1]}/timemachine.txt", monkeypatch)
        assert_unavailable(file, "ConnectionError")


# Text names


@pytest.mark.parametrize("status", [200, 404])
def test_default_book_has_a_built_in_replacement(server, status):
    server.answer = send(BODY, status)
    log_lines = []
    text = books.find(None, None, log_lines.append)
    assert text.corpus == ("time-machine" if status == 200 else "tide-clock")
    assert len(log_lines) == (status != 200)
    for line in log_lines:
        assert len(line.splitlines()) == 1
        assert "time-machine" in line
        assert "tide-clock" in line


# The user's files


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (b"one\r\ntwo\rthree\n\r\n", "one\ntwo\nthree\n\n"),
        (b"\xef\xbb\xbfone", "one"),
        ("sch\u00f6n \U0001d54f\n".encode(), "sch\u00f6n \U0001d54f\n"),
    ],
    ids=["line ends", "byte-order mark", "beyond ASCII"],
)
def test_file_is_decoded(data, content, tmp_path):
    (tmp_path / "mine.txt").write_bytes(data)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    expected = books.Text("file", str(tmp_path / "mine.txt"), content, sha256)
    assert books.read_file(tmp_path / "mine.txt") == expected
    assert books.read_file("mine.txt") == expected


@pytest.mark.parametrize(
    ("data", "expected_messages"),
    [
        (b"", ["contains no text"]),
        (b" \r\n\t\n", ["contains no text"]),
        (b"GIF89a\x01\x00\x01\xff", ["not UTF-8", "save it as UTF-8"]),
        (b"caf\xe9 \n", ["not UTF-8", "offset 3."]),
        (b"cut short \xe2\x82", ["not UTF-8", "offset 10."]),
        (None, ["could not be read: No such file or directory"]),
    ],
)
def test_file_without_text_is_refused(data, expected_messages, tmp_path):
    path = tmp_path / "mine.txt"
    if data is not None:
        path.write_bytes(data)
    error = raised_message(books.read_file, path)
    for part in (str(path), *expected_messages):
        assert part in error


# Characters that normalization removes


GERMAN = "Es grünt so grün! " * 50  # 18 characters: 2 ü, 1 !
RUSSIAN = "Привет, мир: hello. " * 50


@pytest.mark.parametrize(
    ("content", "mode", "expected_line"),
    [
        (GERMAN, "chapter", "`normalize` removes 16.67% of the characters ('ü', '!'); to"),
        (GERMAN, "none", None),
        ("No: 1, 2, 3. " * 50, "spaced", "`normalize` removes 53.85% of the characters"),
        ("plain words\n" * 50, "chapter", None),
        (RUSSIAN, "chapter", 'use `normalize="none"`.'),
    ],
)
def test_log_reports_the_characters_that_normalization_removes(content, mode, expected_line):
    log_lines = []
    text = books.Text("file", "mine.txt", content, "")
    dataset.log_removed_characters(text, mode, log_lines.append)
    assert len(log_lines) == (expected_line is not None)
    assert (expected_line or "") in "".join(log_lines)
