"""A comparison: verified before anything runs, and then made, phase by phase.

Every candidate is checked and trained; then all are timed in rounds, in an order that is rotated by
one from round to round. One candidate runs at a time. A failure is recorded with its reason, and
the other candidates continue.
"""

import contextlib
import datetime
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ..errors import NotOffered, RNNScratchError, shortened
from ..runs import inference, schedule
from ..runs.runtime import Runtime
from ..settings import Settings, checked
from ..system import host, processes, records
from ..system.terminal import Say
from ..text import books, dataset
from ..workers import groups
from ..workers.launch import require_shares
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
    Round,
    Trial,
)

# From which libraries read their number of threads, before any call can set it.
THREADED = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
THREAD_VARIABLES = ("VECLIB_MAXIMUM_THREADS", *(f"{name}_NUM_THREADS" for name in THREADED))
Ask = Callable[..., AbstractContextManager[Iterator[Any]]]  # `_ask` for one comparison
Starts = dict[int | None, tuple[str, str]]  # digests, by the seed or the varied value


def new_record(
    candidates: Sequence[Candidate],
    plan: Plan,
    settings: Settings,
    text: books.Text,
    command: str,
) -> Comparison:
    """Return the record of a comparison to be made.

    Raises RNNScratchError if it is impossible, or its record could not be read again.
    """
    if plan.target is not None and not (1 < plan.target < 1e300 and settings.holds_out):
        raise RNNScratchError(
            "`--target` must be a perplexity above 1 and below 1e300, and requires held-out text "
            f"(got {plan.target:g}).",
            "Hold out text with `--valid-tokens N` or `--valid-share P`.",
        )
    replace(settings, seed=settings.seed + plan.seeds - 1)  # the last one, if valid
    for value in plan.points:
        at_point = sized(plan, settings, value)[0]
        schedule.require(len(dataset.prepare(text, at_point).train), at_point)
    prepared = dataset.prepare(text, settings)
    valid = prepared.valid
    record = Comparison(
        format=COMPARISON_FORMAT,
        command=shortened(command),
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        machine=host.describe(),
        load=host.load(),
        plan=plan,
        settings=settings,
        text=dataset.describe(text, prepared),
        unigram=inference.unigram(valid) if len(valid) else None,
        candidates=list(candidates),
    )
    records.require_readable(Path(COMPARISON_FILE), records.encoded(record), Comparison)
    return record


def interpreters(candidates: Sequence[Candidate], pythons: Mapping[str, str]) -> dict[str, str]:
    """Return the Python of each place, from paths by the name of an environment, or by the place.

    Raises RNNScratchError if a path is of no candidate, or an environment has no path.
    """
    places = {candidate.place: candidate.environment for candidate in candidates}
    if unused := sorted(pythons.keys() - {*places, *places.values()}):
        raise RNNScratchError(
            f"`--python` names {', '.join(unused)}, which this comparison does not include.",
            f"The backends of this comparison are: {', '.join(places)}.",
        )
    chosen = {}
    for place, environment in sorted(places.items()):
        chosen[place] = pythons.get(place) or pythons.get(environment) or sys.executable
        if environment and not pythons.keys() & {place, environment}:
            raise RNNScratchError(
                f"No Python interpreter is known for {place}.", f"Pass `--python {place}=PATH`."
            )
    return chosen


def sized(plan: Plan, settings: Settings, value: int | None) -> tuple[Settings, int, int]:
    """Return settings, threads and workers at this value of the varied setting, if possible."""
    if plan.vary is None or value is None:
        return settings, plan.threads, 1
    if plan.vary not in VARIED:
        raise RNNScratchError(
            f"`--vary` cannot vary {plan.vary}.", f"Vary one of: {', '.join(VARIED)}."
        )
    changes: dict[str, Any] = {plan.vary: checked(plan.vary, value)}
    threads, workers = changes.pop("threads", plan.threads), changes.pop("workers", 1)
    require_shares(settings.batch_size, workers)
    return replace(settings, **changes), threads, workers


def run(
    record: Comparison,
    text: books.Text,
    pythons: Mapping[str, str],
    folder: Path,
    say: Say,
    update: Say,
) -> None:
    """Compare, and keep the record in the folder, which exists, whatever happens.

    `pythons` has the path of each place's interpreter. `say` receives the steps, and `update` how
    far a step is. The outcome is ``finished`` or, after a Ctrl-C, ``interrupted``.
    """
    ask, file = partial(_ask, record, pythons, say), folder / COMPARISON_FILE
    try:
        for phase in (trials, rounds):
            for _ in phase(record, text, ask, say, update):
                records.write(file, record)
    except KeyboardInterrupt:
        record.outcome = "interrupted"
    else:
        record.outcome = "finished"
    # Before anything is shown: after a SIGHUP there may be no terminal.
    records.write(file, record)


def trials(record: Comparison, text: books.Text, ask: Ask, say: Say, update: Say) -> Iterator[None]:
    """Check and train each candidate, with one random seed after another."""
    plan, first = record.plan, record.settings.seed
    starts: Starts = {}
    for candidate in record.candidates:
        runtime = Runtime(candidate.backend, candidate.model, plan.device, plan.threads)
        for seed in range(first, first + plan.seeds):
            if candidate.failure("training"):
                break
            step = f"{candidate.name}: training" + (f", seed {seed}" if plan.seeds > 1 else "")
            say(step)
            trial = Trial(seed)
            candidate.trials.append(trial)  # in the record even after a Ctrl-C
            task = tasks.train, runtime, replace(record.settings, seed=seed), text, plan
            with ask(candidate, "training", None, *task, seed == first) as answers:
                for answer in answers:
                    if isinstance(answer, Ready):
                        candidate.ready = candidate.ready or answer
                        update(f"{step}: checking")
                    elif isinstance(answer, EpochResult):
                        trial.epochs.append(answer)
                        update(f"{step}: epoch {len(trial.epochs)}/{record.settings.num_epochs}")
                    else:
                        _require_same_start(starts, seed, answer)
                        candidate.trials[-1] = replace(answer, epochs=trial.epochs)
            yield


def rounds(record: Comparison, text: books.Text, ask: Ask, say: Say, update: Say) -> Iterator[None]:
    """Time each candidate in turn, in an order that is rotated by one from round to round."""
    plan = record.plan
    trained = [candidate for candidate in record.candidates if not candidate.failure("training")]
    turns = [(candidate, value) for candidate in trained for value in plan.points]
    layers = {candidate.place for candidate in trained if candidate.model == "concise"}
    starts: Starts = {}
    for number in range(plan.repeats if turns else 0):
        say(f"timing, round {number + 1}/{plan.repeats}")
        first = number % len(turns)
        for candidate, value in turns[first:] + turns[:first]:
            if candidate.failure("timing", value):
                continue
            update(plan.label(candidate.name, value))
            settings, threads, workers = sized(plan, record.settings, value)
            where = candidate.backend, candidate.model, plan.device, threads
            runtime = Runtime(*where, workers=workers)
            has_layer = candidate.place in layers and candidate.model != "concise"
            task = tasks.measure, runtime, settings, text, plan, has_layer
            with ask(candidate, "timing", value, *task) as answers:
                for answer in answers:
                    _require_same_start(starts, value, answer)
                    candidate.rounds.append(replace(answer, number=number, value=value))
            yield


def _require_same_start(starts: Starts, key: int | None, result: Trial | Round) -> None:
    start = result.parameters, result.minibatches_seen
    if starts.setdefault(key, start) != start:
        raise RNNScratchError(
            "its starting parameters or minibatches are not those of the first candidate"
        )


@contextlib.contextmanager
def _ask(
    record: Comparison,
    pythons: Mapping[str, str],
    say: Say,
    candidate: Candidate,
    phase: Phase,
    value: int | None,
    function: Callable[..., Iterator[Any]],
    runtime: Runtime,
    *task: Any,
) -> Iterator[Iterator[Any]]:
    # The answers of a function that is called in children; an error until the end is recorded.
    answers = groups.ask(
        function,
        runtime.workers,
        *(runtime, *task),
        timeout=record.plan.timeout,
        python=pythons[candidate.place],
        environment=dict.fromkeys(THREAD_VARIABLES, str(runtime.threads)),
    )
    try:
        with contextlib.closing(answers):  # a destructor that ends children would lose a Ctrl-C
            yield answers
    except RNNScratchError as error:
        failure = Failure(processes.one_line(error.problem), phase=phase, value=value)
        if isinstance(error, NotOffered):
            failure.kind = "not offered"
        candidate.failures.append(failure)
        say(f"{candidate.name}: {failure.reason}")
