"""Adapt a user's function to the contract's signature.

`find_forms` calls the function on a small drawn case, in the contract's form first and then in each
other form that its parameters allow. A form whose results are right is taken or, if none is, those
whose results have the right shapes.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from ..contract import CELLS, OPTIMIZERS, Backend
from . import chapter, function_forms, layers, naming, runner
from .case import Case
from .forms import (
    Form,
    choose_forms,
    find_shapes,
    make_arguments,
    make_small_case,
)
from .naming import OTHER_NAMES, guess_cell, list_roles
from .network_forms import list_network_forms

EMBEDDING = dict.fromkeys(("e", "emb", "embed", "embedding", "we", "wte"), "W_e")
FORMS: dict[str, Callable[[str, Any, Case], Iterator[Form]]] = {
    "cell": list_network_forms,
    "step": list_network_forms,
    "forward": list_network_forms,
    "loss": function_forms.list_loss_forms,
    "clip": function_forms.list_clip_forms,
    "encode": function_forms.list_encode_forms,
    "init_params": chapter.list_params_forms,
    "predict": chapter.list_predict_forms,
    "train_epoch": chapter.list_epoch_forms,
    "init_state": function_forms.list_state_forms,
    **dict.fromkeys(OPTIMIZERS, function_forms.list_optimizer_forms),
}


def find_forms(
    backend: Backend, original: Callable[[str], Any], name: str, value: Any
) -> list[Form] | str:
    """Return the forms that a user's function may have, or a sentence that says why it has none.

    `original` returns the backend's function of a name. The sentence is empty if the name does not
    mean a contract function. If there are several forms, the function is wrong in each.
    """
    if layers.find_base(value):
        found = _choose(original, partial(layers.list_forms, backend, value))
        maps = "It does not map inputs and a state to outputs and a state"
        return f"{maps}: {found}." if isinstance(found, str) else found
    problem = ""
    if layers.may_be_layer(name, value):
        found = _choose(original, partial(layers.list_forms, backend, value))
        if not isinstance(found, str):
            return found
        problem = found
    function, roles = original(name), list_roles(name, original)
    has_signature = function and not runner.find_signature_problem(function, value)
    case = make_small_case(backend, dict(roles).get(name) or guess_cell(value))
    if has_signature and _fits(value, function, name, case):
        return [Form(name, value)]
    found = _choose(original, partial(_list_forms, backend, roles, value))
    if not isinstance(found, str):
        return found
    if has_signature or (roles and not FORMS.keys() & {role for role, _ in roles}):
        return [Form(name, value)] if has_signature or function else ""
    if not function or not roles:  # another name
        is_named = name in " ".join(OTHER_NAMES.values()).split()
        if roles and isinstance(value, type) and {"forward", "__call__"} & {*vars(value)}:
            is_named, found = True, found or problem
        taken = f"By its name, it is a form of `{roles[0][0]}`, but {found}. " if is_named else ""
        return f"{taken}Correct or rename it." if taken and found else ""
    if name == "init_params" and "arrays" not in naming.list_words(value):
        return ""  # its parameters are drawn, in an order of its own
    parameters = ", ".join(inspect.signature(function).parameters)
    try:
        names = ", ".join(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return f"It is not a function with a Python signature, like {name}({parameters})."
    ending = f" In the most likely form, {found}." if found else ""
    return f"It has parameters ({names}) instead of ({parameters}).{ending}"


def _choose(
    original: Callable[[str], Any], list_pairs: Callable[[str], Iterator[tuple[Case, Form]]]
) -> list[Form] | str:
    """Return the forms that fit in float64 or, if none does, in float32, or why none does."""
    problem = ""
    for dtype in ("float64", "float32"):
        fitting, reason = choose_forms(original, list_pairs(dtype))
        problem = problem or reason
        if fitting:
            suffix = ", float32" if dtype == "float32" else ""
            changes = {"dtype": dtype} if suffix else {}
            return [
                form._replace(
                    description=form.description + suffix, overrides=form.overrides | changes
                )
                for form in fitting
            ]
    return problem


def _list_forms(
    backend: Backend, roles: Sequence[tuple[str, str]], value: Any, dtype: str
) -> Iterator[tuple[Case, Form]]:
    """Yield the forms of all functions that a name could mean, with their cases."""
    for role, cell in roles:
        make = FORMS.get("cell" if role.replace("_", "-") in CELLS else role)
        if isinstance(value, type):
            make = chapter.list_model_forms if role == "forward" else None
            make = function_forms.list_optimizer_class_forms if role in OPTIMIZERS else make
        if not make:
            continue
        embeddings = naming.find_keys(value, EMBEDDING) if role in naming.NETWORK else {}
        # The sizes of the embedding to try; the second is the number of hidden units.
        for N in (6, 5) if embeddings else (0,):
            sizes = {"embedding": N, "num_layers": 1, "dropout": 0.0} if N else {}
            sizes |= {"num_hiddens": 5} if N == 5 else {}
            case = make_small_case(backend, cell or guess_cell(value), dtype, **sizes)
            for form in make(role, value, case):
                given = case.from_zeros() if form.from_zeros else case
                yield given, form._replace(overrides=sizes | form.overrides)


def _fits(function: Any, original: Any, role: str, case: Case) -> bool:
    """Return whether a function's results have the contract's shapes, called in its form."""
    with contextlib.suppress(Exception, SystemExit):
        result = function(*make_arguments(role, case))
        expected = case.to_arrays(original(*make_arguments(role, case)))
        is_list = isinstance(result, list) and role != "predict"
        return not is_list and find_shapes(case.to_arrays(result)) == find_shapes(expected)
    return False
