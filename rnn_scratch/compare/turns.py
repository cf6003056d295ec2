"""Run a comparison: prepare each candidate in a child process, then let the candidates take turns.

A cycle consists of one turn per candidate, in random order. Speed ratios are computed within
a cycle, so a disturbance that lasts longer than a cycle affects both speeds. During a turn,
all other candidates are suspended (on Windows, they wait for a request). If a candidate fails, the
reason is recorded, and the other candidates continue.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from subprocess import Popen
from typing import Any

from msgspec.structs import replace

from ..errors import NotSupportedError, RNNScratchError, truncate
from ..settings import Settings, Threads, validate
from ..system import host, processes, records
from ..system.terminal import LogLine
from ..text import books, dataset
from ..training.runtime import Runtime
from . import tables, tasks
from .record import COMPARISON_FILE, COMPARISON_FORMAT, Candidate, Comparison, Plan

# Libraries read their thread counts from these variables when they are loaded.
LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
THREAD_VARIABLES = ("VECLIB_MAXIMUM_THREADS", *(f"{name}_NUM_THREADS" for name in LIBRARIES))
TIME = "%Y-%m-%d %H:%M:%S %z"
MAX_HALF_WIDTH = 0.03  # turns end once no interval's relative half-width exceeds this value
MIN_MEMORY_BYTES = 2**30  # more than a candidate needs with the default settings
MAX_SILENCE_SECONDS = 900.0  # time without a result after which a child process is killed
UpdateRule = Callable[..., object]  # keyword arguments: `description` and `completed` (a fraction)


@dataclass(frozen=True)
class BenchmarkProcess:
    """A candidate and its child process."""

    candidate: Candidate
    child: Popen[bytes]
    results: Iterator[Any]


def new_record(
    variants: list[tuple[str, str]], plan: Plan, settings: Settings, text: books.Text, command: str
) -> Comparison:
    """Return a record without measurements; raise RNNScratchError if the plan is impossible."""
    for value in plan.varied_values:
        dataset.prepare(text, settings_at(plan, settings, value)[0])  # checks the text length
    candidates = [
        Candidate(*variant, value) for value in plan.varied_values for variant in variants
    ]
    return Comparison(
        format=COMPARISON_FORMAT,
        command=truncate(command),
        started=time.strftime(TIME),
        machine=host.describe(),
        load=_read_load(),
        plan=plan,
        settings=settings,
        text=dataset.describe(text, dataset.prepare(text, settings)),
        candidates=candidates,
    )


def settings_at(plan: Plan, settings: Settings, value: int | None) -> tuple[Settings, int]:
    """Return the settings and number of threads for a value of the varied setting."""
    if plan.sweep is None or plan.sweep == "threads":
        return settings, validate("threads", plan.threads if value is None else value, Threads)
    return replace(settings, **{plan.sweep: value}), plan.threads


def run(
    record: Comparison, text: books.Text, folder: Path, log: LogLine, update: UpdateRule
) -> None:
    """Run a comparison and save its record in `folder` after each step.

    `log` receives a line for each step, and `update` receives the progress. The
    record is also saved after Ctrl-C, with the outcome ``interrupted``.
    """
    save = partial(records.write, folder / COMPARISON_FILE, record)
    save()
    try:
        with contextlib.ExitStack() as stack:
            competitors = []
            for candidate in record.candidates:
                candidate.failure = find_memory_shortage(record)
                if candidate.failure is None:
                    competitors.append(_prepare(record, text, candidate, stack, log, update))
                if candidate.failure is not None:
                    log(f"{record.label(candidate)}: {candidate.failure}")
                save()
            if record.plan.seconds and record.supported:
                log(f"taking turns for at most {record.plan.seconds:g} s")
                take_turns(record, competitors, update, save)
        record.outcome = "finished"
    except KeyboardInterrupt:
        record.outcome = "interrupted"
        raise
    finally:
        record.ended, record.load_of_turns = time.strftime(TIME), _read_load()
        save()  # The terminal is gone after a SIGHUP, so save the record before any output.


def find_memory_shortage(record: Comparison) -> str | None:
    """Return an error message if another candidate might run out of memory, else None."""
    min_bytes = max(MIN_MEMORY_BYTES, *(candidate.memory or 0 for candidate in record.candidates))
    free_bytes = tasks.available_memory()
    if free_bytes is not None and free_bytes < min_bytes:
        size = f"{free_bytes / 2**20:,.0f} MiB"
        return f"not enough memory ({size} available): compare fewer backends, variants or values"
    return None


def _prepare(
    record: Comparison,
    text: books.Text,
    candidate: Candidate,
    stack: contextlib.ExitStack,
    log: LogLine,
    update: UpdateRule,
) -> BenchmarkProcess:
    """Start a candidate's child process and record its results until it is ready for turns."""
    settings, threads = settings_at(record.plan, record.settings, candidate.value)
    runtime = Runtime(candidate.backend, candidate.variant, record.plan.device, threads)
    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    call = partial(processes.start, timeout=MAX_SILENCE_SECONDS, environment=environment)
    started = stack.enter_context(call(tasks.run_benchmark, runtime, settings, text))
    competitor = BenchmarkProcess(candidate, *started)
    position = record.candidates.index(candidate) / len(record.candidates)
    update(description=f"{record.label(candidate)}: start", completed=position)
    _receive(competitor)  # after the backend has started and built the model, or refused to
    if candidate.failure is None:
        log(f"{record.label(candidate)}: checking and training")
    while candidate.failure is None and candidate.sample is None:
        epochs = f"epoch {len(candidate.epochs)}/{settings.num_epochs}"
        stage = epochs if candidate.epochs else "start"
        update(description=f"{record.label(candidate)}: {stage}", completed=position)
        _receive(competitor)
    _stop(competitor)
    return competitor


def take_turns(
    record: Comparison,
    competitors: Sequence[BenchmarkProcess],
    update: UpdateRule,
    save: Callable[[], object],
) -> None:
    """Run cycles until all intervals are narrow, time runs out, or no candidates are left."""
    start, rng, half_width = time.monotonic(), random.Random(record.settings.seed), inf
    completed, competitors = 0.0, [c for c in competitors if not c.candidate.failure]
    while competitors and completed < 1 and half_width > MAX_HALF_WIDTH:
        for competitor in rng.sample(competitors, len(competitors)):
            take_turn(competitor)
        save()
        half_width = tables.widest_interval(record)
        width = "unknown" if half_width == inf else f"±{half_width:.1%}"
        cycle = max(len(candidate.training_speeds) for candidate in record.candidates)
        completed = (time.monotonic() - start) / record.plan.seconds
        update(description=f"cycle {cycle}, widest interval: {width}", completed=completed)
        competitors = [c for c in competitors if not c.candidate.failure]


def take_turn(competitor: BenchmarkProcess) -> None:
    """Resume a candidate's process for one turn and record the result or failure."""
    if hasattr(signal, "SIGCONT"):
        competitor.child.send_signal(signal.SIGCONT)
    with contextlib.suppress(OSError):  # `_receive` finds the reason if the child has exited
        processes.request(competitor.child)
    _receive(competitor)
    _stop(competitor)


def _stop(competitor: BenchmarkProcess) -> None:
    """Suspend a waiting process so that its threads don't keep spinning."""
    if hasattr(signal, "SIGSTOP"):
        competitor.child.send_signal(signal.SIGSTOP)


def _receive(competitor: BenchmarkProcess) -> None:
    """Receive the next result from a child process and add it to the candidate."""
    candidate = competitor.candidate
    try:
        result = next(competitor.results)
    except RNNScratchError as error:
        competitor.child.kill()
        candidate.failure = processes.one_line(error.problem)
        candidate.is_supported = not isinstance(error, NotSupportedError)
        return
    for name, value in result.items():
        field = getattr(candidate, name)
        if isinstance(field, list):
            field.append(value)
        else:
            setattr(candidate, name, value)


def _read_load() -> float | None:
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
