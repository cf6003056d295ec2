"""The Python interface: the commands `train`, `predict` and `evaluate` as functions."""

import functools
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .contract import RNNScratchError
from .runs import folder as run_folder
from .runs import inference, notebook, sessions
from .runs.place import Choice, Place
from .runs.progress import LineReport
from .runs.run import Run, folder_of
from .runs.training import Report
from .settings import PATH, Kind, checked, make
from .text import corpus as corpora
from .workers import supervisor
from .workers.launch import Launch, Work, require_shares

Function = TypeVar("Function", bound=Callable[..., Any])


# What is an argument in Python, and no option of the command line.
ARGUMENTS = {
    "run": Kind(PATH.words, lambda run: isinstance(run, Run) or PATH.fits(run), folder_of),
    "report": Kind(
        "a function that takes a line of text, such as print, or a "
        "rnn_scratch.runs.training.Report",
        lambda each: isinstance(each, Report) or (callable(each) and not isinstance(each, type)),
        lambda each: each,
    ),
}


def _checked(function: Function) -> Function:
    """The function, with its arguments checked and converted before it is called.

    None is allowed where it is the default. A function may take ``**place``, which is a `Choice`,
    or ``**settings``, which are checked when they become `Settings`.
    """
    signature = inspect.signature(function)
    named = [name for name in signature.parameters if name not in ("place", "settings")]
    if "place" in signature.parameters:
        named += [name for name in Choice._fields if name != "workers"]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        others = sorted(set(kwargs) - set(named))
        if others and "settings" not in signature.parameters:
            raise RNNScratchError(
                f"Unknown argument: {', '.join(others)}.\nThe arguments are: {', '.join(named)}."
            )
        arguments = signature.bind(*args, **kwargs).arguments
        settings, place = arguments.pop("settings", {}), arguments.pop("place", {})
        for name, value in {**arguments, **place}.items():
            optional = name in place or signature.parameters[name].default is None
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
    workers: int = 1,
    run: str | Path | None = None,
    report: Report | Callable[[str], object] | None = None,
    **settings: Any,
) -> Run:
    """Train a new model; its record, curve and checkpoint are written to a folder.

    `corpus` names a text that comes with the project or is downloaded, `text` is a file of your
    own; with neither it is *The Time Machine*, or the built-in text if that is unavailable. With
    several `workers`, each is a process that trains on its share of every minibatch. `run` is the
    folder (default: a new dated one under ``runs/``). `settings` are fields of
    `rnn_scratch.settings.Settings`, such as num_hiddens or num_epochs. Raises RNNScratchError.

    In a notebook a curve grows with the training, beside the latest sample of the model's text and
    the time left; in an interactive session of Python, lines are printed; in a program, nothing is.
    `report` replaces this: a function such as `print` is called with each line, and a
    `rnn_scratch.runs.training.Report` receives every event.
    """
    done = train_as(
        Launch(workers),
        Place(backend, model, device, threads, eager),
        corpus=corpus,
        text=text,
        run=None if run is None else Path(run),
        report=report,
        **settings,
    )
    assert done is not None  # as worker 0 is a process on this machine
    return done


def train_as(
    launch: Launch,
    place: Place,
    *,
    corpus: str | None,
    text: str | Path | None,
    run: Path | None,
    report: Report | Callable[[str], object] | None,
    **settings: Any,
) -> Run | None:
    """The same with workers that are launched here or elsewhere: None if worker 0 is elsewhere."""
    reporter = _reporter(report)
    made = make(settings)
    require_shares(made.batch_size, launch.workers)
    content = corpora.find(corpus, text, reporter.say)
    if launch == Launch(1):
        done: Run | None = sessions.train(made, content, place, run, reporter)
    else:
        path = None if run is None else str(run)
        work = Work(settings=made, text=content, place=place, folder=path)
        done = supervisor.train(work, launch, reporter)
    if done is not None:
        reporter.finish(done)
    return done


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
    workers: int | None = None,
    report: Report | Callable[[str], object] | None = None,
    **settings: Any,
) -> Run:
    """Continue a run to `num_epochs` epochs, exactly as if it had never been interrupted.

    Backend, model, device, threads, `eager` and workers default to those of the last session; in
    another backend only the model does. Text and `settings` are the run's, and must be the same if
    they are passed again. Raises RNNScratchError.
    """
    done = resume_as(
        None,
        Choice(backend, model, device, threads, eager, workers),
        folder_of(run),
        num_epochs,
        corpus=corpus,
        text=text,
        report=report,
        **settings,
    )
    assert done is not None
    return done


def resume_as(
    launch: Launch | None,
    choice: Choice,
    folder: Path,
    num_epochs: int,
    *,
    corpus: str | None,
    text: str | Path | None,
    report: Report | Callable[[str], object] | None,
    **settings: Any,
) -> Run | None:
    """The same with workers that are launched here or elsewhere: None if worker 0 is elsewhere.

    The run's folder is needed only by worker 0.
    """
    reporter = _reporter(report)
    same = None if corpus is None and text is None else corpora.find(corpus, text, reporter.say)
    if launch is not None and launch.rank:
        supervisor.follow(launch, same, choice, reporter)
        return None
    last = run_folder.read(folder).sessions[-1].place
    if choice.backend not in (None, last.backend):
        last = Place(model=last.model)
    where = choice.over(last)  # another number of threads may add in another order
    launch = launch or Launch(where.workers)
    done: Run | None
    if launch == Launch(1):
        done = sessions.resume(folder, num_epochs, same, where, settings, reporter)
    else:
        made, content = sessions.resumable(folder, num_epochs, same, settings)
        require_shares(made.batch_size, launch.workers)
        work = Work(settings=made, text=content, place=where, folder=str(folder), resumes=True)
        done = supervisor.train(work, launch, reporter)
    if done is not None:
        reporter.finish(done)
    return done


predict = _checked(inference.predict)
evaluate = _checked(inference.evaluate)


def _reporter(report: Report | Callable[[str], object] | None) -> Report:
    if isinstance(report, Report):
        return report
    if report is not None:
        return LineReport(report)
    if notebook.shell() is not None:
        return notebook.Live()
    return LineReport(print) if hasattr(sys, "ps1") else Report()
