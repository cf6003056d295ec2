"""Command lines with a mistake, which every command refuses before it does anything.

Each has the arguments and a word of the error. `test_bad_commands` runs them all in the test's
process; a campaign can take them as they are, or multiply them: BAD_VALUES of every option that
takes a number, in every command that has it.
"""

import sys

TRAIN = ("train", "--backend", "numpy", "--corpus", "tide-clock", "--epochs", "1")
CHECK = ("check", "numpy", "--corpus", "tide-clock", "--exact")
COMPARE = ("compare", "--backends", "numpy", "--corpus", "tide-clock", "--epochs", "1")
PREDICT = ("predict", "no-run")
HUGE = "1" + "0" * 30
DIGITS = "9" * 5000  # more than Python converts

# Values that no option takes that is a number.
BAD_VALUES = ("-1", "nan", "inf", "-inf", "1e999", "two", "", " ", "1,5", "0x10", "1_", DIGITS)
WHOLE = (
    "--batch-size",
    "--num-steps",
    "--num-hiddens",
    "--embedding",
    "--epochs",
    "--max-tokens",
    "--valid-tokens",
    "--seed",
)
REAL = ("--lr", "--sigma", "--theta")

COMMANDS = [
    # No such command, argument or option.
    (("trian",), "trian"),
    (("train", "more"), "more"),
    (("train", "--num-hidens", "3"), "--num-hidens"),
    (("train", "--backend"), "--backend"),
    (("predict",), "RUN"),
    (("evaluate",), "RUN"),
    (("report",), "FOLDER"),
    (("runs", "one", "two"), "two"),
    (("backends", "one"), "one"),
    (("show",), "PIECE"),
    (("show", "stp"), "step"),
    (("show", "step", "--backends", "nmpy"), "numpy"),
    (("show", "step", "--diff", "numpy"), "--diff"),
    (("show", "step", "--diff", "numpy", "numpy"), "twice"),
    (("show", "step", "--backends", "numpy:fats"), "fats"),
    # Names.
    (("train", "--backend", "nmpy", "--corpus", "tide-clock"), "numpy"),
    ((*TRAIN, "--model", "slow"), "slow"),
    ((*TRAIN, "--cell", "lstn"), "lstn"),
    ((*TRAIN, "--activation", "sigmoid"), "sigmoid"),
    ((*TRAIN, "--sampling", "sorted"), "sorted"),
    ((*TRAIN, "--normalize", "all"), "all"),
    ((*TRAIN, "--dtype", "float16"), "float16"),
    (("train", "--corpus", "tide"), "tide-clock"),
    (("train", "--corpus", ""), "tide-clock"),
    (("check", "nmpy"), "numpy"),
    (("compare", "--backends", "nmpy"), "nmpy"),
    (("compare", "--backends", ","), "no name"),
    (("compare", "--models", "slow"), "slow"),
    # Numbers out of range.
    *(((*TRAIN, option, HUGE), option) for option in WHOLE),
    *(((*TRAIN, option, "0"), option) for option in ("--batch-size", "--num-steps", "--epochs")),
    ((*TRAIN, "--num-hiddens", "40000"), "32,768"),
    ((*TRAIN, "--embedding", "40000"), "32,768"),
    ((*TRAIN, "--batch-size", "2000000"), "1,048,576"),
    ((*TRAIN, "--batch-size", "1000000"), "--batch-size 1000000"),
    ((*TRAIN, "--num-steps", "5000"), "4,096"),
    ((*TRAIN, "--epochs", "1000001"), "1,000,000"),
    ((*TRAIN, "--valid-tokens", "4000000000"), "--valid-tokens"),
    *(((*TRAIN, option, value), option) for option in REAL for value in ("0", "nan", "inf")),
    ((*TRAIN, "--lr", "1e999"), "--lr"),
    ((*PREDICT, "--seed", "-1"), "--seed"),
    ((*TRAIN, "--threads", "0"), "--threads"),
    ((*TRAIN, "--threads", "1025"), "1,024"),
    ((*TRAIN, "--threads", "100000"), "1,024"),
    ((*TRAIN, "--epochs", DIGITS), "--epochs"),
    ((*PREDICT, "--length", "0"), "--length"),
    ((*PREDICT, "--length", "1000001"), "1,000,000"),
    ((*PREDICT, "--length", HUGE), "--length"),
    ((*PREDICT, "--temperature", "0"), "--temperature"),
    ((*PREDICT, "--temperature", "nan"), "--temperature"),
    ((*PREDICT, "--temperature", "inf"), "--temperature"),
    ((*PREDICT, "--top-k", "0"), "--top-k"),
    *(((*PREDICT, f"--{way}-p", p), f"--{way}-p") for way in ("top", "min") for p in ("0", "1.5")),
    ((*PREDICT, "--seed", "4294967296"), "--seed"),
    ((*PREDICT, "--threads", "100000"), "--threads"),
    ((*CHECK, "--every", "0"), "--every"),
    ((*CHECK, "--every", HUGE), "--every"),
    ((*CHECK, "--num-hiddens", "40000"), "32,768"),
    ((*COMPARE, "--timeout", "nan"), "--timeout"),
    ((*COMPARE, "--timeout", "inf"), "--timeout"),
    ((*COMPARE, "--timeout", "0"), "--timeout"),
    ((*COMPARE, "--timeout", "1e300"), "--timeout"),
    ((*COMPARE, "--threads", "100000"), "--threads"),
    ((*COMPARE, "--repeats", "0"), "--repeats"),
    ((*COMPARE, "--repeats", "1001"), "--repeats"),
    ((*COMPARE, "--seeds", HUGE), "--seeds"),
    ((*COMPARE, "--vary", "threads=100000"), "1,024"),
    ((*COMPARE, "--vary", "threads=0"), "--threads is 0"),
    ((*COMPARE, "--vary", "num_hiddens=0,8"), "--num-hiddens"),
    ((*COMPARE, "--vary", "num_hiddens=8,x"), "whole numbers"),
    ((*COMPARE, "--vary", "lr=1"), "lr"),
    ((*COMPARE, "--vary", "num_hiddens"), "--vary"),
    ((*COMPARE, "--python", "numpy"), "--python"),
    ((*COMPARE, "--python", "torch=python"), "torch"),
    # What excludes or requires something else.
    ((*TRAIN, "--text", "no-text"), "exclude each other"),
    ((*TRAIN, "--exact", "--dtype", "float32"), "float64"),
    (("train", "--resume", "no-run"), "requires --epochs"),
    (("train", "--resume", "no-run", "--epochs", "2", "--run", "r"), "omit --run"),
    (("check", "numpy", "--lr", "1"), "--exact"),
    (("check", "numpy", "--corpus", "tide-clock"), "--exact"),
    (("show", "step", "--backends", "numpy", "--diff", "numpy", "torch"), "exclude each other"),
    # Files and folders that are not there, or are something else.
    (("train", "--backend", "numpy", "--text", "no-text"), "No such file"),
    (("train", "--backend", "numpy", "--text", "."), "could not be read"),
    (PREDICT, "no-run"),
    (("evaluate", "no-run", "--corpus", "tide-clock"), "no-run"),
    (("train", "--resume", "no-run", "--epochs", "2"), "no-run"),
    (("report", "no-run"), "no-run"),
    ((*COMPARE, "--against", "no-run"), "no-run"),
]
if sys.platform != "win32":
    COMMANDS.append((("train", "--backend", "numpy", "--text", "/dev/zero"), "no file on a disk"))


def multiplied():
    """Many more: every bad value of every number's option, in every command that has it."""
    for option in (*WHOLE, *REAL, "--threads"):
        for value in BAD_VALUES:
            for command in (TRAIN, COMPARE) if option == "--threads" else (TRAIN, CHECK, COMPARE):
                yield (*command, option, value), option
