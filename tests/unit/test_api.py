"""The Python interface: argument types, errors that name the argument, and reports."""

import copy
import inspect
import re
import sys
import types
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import pytest
from helpers import SMALL, raised_message, run_in_process

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.contract import VARIANTS
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import run_folder
from rnn_scratch.runs.presets import PRESETS
from rnn_scratch.runs.run import Run
from rnn_scratch.text import books
from rnn_scratch.training.events import Report

STORY = "A traveller spoke of a clock. Nobody believed him.\n" * 40
NUMPY = {name: np.int64(v) if isinstance(v, int) else v for name, v in SMALL.items()}


def test_functions_accept_numpy_scalars_and_paths():
    story = Path("story.txt")
    story.write_text(STORY)
    run = rnn_scratch.train(
        "numpy",
        num_epochs=np.int32(1),
        lr=np.float32(1),
        threads=np.int16(1),
        output=PurePath("one"),
        **NUMPY,
    )
    options = {"threads": np.int8(1), "report": Report()}
    resumed = rnn_scratch.resume(Path("one"), np.uint8(2), **options)
    assert [row.epoch for row in resumed.history] == [1, 2]
    for form in (resumed, "one", Path("one")):
        text = rnn_scratch.predict(
            form, "the ", np.int64(5), temperature=np.float32(1), seed=np.int8(3)
        )
        assert text == rnn_scratch.predict("one", "the ", 5, temperature=1, seed=3)
    for form in ("story.txt", story):
        result = rnn_scratch.evaluate(run, text=form, unknown="skip", threads=np.int64(1))
        assert result == rnn_scratch.evaluate("one", text="story.txt", unknown="skip")


RUNTIME = {"variant": ["slow"], "threads": [0, "2", 1025]}
TRAINING = {**RUNTIME, "patience": [-1, 0.5], "eager": [1, "yes"]}
WRONG_ARGUMENTS = {
    "train": {**TRAINING, "preset": [1], "report": [3, "print"], "num_layers": [0], "lr": [0]},
    "resume": {**TRAINING, "num_epochs": [0, 2.5], "report": [3]},
    "load": {**RUNTIME, "best": [1], "eager": [1, "yes"]},
    "evaluate": {"unknown": ["ignore", None]},
    "predict": {
        **dict.fromkeys(("length", "top_k"), (0, -1, 1.5, "3")),
        **dict.fromkeys(("temperature", "top_p", "min_p"), (0, float("nan"), "3")),
        "seed": [-1, 2**32],
        "unknown": ["ignore"],
    },
}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_argument_is_named(name, monkeypatch, small_run):
    net = rnn_scratch.load(small_run)
    monkeypatch.setattr(registry, "load", lambda name: pytest.fail("loads a backend"))
    function = getattr(net, name, None) or getattr(rnn_scratch, name)
    required = {"train": {"backend": "numpy"}, "resume": {"run": "a", "num_epochs": 2}}
    required["load"] = {"run": "a"}  # arguments are validated before the run is read
    for argument, values in WRONG_ARGUMENTS[name].items():
        for value in values:
            message = raised_message(function, **{**required.get(name, {}), argument: value})
            assert message.startswith(f"`{argument}` must be ")
    assert not Path("runs").exists()


def test_help_shows_types_without_bounds():
    signature = inspect.signature(rnn_scratch.train)
    assert "Annotated" not in str(signature)
    types = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    assert types["threads"] == types["patience"] == int | None
    assert types["variant"] == Literal[VARIANTS] | None
    assert types["preset"] == Literal[tuple(PRESETS)] | None
    assert signature.return_annotation is Run
    assert inspect.signature(rnn_scratch.Network.predict).parameters["top_k"].annotation == (
        int | None
    )


@pytest.mark.parametrize(
    ("argument", "suggestion"),
    [
        ("epochs", "Did you mean `num_epochs`?"),
        ("layers", "Did you mean `num_layers`?"),
        ("workers", "start the program with `mpiexec -n 4`."),  # a removed argument
        ("bacthes", "rnn_scratch.Settings"),
        ("settings", "rnn_scratch.Settings"),
    ],
)
def test_unknown_argument_gets_a_suggestion(argument, suggestion):
    for call in (
        lambda: rnn_scratch.train("numpy", **{argument: 3}),
        lambda: rnn_scratch.resume("r", 2, **{argument: 3}),
    ):
        assert raised_message(call).startswith(f"Unknown argument `{argument}`.\n")
        assert suggestion in raised_message(call)


@pytest.mark.parametrize("name", [3, ["numpy"], "nmpy"], ids=str)
def test_unknown_backend_is_refused_before_reading_the_text(name):
    message = raised_message(rnn_scratch.train, name, text="missing.txt")
    assert message.startswith(f"Unknown backend {name!r}.")


@pytest.fixture
def no_books(monkeypatch):
    """Make every text except the built-in one unavailable."""

    load = books.load

    def offline_load(name):
        if name != books.BUILT_IN:
            raise RNNScratchError("No network.")
        return load(name)

    monkeypatch.setattr(books, "load", offline_load)


def test_report_function_receives_lines(no_books):
    lines, small = [], {**SMALL, "threads": 1}
    run = rnn_scratch.train("numpy", num_epochs=12, output="r", report=lines.append, **small)
    start, *epochs, end, results = lines
    assert start == "numpy (scratch) on cpu, threads: 1, epochs 1 to 12, run folder: r"
    assert len(epochs) == 12 + 6  # a line for each epoch, and six samples
    assert re.fullmatch(r"epoch 10/12  training loss \d\.\d{3}  \d+\.\d s", epochs[14])
    assert epochs[15] == f"  {run.history[9].sample!r}"
    assert end.startswith("epoch 12, speed ")
    assert results.endswith(f", perplexity {run.perplexity:.2f}")
    rnn_scratch.resume(run, 13, report=lines.append)
    assert "epochs 13 to 13" in lines[21]
    assert lines[23].startswith("epoch 13, speed ")
    settings = {name: value for name, value in small.items() if name != "corpus"}
    rnn_scratch.train("numpy", num_epochs=1, report=lines.append, **settings)
    assert lines[25] == "No network. Using the built-in text tide-clock instead."


def test_arguments_override_a_preset():
    Path("mine.txt").write_text(STORY)
    lines, small = [], {"num_hiddens": 4, "num_epochs": 1, "text": "mine.txt"}
    run = rnn_scratch.train("numpy", preset="minute", report=lines.append, **small)
    expected = {**PRESETS["minute"], **small}
    names = {*expected} & {*run.record.settings.__struct_fields__}
    assert {name: getattr(run.record.settings, name) for name in names} == {
        name: expected[name] for name in names
    }
    assert run.record.text.corpus == "file"
    session = run.record.sessions[0]
    assert (session.runtime.variant, session.patience) == ("fast", 5)
    assert lines[0].startswith("preset minute: variant=fast, cell=lstm, ")
    assert "num_hiddens" not in lines[0]
    options = {"variant": "scratch", "patience": 0, "optimizer": "sgd", "valid_tokens": 200}
    run = rnn_scratch.train("numpy", preset="minute", **small, **options)
    session, settings = run.record.sessions[0], run.record.settings
    assert (session.runtime.variant, session.patience) == ("scratch", 0)
    assert (settings.lr, settings.valid_share) == (1, 0)


def test_unknown_preset_gets_a_list():
    message = raised_message(rnn_scratch.train, preset="tiny")
    assert message == "`preset` must be one of chapter, minute, shakespeare, or None (got 'tiny')."


def test_error_in_a_report_ends_the_session():
    arguments = {**SMALL, "output": "r", "num_layers": 2}
    with pytest.raises(ValueError, match="substring"):  # the first line names the backend
        rnn_scratch.train("numpy", report=lambda line: line.index("numpy"), **arguments)
    assert run_folder.read(Path("r")).sessions[0].outcome == "failed"


def test_train_prints_progress_unless_report_is_none(capsys, no_books):
    rnn_scratch.train("numpy", num_epochs=1, report=None, **SMALL)
    assert capsys.readouterr().out == ""
    run = rnn_scratch.train("numpy", num_epochs=1, **SMALL)
    assert (
        f"epochs 1 to 1, run folder: {run.folder}\nepoch 1/1  training loss "
        in capsys.readouterr().out
    )
    rnn_scratch.evaluate(run)
    assert capsys.readouterr().out == ""


def test_notebook_shows_a_live_plot(monkeypatch):
    states = []

    def display(data, raw, display_id):
        states.append(data)
        return types.SimpleNamespace(update=lambda data, raw: states.append(data))

    shell = types.SimpleNamespace(kernel=object(), execution_count=1)
    displays = types.SimpleNamespace(display=display)
    parts = {"get_ipython": lambda: shell, "display": displays, "version_info": (9, 0)}
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(**parts))
    run = rnn_scratch.train("numpy", num_epochs=2, **SMALL)
    assert states[0]["text/plain"] == "no epoch yet"
    assert states[-1]["text/plain"] in repr(run)
    states.clear()
    rnn_scratch.resume(run, 3, report=lambda line: None)
    del shell.kernel  # IPython's terminal has no kernel
    rnn_scratch.resume(run, 4)
    assert not states


def test_runs_are_compared_by_their_records(small_run):
    run = rnn_scratch.resume(small_run, 3)
    assert run == copy.deepcopy(run)
    assert run != rnn_scratch.resume(run, 4)
    assert run != (run.folder, run.history)
    assert repr(run) == f"<Run r: 3 epochs, perplexity {run.perplexity:.2f}>"


def test_resume_trains_the_planned_epochs(capsys):
    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rnn_scratch.train("numpy", num_epochs=3, output="r", report=interrupt, **SMALL)
    assert len(rnn_scratch.resume("r").history) == 3
    run_in_process(capsys, "train", "--resume", "r").assert_error(
        "already at epoch 3.\nPass a larger `--num-epochs`"
    )
