"""Output to terminals, files and pipes: escapes, widths, encodings and full disks."""

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers import COMPARISONS, SMALL, options, run_in_process, run_subprocess

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.cli.main import main
from rnn_scratch.compare import report, tables
from rnn_scratch.compare.record import read
from rnn_scratch.errors import MAX_LENGTH, RNNScratchError
from rnn_scratch.system import terminal

# A window title, a reset, a C1 sequence that clears the screen, an override that reverses the
# following text, and characters that delete, overwrite or separate.
EVIL = "\x1b]0;mine\x07 \x1bc \x9b2J \u202e \x7f\x08 \u2028"
ESCAPED = r"\x1b]0;mine\x07 \x1bc \x9b2J \u202e \x7f\x08 \u2028"
NAME = f"r {EVIL}"  # name of a folder
NORMAL = {"normalize": "none", "num_hiddens": 8, "num_steps": 6, "batch_size": 4, "num_epochs": 10}
TRAIN = ("train", "--backend", "numpy", "--text", "t.txt", *options(**NORMAL))
# Letters of several scripts, and markup that some programs convert to an emoji or a color.
LINE = "αβγ :key: [red]x[/red] 猫 \N{CLOCK FACE ONE OCLOCK}\n"
SETTINGS = {"normalize": "none", "num_hiddens": 30, "num_steps": 8, "batch_size": 4, "sigma": 0.1}
RECORD = COMPARISONS / "speed"
COLUMNS = 60  # width of a narrow terminal


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
def line_text():
    Path("t.txt").write_text(LINE * 60, encoding="utf-8")
    return "t.txt"


@pytest.fixture
def text():
    Path("t.txt").write_text(f"{EVIL} and more\n" * 40, encoding="utf-8")


@pytest.mark.usefixtures("text")
def test_commands_escape_names_and_texts_on_a_terminal(on_terminal):
    output = on_terminal(*TRAIN, "--run", NAME).assert_exit().out
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
    main([*TRAIN, "--run", NAME])
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
    lines = on_terminal(*TRAIN, "--run", folder, columns=40).assert_exit(2).out.splitlines()
    command = f"rnn-scratch train --resume {folder} --num-epochs N"
    assert command in lines
    assert max(len(line) for line in lines if line != command) <= 40


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_text_is_printed_unchanged(capsys, line_text, backend_name):
    settings = {"backend": backend_name, "num_epochs": 40, **SETTINGS}
    result = run_in_process(
        capsys, "train", *options(text=line_text, run="r", **settings)
    ).assert_exit(err="")
    assert LINE in result.out
    assert repr(LINE)[1:-1] in result.out
    result = run_in_process(capsys, "predict", "r", "--prefix", "α", "--length", len(LINE) - 1)
    assert result.out == LINE + "\n"


def test_encoding_that_lacks_characters_does_not_stop_training(line_text):
    env = {"PYTHONIOENCODING": "cp1252"}
    settings = {"backend": "numpy", "num_epochs": 40, **SETTINGS}
    result = run_subprocess(
        "train", *options(text=line_text, run="r", **settings), env=env
    ).assert_exit(err="")
    assert "\\u03b2\\u03b3 :key: [red]x[/red] \\u732b \\U0001f550" in result.out
    result = run_subprocess("train", "--help", env=env).assert_exit(err="")
    assert "standard deviation" in result.out.lower()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
@pytest.mark.parametrize("arguments", [("runs", "."), ("predict", "r")])
@pytest.mark.usefixtures("small_run")
def test_full_disk_for_the_output_is_named(arguments):
    with open("/dev/full", "w") as full:
        result = run_subprocess(*arguments, stdout=full)
    assert (result.code, result.err) == (2, "Error: No space left on device.\n")


def test_output_is_only_json_even_with_forced_colors():
    small = options(num_epochs=1, **SMALL)
    result = run_subprocess(
        "check", "numpy", "--json", "--exact", *small, env={"FORCE_COLOR": "1"}
    ).assert_exit()
    assert json.loads(result.out)


def test_error_message_has_limited_length():
    error = RNNScratchError(f"{'x' * 10**6} is no name.", "Choose another.")
    assert len(error.problem) <= MAX_LENGTH
    assert error.problem.startswith("xxx")
    assert str(error).endswith("x is no name.\nChoose another.")
    assert repr(error.hint) == "'Choose another.'"


@pytest.fixture
def narrow_output(on_terminal):
    """Return a function that runs a command on a narrow terminal; its output must fit."""

    def run(*arguments, code=0):
        output = on_terminal(*arguments, columns=COLUMNS).assert_exit(code).out
        assert "…" not in output
        assert max(map(len, output.splitlines())) <= COLUMNS
        return output

    return run


def assert_has(output, values):
    """Check that the output contains every value, ignoring white space and line breaks."""
    text = "".join(output.split())
    assert [value for value in values if "".join(str(value).split()) not in text] == []


def test_runs_and_evaluate_fit(narrow_output):
    folder = f"runs/{'a-very-long-name-' * 2}"
    settings = {"num_epochs": 1, "valid_share": 0.3, "cell": "gru-after", "num_layers": 2, **SMALL}
    run = rnn_scratch.train("numpy", run=folder, **settings)
    last = run.history[-1]
    figures = [f"{value:.2f}" for value in (last.perplexity, last.valid_perplexity)]
    output = narrow_output("runs")
    assert_has(output, [folder, "numpy scratch", "gru-after 2 x 12", "tide-clock", "1/1"])
    assert_has(output, [*figures, "finished"])
    assert_has(narrow_output("evaluate", 1), [figures[1], f"{last.valid_loss:.3f} nats"])


@pytest.mark.parametrize("columns", [0, 3])
def test_terminal_without_columns_has_no_traceback(on_terminal, columns, small_run):
    for command in (
        ("runs", "."),
        ("--help",),
        ("train", "--resume", small_run, "--epochs", 3),
        ("predict", "nowhere"),
        ("show", "step", "--backends", "numpy,torch"),
    ):
        on_terminal(*command, columns=columns).assert_exit(2 if "nowhere" in command else 0)


def test_errors_fit(narrow_output):
    command = ("compare", "--backends", "numpy", "--corpus", "tide-clock", "--vary", "lr=1")
    error = narrow_output(*command, code=2)
    assert "Use one of: num_hiddens, num_layers, batch_size" in " ".join(error.split())


@pytest.fixture(scope="module")
def probes():
    """Return the probes of all backends and of a missing backend."""
    return registry.probes([*registry.names(), "nothing"])


def test_backends_fits(narrow_output, probes, monkeypatch):
    monkeypatch.setattr(registry, "probes", lambda names: probes)
    output = narrow_output("backends")
    for name, probe in probes.items():
        versions = () if isinstance(probe, str) else probe.environment.items()
        assert_has(output, [name, *(f"{key} {version}" for key, version in versions)])
        assert_has(output, [probe] if isinstance(probe, str) else probe.devices)


def test_check_fits(narrow_output):
    output = narrow_output("check", "numpy", "--model", "concise")
    assert_has(output, ["not supported", "does not support the concise model"])


def test_comparison_fits(narrow_output, tmp_path):  # `compare` prints the same report
    shutil.copytree(RECORD, tmp_path / "speed")
    output, record = narrow_output("report", "speed"), read(RECORD)
    assert_has(output, [*report.lines("setting", record), *report.lines("notes", record)])
    for table in tables.tables(record):
        assert_has(output, [cell for row in table.cells for cell in row])
