"""Terminals, pipes, encodings and memory: their limits do not cause tracebacks."""

import json
import os
import sys
import threading
import time
from itertools import count
from pathlib import Path

import psutil
import pytest
from helpers import SMALL, here, options, there

from rnn_scratch.errors import LONGEST, RNNScratchError

# Letters of several scripts, and what some programs turn into a picture or a color.
LINE = "αβγ :key: [red]x[/red] 猫 \N{CLOCK FACE ONE OCLOCK}\n"
SETTINGS = {"normalize": "none", "num_hiddens": 30, "num_steps": 8, "batch_size": 4, "sigma": 0.1}


@pytest.fixture
def text():
    Path("t.txt").write_text(LINE * 60, encoding="utf-8")
    return "t.txt"


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_text_is_printed_unchanged(capsys, text, backend_name):
    settings = {"backend": backend_name, "num_epochs": 40, **SETTINGS}
    done = here(capsys, "train", *options(text=text, run="r", **settings)).ended(err="")
    assert LINE in done.out
    assert repr(LINE)[1:-1] in done.out
    done = here(capsys, "predict", "r", "--prefix", "α", "--length", len(LINE) - 1)
    assert done.out == LINE + "\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the names of files are Unicode here")
def test_names_of_files_that_are_not_utf_8():
    text, run, output = (os.fsdecode(name + b"\xff") for name in (b"t", b"r", b"o"))
    Path(text).write_text("the clock and the tide " * 50, encoding="utf-8")
    small = options(text=text, **{key: SMALL[key] for key in ("num_hiddens", "batch_size")})
    commands = (
        ("train", "--backend", "numpy", *small, "--epochs", "1", "--run", run),
        ("train", "--resume", run, "--epochs", "2"),
        ("compare", "--backends", "numpy", *small, "--repeats", "1", "--output", output),
        ("report", output),
    )
    for command in commands:
        there(*command).ended(err="")
    origin = json.loads(Path(run, "run.json").read_bytes())["text"]["origin"]
    assert origin.endswith(r"t\udcff")


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="TZ has no effect here")
def test_a_time_zone_that_python_does_not_have():
    train = ("train", "--backend", "numpy", *options(num_epochs=1, **SMALL))
    there(*train, env={"TZ": "UTC+24"}).refused("'UTC+24'", "TZ")
    assert not Path("runs").exists()
    there(*train, env={"TZ": "nonsense"}).ended(err="")  # which the system takes for UTC


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_an_encoding_that_lacks_characters_stops_nothing(text, encoding):
    env = {"PYTHONIOENCODING": encoding}
    train = ["train", "--backend", "numpy", *options(text=text, run="r", num_epochs=40, **SETTINGS)]
    done = there(*train, env=env).ended(err="")
    assert "\\u03b2\\u03b3 :key: [red]x[/red] \\u732b \\U0001f550" in done.out
    done = there("train", "--help", env=env).ended(err="")
    assert "standard deviation" in done.out.lower()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
@pytest.mark.parametrize("arguments", [("runs", "."), ("predict", "r")])
@pytest.mark.usefixtures("small_run")
def test_no_room_for_the_output(arguments):
    with open("/dev/full", "w") as full:
        done = there(*arguments, stdout=full)
    assert (done.code, done.err) == (2, "Error: No space left on device.\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("'libx.so: no such file'", "libx.so: no such file."),
        ("2, 'No usable temporary directory'", "No usable temporary directory."),
        ("24, 'Too many open files', 'x'", "x: Too many open files."),
    ],
)
def test_an_error_of_the_system_is_not_said_to_be_one_of_the_output(error, words):
    program = f"""
from rnn_scratch.cli import main, predict
def fail(*_, **__): raise OSError({error})
predict.inference.predict = fail
main.main(["predict", "r"])"""
    there(program=("-c", program)).ended(2, f"Error: {words}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to write to")
def test_no_room_for_an_error():
    with open("/dev/full", "w") as full:
        for arguments in (("trian",), ("predict", "no-run")):
            assert there(*arguments, stderr=full).code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a folder that is in use")
def test_a_working_folder_that_is_gone():
    program = "import os; os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); {}"
    program = program.format("from rnn_scratch.cli.main import main; main()")
    for arguments in (("runs",), ("train", "--text", "t.txt")):
        there(*arguments, program=("-c", program)).refused("The working folder no longer exists")


@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [("train", "MPLBACKEND", "nonsense"), ("compare", "SOURCE_DATE_EPOCH", "x")],
)
def test_what_figures_need_is_verified_first(command, variable, value):
    settings = options(num_epochs=1, **SMALL)
    backend = "--backends" if command == "compare" else "--backend"
    done = there(command, backend, "numpy", *settings, env={variable: value})
    done.refused("Matplotlib cannot draw", variable)
    assert not Path("runs").exists()


@pytest.mark.parametrize("allowed", range(4))
def test_no_more_threads(capsys, monkeypatch, allowed):
    start, number, before = threading.Thread.start, count(), psutil.Process().children()

    def limited(thread):
        if next(number) == allowed:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    command = ("compare", "--backends", "numpy", *options(num_epochs=1, **SMALL))
    here(capsys, *command).refused("refuses to start another thread")
    assert {*psutil.Process().children()} <= {*before}


def test_help_says_the_defaults(capsys):
    text = here(capsys, "train", "--help").out
    assert all(f"[default: {value}]" in text for value in ("32", "0.01", "sequential"))


@pytest.mark.parametrize(
    "how",
    [("--model", "scratch", "--cell", "rnn"), ("--exact", *options(num_epochs=1, **SMALL))],
    ids=["pieces", "exact"],
)
def test_json_is_the_whole_output_even_if_a_pipe_looks_like_a_terminal(how):
    env = {"FORCE_COLOR": "1"}  # as Jupyter sets it
    done = there("check", "numpy", "--json", *how, env=env).ended()
    assert json.loads(done.out)
    assert "numpy" in done.err  # the progress


# After the framework is imported, the process may use only little more memory.
POOR = """
import atexit, resource, sys
from rnn_scratch import registry
from rnn_scratch.cli.main import main
registry.load(sys.argv[1])
atexit.register(print, "the handlers of an exit")  # of which OpenBLAS has one that may not return
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20,) * 2)
main(sys.argv[3:])
"""


@pytest.mark.faults(by_default=("numpy", "torch"))
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory so")
@pytest.mark.parametrize("what", ["initial parameters", "tensors"])
def test_too_little_memory(backend_name, what):
    if what == "tensors" and backend_name not in ("numpy", "torch"):
        pytest.skip(f"{backend_name} aborts the process when it cannot allocate memory")
    megabytes, num_hiddens = (180, 1_200) if what == "tensors" else (500, 20_000)
    settings = {"corpus": "tide-clock", "num_steps": 100, "batch_size": 250, "max_tokens": 0}
    # With several threads, OpenBLAS ends the process.
    settings |= {"num_hiddens": num_hiddens, "num_epochs": 1, "threads": 1}
    train = ("train", "--backend", backend_name, *options(**settings))
    done = there(backend_name, megabytes, *train, program=("-c", POOR))
    done.refused("There is not enough memory: ")
    assert "handlers" not in done.out
    assert (f"{backend_name} (scratch) on cpu" in done.out) == (what == "tensors")
    assert Path("runs").exists() == (what == "tensors")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory so")
def test_a_command_without_memory_for_the_threads_of_numpy_ends():
    limited = ("prlimit", f"--as={10**8}")
    there("runs", prefix=limited, env={"OMP_NUM_THREADS": "2"}).refused("not enough memory")


# No more files can be opened, not even one in place of the output.
NO_FILES = """
import resource
from rnn_scratch import registry
from rnn_scratch.cli import listings, main
registry.names()
with listings.Screen().status(""):  # which imports what it needs
    pass
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
main.main(["backends"])
"""


def test_too_many_open_files():
    pytest.importorskip("resource")
    there(program=("-c", NO_FILES)).refused()


def test_a_network_larger_than_the_memory_is_refused_before_it_is_drawn():
    sizes = ("--num-hiddens", "32768", "--layers", "16", "--cell", "lstm", "--optimizer", "adam")
    done = there("train", "--backend", "numpy", "--corpus", "tide-clock", *sizes)
    done.refused("optimizer's state", "GiB of memory, and this machine has ", "--num-hiddens")
    assert not Path("runs").exists()


def test_an_error_is_a_problem_and_a_hint_no_longer_than_can_be_shown():
    error = RNNScratchError(f"{'x' * 10**6} is no name.", "Choose another.")
    assert len(error.problem) <= LONGEST
    assert error.problem.startswith("xxx")
    assert str(error).endswith("x is no name.\nChoose another.")
    assert repr(error.hint) == "'Choose another.'"
    other = RNNScratchError("No name.\nChoose\nanother.")
    assert (other.problem, other.hint) == ("No name.", "Choose\nanother.")
    assert str(RNNScratchError("No name.")) == "No name."
