"""Output to terminals, files and pipes: escapes, widths, encodings and full disks."""

import re
import shutil
from pathlib import Path

import pytest
from helpers import COMPARISONS, SMALL, options, run_in_process, run_subprocess

import rnn_scratch
from rnn_scratch.cli.main import main
from rnn_scratch.errors import MAX_LENGTH, RNNScratchError
from rnn_scratch.system import terminal

# A window title, a reset, a C1 sequence that clears the screen, an override that reverses the
# text after it, and characters that delete, overwrite or break lines.
EVIL = "\x1b]0;mine\x07 \x1bc \x9b2J \u202e \x7f\x08 \u2028"
ESCAPED = r"\x1b]0;mine\x07 \x1bc \x9b2J \u202e \x7f\x08 \u2028"
NAME = f"r {EVIL}"  # folder name
NORMAL = {"normalize": "none", "num_hiddens": 8, "num_steps": 6, "batch_size": 4, "num_epochs": 10}
TRAIN = ("train", "--backend", "numpy", "--text", "t.txt", *options(**NORMAL))
# Letters from several scripts, and markup that some programs convert to an emoji or a color.
LINE = "αβγ :key: [red]x[/red] 猫 \N{CLOCK FACE ONE OCLOCK}\n"
SETTINGS = {"normalize": "none", "num_hiddens": 30, "num_steps": 8, "batch_size": 4, "sigma": 0.1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EVIL, ESCAPED),
        ("\r\0\x1f\u2066\udc9b", r"\r\x00\x1f\u2066\udc9b"),
        ("", ""),
        ("a\tb\n", "a\tb\n"),
        ("naïve 猫 \U0001f550", "naïve 猫 \U0001f550"),
        ("\u200f\u0634\u200d", "\u200f\u0634\u200d"),
        ("\\x1b", "\\x1b"),
    ],
)
def test_printable_escapes_control_characters(text, expected):
    assert terminal.printable(text) == expected


@pytest.fixture
def text():
    Path("t.txt").write_text(f"{EVIL} and more\n" * 40, encoding="utf-8")


@pytest.mark.usefixtures("text")
def test_commands_escape_names_and_texts_on_a_terminal(on_terminal):
    output = on_terminal(*TRAIN, "--output", NAME).assert_exit().out
    assert f"run folder: r {ESCAPED}" in output
    assert re.search(r"epoch \d+/10 ", output)
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in output, "no progress bar"
    _, results = output.split(" characters/s on cpu\n")
    assert ESCAPED[:14] in results, "no sample"
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
def test_file_gets_unescaped_characters(capfdbinary):
    evil = EVIL.encode()
    main([*TRAIN, "--output", NAME])
    first, results = capfdbinary.readouterr().out.split(b"\n", 1)
    assert first.endswith(b"run folder: r " + evil)
    assert evil[:9] in results, "no sample"
    main(["predict", NAME, "--prefix", EVIL, "--length", "1"])
    assert capfdbinary.readouterr().out.startswith(evil)
    with pytest.raises(SystemExit):
        main(["predict", f"no {EVIL}"])
    assert evil in capfdbinary.readouterr().err


@pytest.mark.usefixtures("text")
def test_long_lines_are_wrapped_except_commands(on_terminal):
    folder = "name-of-a-folder/" * 4 + "run"
    Path(folder, "file").mkdir(parents=True)
    lines = on_terminal(*TRAIN, "--output", folder, columns=40).assert_exit(2).out.splitlines()
    command = f"rnn-scratch train --resume {folder} --num-epochs N"
    assert command in lines
    assert max(len(line) for line in lines if line != command) <= 40


def test_text_is_printed_unchanged_or_escaped(capsys):
    Path("t.txt").write_text(LINE * 60, encoding="utf-8")
    settings = {"backend": "numpy", "text": "t.txt", "output": "r", "num_epochs": 40, **SETTINGS}
    result = run_in_process(capsys, "train", *options(**settings)).assert_exit(err="")
    assert LINE in result.out
    assert repr(LINE)[1:-1] in result.out
    result = run_in_process(capsys, "predict", "r", "--prefix", "α", "--length", len(LINE) - 1)
    assert result.out == LINE + "\n"
    # An encoding that lacks some of the characters does not stop training.
    env = {"PYTHONIOENCODING": "cp1252"}
    result = run_subprocess("train", "--resume", "r", "--epochs", 41, env=env).assert_exit(err="")
    assert "\\u03b2\\u03b3 :key: [red]x[/red] \\u732b \\U0001f550" in result.out
    result = run_subprocess("train", "--help-all", env=env).assert_exit(err="")
    assert "standard deviation" in result.out.lower()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
@pytest.mark.parametrize("arguments", [("runs", "."), ("predict", "r")])
@pytest.mark.usefixtures("small_run")
def test_full_disk_for_the_output_is_named(arguments):
    with open("/dev/full", "w") as full:
        result = run_subprocess(*arguments, stdout=full)
    problem = "The output cannot be written: No space left on device."
    assert (result.code, result.err) == (2, f"Error: {problem}\n")


def test_error_message_has_limited_length():
    error = RNNScratchError(f"{'x' * 10**6} is no name.", "Choose another.")
    assert len(error.problem) <= MAX_LENGTH
    assert error.problem.startswith("xxx")
    assert str(error).endswith("x is no name.\nChoose another.")
    assert repr(error.hint) == "'Choose another.'"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--help",), "recurrent language models"),
        (("runs",), "gru-after 2 x 12"),
        (("evaluate", 1), "held-out text"),
        (("check", "numpy", "--variant", "concise"), "does not support the concise variant"),
        (("report", "speed"), "Compared with"),
        (("compare", "--backends", "numpy", "--sweep", "lr=1"), "Use one of: num_hiddens"),
    ],
)
def test_output_fits_a_narrow_terminal(on_terminal, arguments, words):
    if arguments in (("runs",), ("evaluate", 1)):
        folder = f"runs/{'a-very-long-name-' * 2}"
        settings = {"valid_share": 0.3, "cell": "gru-after", "num_layers": 2, **SMALL}
        rnn_scratch.train("numpy", output=folder, num_epochs=1, **settings)
    shutil.copytree(COMPARISONS / "speed", "speed")
    output = on_terminal(*arguments, columns=60).out
    assert "…" not in output
    assert max(map(len, output.splitlines())) <= 60
    assert "".join(words.split()) in "".join(output.split())


def test_predict_breaks_lines_between_words_on_a_terminal(on_terminal, small_run, capfd):
    arguments = "predict", str(small_run), "--length", "150", "--seed", "1"
    lines = on_terminal(*arguments, columns=30).assert_exit().out.rstrip("\n").split("\n")
    assert max(map(len, lines)) <= 30
    text = run_in_process(capfd, *arguments).assert_exit().out
    assert " ".join(lines).split() == text.split()
    assert len(lines) > text.count("\n") + 2, "lines were not broken"
