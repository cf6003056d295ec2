"""The Python interface: the commands `train`, `predict` and `evaluate` as functions."""

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from .check import growth
from .errors import RNNScratchError
from .runs import curve, inference, run_folder, sessions
from .runs.events import Report, drive
from .runs.notebook_card import Live, notebook_shell
from .runs.progress import LineReport
from .runs.resumption import require_held_out, resumable
from .runs.run import Run, folder_of
from .runs.runtime import Runtime
from .runs.sessions import Work
from .settings import KINDS, SETTINGS, Settings, checked
from .system.kinds import PATH, Kind
from .text import books
from .workers import supervisor
from .workers.launch import Launch, require_shares

Function = TypeVar("Function", bound=Callable[..., Any])


# What may be another value in Python than on the command line.
ARGUMENTS = {
    "run": Kind(
        PATH.words,
        lambda run: isinstance(run, Run) or PATH.fits(run),
        lambda run: run.folder if isinstance(run, Run) else Path(run),
    ),
    "workers": Kind(
        KINDS["workers"].words,
        lambda each: isinstance(each, Launch) or KINDS["workers"].fits(each),
        lambda each: each if isinstance(each, Launch) else int(each),
    ),
    "report": Kind(
        "a function that takes a line of text, such as print, or a rnn_scratch.runs.events.Report",
        lambda each: isinstance(each, Report) or (callable(each) and not isinstance(each, type)),
        lambda each: each,
    ),
}


def _checked(function: Function) -> Function:
    """The function, with its arguments checked and converted before it is called.

    None is allowed where it is the default. A function may take ``**runtime``, which are fields of
    `Runtime` but for the workers, or ``**settings``, which are checked when they become `Settings`.
    """
    signature = inspect.signature(function)
    named = [name for name in signature.parameters if name not in ("runtime", "settings")]
    if "runtime" in signature.parameters:
        named += [name for name in Runtime.__struct_fields__ if name != "workers"]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        others = sorted(set(kwargs) - set(named))
        if others and "settings" not in signature.parameters:
            raise RNNScratchError(
                f"Unknown argument: {', '.join(others)}.\nThe arguments are: {', '.join(named)}."
            )
        arguments = signature.bind(*args, **kwargs).arguments
        settings, runtime = arguments.pop("settings", {}), arguments.pop("runtime", {})
        if unknown := sorted(set(settings) - set(SETTINGS)):
            raise RNNScratchError(
                f"Unknown setting: {', '.join(unknown)}.",
                f"The settings are: {', '.join(SETTINGS)}.",
            )
        for name, value in {**arguments, **runtime}.items():
            optional = name in runtime or signature.parameters[name].default is None
            if not (optional and value is None):
                value = checked(name, value, ARGUMENTS.get(name))
            arguments[name] = value
        return function(**arguments, **settings)

    return call  # type: ignore[return-value]


@_checked
def train(
    backend: str = "torch",
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    model: str = "scratch",
    device: str = "auto",
    threads: int | None = None,
    eager: bool = False,
    workers: int | Launch = 1,
    patience: int = 0,
    run: str | Path | None = None,
    report: Report | Callable[[str], object] | None = None,
    **settings: Any,
) -> Run:
    """Train a new model; its record, curve and checkpoint are written to a folder.

    `corpus` names a text that comes with the project or is downloaded, `text` is a file of your
    own; with neither it is *The Time Machine*, or the built-in text if that is unavailable. With
    several `workers`, each is a process that trains on its share of every minibatch; a
    `rnn_scratch.workers.launch.Launch` starts only one of them, and nothing is returned where that
    is not worker 0. With `patience`, training ends after that number of epochs without a lower loss
    on held-out text (`valid_share` or `valid_tokens`). `run` is the folder (default: a new dated
    one under ``runs/``). `settings` are fields of `rnn_scratch.settings.Settings`, such as
    num_hiddens or num_epochs; ``**PRESETS["minute"]``, of `rnn_scratch.runs.presets`, is a preset
    of the command line. Raises RNNScratchError.

    In a notebook a curve grows with the training, beside the latest sample of the model's text and
    the time left; in an interactive session of Python, lines are printed; in a program, nothing is.
    `report` replaces this: a function such as `print` is called with each line, and a
    `rnn_scratch.runs.events.Report` receives every event.
    """
    reporter = _reporter(report)
    launch = workers if isinstance(workers, Launch) else Launch(workers)
    made, runtime = Settings(**settings), Runtime(backend, model, device, threads, eager)
    content = books.find(corpus, text, reporter.say)
    path = None if run is None else str(run)
    work = Work(settings=made, text=content, runtime=runtime, folder=path, patience=patience)
    if made.exact and not launch.rank:
        with contextlib.suppress(RNNScratchError):  # which the training itself meets
            growth.warn(made, content, reporter.say)
    return _train(work, launch, reporter)


@_checked
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
    workers: int | Launch | None = None,
    patience: int | None = None,
    report: Report | Callable[[str], object] | None = None,
    **settings: Any,
) -> Run:
    """Continue a run to `num_epochs` epochs, exactly as if it had never been interrupted.

    Backend, model, device, threads, `eager`, workers and `patience` default to those of the last
    session; in another backend only model and `patience` do. Text and `settings` are the run's, and
    must be the same if they are passed again. Only worker 0 needs the run's folder. Raises
    RNNScratchError.
    """
    reporter = _reporter(report)
    given = corpus is not None or text is not None
    same = books.find(corpus, text, reporter.say) if given else None
    chosen = {"model": model, "device": device, "threads": threads, "eager": eager}
    if isinstance(workers, Launch) and workers.rank:
        others = supervisor.follow(workers, same, {"backend": backend, **chosen}, reporter.say)
        return cast(Run, drive(others, reporter))
    folder = folder_of(run)
    session = run_folder.read(folder).sessions[-1]
    last = session.runtime
    if patience is None:
        patience = session.patience
    if backend not in (None, last.backend):
        last = Runtime(backend, last.model)
    launch = workers if isinstance(workers, Launch) else Launch(workers or last.workers)
    before, _, content = resumable(folder, num_epochs, same, settings, patience)
    work = Work(
        settings=before.settings,
        text=content,
        # Another number of threads may add in another order.
        runtime=last.but(**chosen, workers=launch.workers),
        folder=str(folder),
        resumes=True,
        patience=patience,
    )
    return _train(work, launch, reporter)


def _train(work: Work, launch: Launch, report: Report) -> Run:
    # In this process or in those of several workers, after all that can be known before.
    require_held_out(work.settings, work.patience)
    require_shares(work.settings.batch_size, launch.workers)
    curve.check_matplotlib("png")
    if launch == Launch(1):
        return drive(sessions.train(work), report)
    if work.folder is not None and work.folder != work.folder.encode(errors="replace").decode():
        raise RNNScratchError(
            f"The run folder {work.folder!r} has a name that is no text.",
            "To train with several workers, choose another name.",
        )
    # None only with a `Launch`.
    return cast(Run, drive(supervisor.train(work, launch, report.say), report))


predict = _checked(inference.predict)
evaluate = _checked(inference.evaluate)


def _reporter(report: Report | Callable[[str], object] | None) -> Report:
    if isinstance(report, Report):
        return report
    if report is not None:
        return LineReport(report)
    if notebook_shell() is not None:
        return Live(print)
    return LineReport(print) if hasattr(sys, "ps1") else Report()
