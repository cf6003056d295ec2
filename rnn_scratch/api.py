"""The Python interface: the commands `train`, `predict` and `evaluate` as functions.

The functions of the package check their arguments, and their errors name arguments. The command
line calls the same functions without this: `inspect.unwrap` of them, whose errors name options.
"""

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import registry
from .check import growth
from .errors import RNNScratchError
from .runs import curve, inference, run_folder, sessions
from .runs.events import Report, drive
from .runs.notebook_card import Live, notebook_shell
from .runs.progress import LineReport
from .runs.run import Run, folder_of
from .runs.runtime import Runtime
from .runs.sessions import Work, require_held_out, resumed
from .settings import GONE, OPTIONS, SETTINGS, Settings, SettingsDict, checked, option_of
from .system.kinds import PATH, Kind
from .text import books, dataset
from .workers import supervisor
from .workers.launch import Launch, require_shares

if TYPE_CHECKING:
    from typing_extensions import Unpack  # which type checkers bring; Python has it from 3.11 on

Function = TypeVar("Function", bound=Callable[..., Any])


def _launch(workers: Any) -> Launch:
    # The launch, or that of a number, with Python's own types; an error of some kind if it is none.
    launch = workers if isinstance(workers, Launch) else Launch(workers)
    values = {name: value for name, value in launch._asdict().items() if value is not None}
    launch = Launch(**{name: checked(name, value) for name, value in values.items()})
    if launch.rank is not None and launch.rank >= launch.workers:
        raise ValueError("the rank is too large")
    return launch


ARGUMENTS = {  # what no option of the command line is, or may be
    "run": Kind(
        PATH.words,
        lambda run: isinstance(run, Run) or PATH.fits(run),
        lambda run: run.folder if isinstance(run, Run) else Path(run),
    ),
    "report": Kind(
        "a function that takes a line of text, such as print, or a rnn_scratch.Report",
        lambda report: (
            isinstance(report, Report) or (callable(report) and not isinstance(report, type))
        ),
        lambda report: report,
    ),
    "stream": Kind("a function that takes a text", callable, lambda stream: stream),
    "workers": Kind(
        f"{OPTIONS['workers'].kind.words}, or a rnn_scratch.Launch of as many workers, with a rank "
        f"below their number, or none, and as wait {OPTIONS['wait'].kind.words}",
        lambda workers: bool(_launch(workers)),
        _launch,
    ),
}
ARGUMENT_OF = {option_of(name): name for name in OPTIONS}


def in_python(text: str) -> str:
    """Return a text with arguments instead of options: ``top_k=3`` instead of ``--top-k 3``."""

    def argument(match: re.Match[str]) -> str:
        option, value = match[1] or match[0], match[2]
        if option not in ARGUMENT_OF:
            return match[0]
        name = ARGUMENT_OF[option]
        if value is None:
            return name
        if OPTIONS[name].kind.convert is str and not value.isupper() and '"' not in value:
            value = repr(value)
        return f"`{name}={'None' if value == 'none' else value}`"

    return re.sub(r"rnn-scratch .*|`(--[a-z-]+) ([^`]+)`|--[a-z-]+", argument, text)


def public(function: Function) -> Function:
    """Let a function check its arguments, and name them in its errors.

    None is allowed where it is the default. A function may take ``**runtime``, which are fields of
    `Runtime` but for the workers, or ``**settings``, which `Settings` checks.
    """
    parameters = inspect.signature(function).parameters
    named = [name for name in parameters if name not in ("runtime", "settings")]
    if "runtime" in parameters:
        named += [name for name in Runtime.__struct_fields__ if name != "workers"]
    known = [*named, *(SETTINGS if "settings" in parameters else ())]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if unknown := sorted(set(kwargs) - set(known)):
            raise RNNScratchError(
                f"Unknown argument: {', '.join(unknown)}.",
                in_python(GONE.get(unknown[0], f"The arguments are: {', '.join(known)}.")),
            )
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
        settings, runtime = arguments.pop("settings", {}), arguments.pop("runtime", {})
        try:
            for name, value in {**arguments, **runtime}.items():
                optional = name in runtime or parameters[name].default is None
                if not (optional and value is None):
                    value = checked(name, value, ARGUMENTS.get(name))
                arguments[name] = value
            return function(**arguments, **settings)
        except RNNScratchError as error:
            error.args = error.problem, error.hint = tuple(map(in_python, error.args))
            raise

    return call  # type: ignore[return-value]


@public
def train(
    backend: str | None = None,
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
    **settings: "Unpack[SettingsDict]",
) -> Run:
    """Train a new model, and write its record, curve and checkpoint to a folder.

    The default `backend` is torch, or numpy if PyTorch is not installed. `corpus` names a text that
    comes with the project or is downloaded; `text` is a file of your own. Without either, the text
    is *The Time Machine*, or the built-in text if that is unavailable. With several `workers`, each
    is a process that trains on its share of every minibatch; with a `Launch` that has a rank, this
    process is one of them, and returns None unless it is worker 0. With `patience`, training ends
    after that number of epochs without a lower loss on held-out text (`valid_share` or
    `valid_tokens`). `run` is the folder (default: a new dated one under ``runs/``). `settings` are
    fields of `Settings`, such as num_hiddens or num_epochs; ``**PRESETS["minute"]`` is a preset of
    the command line. Raises RNNScratchError.

    In a notebook, a card shows the curve, the latest sample of the model's text and the time left
    during training; in an interactive session of Python, lines are printed; in a program, nothing
    is. `report` replaces this: a function such as `print` is called with each line, and a `Report`
    receives every event.
    """
    reporter = _reporter(report)
    launch = workers if isinstance(workers, Launch) else Launch(workers)
    if backend is None:
        backend = registry.default(reporter.say)
    work = Work(
        settings=Settings(**settings),
        text=books.find(corpus, text, reporter.say),
        runtime=Runtime(backend, model, device, threads, eager, launch.workers),
        folder=None if run is None else str(run),
        patience=patience,
    )
    if work.settings.exact and not launch.rank:
        with contextlib.suppress(RNNScratchError):  # which the training itself meets
            growth.warn(work.settings, work.text, reporter.say)
    return _train(work, launch, reporter)


@public
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
    """Resume a run, and train to `num_epochs` epochs: bit for bit as without the interruption.

    Backend, model, device, threads, `eager`, workers and `patience` default to those of the last
    session; in another backend only model and `patience` do. Text and `settings` are the run's, and
    must be the same if you pass them again. Raises RNNScratchError.
    """
    reporter = _reporter(report)
    given = corpus is not None or text is not None
    same = books.find(corpus, text, reporter.say) if given else None
    chosen = {"model": model, "device": device, "threads": threads, "eager": eager}
    if isinstance(workers, Launch) and workers.rank:
        known = {"backend": backend, **chosen}
        nothing: Any = drive(supervisor.follow(workers, same, known, reporter.say), reporter)
        return nothing  # the run is where worker 0 is
    folder = folder_of(run)
    record = run_folder.read(folder)
    session = record.sessions[-1]
    last = session.runtime
    if patience is None:
        patience = session.patience
    if backend not in (None, last.backend):
        last = Runtime(backend, last.model)
    launch = workers if isinstance(workers, Launch) else Launch(workers or last.workers)
    work = Work(
        settings=resumed(folder, record, num_epochs, settings),
        text=dataset.reload_and_verify(record.text, same, reporter.say),
        # Another number of threads may add in another order.
        runtime=last.but(**chosen, workers=launch.workers),
        folder=str(folder),
        resumes=True,
        patience=patience,
    )
    return _train(work, launch, reporter)


def _train(work: Work, launch: Launch, report: Report) -> Any:
    # In this process or in those of several workers, after all that can be known before. Returns
    # the run, or None where worker 0 is another process.
    require_held_out(work.settings, work.patience)
    require_shares(work.settings.batch_size, launch.workers)
    curve.check_matplotlib("png")
    if launch.workers == 1:
        return drive(sessions.train(work), report)
    if work.folder is not None and work.folder != work.folder.encode(errors="replace").decode():
        raise RNNScratchError(
            f"The name of the run folder {work.folder!r} is not valid UTF-8.",
            "To train with several workers, choose another name.",
        )
    return drive(supervisor.train(work, launch, report.say), report)


def _reporter(report: Report | Callable[[str], object] | None) -> Report:
    if isinstance(report, Report):
        return report
    if report is not None:
        return LineReport(report, in_python)
    if notebook_shell() is not None:
        return Live(print, in_python)
    return LineReport(print, in_python) if hasattr(sys, "ps1") else Report()


predict = public(inference.predict)
evaluate = public(inference.evaluate)
