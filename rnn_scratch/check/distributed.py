"""Compare several workers with the reference, which trains alone on all rows.

Each worker is a process with its rows of the minibatch. They exchange gradients through the
framework's own engine, as in training.
"""

from collections.abc import Iterator

import numpy as np

from .. import registry
from ..contract import WorkerGroup
from ..errors import NotOffered
from ..exact import STATE_GRID
from ..parameters import trained_arrays
from ..training import exchange
from ..training.runtime import Runtime
from . import draws
from .draws import Case, make_case
from .results import CheckResult, Result, unsupported_result

# Numbers to send: negative zero, subnormal, the largest, infinite, and not a number.
SPECIAL = (0.1, -0.0, 5e-324, 1e-40, 1.7e308, float("inf"), float("nan"))
STRATA = (0, 3, 5, 9)  # draws with any cell: plain, deep, Adam, float32
ROWS_PER_WORKER = 2


def check(
    group: WorkerGroup, runtime: Runtime, cells: list[str], seed: int, number: int
) -> Iterator[CheckResult]:
    """Compare the results of this worker's group with the reference."""
    name = runtime.backend
    backend, _ = registry.start(name, 1)
    registry.workers(name, backend).join(group)
    device = registry.choose_device(name, backend, runtime.device, "float32")
    checks = CHECKS if runtime.model == "scratch" else CHECKS[-1:]
    for index in range(number):
        stratum = index % len(STRATA)
        draw = draws.draw(seed + index // len(STRATA) * draws.NUM_DRAWS + STRATA[stratum], cells)
        options = draw.options._replace(device=device)
        rows = ROWS_PER_WORKER * len(group.addresses)
        draw = draw._replace(options=options, batch_size=rows, num_updates=4)
        case = make_case(name, backend, runtime.model, draw)
        try:
            for each in checks:
                yield from case.run(each, group)
        except NotOffered as error:
            yield unsupported_result(runtime.model, draw.label, str(error))
    backend.workers.leave()


def all_gather(case: Case, group: WorkerGroup) -> Iterator[Result]:
    """Check that every bit arrives, in rank order."""
    dtype, workers = case.options.dtype, range(len(group.addresses))
    with np.errstate(all="ignore"):  # some numbers overflow or underflow in float32
        special = np.array(SPECIAL).astype(dtype)
    sent = [np.append(special, np.array([rank + 1 / 3], dtype)) for rank in workers]
    both = [sent[group.rank], np.full((2, 3), group.rank, dtype)]
    received, others = exchange.all_gather(group, case.backend, case.options.device, both)
    bits, sent_bits = ([array.view(np.int8) for array in arrays] for arrays in (received, sent))
    yield Result("bits", tuple(bits), tuple(sent_bits), 0)
    expected = tuple(np.full((2, 3), rank, dtype) for rank in workers)
    yield Result("a second tensor", tuple(others), expected, 0)


def all_reduce(case: Case, group: WorkerGroup) -> Iterator[Result]:
    """Compare the mean loss with the loss of all rows, and gradients with the gathered ones."""
    part, model = _part(case, group), case.model()
    loss, grads, _ = part.scratch.gradients(model, *part.minibatch())
    mean, means = part.backend.workers.all_reduce(loss, grads)
    yield Result("loss", mean, case.reference.gradients()[0])
    arrays, workers = model.to_arrays(grads), len(group.addresses)
    received = exchange.all_gather(group, case.backend, case.options.device, list(arrays.values()))
    exact = {name: sum(parts) / workers for name, parts in zip(arrays, received)}
    yield Result("gradients, added by rank", model.to_arrays(means), exact, 0)


def train_minibatch_distributed(case: Case, group: WorkerGroup) -> Iterator[Result]:
    """Check that workers reach the parameters of a single process that trains on all rows."""
    reference, name = case.reference, case.draw.optimizer
    part, model, whole = _part(case, group), case.model(None, name), reference.model(None, name)
    (_, state), all_state, losses = part.minibatch(), reference.states, []
    batches, updates = case.epoch(0)
    for batch, update in zip(batches, updates):
        tensors = _part(case._replace(batch=batch), group).batch.map(case.tensor)
        train = case.backend.workers.train_minibatch_distributed
        loss, state = train(model, tensors, state, update)
        all_loss, all_state = reference.scratch.train_minibatch(whole, batch, all_state, update)
        losses.append((float(loss), float(all_loss)))
        if case.exactly:  # exact training rounds states, too
            state = tuple(case.backend.exact.round_to_grid(s, STATE_GRID) for s in state)
            all_state = tuple(
                reference.backend.exact.round_to_grid(s, STATE_GRID) for s in all_state
            )
    arrays, tolerance = trained_arrays(model), 0 if case.exactly else 1e-12
    yield Result(
        f"parameters after {len(updates)} updates", arrays, trained_arrays(whole), tolerance
    )
    own_losses, all_losses = np.array(losses).T
    yield Result("losses", own_losses, all_losses, 1e-12)
    joined = exchange.join_rows(group, case.backend, case.options.device, case.to_arrays(state))
    yield Result("state", joined, all_state, 1e-12)
    digests = exchange.digests(group, case.backend, case.options, arrays)
    yield Result("same in all workers", " ".join(digests), " ".join(digests[:1] * len(digests)))


def _part(case: Case, group: WorkerGroup) -> Case:
    # The case with this worker's rows of its minibatch.
    rows = exchange.share(case.draw.batch_size, group)
    states = tuple(array[rows] for array in case.states)
    return case._replace(batch=exchange.select_batch_rows(case.batch, rows), states=states)


CHECKS = (all_gather, all_reduce, train_minibatch_distributed)
