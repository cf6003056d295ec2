"""Invalid command lines fail before any computation, with an error that states the problem."""

from pathlib import Path

import pytest
from helpers import run_in_process

from rnn_scratch import registry
from rnn_scratch.system import processes

TRAIN = ("train", "--backend", "numpy", "--corpus", "tide-clock", "--epochs", "1")
CHECK = ("check", "numpy", "--corpus", "tide-clock", "--exact")
COMPARE = ("compare", "--backends", "numpy", "--corpus", "tide-clock", "--epochs", "1")
PREDICT = ("predict", "no-run")
RESUME = ("train", "--resume", "no-run")
SETTINGS = ("batch-size", "num-epochs", "dropout", "lr", "theta")
# Some numeric options of each command; test_settings tests the bounds of all settings.
NUMBERS = {
    TRAIN: (*SETTINGS, "threads", "patience"),
    PREDICT: ("length", "temperature", "top-k", "top-p", "min-p", "seed", "threads"),
    CHECK: SETTINGS,
    COMPARE: (*SETTINGS, "threads", "seconds"),
}
# Command-line arguments, and part of the expected error message.
COMMANDS = [
    # Unknown commands, arguments and options.
    (("trian",), "Did you mean `train`?"),
    (("resume", "last"), "Did you mean `train --resume RUN`?"),
    (("train", "my book.txt"), "(my book.txt)\nTo train on a text file, use `--text FILE`."),
    (("train", "--epoch", "3"), "--num-epochs"),
    (("train", "--workers", "2"), "`mpiexec -n 4`"),  # a removed option
    (("show",), "FUNCTION"),
    (("show", "stp"), "Did you mean step?\n"),
    (
        ("show", "_transposed", "--backends", "numpy,tensorflow"),
        "Unknown function '_transposed'",
    ),
    (("show", "clip", "--backends", "torch:fast"), "not defined in: torch:fast"),
    (("show", "rnn", "--backends", "numpy:concise"), "not defined in: numpy:concise"),
    (("show", "step", "--backends", "nmpy"), "Unknown backend 'nmpy'"),
    # Unknown names.
    ((*TRAIN, "--backend", "nmpy"), "Unknown backend 'nmpy'"),
    ((*TRAIN, "--cell", "lstn"), "lstn"),
    (("train", "--corpus", "tide"), "Unknown text 'tide'. The texts are: time-machine"),
    ((*COMPARE, "--variants", "slow"), "`--variants` must be one of scratch, fast, concise (got"),
    # Out-of-range numbers, such as a thread count at which frameworks crash.
    *(((*command, "--threads", "100000"), "1,024") for command in (TRAIN, PREDICT, COMPARE)),
    ((*TRAIN, "--sigma", "1e39"), "(got 1e+39)"),
    ((*TRAIN, "--batch-size", "1000000"), "1000000"),
    ((*TRAIN, "--valid-tokens", "4000000000"), "characters (got 0)"),
    ((*TRAIN, "--theta", "0"), "a finite number > 0, or none (got 0.0)"),
    ((*TRAIN, "--valid-tokens", "1"), "holds out too few characters (1).\nHold out"),
    ((*COMPARE, "--sweep", "num_hiddens=0,8"), "`--num-hiddens` must be"),
    ((*COMPARE, "--sweep", "lr=1"), "lr"),
    ((*COMPARE, "--sweep", "num_hiddens"), "--sweep num_hiddens=64,128,256"),
    ((*COMPARE, "--sweep", "batch_size=4,40000"), "40000"),
    ((*COMPARE, "--seconds", "1e10"), "`seconds` must be a finite number"),
    (("compare", "--backends", "numpi"), "The backends are: numpy"),
    # Options that exclude or require other options.
    ((*TRAIN, "--text", "no-text"), "cannot be used together"),
    ((*TRAIN, "--exact", "--dtype", "float32"), "float64"),
    ((*TRAIN, "--valid-share", "0.1", "--valid-tokens", "9"), "cannot be used together"),
    ((*TRAIN, "--patience", "5"), "Use `--valid-share 0.1`, or `--patience 0`."),
    ((*RESUME, "--epochs", "2", "--output", "r"), "`--output` cannot be used with `--resume`"),
    ((*RESUME, "--preset", "minute"), "`--preset` cannot be used with `--resume`"),
    ((*RESUME, "--num-updates", "100"), "`--num-updates` cannot be used with `--resume`"),
    ((*PREDICT, "--greedy", "--seed", "3"), "With `--greedy`, --seed has no effect"),
    (("check", "numpy", "--corpus", "tide-clock"), "--exact"),
    ((*CHECK, "--cell", "gru", "--cell", "lstm"), "trains one cell (got gru, lstm)"),
    (("show", "step", "--backends", "numpy", "--diff", "numpy", "torch"), "cannot be used"),
    # Missing or wrong files and folders.
    (("train", "--backend", "numpy", "--text", "no-text"), "No such file"),
    (PREDICT, "no-run"),
    (("play", "no-run", "--no-browser"), "no-run"),
    (("predict", "x" * 5000), "File name too long"),
    ((*RESUME, "--epochs", "2"), "no-run"),
    (("report", "no-run"), "no-run"),
    (("runs", "no-run"), "no-run: No such file"),
    (("runs", __file__), "test_bad_commands.py: Not a directory"),
    ((*COMPARE, "--output", f"{__file__}/more"), "more: Not a directory"),
]


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch):
    """Fail the test if a command loads a backend or starts a process."""

    def refuse(*_, **__):
        pytest.fail("the command has begun its work")

    def load(name):
        registry.find(name)  # raises an error for unknown names, before any import
        refuse()

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr(processes, "start", refuse)


@pytest.mark.parametrize(("arguments", "word"), COMMANDS)
def test_wrong_command_is_refused(capsys, arguments, word):
    run_in_process(capsys, *arguments).assert_error(word)
    assert not list(Path().rglob("*")), "a refused command wrote files"


# Python refuses to convert 5,000 digits to an integer.
@pytest.mark.parametrize("value", ["nan", "-inf", "two", "", "0x10", "9" * 5000, "\udcff"])
@pytest.mark.parametrize("command", NUMBERS)
def test_number_option_refuses_invalid_values(capsys, command, value):
    for option in (f"--{name}" for name in NUMBERS[command]):
        run_in_process(capsys, *command, option, value).assert_error(option)


@pytest.mark.parametrize("name", ["PMI_SIZE", "PMI_RANK"])
def test_launcher_variable_must_be_a_number(capsys, monkeypatch, name):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv(name, "-1x")
    run_in_process(capsys, *TRAIN).assert_error(f"{name} must be a number (got '-1x')")
