"""The Python API, which the commands also use: `train`, `resume`, `load`, `predict`, `evaluate`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from . import registry
from .errors import RNNScratchError
from .runs import presets, run_folder, sessions
from .runs.inference import RUNTIME, Evaluation, load, require_last_backend
from .runs.presets import Preset
from .runs.progress import LineReport, LivePlot, notebook_shell
from .runs.run import Run, resolve_run
from .runs.sessions import SessionSpec, resumed_settings
from .settings import (
    Flag,
    NonNegativeInt,
    PositiveInt,
    Settings,
    Threads,
    Variant,
    annotations,
    show_plain_types,
    validate_call,
)
from .system import files
from .text import books, dataset
from .training import schedule
from .training.events import Report
from .training.runtime import Runtime
from .workers import WorkerGroup, connect


@show_plain_types
def train(
    backend: str | None = None,
    *,
    preset: Preset | None = None,
    corpus: str | None = None,
    text: str | Path | None = None,
    variant: Variant | None = None,
    device: str = "cpu",
    threads: Threads | None = None,
    eager: Flag = False,
    patience: NonNegativeInt | None = None,
    num_updates: PositiveInt | None = None,
    output: str | Path | None = None,
    report: Report | Callable[[str], object] | None = print,
    **settings: Any,
) -> Run:
    """Train a new model and save its record, curve and checkpoint in a run folder.

    For example, to train a good small network on a text file with NumPy::

        run = rnn_scratch.train("numpy", preset="minute", text="mine.txt")

    Args:
        backend: Name of the backend. Default: torch, or numpy if PyTorch is not installed.
        preset: Named set of values, which everything else that you pass overrides: chapter (the
            defaults), minute (readable text in a minute or two, from the built-in text) or
            shakespeare (a good network for tiny-shakespeare in a few minutes).
        corpus: Name of a text: time-machine, war-of-the-worlds, tiny-shakespeare (use with
            `normalize="none"`) or tide-clock (built in). Default: time-machine, or tide-clock if
            the book is unavailable.
        text: Text file (UTF-8) to use instead of `corpus`.
        variant: Variant of the model: scratch (plain), fast (optimized by hand) or concise (with
            the framework's built-in layers). Default: scratch.
        device: Device: cpu, cuda, mps, or auto for the best available device.
        threads: Number of threads (per worker). Default: 1.
        eager: Whether to run functions uncompiled, for debugging.
        patience: Stop after this number of epochs without a lower held-out loss; 0 trains all
            epochs. Requires `valid_share` or `valid_tokens`. Default: 0.
        num_updates: Train for about this number of updates, instead of `num_epochs`.
        output: Folder to create for the run. Default: a new dated folder under runs/.
        report: Function that is called with each line of progress, a `Report` that receives every
            event, or None for no output. Default: `print`, or a live plot in a notebook.
        **settings: Fields of `Settings`, such as ``num_hiddens=256``.

    Returns:
        The finished run, which is the same in every worker (see `rnn_scratch.workers`).

    Raises:
        RNNScratchError: If an argument is invalid, the text is too short, or training diverges.
    """
    arguments = validate_call(train, locals())
    if (group := connect(arguments)) is not None and group.rank > 0:
        return sessions.follow(group)
    reporter = _make_report(report)
    given = {name: value for name, value in arguments.items() if value is not None} | settings
    chosen = given if preset is None else presets.override(preset, given)
    if preset is not None:
        values = (f"{name}={value}" for name, value in chosen.items() if name not in given)
        reporter.log(f"preset {preset}: {', '.join(values) or 'the defaults'}")
    backend = registry.choose_default(reporter.log) if backend is None else backend
    registry.require_framework(backend)  # report a problem before downloading a text
    fields = Settings.__struct_fields__
    requested = Settings(**{name: chosen[name] for name in fields if name in chosen})
    source = books.find(chosen.get("corpus"), text, reporter.log)
    dataset.log_removed_characters(source, requested.normalize, reporter.log)
    if "num_updates" in chosen:
        if "num_epochs" in chosen:
            problem = "`num_updates` and `num_epochs` cannot be used together."
            raise RNNScratchError(problem, "Choose one.")
        num_tokens = len(dataset.prepare(source, requested).train)
        # Epochs can differ by one update, so take the mean of 100 epochs.
        updates_per_epoch = schedule.num_updates(num_tokens, requested, 100) / 100
        num_epochs = max(1, round(chosen["num_updates"] / updates_per_epoch))
        requested = replace(requested, num_epochs=num_epochs)
    spec = SessionSpec(
        settings=requested,
        text=source,
        runtime=Runtime(backend).override(**{name: chosen.get(name) for name in RUNTIME}),
        folder=None if output is None else str(files.user_path(output)),
        patience=chosen.get("patience", 0),
    )
    return _run_with_report(spec, group, reporter)


@show_plain_types
def resume(
    run: Run | str | Path,
    num_epochs: PositiveInt | None = None,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    backend: str | None = None,
    variant: Variant | None = None,
    device: str | None = None,
    threads: Threads | None = None,
    eager: Flag | None = None,
    patience: NonNegativeInt | None = None,
    report: Report | Callable[[str], object] | None = print,
    **settings: Any,
) -> Run:
    """Resume a run; with the same runtime, results match an uninterrupted run's bit for bit.

    For example, to continue the latest run up to epoch 1000::

        run = rnn_scratch.resume("last", 1000)

    Args:
        run: A run, its folder, or its short name, such as "last".
        num_epochs: Total number of epochs, including the epochs already trained. Default: the
            number that the run was started or last resumed with.
        corpus: Name of a text, which must be the run's text. Default: the run's text.
        text: File with the run's text, for example if the original file was moved.
        backend: Name of the backend. By default, this and the following arguments take the last
            session's values; with another backend, only `variant` and `patience` do.
        variant: Variant, as in `train`.
        device: Device, as in `train`.
        threads: Number of threads, which can affect the order of additions.
        eager: Whether to run functions uncompiled.
        patience: Number of epochs, as in `train`.
        report: Function or `Report`, as in `train`.
        **settings: Settings, which must equal the run's settings.

    Returns:
        The finished run, as in `train`.

    Raises:
        RNNScratchError: If an argument or run file is invalid, or training diverges.
    """
    arguments = validate_call(resume, locals())
    if (group := connect(arguments)) is not None and group.rank > 0:
        return sessions.follow(group)
    patience = arguments["patience"]
    reporter = _make_report(report)
    new_text = None if corpus is None and text is None else books.find(corpus, text, reporter.log)
    folder = resolve_run(run)
    record = run_folder.read(folder)
    settings["num_epochs"] = arguments["num_epochs"] or record.settings.num_epochs
    session = record.sessions[-1]
    runtime = session.runtime
    if backend not in (None, runtime.backend):
        runtime = Runtime(variant=runtime.variant)
    if backend is None:
        require_last_backend(runtime.backend)
    else:
        registry.require_framework(backend)
    spec = SessionSpec(
        settings=resumed_settings(folder, record, settings),
        text=run_folder.reload_text(folder, record.text, new_text),
        runtime=runtime.override(**{name: arguments[name] for name in RUNTIME}),
        folder=str(folder),
        resumes=True,
        patience=session.patience if patience is None else patience,
    )
    return _run_with_report(spec, group, reporter)


def predict(run: Run | str | Path, *arguments: Any, **options: Any) -> str:
    """Load a run's network and generate text; the arguments are those of `load` and `predict`."""
    return load(run, **_pop(load, options)).predict(*arguments, **options)


def evaluate(run: Run | str | Path, **options: Any) -> Evaluation:
    """Load a run's network and evaluate it; the arguments are those of `load` and `evaluate`."""
    return load(run, **_pop(load, options)).evaluate(**options)


def _pop(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """Remove a function's arguments from `options`, and return them."""
    return {name: options.pop(name) for name in annotations(function) if name in options}


def _run_with_report(spec: SessionSpec, group: WorkerGroup | None, report: Report) -> Run:
    """Run a training session and pass its events to a report.

    An exception raised by the report is thrown into the generator so the session can record it.
    """
    events = sessions.train(spec, group)
    try:
        event = next(events)
        while True:
            try:
                report.receive(event)
            except BaseException as error:
                event = events.throw(error)
            else:
                event = next(events)
    except StopIteration as end:
        run: Run = end.value
    return run


def _make_report(report: Report | Callable[[str], object] | None) -> Report:
    if isinstance(report, Report):
        return report
    if report is None:
        return Report()
    if report is print:
        return LineReport(_print) if notebook_shell() is None else LivePlot(_print)
    if not callable(report):
        raise RNNScratchError(f"`report` must be a function or a Report (got {report!r}).")
    return LineReport(report)


def _print(line: str) -> None:
    """Print a line; escape the bytes of a file name that are not UTF-8."""
    print(line.encode(errors="backslashreplace").decode())
