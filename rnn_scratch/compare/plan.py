"""Verify and run a comparison.

Every candidate is checked and trained. Then, all candidates are timed in rounds, in an order that
rotates by one position per round. No two candidates run simultaneously. Failures are recorded with
their reasons, and the other candidates continue.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..errors import NotSupportedError, RNNScratchError, truncate
from ..runs import inference, run_folder
from ..settings import Settings, Threads, validate
from ..system import host, processes, records
from ..system.terminal import LogLine
from ..text import books, dataset
from ..training.runtime import Runtime
from ..workers import groups
from . import tasks
from .record import (
    COMPARISON_FILE,
    COMPARISON_FORMAT,
    VARIED,
    Candidate,
    Comparison,
    EpochResult,
    Failure,
    Phase,
    Plan,
    Ready,
    Trial,
)

# Libraries read their number of threads from these variables when they are loaded.
LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
THREAD_VARIABLES = ("VECLIB_MAXIMUM_THREADS", *(f"{name}_NUM_THREADS" for name in LIBRARIES))
Ask = Callable[..., Iterator[Any]]  # the type of `_ask` bound to a comparison


def new_record(
    candidates: Sequence[Candidate],
    plan: Plan,
    settings: Settings,
    text: books.Text,
    command: str,
) -> Comparison:
    """Return the record of a comparison; raise RNNScratchError if the plan is impossible."""
    if plan.target is not None and not (1 < plan.target < 1e300 and settings.holds_out):
        raise RNNScratchError(
            "`--target` must be a perplexity above 1 and below 1e300, and requires held-out text "
            f"(got {plan.target:g}).",
            "Hold out text with `--valid-tokens N` or `--valid-share P`.",
        )
    replace(settings, seed=settings.seed + plan.seeds - 1)  # validates the largest seed
    for value in plan.varied_values:
        dataset.prepare(text, settings_at(plan, settings, value)[0])  # raises if text is too short
    prepared = dataset.prepare(text, settings)
    return Comparison(
        format=COMPARISON_FORMAT,
        command=truncate(command),
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=host.describe(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        plan=plan,
        settings=settings,
        text=dataset.describe(text, prepared),
        unigram=inference.unigram(prepared.valid) if len(prepared.valid) else None,
        candidates=list(candidates),
    )


def settings_at(plan: Plan, settings: Settings, value: int | None) -> tuple[Settings, int]:
    """Return the settings and the number of threads for a value of the varied setting."""
    if plan.vary is None or value is None:
        return settings, plan.threads
    if plan.vary not in VARIED:
        raise RNNScratchError(
            f"`--vary` cannot vary {plan.vary}.", f"Vary one of: {', '.join(VARIED)}."
        )
    if plan.vary == "threads":
        return settings, validate("threads", value, Threads)
    return replace(settings, **{plan.vary: value}), plan.threads


def create_folder(output: Path | None) -> Path:
    """Return an empty folder for a comparison: `output`, created if missing, or a dated folder."""
    try:
        if output is None:
            return run_folder.create_dated("comparison")
        output.mkdir(parents=True, exist_ok=True)
        if not any(output.iterdir()):
            return output
    except OSError as error:
        folder = output or run_folder.PARENT
        problem = f"Cannot create the folder {folder}: {error.strerror}."
        raise RNNScratchError(problem, "Choose another folder with `--output`.") from error
    raise RNNScratchError(f"The folder {output} is not empty.", "Choose another with `--output`.")


def run(
    record: Comparison,
    text: books.Text,
    folder: Path,
    log: LogLine,
    update: LogLine,
) -> KeyboardInterrupt | None:
    """Run a comparison and save its record in the folder after each step.

    `log` receives a line for each step, and `update` receives the progress within a step. After
    Ctrl-C, record the outcome ``interrupted`` and return the exception; otherwise, return None.
    """
    interrupt, ask, file = None, partial(_ask, record, log), folder / COMPARISON_FILE
    records.write(file, record)
    try:
        for phase in (trials, rounds):
            for _ in phase(record, text, ask, log, update):
                records.write(file, record)
    except KeyboardInterrupt as error:
        record.outcome, interrupt = "interrupted", error
    else:
        record.outcome = "finished"
    # Write the record before any output, because the terminal is gone after a SIGHUP.
    records.write(file, record)
    return interrupt


def trials(
    record: Comparison, text: books.Text, ask: Ask, log: LogLine, update: LogLine
) -> Iterator[None]:
    """Check each candidate and train it with each random seed."""
    plan, first = record.plan, record.settings.seed
    for candidate in record.candidates:
        runtime = Runtime(candidate.backend, candidate.model, plan.device, plan.threads)
        for seed in range(first, first + plan.seeds):
            if candidate.failure("training"):
                break
            step = f"{candidate.name}: training" + (f", seed {seed}" if plan.seeds > 1 else "")
            log(step)
            trial = Trial(seed)
            candidate.trials.append(trial)  # before training, so that it is kept after Ctrl-C
            task = tasks.train, runtime, replace(record.settings, seed=seed), text, plan
            for answer in ask(candidate, "training", None, *task, seed == first):
                if isinstance(answer, Ready):
                    candidate.ready = candidate.ready or answer
                    update(f"{step}: checking")
                elif isinstance(answer, EpochResult):
                    trial.epochs.append(answer)
                    update(f"{step}: epoch {len(trial.epochs)}/{record.settings.num_epochs}")
                else:
                    candidate.trials[-1] = replace(answer, epochs=trial.epochs)
            yield


def rounds(
    record: Comparison, text: books.Text, ask: Ask, log: LogLine, update: LogLine
) -> Iterator[None]:
    """Time the candidates in turn, in an order that rotates by one position per round."""
    plan = record.plan
    candidates = [candidate for candidate in record.candidates if not candidate.failure("training")]
    turns = [(candidate, value) for candidate in candidates for value in plan.varied_values]
    for index in range(plan.repeats if turns else 0):
        log(f"timing, round {index + 1}/{plan.repeats}")
        start = index % len(turns)
        for candidate, value in turns[start:] + turns[:start]:
            if candidate.failure("timing", value):
                continue
            update(plan.label(candidate.name, value))
            settings, threads = settings_at(plan, record.settings, value)
            runtime = Runtime(candidate.backend, candidate.model, plan.device, threads)
            for answer in ask(candidate, "timing", value, tasks.measure, runtime, settings, text):
                candidate.rounds.append(replace(answer, number=index, value=value))
            yield


def _ask(
    record: Comparison,
    log: LogLine,
    candidate: Candidate,
    phase: Phase,
    value: int | None,
    function: Callable[..., Iterator[Any]],
    runtime: Runtime,
    *task: Any,
) -> Iterator[Any]:
    # Yield the answers of a function that runs in a child process; record its failure.
    answers = groups.ask(
        function,
        1,
        *(runtime, *task),
        timeout=record.plan.timeout,
        environment=dict.fromkeys(THREAD_VARIABLES, str(runtime.threads)),
    )
    try:
        with contextlib.closing(answers):  # a KeyboardInterrupt in a destructor would be lost
            yield from answers
    except RNNScratchError as error:
        failure = Failure(processes.one_line(error.problem), phase=phase, value=value)
        if isinstance(error, NotSupportedError):
            failure.kind = "not offered"
        candidate.failures.append(failure)
        log(f"{candidate.name}: {failure.reason}")
