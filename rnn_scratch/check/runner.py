"""`check`: a backend compared with the NumPy reference, piece by piece.

A piece is a function of the contract, or `to_arrays` of a model.
"""

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from .. import registry
from ..contract import MODULES, VARIANTS, Backend, Options, Team
from ..errors import NotOffered, RNNScratchError
from ..runs.runtime import Runtime
from ..system.processes import one_line
from ..workers import groups
from . import epochs, functions, inputs, machine, team
from .inputs import B, Case, Piece, make_case
from .results import Row, fact, not_offered

MODEL_TIMEOUT, TEAM_TIMEOUT = 3600.0, 600.0  # seconds for one model, and for one of several workers


def rows(runtime: Runtime, cells: Sequence[str] = ()) -> Iterator[Row]:
    """Yield every comparison of a variant of a backend's model; a backend that fails is a row.

    Without `cells`, all of them are checked. With several workers, whose number `require_shares`
    allows, it is what they compute together.
    """
    workers = runtime.workers
    what, timeout = ("workers", TEAM_TIMEOUT) if workers > 1 else ("backend", MODEL_TIMEOUT)
    try:
        yield from groups.ask(_rows, workers, runtime, list(cells), timeout=timeout)
    except NotOffered as error:
        yield not_offered(runtime.model, "", error.problem)
    except RNNScratchError as error:
        yield fact("", False, one_line(str(error)), piece=what)


def require_shares(workers: int) -> None:
    """Raise RNNScratchError for a number of workers that does not divide the minibatch."""
    if B % workers:
        raise RNNScratchError(
            f"`--workers` must be a divisor of {B}, the rows of a minibatch here (got {workers}).",
            f"Use {', '.join(str(number) for number in range(1, B + 1) if B % number == 0)}.",
        )


def _rows(member: Team | None, runtime: Runtime, cells: list[str]) -> Iterator[Row]:
    # In a process of its own, so that one framework cannot disturb another.
    if member is not None:
        yield from team.check(runtime, cells, member)
        return
    backend = registry.load(runtime.backend)
    # Before anything is computed.
    threads = list(machine.set_threads(backend))
    if runtime.model == "scratch":
        yield from threads
        yield from machine.used_threads(backend)
    device = registry.choose_device(runtime.backend, backend, runtime.device, "float32")
    cases = inputs.cases(device, cells, runtime.model)
    yield from check(runtime.backend, backend, runtime.model, cases)


def check(
    name: str,
    backend: Backend,
    model: str = "scratch",
    cases: Sequence[Options] | None = None,
    short: bool = False,
    omit: Sequence[Piece] = (),
) -> Iterator[Row]:
    """Compare a variant of a backend's model with the reference, in each of these cases.

    `name` is the backend's. Without `cases`, all of `inputs.cases` are compared. A piece that
    raises an error is a row that fails. The `short` form has at most 10 updates; pieces in `omit`
    are left out.
    """
    if hasattr(backend, model):
        yield from signatures(backend, model)
    if model == "scratch":
        yield from machine.devices(name, backend)
    seen = set[str]()  # dtypes
    for options in inputs.cases(variant=model) if cases is None else cases:
        case = make_case(name, backend, model, options, short)
        if options.device not in backend.machine.devices(options.dtype):
            reason = f"There is no {options.dtype} on the device {options.device}."
            yield not_offered(model, case.label, reason)
            continue
        once = () if seen or case.large else ONCE
        if model == "scratch" and options.dtype not in seen:
            once += OF_A_DTYPE
        pieces = of_case(case) if case.large or options.dtype in seen else PIECES[model]
        for piece in pieces + once:
            if piece in omit:
                continue
            try:
                yield from case.rows(piece)
            except NotOffered as error:
                yield not_offered(model, case.label, str(error))
                break
            except Exception as error:
                row = fact("raised", False, described(error), piece=case.name_of(piece))
                yield replace(row, case=case.label, file=case.file_of(row.piece))
        else:
            seen.add(options.dtype)


def of_case(case: Case) -> tuple[Piece, ...]:
    """Return the pieces to check in a case that is not the first one of its dtype."""
    if case.large:
        return functions.forward, functions.gradients
    double, first = case.options.dtype == "float64", case.options.cell == inputs.PLAIN.cell
    omitted = () if double and first else OF_ANY_CELL
    if not double or (case.options.deep and not first):
        omitted += epochs.TRAINING[1:]
    return tuple(each for each in PIECES[case.variant] if each not in omitted)


def described(error: Exception) -> str:
    """Return the type and the first line of the message of any error."""
    message = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {message[:200]}".rstrip(": ")


def signatures(backend: Backend, model: str) -> Iterator[Row]:
    """Check whether functions take the contract's arguments: all, or `build` of a variant."""
    modules = ["scratch", "deep", "machine", "workers"] if model == "scratch" else [model]
    for module in filter(partial(hasattr, backend), modules):  # workers may be absent
        for specification in MODULES[module]:
            name = specification.__name__
            expected = _parameters(specification)
            actual = _parameters(getattr(getattr(backend, module), name, None))
            otherwise = f"{name}{actual} instead of {name}{expected}"
            yield fact(f"{module}.{name}", actual == expected, otherwise, piece="signature")


def _parameters(function: Any) -> str:
    # The arguments without annotations, which a backend need not have.
    try:
        parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    except (TypeError, ValueError) as error:  # it is no function, or not Python's
        return f": {error}"
    return f"({', '.join(str(each.replace(annotation=each.empty)) for each in parameters)})"


# Each piece before those that use it, so that the first one that fails is the one to correct.
OF_SCRATCH: tuple[Piece, ...] = (
    machine.tensor,
    *functions.FUNCTIONS,
    *functions.OF_OPTIMIZERS,
    *epochs.TRAINING,
)
OF_A_MODEL = (functions.params, functions.state, functions.forward, functions.gradients)
PIECES = dict.fromkeys(VARIANTS, (*OF_A_MODEL, *epochs.TRAINING)) | {"scratch": OF_SCRATCH}
# Those that do the same with any cell, and are tried with the first one only.
OF_ANY_CELL = (
    machine.tensor,
    functions.encode,
    functions.loss,
    functions.rounded,
    *functions.OF_OPTIMIZERS,
)
# Those that are the same in all cases, and in all of a dtype.
ONCE: tuple[Piece, ...] = (machine.set_eager,)
OF_A_DTYPE: tuple[Piece, ...] = (machine.multiply, machine.synchronize)  # of ``scratch``
