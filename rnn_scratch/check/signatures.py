"""Whether a backend's functions take the contract's arguments."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import contract
from ..contract import MACHINE, SCRATCH, WORKERS, Backend
from .inputs import Row, fact


def signatures(backend: Backend, model: str) -> Iterator[Row]:
    """A row for each function that must be there, or for the `build` of a variant."""
    functions: dict[str, Sequence[Callable[..., Any]]] = {"scratch": SCRATCH, "machine": MACHINE}
    if hasattr(backend, "workers"):  # which may be absent
        functions["workers"] = WORKERS
    if model != "scratch":
        functions = {model: (contract.build,)}
    for module, specifications in functions.items():
        for specification in specifications:
            name = specification.__name__
            try:
                expected, actual = (
                    parameters(f) for f in (specification, getattr(getattr(backend, module), name))
                )
            except (TypeError, ValueError) as error:  # it is no function, or not Python's
                yield fact("signature", f"{module}.{name}", "", False, str(error))
                continue
            otherwise = f"{name}{actual} instead of {name}{expected}"
            yield fact("signature", f"{module}.{name}", "", actual == expected, otherwise)


def parameters(function: Callable[..., Any]) -> inspect.Signature:
    """The signature without annotations, which a backend need not have."""
    signature = inspect.signature(inspect.unwrap(function))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return inspect.Signature(bare)
