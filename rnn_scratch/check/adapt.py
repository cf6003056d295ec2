"""Adapt a user's function to the contract's signature.

`find_form` calls the function on a small drawn case, in the contract's form first and then in each
other form that its parameters allow. The first form whose results have the right shapes is taken.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ..contract import CELLS, OPTIMIZERS, Backend
from . import function_forms, runner
from .case import Case
from .forms import Form, find_shapes, make_arguments, make_small_case
from .naming import guess_cell, list_roles
from .network_forms import list_network_forms
from .results import describe_error

FORMS: dict[str, Callable[[str, Any, Case], Iterator[Form]]] = {
    "cell": list_network_forms,
    "step": list_network_forms,
    "forward": list_network_forms,
    "loss": function_forms.list_loss_forms,
    "clip": function_forms.list_clip_forms,
    "encode": function_forms.list_encode_forms,
    "init_state": function_forms.list_state_forms,
    **dict.fromkeys(OPTIMIZERS, function_forms.list_optimizer_forms),
}


def find_form(backend: Backend, original: Callable[[str], Any], name: str, value: Any) -> Any:
    """Return the Form of a user's function, or a sentence that says why it has none.

    `original` returns the backend's function of a name. The sentence is empty if the name does not
    mean a contract function.
    """
    problem, function = "", original(name)
    has_signature = function and not runner.find_signature_problem(function, value)
    roles = list_roles(name, original)
    for role, cell in roles:
        make = FORMS.get("cell" if role.replace("_", "-") in CELLS else role)
        if make is None:
            continue
        for dtype in ("float64", "float32"):
            case = make_small_case(backend, cell or guess_cell(value), dtype)
            expected = find_shapes(case.to_arrays(original(role)(*make_arguments(role, case))))
            if role == name and has_signature:
                with contextlib.suppress(Exception, SystemExit):
                    result = value(*make_arguments(role, case))
                    is_list = isinstance(result, list) and role != "predict"
                    if find_shapes(case.to_arrays(result)) == expected and not is_list:
                        return Form(role, value)
            for form in make(role, value, case):
                try:
                    result = case.to_arrays(form.function(*make_arguments(role, case)))
                except (Exception, SystemExit) as error:
                    problem = problem or f"It raises {describe_error(error)}"  # type: ignore[arg-type]
                    continue
                if find_shapes(result) != expected:
                    problem = problem or f"Its results have the shapes {find_shapes(result)}"
                    continue
                if dtype == "float32":
                    form = form._replace(
                        overrides={"dtype": dtype}, description=f"{form.description}, float32"
                    )
                return form
    if has_signature or (roles and not FORMS.keys() & {role for role, _ in roles}):
        return Form(name, value) if has_signature or function else ""
    if not function or not roles:
        return ""
    parameters = ", ".join(inspect.signature(function).parameters)
    try:
        found = ", ".join(inspect.signature(value).parameters)
    except (TypeError, ValueError):
        return f"It is not a function with a Python signature, like {name}({parameters})."
    ending = f" {problem}, in the most likely form." if problem else ""
    return f"It has parameters ({found}) instead of ({parameters}).{ending}"
