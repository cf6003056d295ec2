"""Where text comes from, against a server on this machine that answers well and in bad ways."""

import errno
import gzip
import hashlib
import http.server
import os
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import error_of

import rnn_scratch
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.text import books

ORIGINAL_FOLDER = os.environ.get("RNN_SCRATCH_DATA")

STORY = "A traveller told of a clock.\n\nNobody believed him.\n" * 400
BODY = STORY.encode()
FRAMED = (
    "\ufeffAbout this book\r\n\r\n"
    "*** START OF THE PROJECT GUTENBERG EBOOK A STORY ***\r\n\r\n\r\n"
    + STORY.replace("\n", "\r\n")
    + "\r\n\r\n*** END OF THE PROJECT GUTENBERG EBOOK A STORY ***\r\n\r\nA licence\r\n"
)


class Server(http.server.ThreadingHTTPServer):
    """Records the requests and answers with `answer`; `over` is set when the test ends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handling)
        self.requests, self.answer, self.over = [], sends(BODY), threading.Event()

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


def stalls(body, **headers):
    """Send half of the body, and then nothing until the test ends."""

    def answer(handler):
        sends(body[: len(body) // 2], length=len(body), **headers)(handler)
        is_silent(handler)

    return answer


def drips(begin, piece):
    """Send pieces, each within the time-out, until the test ends."""

    def answer(handler):
        handler.wfile.write(begin)
        while not handler.server.over.wait(0.01):
            handler.wfile.write(piece)

    return answer


def refuses_in_many_words(handler):
    handler.wfile.write(b"HTTP/1.1 404 " + b"No" * 5000 + b"\r\n\r\n")


def is_silent(handler):
    handler.server.over.wait(10)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Where The Time Machine will be, in a data folder that does not exist yet."""
    monkeypatch.setenv("RNN_SCRATCH_DATA", str(tmp_path / "books" / "here"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "books" / "here" / "timemachine.txt"


@pytest.fixture
def server(file, monkeypatch):
    """The server of The Time Machine, which is a shorter story here."""
    with Server() as server:
        moved_to(f"http://127.0.0.1:{server.server_port}/timemachine.txt", monkeypatch)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def moved_to(url, monkeypatch):
    book = books.BOOKS["time-machine"]._replace(url=url, words=books.digest_of_words(STORY))
    monkeypatch.setitem(books.BOOKS, "time-machine", book)


def load():
    return books.load("time-machine")


def assert_fails(file, reason):
    """The book is unavailable; the error says what, why and what to do; no file remains."""
    error = error_of(load)
    first = error.splitlines()[0]
    assert reason in first
    assert len(first) < 500
    assert "The Time Machine is unavailable" in first
    url = books.BOOKS["time-machine"].url
    for hint in (f"download {url} by hand", str(file), "RNN_SCRATCH_DATA"):
        assert hint in error
    assert list(file.parent.rglob("*")) == []


# Books


def test_a_book_is_downloaded_once(server, file):
    text = load()
    assert text == load()
    assert server.requests == ["/timemachine.txt"]
    assert list(file.parent.rglob("*")) == [file]
    assert file.read_bytes() == BODY
    sha256 = hashlib.sha256(BODY).hexdigest()
    assert text == books.Text("time-machine", str(file), STORY, sha256)


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (sends(gzip.compress(BODY), Content_Encoding="gzip"), STORY),
        (sends(BODY.replace(b"a clock.", b"a\nclock -")), STORY.replace("a clock.", "a\nclock -")),
        (sends(FRAMED.encode()), STORY),
        (sends(FRAMED.replace("OF THE PROJECT", "OF THIS PROJECT").encode()), STORY),
    ],
    ids=["compressed", "other lines", "in a frame", "other words of the frame"],
)
def test_other_answers_that_have_the_words_of_the_book(server, file, answer, content):
    server.answer = answer
    assert load().content == content
    assert file.is_file()


BEGIN, CONTINUE = b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"
# Each kilobyte of it is a megabyte of zeros.
BOMB = 200 * gzip.compress(bytes(2**20))
FAILURES = {
    "refused": (sends(BODY, 404), "download failed (404 Not Found)", {}),
    "broken off": (sends(BODY[:-9], length=len(BODY)), "", {}),  # which library says so varies
    "silent": (is_silent, "download failed (ReadTimeout)", {"SERVER_SILENCE": 0.1}),
    "silent in between": (stalls(BODY), "download failed", {"SERVER_SILENCE": 0.1}),
    "dripping": (drips(BEGIN, b"x"), "no answer within 1 s", {"DEADLINE": 1.0}),
    "never beginning": (drips(b"", CONTINUE), "no answer within 1 s", {"DEADLINE": 1.0}),
    "endless": (drips(BEGIN, b"x" * 2**12), "file is not that text", {"MOST_BYTES": 2**15}),
    "a gzip bomb": (
        stalls(BOMB, Content_Encoding="gzip"),
        "file is not UTF-8",
        {"MOST_BYTES": 2**15, "SERVER_SILENCE": 1.0},
    ),
    "many words": (refuses_in_many_words, "download failed (404 NoNo", {}),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_download_that_fails(server, file, case, monkeypatch):
    server.answer, reason, limits = FAILURES[case]
    for name, value in limits.items():
        monkeypatch.setattr(books, name, value)
    assert_fails(file, reason)


def test_no_server(file, monkeypatch):
    with socket.socket() as closed:  # bound, so that nobody else gets the port, and not listening
        closed.bind(("127.0.0.1", 0))
        moved_to(f"http://127.0.0.1:{closed.getsockname()[1]}/timemachine.txt", monkeypatch)
        assert_fails(file, "download failed (ConnectionError)")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Please log in to the network</html>",
        b"",
        FRAMED.encode().partition(b"*** END")[0],
        FRAMED.encode().replace(b"*** START", b"START"),
        FRAMED.encode().replace(b"clock", b"glock", 1),
        FRAMED.encode().replace(b"clock", b"cl\xf6ck"),
    ],
    ids=["page", "empty", "no end", "no start", "another word", "not UTF-8"],
)
def test_a_file_that_is_not_the_book(server, file, body):
    server.answer = sends(body)
    assert_fails(file, "the downloaded file is not")
    file.write_bytes(body)  # as if somebody had
    assert f"the file {file} is not" in error_of(load)
    assert file.read_bytes() == body


def test_the_folder_is_a_file(server, file):
    file.parent.parent.mkdir()
    file.parent.write_text("in the way")
    reason = f"{file.parent} could not be written: {os.strerror(errno.EEXIST)}"
    assert_fails(file, f"unavailable: {reason}")
    assert server.requests == []


def test_what_is_in_the_data_folder_is_used(server, file):
    file.parent.mkdir(parents=True)
    file.write_bytes(FRAMED.encode())
    assert load().content == STORY
    file.unlink()
    file.mkdir()
    assert f"{file} could not be read: {os.strerror(errno.EISDIR)}" in error_of(load)
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "source", "changed"),
    [
        ("war-of-the-worlds", "war_of_the_worlds.txt", ("men", "women")),
        # Other texts are recognized by their words; here capitals and punctuation matter as well.
        ("tiny-shakespeare", "tinyshakespeare.txt", ("ROMEO", "Romeo")),
    ],
)
def test_the_real_texts(file, name, source, changed):
    real = Path(ORIGINAL_FOLDER or "", source)
    if not real.is_file():
        pytest.skip(f"RNN_SCRATCH_DATA names no folder with {source}")
    content = real.read_text(encoding="utf-8").strip("\n") + "\n"
    file.parent.mkdir(parents=True)
    path = file.with_name(books.BOOKS[name].file)
    path.write_text(content, encoding="utf-8")
    assert books.load(name).content == content
    path.write_text(content.replace(*changed, 1), encoding="utf-8")
    assert "is not that text: it has other " in error_of(books.load, name)


# Names


@pytest.mark.parametrize("trouble", ["", "404", "not that text"])
def test_the_default_is_the_time_machine_or_else_the_built_in_text(server, file, trouble):
    said = []
    if trouble:
        server.answer = sends(b"no story", 404 if trouble == "404" else 200)
    text = books.find(None, None, said.append)
    assert text.corpus == ("tide-clock" if trouble else "time-machine")
    assert len(said) == bool(trouble)
    for line in said:
        assert len(line.splitlines()) == 1
        assert "The Time Machine" in line
        assert trouble in line
        assert "tide-clock" in line


def test_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNN_SCRATCH_DATA", "below")
    assert books.data_folder() == tmp_path / "below"
    monkeypatch.setenv("RNN_SCRATCH_DATA", "")
    cache = books.data_folder()
    monkeypatch.delenv("RNN_SCRATCH_DATA")
    assert books.data_folder() == cache
    assert cache.is_absolute()
    assert "rnn-scratch" in cache.parts


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
    expected = books.Text("file", str(tmp_path / "mine.txt"), content, sha256)
    assert books.read_file(tmp_path / "mine.txt") == expected
    assert books.read_file("mine.txt") == expected


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        (b"", ["is empty"]),
        (b" \r\n\t\n", ["only white space"]),
        (b"GIF89a\x01\x00\x01", ["not UTF-8", "If it is a text, save it as UTF-8"]),
        (b"\0" * 2000, ["If it is a text, save it as UTF-8"]),
        (b"caf\xe9 \n", ["not UTF-8", "0xe9", "offset 3 ", "python -c"]),
        (b"\xef\xbb\xbfcaf\xe9 \n", ["not UTF-8", "0xe9", "offset 6 "]),
        (b"cut short \xe2\x82", ["not UTF-8", "0xe2", "offset 10 "]),
    ],
)
def test_a_file_without_text(data, reasons, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(data)
    error = error_of(books.read_file, path)
    for part in (str(path), *reasons):
        assert part in error


def test_a_text_that_is_not_utf8_is_converted_by_the_command_that_the_error_shows(tmp_path):
    (tmp_path / "OLD").write_bytes(b"Un \xe9t\xe9 \x96 pr\xe8s de l\x92eau\n")
    error = error_of(books.read_file, tmp_path / "OLD")
    python, *arguments = shlex.split(error.splitlines()[-1])
    assert python == "python"
    subprocess.run([sys.executable, *arguments], check=True, cwd=tmp_path)
    assert books.read_file(tmp_path / "NEW").content == "Un été – près de l’eau\n"


def test_the_largest_file(tmp_path, monkeypatch):
    monkeypatch.setattr(books, "LARGEST_FILE", 1000)
    path = tmp_path / "mine.txt"
    path.write_bytes(b"x" * 1000)
    assert len(books.read_file(path).content) == 1000
    path.write_bytes(b"x" * 1001)
    assert "more than 1,000 bytes" in error_of(books.read_file, path)
    monkeypatch.setenv("RNN_SCRATCH_DATA", str(tmp_path))
    for name in ("mine.txt", "pg36.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**40)  # without taking any room
    assert "more than 1,000 bytes" in error_of(books.read_file, path)
    assert "more than 16,777,216 bytes" in error_of(books.load, "war-of-the-worlds")


def test_reading_a_large_file_is_announced_with_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(books, "LARGE_FILE", 2_000_000)
    path, said = tmp_path / "mine.txt", []
    for size in (1_999_999, 2_000_000):
        path.write_bytes(b"abcdefg " * (size // 8) + b"x" * (size % 8))
        settings = {"num_epochs": 1, "num_hiddens": 2, "report": said.append}
        run = rnn_scratch.train("numpy", text=path, max_tokens=2000, **settings)
    assert sum("reading" in line for line in said) == 1
    said.clear()
    rnn_scratch.resume(run, 2, report=said.append)
    assert said[0] == "reading the text, 2 MB"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_what_may_have_no_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # nobody writes to it: whoever opens it waits
    for path in ("/dev/zero", tmp_path / "pipe"):
        assert f"{path} could not be read: it is no regular" in error_of(books.read_file, path)
    if os.path.exists("/proc/kmsg"):  # who reads it waits for the kernel's next message
        with pytest.raises(RNNScratchError, match=r"/proc/kmsg (is empty|could not be read)"):
            books.read_file("/proc/kmsg")
