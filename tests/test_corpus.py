"""Where text comes from, against a server on this machine that answers well and in bad ways."""

import errno
import gzip
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.text import corpus

ORIGINAL_FOLDER = os.environ.get("RNN_SCRATCH_DATA")
ROOT = Path(__file__).parents[1]

STORY = "A traveller told of a clock.\n\nNobody believed him.\n" * 400
FRAMED = (
    "\ufeffAbout this book\r\n\r\n"
    "*** START OF THE PROJECT GUTENBERG EBOOK A STORY ***\r\n\r\n\r\n"
    + STORY.replace("\n", "\r\n")
    + "\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK A STORY ***\r\n\r\nA licence\r\n"
)
BODY = STORY.encode()
BODIES = {"time-machine": BODY, "war-of-the-worlds": FRAMED.encode()}


class Server(http.server.ThreadingHTTPServer):
    """Records the requests and answers with `answer`; `over` is set when the test ends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handling)
        self.requests = []
        self.answer = sends(b"")
        self.over = threading.Event()

    def handle_error(self, request, client_address):
        """Nothing: some tests close the connection early."""


class Handling(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        self.server.requests.append(self.path)
        self.server.answer(self)

    def log_message(self, format, *args):
        pass


def sends(body, status=200, length=None, **headers):
    """Send the body, with its length or another one as Content-Length."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in {"Connection": "close", **headers}.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def stalls(body):
    """Send half of the body, and then nothing until the test ends."""

    def answer(handler):
        sends(body[: len(body) // 2], length=len(body))(handler)
        handler.server.over.wait(10)

    return answer


def drips(handler):
    """Send pieces, each within the time-out, until the test ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not handler.server.over.wait(0.01):
        handler.wfile.write(b"x" * 1024)


def sends_words(words):
    """Refuse in these words."""
    return lambda handler: handler.wfile.write(b"HTTP/1.1 404 " + words + b"\r\n\r\n")


def is_silent(handler):
    """Send nothing until the test ends."""
    handler.server.over.wait(10)


class Place(NamedTuple):
    """One of the books, its URL on the test's server, and the data folder."""

    name: str
    body: bytes
    server: Server
    folder: Path
    file: Path
    url: str

    def load(self):
        return corpus.load(self.name)

    def left(self):
        return list(self.folder.rglob("*"))


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder that does not exist yet."""
    monkeypatch.setenv("RNN_SCRATCH_DATA", str(tmp_path / "books" / "here"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "books" / "here"


def settle(name, server, folder, monkeypatch):
    body, book = BODIES[name], corpus.BOOKS[name]
    url = f"http://127.0.0.1:{server.server_port}/{book.filename}"
    words = corpus.digest_of_words(STORY)
    monkeypatch.setitem(corpus.BOOKS, name, book._replace(url=url, words=words))
    server.answer = sends(body)
    return Place(name, body, server, folder, folder / book.filename, url)


@pytest.fixture(params=BODIES)
def place(request, server, folder, monkeypatch):
    return settle(request.param, server, folder, monkeypatch)


@pytest.fixture
def time_machine(server, folder, monkeypatch):
    return settle("time-machine", server, folder, monkeypatch)


def error_of(action, *arguments):
    with pytest.raises(RNNScratchError) as raised:
        action(*arguments)
    return str(raised.value)


def assert_fails(place, reason):
    """The book is unavailable; the error says what, why and what to do; no file remains."""
    error = error_of(place.load)
    first = error.splitlines()[0]
    assert reason in first
    assert len(first) < 500
    assert f"{corpus.BOOKS[place.name].title} is unavailable" in first
    for hint in (f"download {place.url} by hand", str(place.file), "RNN_SCRATCH_DATA"):
        assert hint in error
    assert place.left() == []


# Downloads that succeed


def test_a_book_is_downloaded_once(place):
    text = place.load()
    assert text == place.load()
    assert place.server.requests == [f"/{place.file.name}"]
    assert place.left() == [place.file]
    assert place.file.read_bytes() == place.body
    assert text.corpus == place.name
    assert text.origin == str(place.file)
    assert text.content == STORY
    assert text.sha256 == hashlib.sha256(STORY.encode()).hexdigest()


@pytest.mark.parametrize(
    "answer",
    [
        sends(gzip.compress(BODY), Content_Encoding="gzip"),
        sends(BODY.replace(b"a clock.", b"a\nclock -")),
        sends(FRAMED.replace("OF THE PROJECT", "OF THIS PROJECT").encode()),
    ],
    ids=["compressed", "other lines", "other words of the frame"],
)
def test_other_answers_that_have_the_words_of_the_book(time_machine, answer):
    time_machine.server.answer = answer
    assert corpus.digest_of_words(time_machine.load().content) == corpus.digest_of_words(STORY)
    assert time_machine.file.is_file()


# Downloads that fail


FAILURES = {
    "refused": (sends(BODY, 404), "download failed (404 Not Found)", {}),
    "an error": (sends(BODY, 500), "download failed (500 Internal Server Error)", {}),
    "broken off": (sends(BODY[:-9], length=len(BODY)), "", {}),  # which library says so varies
    "silent": (is_silent, "download failed (ReadTimeout)", {"TIMEOUT": 0.1}),
    "silent in between": (stalls(BODY), "download failed", {"TIMEOUT": 0.1}),
    "dripping": (drips, "more than 0.2 seconds", {"DEADLINE": 0.2}),
    "endless": (drips, "the downloaded file is not that text", {"MOST_BYTES": 2**15}),
    "many words": (sends_words(b"No" * 5000), "download failed (404 NoNo", {}),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_download_that_fails(time_machine, case, monkeypatch):
    time_machine.server.answer, reason, limits = FAILURES[case]
    for name, value in limits.items():
        monkeypatch.setattr(corpus, name, value)
    assert_fails(time_machine, reason)


def test_no_server(time_machine, monkeypatch):
    with socket.socket() as closed:  # bound, so that nobody else gets the port, and not listening
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        book = corpus.BOOKS[time_machine.name]._replace(url=url)
        monkeypatch.setitem(corpus.BOOKS, time_machine.name, book)
        assert_fails(time_machine._replace(url=url), "download failed (ConnectionError)")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Please log in to the network</html>",
        b"",
        FRAMED.encode().partition(b"*** END")[0],
        FRAMED.encode().replace(b"*** START", b"START"),
        FRAMED.replace(STORY.replace("\n", "\r\n"), "").encode(),
        FRAMED.encode().replace(b"clock", b"glock", 1),
        FRAMED.encode().replace(b"clock", b"cl\xf6ck"),
    ],
    ids=["page", "empty", "no end", "no start", "nothing between", "another word", "not UTF-8"],
)
def test_a_file_that_is_not_the_book(time_machine, body):
    time_machine.server.answer = sends(body)
    assert_fails(time_machine, "the downloaded file is not")
    time_machine.file.write_bytes(body)  # as if somebody had
    assert f"the file {time_machine.file} is not" in error_of(time_machine.load)
    assert time_machine.file.read_bytes() == body


def test_the_folder_is_a_file(time_machine):
    time_machine.folder.parent.mkdir()
    time_machine.folder.write_text("in the way")
    assert_fails(time_machine, "folder is a file")
    assert time_machine.server.requests == []


# Files that are in the data folder already


def test_a_file_added_by_hand_is_used(place):
    place.folder.mkdir(parents=True)
    place.file.write_bytes(place.body)
    assert place.load().content == STORY
    assert place.server.requests == []


def test_a_folder_in_the_place_of_the_file(time_machine):
    time_machine.file.mkdir(parents=True)
    assert f"{time_machine.file}: {os.strerror(errno.EISDIR)}" in error_of(time_machine.load)
    assert time_machine.server.requests == []


@pytest.mark.skipif(
    not Path(ORIGINAL_FOLDER or "", "timemachine.txt").is_file(),
    reason="RNN_SCRATCH_DATA names no folder with the real book in it",
)
def test_the_real_time_machine(monkeypatch):
    monkeypatch.setenv("RNN_SCRATCH_DATA", ORIGINAL_FOLDER or "")
    sha256 = "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516"
    assert corpus.load("time-machine").sha256 == sha256


@pytest.mark.skipif(
    not Path(ORIGINAL_FOLDER or "", "war_of_the_worlds.txt").is_file(),
    reason="RNN_SCRATCH_DATA names no folder with the real book in it",
)
def test_the_real_war_of_the_worlds(folder):
    content = Path(ORIGINAL_FOLDER or "", "war_of_the_worlds.txt").read_text(encoding="utf-8")
    folder.mkdir(parents=True)
    framed = FRAMED.replace(STORY.replace("\n", "\r\n"), content)
    (folder / "pg36.txt").write_text(framed, encoding="utf-8", newline="")
    assert corpus.load("war-of-the-worlds").content == content.strip("\n") + "\n"


# Names


@pytest.mark.parametrize("trouble", ["", "404", "folder", "not that text"])
def test_the_default_is_the_time_machine_or_else_the_built_in_text(time_machine, trouble):
    said = []
    time_machine.folder.parent.mkdir()
    if trouble == "folder":
        time_machine.folder.write_text("in the way")
    elif trouble:
        time_machine.server.answer = sends(b"no story", 404 if trouble == "404" else 200)
    text = corpus.find(None, None, said.append)
    assert text.corpus == ("tide-clock" if trouble else "time-machine")
    assert len(said) == bool(trouble)
    for line in said:
        assert len(line.splitlines()) == 1
        assert "The Time Machine" in line
        assert trouble in line
        assert "tide-clock" in line


def test_the_built_in_text_needs_nothing(time_machine):
    text = corpus.load("tide-clock")
    assert (text.corpus, text.origin) == ("tide-clock", "built in")
    assert len(text.content) > 1000
    assert time_machine.server.requests == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("TIME-MACHIN", "time-machine"), ("tide", "tide-clock"), ("", ""), ("?", "")],
)
def test_an_unknown_name(name, meant):
    error = error_of(corpus.load, name)
    for part in (repr(name), f"Did you mean {meant}", *corpus.NAMES):
        assert part in error


def test_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNN_SCRATCH_DATA", "below")
    assert corpus.data_folder() == tmp_path / "below"
    monkeypatch.setenv("RNN_SCRATCH_DATA", "")
    cache = corpus.data_folder()
    monkeypatch.delenv("RNN_SCRATCH_DATA")
    assert corpus.data_folder() == cache
    assert cache.is_absolute()
    assert "rnn-scratch" in cache.parts


def test_the_import_leaves_the_slow_modules_for_later():
    program = "import sys, rnn_scratch.text.corpus as _; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"requests", "urllib3", "charset_normalizer", "rich", "platformdirs"} & set(
        ran.stdout.split()
    )


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
def test_a_file(data, content, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    expected = corpus.Text("file", str(tmp_path / "mine.txt"), content, sha256)
    assert corpus.read_file(tmp_path / "mine.txt") == expected
    assert corpus.read_file("mine.txt") == expected


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (b"", ["is empty"]),
        (b" \r\n\t\n", ["only white space"]),
        (b"GIF89a\x01\x00\x01", ["binary", "offset 7"]),
        (b"caf\xe9 \n", ["not UTF-8", "0xe9", "offset 3 ", "python -c"]),
        (b"\xef\xbb\xbfcaf\xe9 \n", ["not UTF-8", "0xe9", "offset 6 "]),
        (b"cut short \xe2\x82", ["not UTF-8", "0xe2", "offset 10 "]),
    ],
)
def test_a_file_without_text(data, reasons, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(data)
    error = error_of(corpus.read_file, path)
    for part in (str(path), *reasons):
        assert part in error


def test_the_largest_file(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "LARGEST_FILE", 1000)
    path = tmp_path / "mine.txt"
    path.write_bytes(b"x" * 1000)
    assert len(corpus.read_file(path).content) == 1000
    path.write_bytes(b"x" * 1001)
    assert "more than 1,000 bytes" in error_of(corpus.read_file, path)
    monkeypatch.setenv("RNN_SCRATCH_DATA", str(tmp_path))
    for name in ("mine.txt", "pg36.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)  # without taking any room
    assert "more than 1,000 bytes" in error_of(corpus.read_file, path)
    assert "more than 16,777,216 bytes" in error_of(corpus.load, "war-of-the-worlds")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_what_may_have_no_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: whoever opens it waits
    for path in ("/dev/zero", tmp_path / "pipe"):
        with pytest.raises(RNNScratchError, match=f"{path} is no file on a disk"):
            corpus.read_file(path)


def test_a_file_that_is_missing_or_a_folder(tmp_path):
    (tmp_path / "file").write_text("text")
    for path, reason in (
        (tmp_path / "none.txt", os.strerror(errno.ENOENT)),
        (tmp_path, os.strerror(errno.EISDIR)),
        (tmp_path / "file" / "below", ""),  # the reasons vary
    ):
        assert f"{path} could not be read: {reason}" in error_of(corpus.read_file, path)
