"""Compare one function of a user with the reference, in the place of the backend's own."""

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec import structs

from ..contract import CELLS, OPTIMIZERS, Backend
from ..errors import RNNScratchError
from . import chapter, draws, functions, runner, source_file, training
from .case import Case, FunctionCheck, make_case
from .forms import Form
from .mistakes import identify_mistake
from .results import Verdict, flatten
from .source_file import describe_place, list_modules

TABLES = ("CELLS", "CELL_BACKWARD", "OPTIMIZERS")
# Each check calls the function that it compares; `gradients` and `sequence` call more functions.
# `sequence` trains the model, because compilers and autograd may reject code that runs eagerly.
CHECKS = (*functions.FUNCTIONS, training.evaluate, training.predict, training.sequence)
NUM_CASES = {training.sequence: 2}  # cases per function; other checks use 8


class Candidate:
    """A user's function, its number of calls, and the backend in which it is checked."""

    def __init__(
        self,
        backend: Backend,
        namespace: dict[str, Any],
        verdict: Verdict,
        form: Form,
        path: str,
        first_seed: int,
    ) -> None:
        """Draw the cases for a function in a file's namespace, in `form`."""
        self.backend, self.name, self.path, self.form = backend, form.role, path, form
        self.function, self.num_calls, self.problem = form.function, 0, ""
        errata = [*form.errata, *chapter.list_errata(namespace[verdict.function], backend.name)]
        self.verdict = structs.replace(verdict, form=form.description, errata=errata)
        cell = self.name.removesuffix("_backward").replace("_", "-")
        self.cells = [cell] if cell in CELLS else [form.cell] * bool(form.cell)
        if cell in CELLS and cell not in backend.scratch.CELLS and f"{cell}_backward" in namespace:
            patch_backend(backend, f"{cell}_backward", namespace[f"{cell}_backward"])
        seeds = range(first_seed, first_seed + 3 * draws.NUM_DRAWS)
        known = [cell for cell in CELLS if cell in backend.scratch.CELLS]
        drawn = [draws.draw(seed, self.cells or known) for seed in seeds]
        if form.overrides:
            options = [d.options._replace(**form.overrides) for d in drawn]
            drawn = [d._replace(options=o, exact=False) for d, o in zip(drawn, options)]
        cases = [make_case(backend, "scratch", draw) for draw in drawn]
        cases = [case.from_zeros() for case in cases] if form.from_zeros else cases
        is_new = bool(self.cells) or self.name in OPTIMIZERS  # then, it may have no reference
        cases = [case for case in cases if is_new or case.has_reference]
        if form.description and form.is_plain:
            cases = [case for case in cases if not case.options.needs_deep]
        # A function in another form need not be compilable, so it is compared without training.
        checks = CHECKS[:-1] if form.description else CHECKS
        if form.check:  # the chapter's training computes exp(loss), which overflows if it is large
            checks, cases = (form.check,), [c for c in cases if not c.draw.has_large_weights]
        self.cases = [
            (check, case)
            for check in checks
            for case in [c for c in cases if form.check or calls_function(self.name, check, c)][
                : NUM_CASES.get(check, 8)
            ]
        ]

    def judge(self) -> Verdict:
        """Compare the function up to the first difference, then search for a matching mistake."""
        verdict, form = self.verdict, self.form
        original = find_function(self.backend, self.name)
        problem = (
            "" if self.form.description else runner.find_signature_problem(original, self.function)
        )
        if problem:
            verdict.problem = f"It has {problem}."
            return verdict
        patch_backend(self.backend, self.name, self._guard(self.function))
        try:
            for check, case in self.cases:
                self.num_calls = 0
                for row in case.run(check):
                    verdict.num_comparisons += 1
                    if self.problem:  # the check reports the function's error as a result
                        raise RNNScratchError(self.problem)
                    if not row.passed and not 0 <= (row.difference or -1) <= form.tolerance:
                        if row.function == self.name:
                            row = structs.replace(row, function=verdict.function)
                        verdict.failure, verdict.example = row, self._example(check, case)
                        others = [other for c, other in self.cases if c is check]
                        # A network computes a cell and the output layer, too.
                        names = [self.name, self.form.cell.replace("-", "_"), "step"]
                        names = names if self.form.cell else names[:1]
                        if self.name == "train_epoch":
                            names += ["train_minibatch", "loss", "clip", "sgd"]
                        found = (
                            identify_mistake(name, check, [case, *others])
                            for name in dict.fromkeys(names)
                        )
                        verdict.mistake = next(filter(None, found), "")
                        return verdict
        except (Exception, SystemExit) as error:  # in the function, or code that used its result
            problem = f"Its result cannot be used: {describe_place(error, self.path)}."
            verdict.problem, verdict.example = self.problem or problem, self._example(check, case)
        return verdict

    def _guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the function to detect errors and modified arguments."""

        @functools.wraps(function)
        def guarded(*arguments: Any, **kwargs: Any) -> Any:
            self.num_calls += 1
            copies = [*map(self._flatten, arguments)]
            try:
                with source_file.limit_time():
                    result = function(*arguments, **kwargs)
            except (Exception, SystemExit) as error:
                self.problem = f"It raises {describe_place(error, self.path)}."
                raise
            if result is None and self.name not in OPTIMIZERS:
                self.problem = "It returns None: a `return` is missing, or is not reached."
            if isinstance(result, list) and self.name != "predict":
                self.problem = "It returns a list instead of a tuple."
            names = inspect.signature(function).parameters
            mutable = ("params", "slots") if "slots" in names else ()  # updated in place or not
            for name, argument, copy in zip(names, arguments, copies):
                if name not in mutable and not np.array_equal(
                    copy, self._flatten(argument), equal_nan=True
                ):
                    self.problem = f"It changes its argument `{name}` in place."
            return result

        return guarded

    def _flatten(self, argument: Any) -> np.ndarray:
        """Copy an argument's elements (none for models and compilers' symbolic tensors)."""
        with contextlib.suppress(Exception):
            return flatten(self.cases[0][1].to_arrays(argument))
        return np.zeros(0)

    def _example(self, check: FunctionCheck, case: Case) -> str:
        """Return code that reproduces the last call's arguments, or "" after the first check."""
        if check is not self.cases[0][0] or not case.has_reference or self.form.description:
            return ""
        arguments = [f'"{self.backend.name}"', f'"{self.name}"', f"seed={case.draw.seed}"]
        arguments += [f"call={self.num_calls - 1}"] if self.num_calls > 1 else []
        arguments += [f'cell="{cell}"' for cell in self.cells]
        names = ", ".join(inspect.signature(find_function(self.backend, self.name)).parameters)
        call = f"{names} = find_arguments({', '.join(arguments)})"
        return f"from rnn_scratch.check.user_file import find_arguments\n{call}"


def find_function(backend: Backend, name: str) -> Any:
    """Return the backend's function `name`, a stand-in for a cell or optimizer, or None."""
    found = [vars(module)[name] for module in list_modules(backend) if name in vars(module)]
    if found:
        return found[0]
    if (cell := name.replace("_", "-")) in CELLS:
        return backend.scratch.CELLS.get(cell, _new_cell)
    return backend.scratch.OPTIMIZERS.get(name, _new_optimizer) if name in OPTIMIZERS else None


def _new_cell(x: Any, state: Any, params: Any) -> Any:
    """Stand in for a cell that a user's file declares; its results have the same shapes."""
    return state


def _new_optimizer(params: Any, grads: Any, slots: Any, update: Any) -> Any:
    """Stand in for an optimizer that a user's file declares; its results have the same shapes."""
    return params, slots


def patch_backend(backend: Backend, name: str, function: Callable[..., Any]) -> None:
    """Replace the backend's function `name` wherever the backend refers to it."""
    scratch = vars(backend.scratch)
    tables = [scratch[table] for table in TABLES if table in scratch]
    for space in (*tables, *map(vars, list_modules(backend))):
        for key, value in space.items():
            if callable(value) and getattr(value, "__name__", "") == name:
                space[key] = function
    for value in vars(backend.scratch).values():  # `gradients` has `forward` as a default value
        inner: Any = inspect.unwrap(value) if callable(value) else None
        if defaults := getattr(inner, "__defaults__", None):
            is_old = [getattr(default, "__name__", "") == name for default in defaults]
            inner.__defaults__ = tuple(function if old else d for d, old in zip(defaults, is_old))
    if (cell := name.removesuffix("_backward").replace("_", "-")) in CELLS:
        table = "CELL_BACKWARD" if name.endswith("_backward") else "CELLS"
        scratch[table][cell] = function
    if name in OPTIMIZERS:
        scratch["OPTIMIZERS"][name] = function


def calls_function(name: str, check: FunctionCheck, case: Case) -> bool:
    """Return whether a check calls a function in this case, directly or indirectly."""
    if check is training.sequence and case.draw.num_updates:
        return name.startswith("train") or any(calls_function(name, c, case) for c in CHECKS[:-1])
    if check is functions.gradients:
        called = map(case.function_name, (functions.cell, functions.step, functions.forward, check))
        return name in ("bptt", "loss", *called) or name.endswith("backward")
    return name == case.function_name(check)
