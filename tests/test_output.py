"""Texts, terminals and pipes that cannot take what is printed, and text that looks like markup."""

from pathlib import Path

import pytest
from helpers import here, options, start

# Letters of several scripts; to some programs a picture, a colour, and the end of a line.
LINE = "αβγ :key: [red]x[/red] 猫 \N{CLOCK FACE ONE OCLOCK}\n"
SETTINGS = {"normalize": "none", "num_hiddens": 30, "num_steps": 8, "batch_size": 4, "sigma": 0.1}


@pytest.fixture
def text():
    Path("t.txt").write_text(LINE * 60, encoding="utf-8")
    return "t.txt"


def test_a_text_comes_out_as_it_went_in(capsys, text, backend_name):
    done = here(capsys, "train", "--backend", backend_name,
                *options(text=text, run="r", num_epochs=40, **SETTINGS))  # fmt: skip
    assert (done.code, done.err) == (0, "")
    assert LINE in done.out
    assert repr(LINE)[1:-1] in done.out
    done = here(capsys, "predict", "r", "--prefix", "α", "--length", len(LINE) - 1)
    assert done.out == LINE + "\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_that_lacks_the_letters_stops_nothing(text, encoding):
    env = {"PYTHONIOENCODING": encoding}
    train = ["train", "--backend", "numpy", *options(text=text, run="r", num_epochs=40, **SETTINGS)]
    with start(*train, env=env) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "\\u03b2\\u03b3 :key: [red]x[/red] \\u732b \\U0001f550" in out
    with start("train", "--help", env=env) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "standard deviation" in out.lower()
