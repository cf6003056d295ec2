"""`check`: backends compared with the reference, or with each other in exact mode.

Each model is checked in a process of its own, so that one framework cannot disturb another.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from .. import registry
from ..contract import RNNScratchError
from ..exact import digest
from ..runs import training
from ..runs.setup import Place, set_up
from ..settings import Settings
from ..system import processes
from ..text import corpus
from . import hardware, pieces
from .cases import Row

TIMEOUT = 3600.0  # seconds for one model


def rows(name: str, model: str, device: str) -> Iterator[Row]:
    """Every comparison of a variant of a backend's model; a backend that fails is a row."""
    try:
        for values in processes.ask(f"{__name__}:_rows", name, model, device, timeout=TIMEOUT):
            yield Row(*values)
    except RNNScratchError as error:
        yield Row("backend", "", "", None, str(error), 0)


def _rows(name: str, model: str, device: str) -> Iterator[Row]:
    backend = registry.load(name)
    # Before anything is computed.
    threads = list(hardware.set_threads(backend))
    if model == "scratch":
        yield from threads
    device = registry.choose_device(name, backend, device, "float32")
    yield from pieces.check(name, backend, model, device)


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


def digests(
    name: str, model: str, device: str, settings: Settings, text: corpus.Text, every: int
) -> Iterator[dict[str, Any]]:
    """Train in exact mode: ``epoch``, ``perplexity`` and ``digest`` of the parameters.

    They come after epoch 0, every `every` epochs, and the last. There is only ``not offered``, with
    the reason, where the backend does not have this variant. Raises RNNScratchError with the reason
    when the backend fails.
    """
    yield from processes.ask(
        f"{__name__}:_digests",
        name,
        model,
        device,
        dataclasses.asdict(settings),
        list(text),
        every,
        timeout=24 * TIMEOUT,
    )


def _digests(
    name: str, model: str, device: str, values: dict[str, Any], text: list[str], every: int
) -> Iterator[dict[str, Any]]:
    settings = Settings(**values)
    try:
        setup = set_up(settings, Place(name, model, device), corpus.Text(*text))
    except registry.NotOffered as error:
        yield {"not offered": str(error).splitlines()[0]}
        return
    arrays = setup.model.to_arrays(setup.model.params)
    yield {"epoch": 0, "perplexity": None, "digest": digest(arrays)}
    for epoch, arrays, _ in training.epochs(setup, 0, training.Report()):
        if epoch.epoch % every == 0 or epoch.epoch == settings.num_epochs:
            yield {
                "epoch": epoch.epoch,
                "perplexity": epoch.perplexity,
                "digest": digest(arrays),
            }
