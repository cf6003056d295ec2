"""`check`: backends compared with the reference.

Each model is checked in a process of its own, so that one framework cannot disturb another.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from .. import registry
from ..contract import RNNScratchError
from ..system import processes
from . import functions, inputs, machine
from .inputs import Row

TIMEOUT = 3600.0  # seconds for one model


def rows(name: str, model: str, device: str, cells: Sequence[str] = ()) -> Iterator[Row]:
    """Every comparison of a variant of a backend's model; a backend that fails is a row.

    Without `cells`, all of them are checked.
    """
    call = partial(_rows, name, model, device, list(cells))
    try:
        for answer in processes.ask(call, timeout=TIMEOUT):
            yield processes.verified(Row, answer)
    except RNNScratchError as error:
        yield Row("backend", "", "", None, str(error), 0)


def _rows(name: str, model: str, device: str, cells: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in _checked(name, model, device, cells):
        yield row._asdict()


def _checked(name: str, model: str, device: str, cells: Sequence[str]) -> Iterator[Row]:
    backend = registry.load(name)
    # Before anything is computed.
    threads = list(machine.set_threads(backend))
    if model == "scratch":
        yield from threads
    device = registry.choose_device(name, backend, device, "float32")
    yield from functions.check(name, backend, model, inputs.cases(device, cells))


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
