"""A text that is not UTF-8 is met with its probable encoding, and a command that converts it."""

import os
import shlex
import subprocess
import sys

import pytest
from helpers import error_of

from rnn_scratch.text import corpus

WINDOWS = "He said “it’s a café” – naïve.\n" * 20
FRENCH = "Un été à la mer, très près du château où l'on dîne.\n" * 20
CHINESE = "时间机器是一本小说。我们来看看吧，“好”。\n" * 20
RUSSIAN = "Машина времени, роман\n" * 20
JAPANESE = "時間機械は小説である。カタカナ\n" * 20
TEXTS = {
    "cp1252": [WINDOWS, FRENCH, "A cafe, and one more\n" * 50 + "café\n"],
    "latin-1": [FRENCH],
    "gb18030": [CHINESE, "A clock 钟表 in English\n" * 20],
    "big5": ["時間機器是一本小說。我們來看看吧，「好」。\n" * 20],
    "shift_jis": [JAPANESE],
    "euc_jp": [JAPANESE],
    "euc_kr": ["시간 기계는 소설이다. 우리는 그것을 읽는다.\n" * 20],
    "cp1251": [RUSSIAN],
    "koi8_r": [RUSSIAN],
    "cp1253": ["Μήνιν άειδε, θεά, Πηληϊάδεω Αχιλήος, ουλομένην\n" * 20],
    "utf-16": [FRENCH, CHINESE, CHINESE.replace("\n", "")],
    "utf-16-le": [FRENCH],
    "utf-16-be": [FRENCH],
    "utf-32": [WINDOWS],
}


def convert(error, folder):
    """Carry out the command that an error ends with, and return the text that it has written."""
    python, *arguments = shlex.split(error.splitlines()[-1])
    assert python == "python"
    subprocess.run([sys.executable, *arguments], check=True, cwd=folder)
    return corpus.read_file(folder / "mine.utf-8.txt").content


@pytest.mark.parametrize(
    ("text", "encoding"), [(text, encoding) for encoding in TEXTS for text in TEXTS[encoding]]
)
def test_the_usual_encodings(text, encoding, tmp_path):
    (tmp_path / "mine.txt").write_bytes(text.encode(encoding))
    error = error_of(corpus.read_file, tmp_path / "mine.txt")
    assert "not UTF-8" in error
    assert "It is probably " in error
    assert max(map(len, error.splitlines()[2:-1])) <= 80
    assert convert(error, tmp_path) == text


def test_no_guess_is_better_than_a_wrong_one(tmp_path):
    (tmp_path / "mine.txt").write_bytes(bytes(range(1, 256)) * 9)
    error = error_of(corpus.read_file, tmp_path / "mine.txt")
    assert "probably" not in error
    assert "Its encoding is unknown" in error
    assert "encoding='ENCODING'" in error


@pytest.mark.parametrize("name", ['a "quoted" name.txt', "$HOME `x`.txt", "it's.txt"])
@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_a_name_that_a_shell_would_change(name, tmp_path):
    (tmp_path / name).write_bytes(FRENCH.encode("latin-1"))
    assert "open('FILE', encoding=" in error_of(corpus.read_file, tmp_path / name)
