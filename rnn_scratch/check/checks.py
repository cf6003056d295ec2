"""`check`: several backends held to the reference, or to each other in exact mode.

Each backend is checked in a process of its own, so that one framework cannot disturb another.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from .. import registry
from ..contract import RNNScratchError
from ..exact import digest
from ..runs import checkpoint, sessions, training
from ..runs.sessions import Place
from ..settings import Settings
from ..system import processes
from ..text import corpus, dataset
from . import pieces
from .cases import Row

TIMEOUT = 3600.0  # seconds for one backend


def rows(name: str, model: str, device: str) -> Iterator[Row]:
    """Every comparison of one backend's model; one that fails to load is a row that is off."""
    try:
        for answer in processes.ask(
            "rnn_scratch.check.checks:_rows", name, model, device, timeout=TIMEOUT
        ):
            yield Row(*answer)
    except RNNScratchError as error:
        yield Row("backend", model, "-", None, str(error), 0)


def _rows(name: str, model: str, device: str) -> Iterator[Row]:
    backend = registry.load(name)
    backend.set_threads(1)
    yield from pieces.hold(backend, model, registry.choose_device(backend, device, "float32"))


def collapse(found: Sequence[Row]) -> list[Row]:
    """A row per dtype and piece, the one nearest to what is allowed; all that are off are kept.

    Gradients and training keep a row for each result.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in found:
        apart = row.piece in ("gradients", "train_epoch")
        key = (row.case.split()[0], row.piece, row.result if apart else "")
        groups.setdefault(key, []).append(row)
    kept = []
    for rows in groups.values():
        off = [row for row in rows if not row.passed]
        kept += off or [max(rows, key=lambda row: (row.difference or 0) / (row.allowed or 1))]
    return kept


def digests(
    name: str, model: str, device: str, settings: Settings, text: corpus.Text, every: int
) -> Iterator[dict[str, Any]]:
    """Train in exact mode: ``epoch``, ``perplexity`` and ``digest`` of the parameters.

    After epoch 0, every so many epochs, and after the last. Raises RNNScratchError with the reason
    when the backend fails.
    """
    yield from processes.ask(
        "rnn_scratch.check.checks:_digests", name, model, device,
        dataclasses.asdict(settings), list(text), every, timeout=24 * TIMEOUT,
    )  # fmt: skip


def _digests(
    name: str, model: str, device: str, values: dict[str, Any], text: list[str], every: int
) -> Iterator[dict[str, Any]]:
    settings = Settings(**values)
    prepared = dataset.prepare(corpus.Text(*text), settings)
    backend, place = sessions.ready(Place(name, model, device), settings)
    arrays = sessions.starting(prepared, settings)
    network = sessions.build(backend, place, arrays, settings)
    start = checkpoint.Checkpoint(
        network.to_arrays(network.params), prepared.vocab, settings, 0, text[-1]
    )
    yield {"epoch": 0, "perplexity": None, "digest": digest(start.arrays)}
    report = training.Report()
    trained = training.epochs(backend, name, network, start, prepared, settings, report)
    for epoch, arrays in trained:
        if epoch.epoch % every == 0 or epoch.epoch == settings.num_epochs:
            yield {
                "epoch": epoch.epoch,
                "perplexity": epoch.perplexity,
                "digest": digest(arrays),
            }
