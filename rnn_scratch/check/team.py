"""Several workers compared with the reference, which trains on all rows by itself.

Each worker is a process with its rows of the minibatch, and they exchange gradients through the
framework's own engine, as in training.
"""

from collections.abc import Iterator

import numpy as np

from .. import registry
from ..contract import TRIED, RNNScratchError, Team, Update
from ..runs.setup import Place
from ..workers import exchange, groups
from .epochs import LR
from .inputs import PLAIN, B, Case, Row, fact, in_each_dtype, make_case, not_offered

TIMEOUT = 600.0  # seconds for one model
UPDATES = 3
CASES = tuple(
    case
    for options in (PLAIN, PLAIN._replace(cell="lstm", embedding=TRIED["embedding"]))
    for case in in_each_dtype(options)
)
# Of the numbers that are sent: signs of zeros, the smallest and the largest, and what is none.
SPECIAL = (0.1, -0.0, 5e-324, 1e-40, 1.7e308, float("inf"), float("nan"))


def rows(place: Place) -> Iterator[Row]:
    """The comparisons of a variant of a backend's model; workers that fail are a row.

    Raises RNNScratchError for a number of workers that does not divide the check's minibatch.
    """
    workers = place.workers
    if B % workers:
        raise RNNScratchError(
            f"--workers is {workers}; the minibatches that are checked have {B} rows, for 1, 2, 4 "
            "or 8 workers."
        )
    try:
        yield from groups.ask_all(groups.calls(workers, _rows, place), TIMEOUT)
    except RNNScratchError as error:
        yield Row("workers", f"{workers} workers", "", None, str(error), 0)


def _rows(rank: int, addresses: list[str], place: Place) -> Iterator[Row]:
    name, model, team = place.backend, place.model, Team(rank, tuple(addresses))
    backend, _ = registry.start(name, 1)
    engine = registry.workers(name, backend)
    engine.join(team)
    device = registry.choose_device(name, backend, place.device, "float32")
    for options in CASES:
        case = make_case(name, backend, model, options._replace(device=device))
        try:
            case.models(case.arrays)
        except registry.NotOffered as error:
            yield not_offered(model, case.label, str(error))
            continue
        if model == "scratch":
            yield from _gather(case, team)
        yield from _train(case, team)
    engine.leave()


def _gather(case: Case, team: Team) -> Iterator[Row]:
    # Whether every bit arrives, of every worker and in the order of their ranks.
    dtype = case.options.dtype
    with np.errstate(all="ignore"):  # some are too large or too small for a float32
        special = np.array(SPECIAL).astype(dtype)
    sent = [np.append(special, np.array([rank + 1 / 3], dtype)) for rank in range(_size(team))]
    more = np.full((2, 3), team.rank, dtype)
    received, others = exchange.gather(case.backend, case.options.device, [sent[team.rank], more])
    wrong = [rank for rank, each in enumerate(received) if each.tobytes() != sent[rank].tobytes()]
    yield fact("gather", "bits", case.label, not wrong, f"those of worker {wrong[:1]}")
    expected = tuple(np.full((2, 3), rank, dtype) for rank in range(_size(team)))
    yield case.compare("gather", "a second tensor", expected, tuple(others), 0)


def _train(case: Case, team: Team) -> Iterator[Row]:
    # Gradients of a minibatch, and some updates: of each worker's rows, and of all.
    size, rows = _size(team), exchange.share(B, team)
    model, candidate = case.models(case.arrays)
    scratch, reference = case.backend.scratch, case.reference.scratch
    batch = case.batch.rows(rows).map(case.tensor)
    state = tuple(case.tensor(array[rows]) for array in case.states)
    loss, grads, _ = reference.gradients(model, case.batch, case.states)
    if case.model == "scratch":
        own_loss, own, _ = scratch.gradients(candidate, batch, state)
        mean, means = scratch.all_reduce(own_loss, own, size)
        yield case.compare("all_reduce", "loss", loss, case.array(mean))
        yield case.compare("all_reduce", "gradients", grads, candidate.to_arrays(means))
    _, norm = reference.clip(grads, None)
    how = Update(LR, float(norm) / 2)
    states, losses, expected = case.states, [], []
    for _ in range(UPDATES):
        mean, states = reference.train_minibatch(model, case.batch, states, how)
        expected.append(float(mean))
        mean, state = scratch.train_minibatch(candidate, batch, state, how._replace(workers=size))
        losses.append(float(mean))
    after = candidate.to_arrays(candidate.params)
    what = f"after {UPDATES} updates"
    yield case.compare("train_minibatch", f"parameters {what}", model.params, after)
    yield case.compare("train_minibatch", f"losses {what}", expected, losses)
    whole = exchange.join_rows(case.backend, case.options.device, case.state_arrays(state))
    yield case.compare("train_minibatch", f"state {what}", states, whole)
    digests = exchange.digests(case.backend, case.options, after)
    equal = len(set(digests)) == 1
    yield fact("train_minibatch", "same in all workers", case.label, equal, str(digests))


def _size(team: Team) -> int:
    return len(team.addresses)
