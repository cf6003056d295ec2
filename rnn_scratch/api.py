"""The Python interface: the commands `train`, `predict` and `evaluate` as functions."""

import math
import numbers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import registry
from .contract import RNNScratchError
from .runs import sessions
from .runs.inference import Evaluation
from .runs.inference import evaluate as evaluate_text
from .runs.inference import predict as predict_run
from .runs.sessions import Run
from .runs.setup import Place
from .runs.training import Report
from .settings import SEED, make, option_of, shown
from .text import corpus as corpora

LONGEST = 10**6  # characters to generate: minutes to hours, and no framework can be interrupted


class _Kind(NamedTuple):
    # What an argument may be in words, whether a value is that, and its conversion.
    words: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any]


def _whole(words: str, fits: Callable[[int], bool] = lambda number: True) -> _Kind:
    return _Kind(
        words,
        lambda value: (
            isinstance(value, numbers.Integral) and not isinstance(value, bool) and fits(int(value))
        ),
        int,
    )


def _is_path(value: Any) -> bool:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    return isinstance(path, str) and "\0" not in path


_STRING = _Kind("a string", lambda value: isinstance(value, str), str)
_PATH = _Kind("a path: a string or a pathlib.Path", _is_path, Path)
_TRUTH = _Kind("True or False", lambda value: isinstance(value, (bool, np.bool_)), bool)
_KINDS = {
    "backend": _STRING,
    "corpus": _STRING,
    "text": _PATH,
    "model": _STRING,
    "device": _STRING,
    "threads": _whole("a whole number"),  # whose range the registry checks
    "eager": _TRUTH,
    "run": _PATH,
    "num_epochs": _whole("a whole number"),  # likewise the settings
    "report": _Kind(
        "a rnn_scratch.runs.training.Report",
        lambda value: isinstance(value, Report),
        lambda value: value,
    ),
    "prefix": _STRING,
    "length": _whole(f"a whole number from 1 to {LONGEST:,}", lambda n: 1 <= n <= LONGEST),
    "temperature": _Kind(
        "a finite number above 0",
        lambda value: (
            isinstance(value, numbers.Real)
            and not isinstance(value, bool)
            and 0 < float(value) < math.inf
        ),
        float,
    ),
    "seed": _whole("a whole number from 0 to 2**32 - 1", lambda n: 0 <= n <= SEED),
    "unknown": _Kind("error or skip", lambda value: value in ("error", "skip"), str),
}
# Those with None as their default, which is another value for each.
_OPTIONAL = {"corpus", "text", "threads", "run", "report", "prefix", "temperature"}


def train(
    backend: str = "torch",
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    model: str = "scratch",
    device: str = "auto",
    threads: int | None = None,
    eager: bool = False,
    run: str | Path | None = None,
    report: Report | None = None,
    **settings: Any,
) -> Run:
    """Train a new model; its record, curve and checkpoint are written to a folder.

    `corpus` names a text that comes with the project or is downloaded, `text` is a file of your
    own; with neither it is *The Time Machine*, or the built-in text if that is unavailable. `run`
    is the folder (default: a new dated one under ``runs/``). `settings` are fields of
    `rnn_scratch.settings.Settings`, such as num_hiddens or num_epochs. Raises RNNScratchError.
    """
    place: dict[str, Any] = {"backend": backend, "model": model, "device": device}
    place = _checked({**place, "threads": threads, "eager": eager})
    others = _checked({"corpus": corpus, "text": text, "run": run, "report": report})
    report = others["report"] or Report()
    checked = make(settings)
    found = find_text(others["corpus"], others["text"], report)
    return sessions.train(checked, found, Place(**place), others["run"], report)


def resume(
    run: Run | str | Path,
    num_epochs: int,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    backend: str | None = None,
    model: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    eager: bool | None = None,
    report: Report | None = None,
    **settings: Any,
) -> Run:
    """Continue a run to `num_epochs` epochs, exactly as if it had never been interrupted.

    Backend, model, device, threads and `eager` default to those of the last session; in another
    backend only the model does. Text and `settings` are the run's, and must be the same if they
    are passed again. Raises RNNScratchError.
    """
    folder = _folder(run)
    chosen: dict[str, Any] = {"backend": backend, "model": model, "device": device}
    chosen = _checked(_given({**chosen, "threads": threads, "eager": eager}))
    others = _checked({"corpus": corpus, "text": text, "report": report, "num_epochs": num_epochs})
    last = sessions.last_place(folder)
    backend = chosen.get("backend", last["backend"])
    place = Place(backend, last["model"])
    if backend == last["backend"]:  # another number of threads may add in another order
        place = Place(**last)
    place = place._replace(**chosen)
    report = others["report"] or Report()
    same = None
    if corpus is not None or text is not None:
        same = find_text(others["corpus"], others["text"], report)
    return sessions.resume(folder, others["num_epochs"], same, place, settings, report)


def predict(
    run: Run | str | Path, prefix: str | None = None, length: int = 50, **options: Any
) -> str:
    """The prefix and `length` characters after it; see `rnn_scratch.runs.inference.predict`."""
    _no_others(options, "temperature", "seed", "unknown", *Place._fields)
    checked = _checked({"prefix": prefix, "length": length, **_given(options)})
    return predict_run(_folder(run), **checked)


def evaluate(
    run: Run | str | Path,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    report: Report | None = None,
    **options: Any,
) -> Evaluation:
    """Perplexity of a run's model on a text; see `rnn_scratch.runs.inference.evaluate`."""
    _no_others(options, "unknown", *Place._fields)
    others = _checked({"corpus": corpus, "text": text, "report": report})
    checked = _checked(_given(options))
    found = find_text(others["corpus"], others["text"], others["report"] or Report())
    return evaluate_text(_folder(run), found, **checked)


def find_text(corpus: str | None, text: str | Path | None, report: Report) -> corpora.Text:
    """Load the corpus with this name, or this text file; RNNScratchError for both."""
    if text is None:
        return corpora.load(corpus, report.say)
    if corpus is not None:
        raise RNNScratchError(
            f"--corpus {corpus} and --text {text} exclude each other: choose one text."
        )
    return corpora.read_file(Path(text))


def _folder(run: Run | str | Path) -> Path:
    if isinstance(run, Run):
        return run.folder
    path: Path = _argument("run", run)
    return path


def _argument(name: str, value: Any) -> Any:
    # The value of an argument as Python's own type; RNNScratchError, with its name, for another.
    kind = _KINDS[name]
    try:
        if kind.fits(value):
            return kind.convert(value)
    except Exception:  # of a type with an error of its own, such as an array compared with a number
        pass
    label = name if name in ("run", "report") else option_of(name)
    raise RNNScratchError(f"{label} is {shown(value)}; it must be {kind.words}.")


def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
    checked = {
        name: None if value is None and name in _OPTIONAL else _argument(name, value)
        for name, value in arguments.items()
    }
    registry.check_threads(checked.get("threads"))
    return checked


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if value is not None}


def _no_others(arguments: dict[str, Any], *names: str) -> None:
    if unknown := sorted(set(arguments) - set(names)):
        raise RNNScratchError(
            f"Unknown argument: {', '.join(unknown)}.\nThe others are: {', '.join(names)}."
        )
