"""Compare a backend with the NumPy reference, function by function."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, product
from typing import Any

from .. import registry
from ..contract import CELLS, MODULES, VARIANTS, Backend
from ..errors import NotSupportedError, RNNScratchError
from ..system import processes
from ..system.files import cache_folder
from ..system.processes import one_line
from ..training.runtime import Runtime
from . import draws, functions, training
from .case import FunctionCheck, make_case
from .draws import NUM_DRAWS, CaseSpec
from .results import (
    BACKEND,
    TRAINING,
    CheckResult,
    Result,
    find_worst_mismatch,
    pass_fail_result,
    read_data,
)

TIMEOUT = 600.0  # seconds to wait for each result, or for each verdict on a user's function
# Environment variables by number of threads. Without optimizations, JAX compiles much faster.
ENVIRONMENTS: dict[int, dict[str, str]] = {1: {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}, 2: {}}
# JAX keeps only large programs by default.
KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}


def run(
    runtimes: Sequence[Runtime],
    cells: Sequence[str] = (),
    seeds: Sequence[int] = range(NUM_DRAWS),
) -> Iterator[tuple[Runtime, CheckResult]]:
    """Yield every comparison of a backend's variants; if the backend fails, yield a failed result.

    The reference is also compared with recorded values, and yields only failures. All variants are
    compared with one thread, and large tensors also with two.
    """
    runtime = runtimes[0]
    # JAX keeps the compiled programs of the default cases, which halves the time of the next check.
    kept = dict[str, str]()
    if [*seeds] == [*range(NUM_DRAWS)]:
        kept = {**KEEP_ALL, "JAX_COMPILATION_CACHE_DIR": str(cache_folder() / "jax")}
    # Use separate processes so that frameworks cannot interfere with each other. Each variant has
    # one, because compiling takes long in some frameworks.
    groups = [*((1, [runtime]) for runtime in runtimes), (2, runtimes)]
    streams = []
    for threads, group in groups:
        task, environment = (threads, group, cells, seeds), ENVIRONMENTS[threads] | kept
        streams.append(processes.ask(_run, *task, timeout=TIMEOUT, environment=environment))
    # The reference's own check compares its functions, and names them before complete trainings.
    place = len(streams) if runtime.backend == "numpy" else 0
    streams.insert(place, processes.ask(_run_reference, runtime.backend, timeout=TIMEOUT))
    try:
        for stream in streams:
            next(stream)  # starts the process; all processes then run concurrently
        for runtime, row in chain.from_iterable(streams):
            yield runtime, row
    except NotSupportedError as error:
        yield runtime, CheckResult(runtime.variant, "", "", 0, error.problem, 0, supported=False)
    except RNNScratchError as error:
        yield runtime, pass_fail_result("", False, one_line(str(error)), BACKEND)
    finally:
        for stream in streams:
            stream.close()  # ends the processes


def _run_reference(backend: str) -> Iterator[Any]:
    """Yield "started", then the failed comparisons of the reference with recorded values."""
    yield "started"
    registry.start("numpy", 1)
    for row in compare_trainings() if backend == "numpy" else check_reference():
        if not row.passed:
            yield Runtime("numpy"), row


def _run(
    threads: int, runtimes: Sequence[Runtime], cells: Sequence[str], seeds: Sequence[int]
) -> Iterator[Any]:
    """Yield "started", then the comparisons of these runtimes' variants."""
    yield "started"
    backend, _ = registry.start(runtimes[0].backend, threads)
    device = registry.choose_device(backend, runtimes[0].device, "float32")
    drawn = draws.draw_all(seeds, cells, device)
    for runtime in runtimes:
        variant = runtime.variant
        if threads == 1:
            rows = check(backend, variant, drawn)
        elif variant == "concise":
            continue  # large tensors would test only the framework's layers
        else:
            # Check large tensors with code compiled as in training; plain code needs only one size.
            large = [draws.draw_large(seeds[0] + i, cells, device) for i in (0, 1)]
            checks = (functions.gradients, training.train_minibatch)
            rows = compare(backend, variant, large[: 1 + (variant == "fast")], checks)
            runtime = runtime.override(threads=threads)
        if variant != VARIANTS[0]:  # while the parent reads another process, do not wait for it
            rows = iter([*rows])
        for row in rows:
            yield runtime, row


def check(
    backend: Backend, variant: str = "scratch", cases: Sequence[CaseSpec] | None = None
) -> Iterator[CheckResult]:
    """Compare a backend variant with the reference, by default on the default draws.

    Yields comparisons by function; a function that raises an error produces a failed result. If the
    backend lacks a draw's optimizer, layers or exact mode, the draw is compared without them.
    """
    if variant in backend.variants:
        yield from signatures(backend, variant)
    drawn = draws.draw_all(range(NUM_DRAWS)) if cases is None else cases
    cases = [simplify(draw, backend, variant) for draw in drawn]
    yield from compare(backend, variant, cases, CHECKS[variant])


def simplify(draw: CaseSpec, backend: Backend, variant: str) -> CaseSpec:
    """Return a draw without optional features that the backend lacks, in as many variants."""
    scratch, options = backend.scratch, draw.options
    if variant == "scratch" and backend.deep is None:
        options = options._replace(embedding=0, num_layers=1, dropout=0.0)
    is_small = sum(cell in scratch.CELLS for cell in CELLS) < len(VARIANTS)
    return draw._replace(
        options=options,
        exact=draw.exact and backend.exact is not None,
        optimizer=draw.optimizer if draw.optimizer in scratch.OPTIMIZERS else "sgd",
        variants=VARIANTS if is_small else draw.variants,  # few cells have few cases in turn
    )


def check_reference() -> Iterator[CheckResult]:
    """Compare the reference, and training that all backends share, with recorded values."""
    cases = draws.draw_all(range(NUM_DRAWS))
    yield from compare(registry.load("numpy"), "scratch", cases, CHECKS["scratch"])
    yield from compare_trainings()


def compare_trainings() -> Iterator[CheckResult]:
    """Compare the reference's trainings with recorded values."""
    recorded = read_data("pinned.json")["training"]
    for case, outputs in training.train_reference().items():
        for output, value in outputs.items():
            worst = find_worst_mismatch(recorded[case][output], value)
            tolerance = training.TOLERANCE * max(1, abs(recorded[case][output]))
            yield CheckResult(TRAINING, output, case, tolerance=tolerance, **worst._asdict())


def compare(
    backend: Backend, variant: str, drawn: Sequence[CaseSpec], checks: Sequence[FunctionCheck]
) -> Iterator[CheckResult]:
    """Run every check on a variant's draws; report draws that the backend does not support."""
    cases = []
    for case in (make_case(backend, variant, draw) for draw in drawn if variant in draw.variants):
        try:
            registry.choose_device(backend, case.options.device, case.options.dtype)
            case.model()
        except RNNScratchError as error:
            yield CheckResult(variant, "", case.draw.label, 0, error.problem, 0, supported=False)
            continue
        except Exception:
            pass  # the `params` check will report the error
        cases.append(case)
    for check, case in product(checks, cases):
        try:
            yield from case.run(check)
        except Exception as error:
            yield case.compare(case.function_name(check), Result("raised", error, ""))


def signatures(backend: Backend, variant: str) -> Iterator[CheckResult]:
    """Check that all function signatures (or a variant's `build` signature) match the contract."""
    modules = ["scratch", "deep", "exact", "machine"] if variant == "scratch" else [variant]
    for module in (name for name in modules if getattr(backend, name)):
        for specification in MODULES[module]:
            name = specification.__name__
            expected = partial(specification, None)  # without `self`
            problem = find_signature_problem(expected, getattr(getattr(backend, module), name))
            yield pass_fail_result(f"{module}.{name}", not problem, problem, "signature")


def find_signature_problem(expected: Any, actual: Any) -> str:
    """Return how a function's parameters differ from those of `expected`, or "".

    Parameters after the expected ones are allowed if they have default values.
    """
    names = [*_parameters(expected)]
    try:
        parameters = _parameters(actual)
    except (TypeError, ValueError):  # not a function, or one without a Python signature
        definition = f"def {expected.func.__name__}({', '.join(names)})"
        return f"not a function with a Python signature; write `{definition}`"
    others = [param for name, param in parameters.items() if name not in names]
    if [*parameters][: len(names)] != names or any(p.default is p.empty for p in others):
        return f"parameters ({', '.join(parameters)}) instead of ({', '.join(names)})"
    required = [
        name
        for name, param in _parameters(expected).items()
        if param.default is not param.empty and parameters[name].default is param.empty
    ]
    return f"no default value for {', '.join(required)}" if required else ""


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(inspect.unwrap(function)).parameters


# Each function is checked before its callers so that the first failure names the function to fix.
CHECKS: dict[str, tuple[FunctionCheck, ...]] = {
    **dict.fromkeys(VARIANTS, (*functions.MODEL_FUNCTIONS, training.to_arrays, training.sequence)),
    "scratch": (*functions.FUNCTIONS, training.to_arrays, training.sequence),
}
