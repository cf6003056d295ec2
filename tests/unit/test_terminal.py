"""Characters that a terminal would execute are escaped there, and unchanged in a file or a pipe."""

import re
from pathlib import Path

import pytest
from helpers import here, options

from rnn_scratch.cli.main import main
from rnn_scratch.cli.screen import Screen
from rnn_scratch.system import terminal

# A title for the window, a reset, C1's way to clear the screen, an override that reverses what
# follows, and characters that delete, overwrite or separate.
EVIL = "\x1b]0;mine\x07 \x1bc \x9b2J \u202e \x7f\x08 \u2028"
ESCAPED = r"\x1b]0;mine\x07 \x1bc \x9b2J \u202e \x7f\x08 \u2028"
NAME = f"r {EVIL}"  # of a folder
NORMAL = {"normalize": "none", "num_hiddens": 8, "num_steps": 6, "batch_size": 4, "num_epochs": 10}
TRAIN = ("train", "--backend", "numpy", "--text", "t.txt", *options(**NORMAL))


@pytest.mark.parametrize("code", [*range(32), *range(127, 160), 0x2028, 0x202E, 0x2066, 0xDC9B])
def test_what_is_escaped(code):
    character = chr(code)
    if character in "\t\n":
        assert terminal.printable(character) == character
    else:
        assert terminal.printable(character) == repr(character)[1:-1].replace(r"\r", r"\x0d")


@pytest.mark.parametrize(
    "text", ["", "a\tb\n", "naïve 猫 \U0001f550", "\u200f\u0634\u200d", "\\x1b"]
)
def test_what_is_not(text):
    assert terminal.printable(text) == text


@pytest.fixture
def text():
    Path("t.txt").write_text(f"{EVIL} and more\n" * 40, encoding="utf-8")


# With these, Rich takes no stream for a terminal.
@pytest.mark.parametrize("variable", [{}, {"FORCE_COLOR": ""}, {"TTY_COMPATIBLE": "0"}], ids=str)
@pytest.mark.usefixtures("text")
def test_a_training_and_what_reads_its_run(on_terminal, monkeypatch, variable):
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    output = on_terminal(*TRAIN, "--run", NAME).ended().out
    assert f"run folder: r {ESCAPED}" in output
    if not variable:
        assert re.search(r"epoch \d+/10 ", output)
        assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in output, "the bar itself"
    _, results = output.split(" tokens/s on cpu\n")
    assert ESCAPED[:14] in results, "the model's text"
    for arguments in (
        ("predict", NAME, "--prefix", EVIL),
        ("runs", "."),
        ("train", "--resume", NAME, "--epochs", "3"),
        ("predict", f"no {EVIL}"),
        ("evaluate", NAME, "--text", f"no {EVIL}"),
        ("train", f"more {EVIL}"),
        ("show", EVIL),
        ("show", "step", "--backends", EVIL),
    ):
        assert "mine" in on_terminal(*arguments).out, arguments


@pytest.mark.usefixtures("text")
def test_a_file_gets_the_characters_themselves(capfdbinary):
    evil = EVIL.encode()
    main([*TRAIN, "--run", NAME])
    first, results = capfdbinary.readouterr().out.split(b"\n", 1)
    assert first.endswith(b"run folder: r " + evil)
    assert evil[:9] in results, "the model's text"
    main(["predict", NAME, "--prefix", EVIL, "--length", "1"])
    assert capfdbinary.readouterr().out.startswith(evil)
    with pytest.raises(SystemExit):
        main(["predict", f"no {EVIL}"])
    assert evil in capfdbinary.readouterr().err


def test_a_training_in_exact_mode_shows_the_time_left(on_terminal, capsys, monkeypatch):
    command = ("check", "--exact", "numpy", "--corpus", "tide-clock", *options(**NORMAL))
    left = r"training numpy: epoch 5/10 .* time left \d:\d\d:\d\d"
    assert re.search(left, on_terminal(*command).out)
    monkeypatch.setattr("rnn_scratch.cli.check.QUIET", 0.0)
    with pytest.raises(SystemExit, match="0"):
        main([*command])
    assert re.search(left, capsys.readouterr().out)


def test_commands_and_paths_stay_whole_and_other_lines_are_wrapped():
    command = f"rnn-scratch train --resume {'folder/' * 20} --epochs 3"
    path = "folder/" * 20
    text = f"It is kept:\n{command}\nnot-much is in {path} or so"
    lines = ["It is kept:", command, "not-much is in", f"  {path}", "  or so"]
    assert terminal.wrapped(text, 20, "  ").split("\n") == lines


def test_tabs_and_page_breaks_reach_a_file(capsys):
    line = "one\ttwo\x0cthree\x0b"
    Screen().say(line)
    assert capsys.readouterr().out == line + "\n"


def test_escapes_count_for_the_width_of_a_column(on_terminal, capsys):
    Path("t.txt").write_text("a plain text\n" * 40, encoding="utf-8")
    for folder in ("runs/plain", f"runs/{EVIL}"):
        here(capsys, *TRAIN, "--run", folder).ended()
    heading, *rows = on_terminal("runs").out.splitlines()
    column = heading.index("backend")
    assert [row[column:][:5] for row in rows] == ["numpy", "numpy"]
