"""The form of a user's function, and the small case on which forms are tried.

The sizes of the small case are all different, so that a wrong layout has a wrong shape.
"""

import functools
import importlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..contract import OPTIMIZERS, Backend, ModelConfig, UpdateRule
from .case import Case, make_case
from .draws import CaseSpec
from .results import describe_error

PROBE_THETA = 0.5  # smaller than the norm of the small case's gradients
ARRAY_MODULES = {
    "jax": "jax.numpy",
    "mxnet": "mxnet.np",
    "tensorflow": "tensorflow.experimental.numpy",
}


class Form(NamedTuple):
    """A user's function, adapted to the contract's signature."""

    role: str  #: name of the contract function that it implements
    function: Callable[..., Any]
    description: str = ""  #: how it differs from the contract's form; empty if it does not
    cell: str = ""  #: the cell that it computes, if only one
    overrides: dict[str, Any] = {}  #: values of `ModelConfig` that it requires
    is_plain: bool = True  #: whether it needs one layer without embedding and dropout
    from_zeros: bool = False  #: whether it takes no state, and starts from zeros
    errata: Sequence[str] = ()  #: errata of the book that were found by calling it
    tolerance: float = 0  #: largest difference that passes, if more than usual
    check: Any = None  #: the only check that compares it; None: the usual ones


def make_small_case(
    backend: Backend, cell: str = "rnn", dtype: str = "float64", **sizes: Any
) -> Case:
    """Return a case whose sizes are all different: B = 3, T = 4, H = 5 and V = 7.

    `sizes` are other values of `ModelConfig`.
    """
    options = ModelConfig(7, 5, cell, dtype=dtype)._replace(**sizes)
    return make_case(backend, "scratch", CaseSpec(options, 3, 4, 0, seed=0))


def make_arguments(role: str, case: Case) -> tuple[Any, ...]:
    """Return new arguments for a contract function."""
    batch, state = case.minibatch()
    params, reference, role = case.params(), case.reference, role.removeprefix("deep_")
    grads = {n: case.tensor((a * 3 + 0.1).astype(a.dtype)) for n, a in case.arrays.items()}
    if role == "loss":
        logits, _ = reference.forward(reference.model(), case.batch, case.states)
        return case.tensor(logits), batch.Y
    if role == "clip":
        return grads, PROBE_THETA
    if role in OPTIMIZERS:
        model = case.model(optimizer=role)
        return model.params, grads, model.slots, UpdateRule(0.1, optimizer=role, c_m=0.1, c_v=0.001)
    if role == "encode":
        return batch.X, params
    if role == "init_state":
        return case.draw.batch_size, case.options
    if role == "init_params":
        return case.arrays, case.options
    if role == "train_epoch":
        large = {name: array * 8 for name, array in case.arrays.items()}  # needs clipping
        return case.model(large), iter([case.batch]), itertools.repeat(UpdateRule(0.1)), True
    if role == "predict":
        return case.model(), [1, 2, 3], 2, lambda logits: int(logits.argmax())
    if role == "forward":
        return batch.X, state, params, case.options
    x = case.tensor(case.first_inputs)
    return (x, state, params, case.options) if role == "step" else (x, state, params)


def choose_forms(
    original: Callable[[str], Any], candidates: Iterable[tuple[Case, Form]]
) -> tuple[list[Form], str]:
    """Return the forms that fit the small cases that they come with, or why none does.

    `original` returns the backend's function of a name. A form whose results are right is the only
    one returned; otherwise, one is returned for each different result that has the right shapes,
    all with the same role.
    """
    fitting, problem, remaining = list[tuple[Form, Any]](), "", iter(candidates)
    while True:
        try:
            case, form = next(remaining)
            result = case.to_arrays(form.function(*make_arguments(form.role, case)))
        except StopIteration:
            return [form for form, _ in fitting], problem
        except (Exception, SystemExit) as error:
            problem = problem or f"it raises {describe_error(error)}"  # type: ignore[arg-type]
            continue
        if form.check:
            return [form], ""
        expected = case.to_arrays(original(form.role)(*make_arguments(form.role, case)))
        dtypes = {str(getattr(leaf, "dtype", "")) for leaf in _list_leaves(result)}
        if find_shapes(result) != find_shapes(expected):
            problem = problem or f"its results have the shapes {find_shapes(result)}"
        elif case.options.dtype == "float64" and "float32" in dtypes:
            problem = problem or "its results are float32"
        elif _is_close(result, expected):
            return [form], ""
        elif not any(f.role != form.role or _is_close(result, other) for f, other in fitting):
            fitting.append((form, result))


def _is_close(result: Any, expected: Any) -> bool:
    """Return whether results are equal up to errors of float32."""
    if find_shapes(result) != find_shapes(expected):
        return False
    pairs = zip(_list_leaves(result), _list_leaves(expected))
    return all(np.allclose(r, e, 1e-4, 1e-4, equal_nan=True) for r, e in pairs)


def _list_leaves(value: Any) -> list[Any]:
    """Return the arrays in nested dicts, lists and tuples."""
    if isinstance(value, dict):
        value = [array for _, array in sorted(value.items())]
    if isinstance(value, tuple | list):
        return [leaf for element in value for leaf in _list_leaves(element)]
    return [value]


def find_shapes(value: Any) -> Any:
    """Return the shapes of the arrays in a dict, list or tuple, with their names."""
    if isinstance(value, dict):
        return {name: find_shapes(array) for name, array in sorted(value.items())}
    if isinstance(value, tuple | list):
        return type(value)(map(find_shapes, value))
    return np.shape(value)


def get_shape(value: Any) -> tuple[int, ...]:
    """Return an array's shape, or (-1,) for another value."""
    return tuple(getattr(value, "shape", (-1,)))


def find_array_module(backend: Backend) -> Any:
    """Return the framework's module of functions like NumPy's."""
    first, *rest = ARRAY_MODULES.get(backend.name, backend.name).split(".")
    return functools.reduce(getattr, rest, importlib.import_module(first))


def find_device(case: Case) -> Any:
    """Return the CPU as the book's functions take it."""
    return case.tensor(np.zeros(1)).ctx if case.backend.name == "mxnet" else "cpu"
