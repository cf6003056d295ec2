"""Compare a backend with the NumPy reference, function by function."""

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from .. import registry
from ..contract import MODULES, VARIANTS, Backend, WorkerGroup
from ..errors import NotOffered, RNNScratchError
from ..system.processes import one_line
from ..training.runtime import Runtime
from ..workers import groups
from . import distributed, draws, functions, training
from .draws import NUM_DRAWS, Case, Draw, FunctionCheck, make_case
from .results import CheckResult, Result, pass_fail_result, unsupported_result
from .results import describe_error as describe_error

MODEL_TIMEOUT, WORKERS_TIMEOUT = 3600.0, 600.0  # seconds
# Compile quickly where many small programs are checked; other frameworks ignore the variable.
QUICK_COMPILATION = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def run(
    runtime: Runtime, cells: Sequence[str] = (), seed: int = 0, number: int = NUM_DRAWS
) -> Iterator[CheckResult]:
    """Yield every comparison of a variant of a backend's model; a backend that fails is a result.

    Args:
        runtime: Backend, variant, device and number of workers. With several workers, their
            joint results are compared.
        cells: Cells to draw from; by default all.
        seed: Seed of the first draw.
        number: Number of draws.
    """
    workers, arguments = runtime.workers, (runtime, list(cells), seed, number)
    name, timeout = ("workers", WORKERS_TIMEOUT) if workers > 1 else ("backend", MODEL_TIMEOUT)
    try:
        if workers > 1:
            yield from groups.ask(distributed.check, workers, *arguments, timeout=timeout)
            return
        environment = QUICK_COMPILATION
        yield from groups.ask(_run, 1, *arguments, timeout=timeout, environment=environment)
        if runtime.model != "concise":  # the framework's own layers
            yield from groups.ask(_run_large, 1, *arguments, timeout=timeout)
    except NotOffered as error:
        yield unsupported_result(runtime.model, "", error.problem)
    except RNNScratchError as error:
        yield pass_fail_result("", False, one_line(str(error)), name)


def _run(
    group: WorkerGroup | None, runtime: Runtime, cells: list[str], seed: int, number: int
) -> Iterator[CheckResult]:
    # In a separate process, so that frameworks cannot disturb each other.
    name, backend = runtime.backend, registry.load(runtime.backend)
    threads = list(set_threads(backend))  # set the number before the first computation
    if runtime.model == "scratch":
        yield from threads
    device = registry.choose_device(name, backend, runtime.device, "float32")
    yield from check(name, backend, runtime.model, draws.draw_all(seed, number, cells, device))


def _run_large(
    group: WorkerGroup | None, runtime: Runtime, cells: list[str], seed: int, number: int
) -> Iterator[CheckResult]:
    # Large tensors with two threads, and compiled as in training: algorithms that small ones miss.
    name, model, (backend, _) = runtime.backend, runtime.model, registry.start(runtime.backend, 2)
    device = registry.choose_device(name, backend, runtime.device, "float32")
    large = [draws.draw_large(seed + i, cells, device) for i in range(1 + (model == "fast"))]
    yield from compare(name, backend, model, large, LARGE_CHECKS)
    small = [draws.draw(seed, cells, device)]
    yield from compare(name, backend, model, small, (training.sequence,))


def check(
    name: str, backend: Backend, model: str = "scratch", cases: Sequence[Draw] | None = None
) -> Iterator[CheckResult]:
    """Compare a variant of a backend's model with the reference.

    Args:
        name: Name of the backend.
        backend: The backend.
        model: Variant of the model.
        cases: Draws to compare; by default the draws of the command `check`.

    Yields:
        The comparisons, function by function in the order of the contract, then the sequence of
        training and prediction. A function that raises an error is a result that fails.
    """
    if hasattr(backend, model):
        yield from signatures(backend, model)
    cases = draws.draw_all() if cases is None else cases
    yield from compare(name, backend, model, cases, CHECKS[model])


def compare(
    name: str,
    backend: Backend,
    model: str,
    drawn: Sequence[Draw],
    checks: Sequence[FunctionCheck],
) -> Iterator[CheckResult]:
    """Compare the draws that the backend supports, check by check."""
    cases = []
    for draw in drawn:
        case, reason = make_case(name, backend, model, draw), ""
        if draw.options.device not in backend.machine.devices(draw.options.dtype):
            reason = f"There is no {draw.options.dtype} on the device {draw.options.device}."
        else:
            try:
                case.model()
            except NotOffered as error:
                reason = str(error)
            except Exception:
                pass  # the check of `params` reports it
        if reason:
            yield unsupported_result(model, draw.label, reason)
        else:
            cases.append(case)
    # The first draws of a dtype include the plain model and the deepest one.
    firsts = list({case.options.dtype: case for case in reversed(cases)}.values())
    for each in checks:
        for case in firsts if each in FIRST_OF_DTYPE else cases:
            yield from _guarded(case, each)


def _guarded(case: Case, each: FunctionCheck) -> Iterator[CheckResult]:
    # The results of a check; an error is a result that fails.
    try:
        yield from case.run(each)
    except Exception as error:
        yield case.compare(case.function_name(each), Result("raised", error, ""))


def set_threads(backend: Backend) -> Iterator[CheckResult]:
    """Check that the number of threads is returned; finally it is 1.

    Some frameworks fix the number when they first compute, so this check comes first.
    """
    for name, number in (("2 threads", 2), ("1 thread", 1), ("1 thread again", 1)):
        try:
            returned = backend.machine.set_threads(number)
            problem = f"{returned!r} is returned"
        except Exception as error:
            returned, problem = 0, f"{type(error).__name__}: {error}"
        # A framework may be unable to use two threads, and then it returns 1.
        passed = returned in (1, number)
        yield pass_fail_result(name, passed, problem, "set_threads")


def signatures(backend: Backend, model: str) -> Iterator[CheckResult]:
    """Check that functions have the contract's parameters: all, or `build` of a variant."""
    modules = ["scratch", "deep", "exact", "machine", "workers"] if model == "scratch" else [model]
    for module in filter(partial(hasattr, backend), modules):  # workers may be absent
        for specification in MODULES[module]:
            name = specification.__name__
            expected = _parameters(specification)
            actual = _parameters(getattr(getattr(backend, module), name, None))
            problem = f"{name}{actual} instead of {name}{expected}"
            yield pass_fail_result(f"{module}.{name}", actual == expected, problem, "signature")


def _parameters(function: Any) -> str:
    # The parameters without annotations, which a backend need not have.
    try:
        parameters = inspect.signature(inspect.unwrap(function)).parameters.values()
    except (TypeError, ValueError) as error:  # no function, or one without a Python signature
        return f": {error}"
    return f"({', '.join(str(each.replace(annotation=each.empty)) for each in parameters)})"


# Each check precedes the checks of functions that call its function, so that the first failure
# names the function to correct.
CHECKS: dict[str, tuple[FunctionCheck, ...]] = {
    **dict.fromkeys(VARIANTS, (*functions.MODEL_FUNCTIONS, *training.TRAINING)),
    "scratch": (*functions.FUNCTIONS, *training.TRAINING),
}
LARGE_CHECKS: tuple[FunctionCheck, ...] = (functions.forward, functions.gradients)
FIRST_OF_DTYPE: tuple[FunctionCheck, ...] = (
    functions.tensor,
    functions.separate_memory,
    functions.detach,
    functions.clip,
    functions.round_to_grid,
    functions.round_to_float32,
    training.to_arrays,
)
