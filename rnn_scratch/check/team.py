"""Several workers compared with the reference, which trains on all rows by itself.

Each worker is a process with its rows of the minibatch, and they exchange gradients through the
framework's own engine, as in training.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from .. import registry
from ..contract import Options, Team
from ..errors import NotOffered
from ..runs import exchange
from ..runs.runtime import Runtime
from .epochs import FEW, clipping, updated
from .inputs import DEEP, PLAIN, B, Case, in_each_dtype, make_case
from .results import Computed, Row, fact, not_offered

# Numbers to send: negative zero, subnormal, the largest, infinite, and not a number.
SPECIAL = (0.1, -0.0, 5e-324, 1e-40, 1.7e308, float("inf"), float("nan"))


def cases(cells: Sequence[str]) -> list[Options]:
    """Return the options to check, in each dtype: a plain model and a deep one, of these cells."""
    deep = DEEP._replace(cell="lstm")
    chosen = [each._replace(cell=cell) for cell in cells for each in (PLAIN, deep)]
    return [case for options in chosen or (PLAIN, deep) for case in in_each_dtype(options)]


def check(runtime: Runtime, cells: Sequence[str], team: Team) -> Iterator[Row]:
    """Compare what this worker and the others of its team compute with the reference."""
    name = runtime.backend
    backend, _ = registry.start(name, 1)
    engine = registry.workers(name, backend)
    engine.join(team)
    device = registry.choose_device(name, backend, runtime.device, "float32")
    for options in cases(cells):
        case = make_case(name, backend, runtime.model, options._replace(device=device))
        try:
            for piece in TEAM_PIECES if runtime.model == "scratch" else (train_together,):
                yield from case.rows(piece, team)
        except NotOffered as error:
            yield not_offered(runtime.model, case.label, str(error))
    engine.leave()


def all_gather(case: Case, team: Team) -> Iterator[Computed | Row]:
    """Check that every bit arrives, in the order of the ranks."""
    dtype, workers = case.options.dtype, range(len(team.addresses))
    with np.errstate(all="ignore"):  # some are too large or too small for a float32
        special = np.array(SPECIAL).astype(dtype)
    sent = [np.append(special, np.array([rank + 1 / 3], dtype)) for rank in workers]
    more = np.full((2, 3), team.rank, dtype)
    both = [sent[team.rank], more]
    received, others = exchange.all_gather(case.backend, case.options.device, both)
    wrong = [rank for rank in workers if received[rank].tobytes() != sent[rank].tobytes()]
    yield fact("bits", not wrong, f"those of worker {wrong[:1]}")
    expected = tuple(np.full((2, 3), rank, dtype) for rank in workers)
    yield Computed("a second tensor", tuple(others), expected, 0)


def all_reduce(case: Case, team: Team) -> Iterator[Computed | Row]:
    """Compare the mean loss with that of all rows, and mean gradients with the gathered ones."""
    part, model = case.of_rows(exchange.share(B, team)), case.model()
    loss, grads, _ = part.scratch.gradients(model, *part.minibatch())
    mean, means = part.backend.workers.all_reduce(loss, grads)
    expected, _, _ = case.reference.gradients()
    yield Computed("loss", mean, expected)
    arrays, workers = model.to_arrays(grads), len(team.addresses)
    received = exchange.all_gather(case.backend, case.options.device, list(arrays.values()))
    exact = {name: sum(parts) / workers for name, parts in zip(arrays, received)}
    yield Computed("gradients, added by rank", model.to_arrays(means), exact, 0)


def train_together(case: Case, team: Team) -> Iterator[Computed | Row]:
    """Check that workers reach the parameters that one process reaches on all rows."""
    how = clipping(case)
    expected, losses, states = updated(case.reference, how)
    part = case.of_rows(exchange.share(B, team))
    arrays, means, state = updated(part, how, train=part.backend.workers.train_together)
    whole = exchange.join_rows(case.backend, case.options.device, part.as_arrays(state))
    yield Computed(f"parameters after {FEW} updates", arrays, expected)
    yield Computed(f"losses after {FEW} updates", means, losses)
    yield Computed(f"state after {FEW} updates", whole, states)
    digests = exchange.digests(case.backend, case.options, arrays)
    yield fact("same in all workers", len(set(digests)) == 1, str(digests))


TEAM_PIECES = (all_gather, all_reduce, train_together)
