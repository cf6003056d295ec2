"""Recognize known mistakes, which are defined as changes to the NumPy reference's source.

``mistakes.json`` lists the mistakes by function and name. Each mistake is a list of alternating old
and new strings; the first occurrence of each old string, in the function or below it, is replaced.
"""

import contextlib
import functools
import importlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import registry
from ..contract import Backend
from .case import Case, FunctionCheck
from .results import find_worst_mismatch, read_data

MODULES = ("scratch", "cells", "deep")  # modules that a user's file or a mistake may change
IGNORED = shutil.ignore_patterns("__pycache__")  # backend files not to copy
MAX_CASES = 4  # maximum number of cases to compare per mistake


def change_source(source: str, function: str, change: Sequence[str]) -> str:
    """Return the source with a change applied to a function or to code below it.

    `change` alternates between old and new strings. Raises ValueError if an old string is missing.
    """
    head, start, rest = source.partition(f"def {function}(")
    for old, new in zip(change[::2], change[1::2]):
        if old not in rest:
            raise ValueError(f"{old!r} is not in {function} or below it.")
        rest = rest.replace(old, new, 1)
    return head + start + rest


def copy_backend(
    backend: Backend, folder: str, function: str = "", change: Sequence[str] = ()
) -> Backend:
    """Copy a backend to a package in `folder`, apply a change (if any), and import the copy."""
    package = Path(tempfile.mkdtemp(prefix="backend_", dir=folder))
    original = Path(str(sys.modules[backend.package].__file__)).parent
    shutil.copytree(original, package, ignore=IGNORED, dirs_exist_ok=True)
    for path in (package / f"{module}.py" for module in MODULES if change):
        source = path.read_text(encoding="utf-8")
        if f"def {function}(" in source:
            path.write_text(change_source(source, function, change), encoding="utf-8")
    sys.path.insert(0, folder)
    try:
        importlib.invalidate_caches()
        return registry.assemble(backend.name, importlib.import_module(package.name))
    finally:
        sys.path.remove(folder)


@functools.cache
def insert_mistake(function: str, change: tuple[str, ...]) -> Backend:
    """Return a copy of the reference with a known mistake."""
    with tempfile.TemporaryDirectory() as folder:
        return copy_backend(registry.load("numpy"), folder, function, change)


def identify_mistake(function: str, check: FunctionCheck, cases: Sequence[Case]) -> str:
    """Return the name of the mistake that reproduces a function's outputs in all cases, or ""."""
    if function == "detach":  # the reference has no graph
        return "the state is not detached from the graph"
    outputs = list[tuple[Case, dict[str, Any]]]()
    for case in cases:
        if case.options.dtype == "float64" and len(outputs) < MAX_CASES:
            with contextlib.suppress(Exception):  # the function may fail in some cases
                if values := case.outputs(check):  # the check skips some cases
                    outputs.append((case, values))
    for mistake, change in read_data("mistakes.json").get(function, {}).items():
        reference = insert_mistake(function, tuple(change))
        with contextlib.suppress(Exception):  # the mistake may make the reference fail
            expected = [case._replace(backend=reference).outputs(check) for case, _ in outputs]
            if outputs and all(map(_is_close, expected, (values for _, values in outputs))):
                return mistake
    return ""


def _is_close(expected: dict[str, Any], actual: dict[str, Any]) -> bool:
    """Return whether outputs are equal up to rounding errors, which some mistakes magnify."""
    difference, _, size, _ = find_worst_mismatch(expected, actual)
    return difference is not None and difference <= 1e-9 * max(1, abs(size or 0))
