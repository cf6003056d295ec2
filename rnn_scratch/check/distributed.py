"""Compare several workers with the reference, a single process that trains on all rows.

Each worker is a process that trains on some rows of the minibatch. As in training, the workers
exchange gradients through the framework's communication library.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ..exact import STATE_GRID
from ..training import exchange
from . import draws
from .draws import Case, Draw, FunctionCheck
from .results import Result
from .training import FLOAT32_TOLERANCE, trained_result

# Numbers to send, including -0, subnormal, very large and infinite numbers, and NaN.
SPECIAL = (0.1, -0.0, 5e-324, 1e-40, 1.7e308, float("inf"), float("nan"))
STRATA = (0, 2, 4, 5)  # indices in draws.STRATA: plain, deep, Adam, float32
ROWS_PER_WORKER = 2


def select_draws(drawn: Sequence[Draw], workers: int) -> list[Draw]:
    """Return the draws in STRATA, with ROWS_PER_WORKER rows per worker and 4 updates per epoch."""
    rows = ROWS_PER_WORKER * workers
    selected = [draw for draw in drawn if (draw.seed or 0) % draws.NUM_DRAWS in STRATA]
    return [draw._replace(batch_size=rows, num_updates=4) for draw in selected]


def all_gather(case: Case) -> Iterator[Result]:
    """Check that `all_gather` returns the array of every worker bit for bit, in rank order."""
    dtype, workers = case.options.dtype, range(len(case.group.addresses))
    with np.errstate(all="ignore"):  # some numbers overflow or underflow in float32
        special = np.array(SPECIAL).astype(dtype)
    sent = [np.append(special, np.array([rank + 1 / 3], dtype)) for rank in workers]
    array = sent[case.group.rank]
    (received,) = exchange.all_gather(case.group, case.backend, case.options.device, [array])
    bits, sent_bits = ([array.view(np.int8) for array in arrays] for arrays in (received, sent))
    yield Result("bits", tuple(bits), tuple(sent_bits), 0)


def all_reduce(case: Case) -> Iterator[Result]:
    """Compare the averaged loss with the reference's, and averaged gradients with gathered ones."""
    part, model = _part(case), case.model()
    loss, grads, _ = part.scratch.gradients(model, *part.minibatch())
    mean_loss, mean_grads = case.backend.workers.all_reduce(loss, grads)
    yield Result("loss", mean_loss, case.reference.gradients()[0])
    arrays, workers = model.to_arrays(grads), len(case.group.addresses)
    received = exchange.all_gather(
        case.group, case.backend, case.options.device, list(arrays.values())
    )
    expected = {name: sum(parts) / workers for name, parts in zip(arrays, received)}
    yield Result("gradients, added by rank", model.to_arrays(mean_grads), expected, 0)


def train_minibatch_distributed(case: Case) -> Iterator[Result]:
    """Check that the workers end with the parameters of one process that trains on all rows."""
    model, (batches, updates), losses = case.model(), case.epoch(0), []
    train = case.scratch.train_minibatch
    if not case.is_reference:
        train = case.backend.workers.train_minibatch_distributed
    _, state = _part(case).minibatch()
    for batch, update in zip(batches, updates):
        batch, _ = _part(case._replace(batch=batch)).minibatch()
        loss, state = train(model, batch, state, update)
        losses.append(float(loss))
        if case.options.dtype == "float64":  # exact mode also rounds carried states
            state = tuple(case.backend.exact.round_to_grid(s, STATE_GRID) for s in state)
    parameters = trained_result(case, model, f"parameters after {len(updates)} updates")
    yield parameters
    yield Result("losses", np.array(losses), tolerance=FLOAT32_TOLERANCE)
    exchanged = case.group, case.backend, case.options
    joined = exchange.join_rows(*exchanged[:2], case.options.device, case.to_arrays(state))
    yield Result("state", joined, tolerance=FLOAT32_TOLERANCE)
    digests = exchange.digests(*exchanged, parameters.value)
    yield Result("same in all workers", " ".join(digests), " ".join(digests[:1] * len(digests)))


def _part(case: Case) -> Case:
    # Return the case with only this worker's rows of the minibatch and the state.
    rows = exchange.share(case.draw.batch_size, case.group)
    states = tuple(array[rows] for array in case.states)
    return case._replace(batch=exchange.select_batch_rows(case.batch, rows), states=states)


CHECKS: tuple[FunctionCheck, ...] = (all_gather, all_reduce, train_minibatch_distributed)
