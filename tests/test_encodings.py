"""A text that is not UTF-8 is met with its probable encoding, and a command that converts it."""

import shlex
import subprocess
import sys

import pytest

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.text import corpus

WINDOWS = "He said “it’s a café” – naïve.\n" * 20
FRENCH = "Un été à la mer, très près du château où l'on dîne.\n" * 20
CHINESE = "时间机器是一本小说。我们来看看吧，“好”。\n" * 20
MIXED = "A clock 钟表 in English\n" * 20
RUSSIAN = "Машина времени, роман\n" * 20
JAPANESE = "時間機械は小説である。カタカナ\n" * 20
# The text, its encoding, what the error calls it, and what it shows.
KNOWN = [
    (WINDOWS, "cp1252", "Windows-1252", "“it’s"),
    (FRENCH, "latin-1", "ISO 8859-1", "été"),
    (CHINESE, "gb18030", "GB18030", "时间机器"),
    (MIXED, "gb18030", "GB18030", "钟表"),
    (FRENCH, "utf-16", "UTF-16", "été"),
    (CHINESE, "utf-16", "UTF-16", "时间机器"),
    (FRENCH, "utf-16-le", "UTF-16", "été"),
    (FRENCH, "utf-16-be", "UTF-16", "été"),
    (WINDOWS, "utf-32", "UTF-32", "“it’s"),
]


def error_of(path):
    with pytest.raises(RNNScratchError) as raised:
        corpus.read_file(path)
    return str(raised.value)


def convert(error, folder):
    """Carry out the command that an error ends with, and return the text that it has written."""
    python, *arguments = shlex.split(error.splitlines()[-1])
    assert python == "python"
    subprocess.run([sys.executable, *arguments], check=True, cwd=folder)
    return corpus.read_file(folder / "mine.utf-8.txt").content


@pytest.mark.parametrize(("text", "encoding", "name", "excerpt"), KNOWN)
def test_a_known_encoding(text, encoding, name, excerpt, tmp_path):
    (tmp_path / "mine.txt").write_bytes(text.encode(encoding))
    error = error_of(tmp_path / "mine.txt")
    for word in ("not UTF-8", f"probably {name}", excerpt):
        assert word in error
    assert convert(error, tmp_path) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (JAPANESE, "shift_jis"), (JAPANESE, "big5")],
)
def test_no_guess_is_better_than_a_wrong_one(text, encoding, tmp_path):
    (tmp_path / "mine.txt").write_bytes(text.encode(encoding, "ignore"))
    error = error_of(tmp_path / "mine.txt")
    assert "probably" not in error
    assert encoding.replace("-", "_") in error


def test_utf_8_with_damage_is_repaired(tmp_path):
    (tmp_path / "mine.txt").write_bytes(FRENCH.encode() + b"\xe9 end")
    error = error_of(tmp_path / "mine.txt")
    assert "Most of it is UTF-8" in error
    assert convert(error, tmp_path) == FRENCH + "\ufffd end"


@pytest.mark.parametrize(
    "data", [b"GIF89a\x01\x00\x01\x00\x00\x00", bytes(range(256)) * 9, b"\0" * 2000]
)
def test_no_text_at_all(data, tmp_path):
    (tmp_path / "mine.txt").write_bytes(data)
    assert "binary file" in error_of(tmp_path / "mine.txt")


@pytest.mark.parametrize("name", ['a "quoted" name.txt', "$HOME `x`.txt", "it's.txt"])
def test_a_name_that_a_shell_would_change(name, tmp_path):
    (tmp_path / name).write_bytes(FRENCH.encode("latin-1"))
    assert "open('FILE', encoding=" in error_of(tmp_path / name)
