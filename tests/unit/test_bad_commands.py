"""Command lines with a mistake are refused by an error that names it, before anything is done."""

from pathlib import Path

import pytest
from helpers import here

from rnn_scratch import registry
from rnn_scratch.system import processes

TRAIN = ("train", "--backend", "numpy", "--corpus", "tide-clock", "--epochs", "1")
CHECK = ("check", "numpy", "--corpus", "tide-clock", "--exact")
COMPARE = ("compare", "--backends", "numpy", "--corpus", "tide-clock", "--epochs", "1")
CANDIDATES = ("compare", "--corpus", "tide-clock", "--epochs", "1", "--candidates")
WORKERS = (*TRAIN, "--workers", "2")
PREDICT = ("predict", "no-run")
RESUME = ("train", "--resume", "no-run")
SIZES = ("batch-size", "num-steps", "num-hiddens", "embedding", "layers", "epochs", "max-tokens")
SHARES = ("dropout", "valid-share")
SETTINGS = (*SIZES, *SHARES, "valid-tokens", "seed", "lr", "weight-decay", "sigma", "theta")
# The options of each command that are numbers. Which numbers are wrong, test_settings has.
NUMBERS = {
    TRAIN: (*SETTINGS, "threads", "patience"),
    PREDICT: ("length", "temperature", "top-k", "top-p", "min-p", "seed", "threads"),
    CHECK: (*SETTINGS, "every"),
    COMPARE: (*SETTINGS, "threads", "repeats", "seeds", "timeout"),
}
# The arguments, and a word of the error.
COMMANDS = [
    # No such command, argument or option.
    (("trian",), "trian"),
    (("train", "more"), "more"),
    (("train", "--num-hidens", "3"), "--num-hidens"),
    (("train", "--backend"), "--backend"),
    (("predict",), "RUN"),
    (("runs", "one", "two"), "two"),
    (("show",), "FUNCTION"),
    (("show", "stp"), "Did you mean step?\n"),
    (("show", "_transposed", "--backends", "numpy,tensorflow"), "no function '_transposed' in nu"),
    (("show", "clip", "--backends", "torch:fast"), "no clip in: torch:fast"),
    (("show", "step", "--backends", "nmpy"), "Did you mean numpy?"),
    (("show", "step", "--backends", ""), "no backend ''"),
    (("show", "step", "--diff", "numpy"), "--diff"),
    (("show", "step", "--diff", "numpy", "numpy"), "twice"),
    (("show", "step", "--backends", "numpy:fats"), "fats"),
    # Names.
    ((*TRAIN, "--backend", "nmpy"), "no backend 'nmpy'. Did you mean numpy?"),
    ((*TRAIN, "--model", "slow"), "slow"),
    ((*TRAIN, "--cell", "lstn"), "lstn"),
    (("train", "--corpus", "tide"), "There is no text 'tide'. The texts are: time-machine"),
    (("train", "--corpus", ""), "tide-clock"),
    ((*TRAIN, "--device", "\udcff"), "`--device` must be a string"),
    (("compare", "--backends", ","), "no backend ','"),
    ((*COMPARE, "--models", "slow"), "one of scratch, fast, concise (got 'slow')."),
    # Numbers out of range, and the ranges that are promised because a framework crashes beyond.
    *(((*command, "--threads", "100000"), "1,024") for command in (TRAIN, PREDICT, COMPARE)),
    ((*TRAIN, "--sigma", "1e39"), "`--sigma` must be a number above 0, at most 1e30 (got 1e+39)."),
    ((*TRAIN, "--batch-size", "1000000"), "--batch-size 1000000"),
    (
        (*TRAIN, "--warmup", "8"),
        "`--warmup` must be below the number of updates, 8 with `--epochs 1` (got 8).",
    ),
    ((*TRAIN, "--valid-tokens", "4000000000"), "leaves nothing to train on"),
    ((*TRAIN, "--valid-tokens", "1"), "`--valid-tokens` holds out 1 of the characters.\nHold out"),
    ((*TRAIN, "--valid-share", "1e-4"), "`--valid-share` holds out 1 of the characters."),
    ((*TRAIN, "--valid-share", "0.99"), "The text to train on has 100 characters"),
    ((*COMPARE, "--vary", "threads=100000"), "1,024"),
    ((*COMPARE, "--vary", "num_hiddens=0,8"), "--num-hiddens"),
    ((*COMPARE, "--vary", "lr=1"), "lr"),
    ((*COMPARE, "--vary", f"num_hiddens={','.join(map(str, range(1, 34)))}"), "length <= 32"),
    ((*COMPARE, "--vary", "num_hiddens"), "--vary num_hiddens=64,128,256"),
    ((*COMPARE, "--vary", "num_hiddens=,"), "takes integers"),
    ((*COMPARE, "--vary", "batch_size=4,40000"), "--batch-size 40000"),
    ((*COMPARE, "--seed", "4294967295", "--seeds", "2"), "(got 4294967296)"),
    ((*COMPARE, "--target", "1"), "and requires held-out text (got 1)"),
    ((*COMPARE, "--target", "nan"), "`--target` must be"),
    ((*COMPARE, "--target", "1e305"), "(got 1e+305)"),
    ((*COMPARE, "--target", "5", "--valid-tokens", "0"), "--valid-tokens N"),
    ((*COMPARE, "--target", "5", "--valid-share", "1e-5"), "`--valid-share` holds out 0"),
    ((*COMPARE, "--python", "numpy"), "--python mxnet=PATH"),
    ((*COMPARE, "--python", "torch=python"), "torch, which this"),
    ((*CANDIDATES, "numpy@new"), "--python numpy@new=PATH"),
    ((*CANDIDATES, "numpy@"), "environment name ''"),
    ((*CANDIDATES, "numpy:slow"), "(got 'slow')"),
    ((*CANDIDATES, "numpi"), "Did you mean numpy?"),
    ((*CANDIDATES, "numpy", "--models", "fast"), "replaces --backends and --models"),
    ((*CANDIDATES, "numpy", "--python", "numpy@x=p"), "numpy@x, which this"),
    # What excludes or requires something else.
    ((*TRAIN, "--text", "no-text"), "cannot be used together"),
    ((*TRAIN, "--exact", "--dtype", "float32"), "float64"),
    ((*TRAIN, "--valid-share", "0.1", "--valid-tokens", "9"), "cannot be used together"),
    ((*TRAIN, "--patience", "5"), "needs held-out text to compare epochs on.\nBegin"),
    (RESUME, "requires `--epochs N`"),
    ((*RESUME, "--epochs", "2", "--run", "r"), "Omit `--run`"),
    ((*RESUME, "--preset", "minute"), "`--preset` and `--resume` cannot be used together"),
    (("check", "numpy", "--lr", "1", "--every", "5"), "`--lr`, `--every` requires `--exact`"),
    (("check", "numpy", "--corpus", "tide-clock"), "--exact"),
    ((*CHECK, "--cell", "gru", "--cell", "rnn"), "one cell at a time (got `--cell` gru, rnn)."),
    (("show", "step", "--backends", "numpy", "--diff", "numpy", "torch"), "cannot be used"),
    ((*WORKERS, "--rank", "2"), "(got `--rank 2`, and `--workers` is 2)"),
    ((*TRAIN, "--rank", "0"), "(got `--rank 0`, and `--workers` is missing)"),
    ((*WORKERS, "--coordinator", "h:5"), "Add `--rank K`"),
    *(
        ((*WORKERS, "--rank", "0", "--coordinator", address), "must be HOST:PORT")
        for address in ("h", "h:0", "h:65536", "h:http", ":29500", "::1:29500", f"h:{'9' * 5000}")
    ),
    (("check", "numpy", "--workers", "1,5"), "Use 1, 2, 3, 4, 6, 12."),
    (("check", "numpy", "--workers", "two"), "two"),
    ((*CHECK, "--workers", "1,3"), "multiple of 3"),
    # Files and folders that are not there, or are something else.
    (("train", "--backend", "numpy", "--text", "no-text"), "No such file"),
    (("train", "--backend", "numpy", "--text", "."), "could not be read"),
    (PREDICT, "no-run"),
    (("predict", "x" * 5000), "File name too long"),
    (("evaluate", "no-run", "--corpus", "tide-clock"), "no-run"),
    ((*RESUME, "--epochs", "2"), "no-run"),
    (("train", "--like", "no-run"), "no-run"),
    (("report", "no-run"), "no-run"),
    ((*COMPARE, "--against", "no-run"), "no-run"),
    ((*COMPARE, "--output", f"{__file__}/more"), "could not be created: Not a directory"),
]


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch):
    """No framework is imported, and no process started."""

    def refuse(*_, **__):
        pytest.fail("the command has begun its work")

    def load(name):
        registry.find(name)  # a wrong name is an error before any import
        refuse()

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr(processes, "started", refuse)


@pytest.mark.parametrize(("arguments", "word"), COMMANDS)
def test_a_mistake(capsys, arguments, word):
    here(capsys, *arguments).refused(word)
    assert not list(Path().rglob("*")), "nothing is written"


# Python converts no number of 5,000 digits.
@pytest.mark.parametrize("value", ["nan", "-inf", "two", "", "0x10", "9" * 5000])
@pytest.mark.parametrize("command", NUMBERS)
def test_a_value_that_no_option_takes_that_is_a_number(capsys, command, value):
    for option in (f"--{name}" for name in NUMBERS[command]):
        here(capsys, *command, option, value).refused(option)
