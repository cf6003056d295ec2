"""`check`: backends compared with the reference.

Each model is checked in a process of its own, so that one framework cannot disturb another.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from .. import registry
from ..contract import RNNScratchError
from ..runs.runtime import Runtime
from ..system import processes
from . import functions, inputs, machine, team
from .inputs import Row

MODEL_TIMEOUT = 3600.0  # seconds for one model


def rows(runtime: Runtime, cells: Sequence[str] = ()) -> Iterator[Row]:
    """Every comparison of a variant of a backend's model; a backend that fails is a row.

    Without `cells`, all of them are checked. With several workers, it is what they compute
    together.
    """
    if runtime.workers > 1:
        yield from team.rows(runtime)
        return
    try:
        yield from processes.ask(partial(_rows, runtime, list(cells)), timeout=MODEL_TIMEOUT)
    except RNNScratchError as error:
        yield Row("backend", "", "", None, str(error), 0)


def _rows(runtime: Runtime, cells: list[str]) -> Iterator[Row]:
    backend = registry.load(runtime.backend)
    # Before anything is computed.
    threads = list(machine.set_threads(backend))
    if runtime.model == "scratch":
        yield from threads
    device = registry.choose_device(runtime.backend, backend, runtime.device, "float32")
    cases = inputs.cases(device, cells)
    yield from functions.check(runtime.backend, backend, runtime.model, cases)


def collapse(rows: Sequence[Row]) -> list[Row]:
    """A row per dtype and piece, the one nearest to what is allowed; and every failure.

    Gradients and training keep a row for each result.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        result = row.result if row.piece in ("gradients", "train_epoch") else ""
        groups.setdefault((row.case.partition(" ")[0], row.piece, result), []).append(row)
    shortened = []
    for group in groups.values():
        failures = [row for row in group if not row.passed]
        shortened += failures or [
            max(group, key=lambda row: (row.difference or 0) / (row.allowed or 1))
        ]
    return shortened
