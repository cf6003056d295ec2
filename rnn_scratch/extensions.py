"""Cells and optimizers of other packages, found through their entry points.

An entry point in the group ``rnn_scratch.cells`` or ``rnn_scratch.optimizers`` names a `Cell` or an
`Optimizer`. A package's declarations are loaded in every process, before the settings are defined,
so importing them must import neither a framework nor the core, except `rnn_scratch.contract`.
"""

import math
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .contract import CELLS, HYPERPARAMETERS, OPTIMIZERS, Cell, Optimizer
from .errors import RNNScratchError

TABLES: dict[str, dict[str, Any]] = {"CELLS": CELLS, "OPTIMIZERS": OPTIMIZERS}
KINDS: dict[str, Any] = {"CELLS": Cell, "OPTIMIZERS": Optimizer}
GATES = "abcdefghijklmnoprstuvwxyz"  # without q, because W_hq and b_q are the output layer's
RESERVED = ("best", "state")  # a checkpoint's prefixes, which cannot be names of slots


@cache
def find_entry_points(group: str) -> dict[str, EntryPoint]:
    """Return a group's entry points by name, cached because this reads every package's metadata."""
    return {entry.name: entry for entry in entry_points(group=group)}


@cache
def load() -> dict[str, dict[str, EntryPoint]]:
    """Add all declarations to the contract's tables; return their entry points by table and name.

    Raises RNNScratchError if a package cannot be imported or its declaration is invalid.
    """
    found = {table: find_entry_points(f"rnn_scratch.{table.lower()}") for table in TABLES}
    declared = {
        table: {name: _load(entry, table) for name, entry in sorted(entries.items())}
        for table, entries in found.items()
    }
    for table, declarations in declared.items():
        TABLES[table] |= declarations
    return found


def define(backend: str, scratch: Any) -> None:
    """Add the functions that other packages define for a backend to the tables in ``scratch``.

    A function that the backend defines itself takes precedence.
    """
    for table, entries in load().items():
        for name, entry in entries.items():
            functions = TABLES[table][name].functions
            if backend not in functions or name in getattr(scratch, table):
                continue
            tables = [getattr(scratch, table)]
            if table == "CELLS" and hasattr(scratch, "CELL_BACKWARD"):
                tables.append(scratch.CELL_BACKWARD)
            where = f"for the {backend} backend"
            try:
                result = functions[backend]()
            except (Exception, SystemExit) as error:
                problem = f"{where}: {type(error).__name__}: {error}"
                raise _describe(entry, table, problem) from error
            results = result if isinstance(result, tuple) else (result,)
            if len(results) != len(tables) or not all(map(callable, results)):
                expected = "the cell and its backward pass" if len(tables) > 1 else "a function"
                problem = f"{where}: the result is {result!r} instead of {expected}"
                raise _describe(entry, table, problem)
            for contract_table, function in zip(tables, results):
                contract_table[name] = function


def _load(entry: EntryPoint, table: str) -> Any:
    """Import a declaration and validate it."""
    modules = set(sys.modules)
    try:
        declaration = entry.load()
    except (Exception, SystemExit) as error:
        raise _describe(entry, table, f"{type(error).__name__}: {error}") from error
    problem = _find_problem(entry.name, declaration, table)
    for backend in () if problem else declaration.functions:
        if backend in set(sys.modules) - modules:
            # Backends configure their framework before they import it.
            problem = f"it imports {backend} outside the function for this backend"
    if problem:
        raise _describe(entry, table, problem)
    return declaration


def _find_problem(name: str, declaration: Any, table: str) -> str:
    """Return why a declaration is invalid, or ""."""
    if name in TABLES[table]:
        return "rnn-scratch has one with this name"
    if not isinstance(declaration, KINDS[table]):
        return f"{declaration!r} is not a rnn_scratch.contract.{KINDS[table].__name__}"
    if isinstance(declaration, Cell):
        gates, numbers = declaration.gates, {**declaration.biases}
        if len({*gates} & {*GATES}) < len(gates):
            return f"its gates {gates!r} are not different letters other than q"
        unknown = {*numbers, *declaration.recurrent_biases} - {*gates}
    else:
        numbers = {"lr": declaration.lr, **declaration.hyperparameters}
        unknown = {*numbers} - {"lr", *HYPERPARAMETERS} | {*declaration.slots} & {*RESERVED}
    if unknown:
        return f"it cannot use the name {', '.join(sorted(unknown))}"
    wrong = [key for key, value in numbers.items() if not math.isfinite(value)]
    return f"{wrong[0]} is not finite" if wrong else ""


def _describe(entry: EntryPoint, table: str, problem: str) -> RNNScratchError:
    """Return an error that names an entry point's package, the problem and what to do."""
    package = entry.dist.name if entry.dist else entry.module
    what = f"the {KINDS[table].__name__.lower()} {entry.name} ({entry.value})"
    hint = f"Correct or update the package, or uninstall it: pip uninstall {package}"
    return RNNScratchError(f"The package {package} cannot add {what}: {problem}.", hint)
