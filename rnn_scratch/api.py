"""The Python API: `train`, `resume`, `predict` and `evaluate`, which the commands also call."""

import contextlib
import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from . import registry
from .check import growth
from .errors import RNNScratchError
from .runs import inference, run_folder, sessions
from .runs.inference import Evaluation
from .runs.notebook_plot import LivePlot, notebook_shell
from .runs.progress import LineReport
from .runs.run import Run, resolve_run
from .runs.sessions import SessionSpec, resumed_settings
from .settings import (
    Epochs,
    Flag,
    Length,
    NonNegativeInt,
    Positive,
    Probability,
    Settings,
    Threads,
    TopK,
    Unknown,
    Variant,
    require_settings,
    validate_arguments,
)
from .text import books, dataset
from .training.events import Event, Report
from .training.runtime import Runtime
from .workers import connect


def train(
    backend: str | None = None,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    model: Variant = "scratch",
    device: str = "auto",
    threads: Threads | None = None,
    eager: Flag = False,
    patience: NonNegativeInt = 0,
    run: str | Path | None = None,
    report: Report | Callable[[str], object] | None = None,
    **settings: Any,
) -> Run | None:
    """Train a new model and save its record, curve and checkpoint in a run folder.

    Args:
        backend: Name of the backend. Default: "torch", or "numpy" if PyTorch is not installed.
        corpus: Name of a built-in or downloadable text. Default: *The Time Machine*, or the
            built-in text if the book is unavailable.
        text: Text file (UTF-8) to use instead of `corpus`.
        model: Model variant: "scratch", "fast" or "concise".
        device: "cpu", "cuda", "mps", or "auto" for the best available device.
        threads: Number of threads (per worker). Default: depends on backend, network and workers.
        eager: Whether to run functions uncompiled, for debugging.
        patience: Stop after this number of epochs without a lower held-out loss; 0 trains all
            epochs. Requires `valid_share` or `valid_tokens`.
        run: Folder to create. Default: a new dated folder under ``runs/``.
        report: Function that is called with each line of progress, or a `Report` that receives
            every event. Default: a live plot in a notebook, printed lines in an interactive
            session, nothing in a program.
        **settings: Fields of `Settings`, such as ``num_hiddens=256``. ``**PRESETS["minute"]``
            passes the arguments of a preset. If you override a preset's `optimizer`, override its
            `lr`, too.

    Returns:
        The finished run, or None in workers other than worker 0 (see `workers`).

    Raises:
        RNNScratchError: If an argument is invalid, the text is unavailable or too short, the
            run folder exists, or training diverges.
    """
    arguments = validate_arguments(train, locals())
    require_settings(settings, arguments)
    if (group := connect(arguments)) is not None and group.rank > 0:
        return sessions.follow(group)
    reporter = _reporter(report)
    if backend is None:
        backend = registry.default(reporter.log)
    registry.find(backend)  # report an unknown name before downloading a text
    requested = Settings(**settings)
    source = books.find(corpus, text, reporter.log)
    runtime = {name: arguments[name] for name in ("model", "device", "threads", "eager")}
    spec = SessionSpec(
        settings=dataset.adapt_normalization(
            requested, source, "normalize" in settings, reporter.log
        ),
        text=source,
        runtime=Runtime(backend, **runtime),
        folder=None if run is None else os.fspath(run),
        patience=arguments["patience"],
    )
    if spec.settings.exact:
        with contextlib.suppress(RNNScratchError):  # training raises the error again
            for sentence in growth.digest_warnings(spec.settings, spec.text):
                reporter.log(sentence)
    return _run_with_report(sessions.train(spec, group), reporter)


def resume(
    run: Run | str | Path,
    num_epochs: Epochs,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    backend: str | None = None,
    model: Variant | None = None,
    device: str | None = None,
    threads: Threads | None = None,
    eager: Flag | None = None,
    patience: NonNegativeInt | None = None,
    report: Report | Callable[[str], object] | None = None,
    **settings: Any,
) -> Run | None:
    """Resume a run; with the same runtime, results equal an uninterrupted run's, bit for bit.

    Args:
        run: A run, its folder, or its short name, such as "last".
        num_epochs: Total number of epochs, including the epochs already trained.
        corpus: Name of a text, which must be the run's text. Default: the run's text.
        text: File with the run's text, for example if the original file was moved.
        backend: Name of the backend. Default: the last session's backend. With another backend,
            only `model` and `patience` default to the last session's values.
        model: Variant. Default: the last session's variant.
        device: Device. Default: the last session's device.
        threads: Number of threads. Default: the last session's number, because it may determine
            the order of additions.
        eager: Whether to run functions uncompiled. Default: as in the last session.
        patience: Number of epochs, as in `train`. Default: the last session's number.
        report: Function or `Report`, as in `train`.
        **settings: Settings, which must equal the run's settings.

    Returns:
        The finished run, or None as in `train`.

    Raises:
        RNNScratchError: If an argument is invalid, files of the run are missing or damaged, the
            text has changed, or training diverges.
    """
    arguments = validate_arguments(resume, locals())
    require_settings(settings, arguments)
    if (group := connect(arguments)) is not None and group.rank > 0:
        return sessions.follow(group)
    num_epochs, patience = arguments["num_epochs"], arguments["patience"]
    reporter = _reporter(report)
    has_text = corpus is not None or text is not None
    new_text = books.find(corpus, text, reporter.log) if has_text else None
    overrides = {name: arguments[name] for name in ("model", "device", "threads", "eager")}
    folder = resolve_run(run)
    record = run_folder.read(folder)
    session = record.sessions[-1]
    last_runtime = session.runtime
    if backend not in (None, last_runtime.backend):
        last_runtime = Runtime(backend, last_runtime.model)
    spec = SessionSpec(
        settings=resumed_settings(folder, record, settings | {"num_epochs": num_epochs}),
        text=run_folder.reload_text(folder, record.text, new_text),
        runtime=last_runtime.override(**overrides),
        folder=str(folder),
        resumes=True,
        patience=session.patience if patience is None else patience,
    )
    return _run_with_report(sessions.train(spec, group), reporter)


def predict(
    run: Run | str | Path,
    prefix: str | None = None,
    length: Length = 50,
    *,
    temperature: Positive | None = None,
    top_k: TopK | None = None,
    top_p: Probability | None = None,
    min_p: Probability | None = None,
    seed: NonNegativeInt = 0,
    unknown: Unknown = "error",
    best: bool = False,
    stream: Callable[[str], object] | None = None,
    backend: str | None = None,
    model: Variant | None = None,
    device: str | None = None,
    threads: Threads | None = None,
    eager: Flag | None = None,
) -> str:
    """Generate text with a run's model.

    Args:
        run: A run, its folder, its short name, such as "last", or a checkpoint file.
        prefix: Text to continue. Default: "time traveller ", or the most frequent character if the
            vocabulary lacks these letters.
        length: Number of characters to generate.
        temperature: Sample characters from softmax(logits / temperature); the chapter's exponent α
            is 1 / temperature. Default: 1 with `top_k`, `top_p` or `min_p`; otherwise, always
            choose the most likely character.
        top_k: Sample only from the k most likely characters.
        top_p: Sample only from the smallest set of most likely characters whose probabilities add
            up to at least this value.
        min_p: Sample only from characters whose probability is at least this fraction of the
            highest probability.
        seed: Random seed for sampling.
        unknown: "error" raises an error for characters that the vocabulary lacks; "skip" omits
            them.
        best: Whether to use the parameters after the epoch with the lowest held-out loss instead
            of the latest parameters.
        stream: Function that is called with the prefix, and with each character when it is chosen.
        backend: Name of the backend. Default: the last session's backend.
        model: Variant. Default: the last session's variant; with another backend, "scratch".
        device: Device. Default: the best available device.
        threads: Number of threads. Default: the last session's or, with another backend, `train`'s.
        eager: Whether to run functions uncompiled.

    Returns:
        The prefix and the generated characters.

    Raises:
        RNNScratchError: If an argument is invalid, files of the run are missing or damaged, or the
            prefix is empty or has unknown characters.
    """
    return inference.predict(**validate_arguments(predict, locals()))


def evaluate(
    run: Run | str | Path,
    *,
    corpus: str | None = None,
    text: str | Path | None = None,
    unknown: Unknown = "error",
    best: bool = False,
    backend: str | None = None,
    model: Variant | None = None,
    device: str | None = None,
    threads: Threads | None = None,
    eager: Flag | None = None,
) -> Evaluation:
    """Compute the loss of a run's model on a text, and the perplexities of two baselines.

    Args:
        run: A run, its folder, its short name, such as "last", or a checkpoint file.
        corpus: Name of a text. Default: the run's text; the result then covers its training part
            and, in the field `held_out`, its held-out part.
        text: Text file (UTF-8) to use instead of `corpus`. It is normalized like the run's text.
        unknown: How to treat unknown characters, as in `predict`.
        best: Whether to use the parameters after the best epoch, as in `predict`.
        backend: Name of the backend, as in `predict`.
        model: Variant. Default: the last session's variant; with another backend, "scratch".
        device: Device. Default: the best available device.
        threads: Number of threads. Default: the last session's or, with another backend, `train`'s.
        eager: Whether to run functions uncompiled.

    Returns:
        The mean loss, the perplexity and the baselines.

    Raises:
        RNNScratchError: If an argument is invalid, files of the run are missing or damaged, the
            run's text has changed, or the text has fewer than two known characters.
    """
    return inference.evaluate(**validate_arguments(evaluate, locals()))


def _run_with_report(events: Generator[Event, None, Run], report: Report) -> Run:
    """Pass events to a report; return the generator's return value.

    An exception raised by the report is thrown into the generator, so that the session records it.
    """
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
        return end.value


def _reporter(report: Report | Callable[[str], object] | None) -> Report:
    if isinstance(report, Report):
        return report
    if report is not None:
        if not callable(report):
            raise RNNScratchError(f"`report` must be a function or a Report (got {report!r}).")
        return LineReport(report)
    if notebook_shell() is not None:
        return LivePlot(print)
    return LineReport(print) if hasattr(sys, "ps1") else Report()
