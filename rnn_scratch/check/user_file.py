"""Compare the functions in a user's file with the reference: `rnn-scratch check FILE`.

Each function in turn replaces the backend's function of the same name. The file runs in a child
process. The student notebooks' grader also uses this code.
"""

import functools
import inspect
import re
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from msgspec import structs

from .. import registry
from ..contract import OPTIMIZERS, Backend
from ..errors import RNNScratchError
from ..system import processes
from ..system.processes import ChildError
from . import adapt, draws, layers, naming, runner, source_file
from .candidate import CHECKS, Candidate, calls_function, find_function, patch_backend
from .case import make_case
from .mistakes import copy_backend
from .results import Verdict
from .source_file import list_modules


def check_source(
    source: str,
    path: str,
    backend: str,
    names: Sequence[str] = (),
    first_seed: int = 0,
    free: Collection[str] | None = None,
) -> Iterator[Verdict]:
    """Yield a verdict for each contract function (or each of `names`) that a file defines.

    The draws have consecutive seeds; with a secret first seed, their inputs cannot be known before.
    `free` is passed to `source_file.execute`.
    Raises RNNScratchError if the file cannot be run or defines no such function.
    """
    started = None  # the verdict on the function that is being checked
    arguments = source, path, backend, tuple(names), first_seed, free
    try:
        for verdict in processes.ask(_check, *arguments, timeout=runner.TIMEOUT):
            if started is not None and verdict is not None:
                yield verdict
            started = verdict if started is None else None
    except ChildError as error:
        reason = error.problem if error.code < 0 else f"exit code {error.code}"
        problem = f"ends the process ({reason})"
        if error.code == source_file.TIMED_OUT:
            problem = f"does not return within {source_file.CALL_SECONDS:g} s"
        if started is None:
            hint = 'Put code that trains below `if __name__ == "__main__":`, which is not executed.'
            raise RNNScratchError(f"{path} {problem}.", hint) from error
        started.problem = f"It {problem}. The functions below it were not checked."
        yield started


def _check(
    source: str,
    path: str,
    name: str,
    names: Sequence[str],
    first_seed: int,
    free: Collection[str] | None = None,
) -> Iterator[Verdict | None]:
    """Yield each verdict for `check_source` twice, before and after the function is checked.

    The second is None if the function is not one of the contract's.
    """
    warnings.simplefilter("ignore")  # mistakes may cause overflow
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        backend = copy_backend(registry.start(name, 1)[0], folder)
        namespace = source_file.execute(source, path, backend, free)
        for new in OPTIMIZERS.keys() - backend.scratch.OPTIMIZERS.keys():  # declared by the file
            backend.scratch.OPTIMIZERS[new] = find_function(backend, new)
        defined = [
            n
            for n, v in namespace.items()
            if getattr(v, "__module__", "") == "user_file"
            or (layers.find_base(v) and not isinstance(v, type))
        ]
        is_known = partial(find_function, backend)
        defined = [
            n
            for n in names or defined
            if layers.find_base(namespace[n])
            or layers.may_be_layer(n, namespace[n])
            or naming.list_roles(n, is_known)
            or is_known(n)
        ]
        num_checked, left = 0, list[str]()  # `left`: wrong functions that remain in use
        for name in defined:
            function, original = namespace[name], find_function(backend, name)
            verdict = Verdict(name, _find_line(source, name, function))
            yield verdict
            with source_file.limit_time():
                found = adapt.find_forms(backend, is_known, name, function)
            if isinstance(found, str):
                verdict.problem, found = found, []
            candidates = [
                Candidate(copy_backend(backend, folder), namespace, verdict, form, path, first_seed)
                for form in found
            ]
            if not candidates or not candidates[0].cases:
                num_checked += bool(verdict.problem)
                left += [name] * bool(verdict.problem)
                yield verdict if verdict.problem else None
                continue
            num_checked += 1
            if is_own := not found[0].description:
                patch_backend(backend, name, function)  # user code may use it via tables
            verdicts = [candidate.judge() for candidate in candidates]
            # A form with a known mistake's values is the one that is meant.
            verdict = next((v for v in verdicts if v.mistake), verdicts[0])
            if verdicts[1:] and not verdict.mistake:
                verdict = _refuse(verdicts, find_function(backend, found[0].role))
            if verdict.exit_code:
                verdict.callees = [n for n in left if n in naming.list_words(function)]
            yield verdict
            if verdict.exit_code and is_own:
                patch_backend(backend, name, original)
            if verdict.exit_code and is_own and name in namespace["__builtins__"]:
                del namespace[name]  # the functions below call the project's instead
            elif verdict.exit_code:  # the project's has other arguments, or there is none
                left.append(name)
        if not num_checked:
            raise RNNScratchError(
                f"{path} defines no function that can be checked.",
                f"Name functions like the project's: {', '.join(_list_checked(backend))}.",
            )


def _refuse(verdicts: Sequence[Verdict], original: Callable[..., Any]) -> Verdict:
    """Return a verdict that names two forms, in both of which a function is wrong."""
    first, second = (verdict.form for verdict in verdicts[:2])
    parameters = ", ".join(inspect.signature(original).parameters)
    problem = f"It could be {first}, or {second}, and it is wrong in both. "
    problem += f"Name its parameters ({parameters}), and give them the project's layouts."
    return structs.replace(verdicts[0], form="", failure=None, problem=problem)


def _find_line(source: str, name: str, value: Any) -> int:
    """Return the number of the line that defines a name."""
    found = re.search(rf"(?m)^(async def|def|class)? *{name}\b", source)
    line = source[: found.start()].count("\n") + 1 if found else 0
    return int(getattr(getattr(inspect.unwrap(value), "__code__", None), "co_firstlineno", line))


def find_arguments(backend: str, function: str, seed: int, call: int = 0, cell: str = "") -> Any:
    """Return the arguments of a function's call number `call` (from 0) in the check of a draw."""
    calls = list[tuple[Any, ...]]()
    with tempfile.TemporaryDirectory() as folder:
        candidate = copy_backend(registry.start(backend, 1)[0], folder)
    original = find_function(candidate, function)

    @functools.wraps(original)
    def record(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    patch_backend(candidate, function, record)
    case = make_case(candidate, "scratch", draws.draw(seed, [cell] if cell else []))
    check = next(check for check in CHECKS if calls_function(function, check, case))
    any(len(calls) > call for _ in check(case))  # runs the check up to this call
    return calls[call] if len(calls[call]) > 1 else calls[call][0]


def _list_checked(backend: Backend) -> list[str]:
    """Return the names of the backend's functions that can be checked."""
    cases = [make_case(backend, "scratch", draws.draw(seed)) for seed in range(draws.NUM_DRAWS)]
    items = [item for module in list_modules(backend) for item in vars(module).items()]
    names = dict.fromkeys(name for name, value in items if callable(value))
    pairs = [(check, case) for check in CHECKS for case in cases]
    return [name for name in names if any(calls_function(name, *pair) for pair in pairs)]
