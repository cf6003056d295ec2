"""Finds the functions of the backends in their source files, so that they can be compared.

Nothing here imports a backend: its files are located from its entry point and parsed, so that the
code for a framework can be read where the framework is not installed.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .. import registry
from ..contract import MODULES, VARIANTS
from ..errors import RNNScratchError

CONTRACT = tuple(dict.fromkeys(f.__name__ for functions in MODULES.values() for f in functions))
SHARED = tuple(module for module in MODULES if module not in VARIANTS)


class Definition(NamedTuple):
    """A function of a backend as it stands in its file, with decorators and comments above it."""

    name: str
    file: Path
    line: int  # where it begins
    source: str


def find(backend: str, name: str, variant: str = VARIANTS[0]) -> list[Definition]:
    """Return a function of a variant of a backend, then the helpers that it uses.

    The functions of the modules that all variants share and helpers are found by name too, a helper
    in each file that defines it. The list is empty where there is none, for instance for a function
    that a variant takes from ``scratch``. Raises RNNScratchError if there is no such backend, or no
    source of it on this machine.
    """
    paths = {path.stem: path for path in files(backend)}
    own = paths.get(variant)
    if own and name in definitions(own):
        return _with_helpers(own, name)
    if own and name in (beside := _beside(own)):
        return _with_helpers(*beside[name])
    for module in SHARED:
        if module in paths and name in definitions(paths[module]):
            return _with_helpers(paths[module], name)
    if name in CONTRACT:
        return []
    defining = [path for path in paths.values() if name in definitions(path)]
    return [definition for path in defining for definition in _with_helpers(path, name)]


def files(backend: str) -> list[Path]:
    """Return the source files of a backend's package."""
    package = registry.find(backend)
    try:
        spec = importlib.util.find_spec(package)  # which imports the packages around it
    except Exception:  # as it executes them
        spec = None
    folders = spec.submodule_search_locations if spec else None
    paths = sorted(path for folder in folders or [] for path in Path(folder).glob("*.py"))
    if not paths:
        raise RNNScratchError(
            f"The source of the {backend} backend is not on this machine: there is no folder with "
            f"Python files for the package {package}."
        )
    return paths


def names(backend: str) -> list[str]:
    """Return all names that `find` knows for a backend: the contract's functions, then helpers."""
    helpers = [name for path in files(backend) for name in definitions(path)]
    return list(dict.fromkeys([*CONTRACT, *helpers]))


def ordered(definitions: list[Definition]) -> list[Definition]:
    """Return a definition and its helpers in the order of their file; other files come last."""
    main = definitions[0].file if definitions else None
    return sorted(definitions, key=lambda part: (part.file != main, part.file, part.line))


def join(definitions: list[Definition]) -> str:
    """Return the source of a definition and its helpers, in that order."""
    return "\n\n\n".join(definition.source for definition in ordered(definitions))


def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise RNNScratchError(
            f"{path}, line {error.lineno}, is not Python: {error.msg}."
        ) from error


@functools.lru_cache(maxsize=100)  # a notebook needs the same files for every definition
def _parse(source: str) -> ast.Module:
    return ast.parse(source)


def definitions(path: Path) -> dict[str, ast.stmt]:
    """Return the functions, classes and constants of a file, by name."""
    definitions: dict[str, ast.stmt] = {}
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign):  # `step = compiled(_step)`, or a constant
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            definitions |= {name: node for name in targets if not name.startswith("__")}
    return definitions


def _with_helpers(path: Path, name: str) -> list[Definition]:
    places = [(path, name)]
    for place in places:  # the list grows in the loop: helpers have helpers
        places += [helper for helper in _helpers(*place) if helper not in places]
    return [cut(*place) for place in places]


def _helpers(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    # What a function uses of its own file, and of files beside it that are no part of the contract.
    local, beside = definitions(path), _beside(path)
    for used in dict.fromkeys(_used_names(local[name])):
        if used in CONTRACT or used in MODULES:
            continue
        if used in local:
            yield path, used
        elif used in beside:
            yield beside[used]


def _beside(path: Path) -> dict[str, tuple[Path, str]]:
    # What a file imports from such files: where it is defined, and as what, by its name here.
    beside: dict[str, tuple[Path, str]] = {}
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module not in MODULES:
            file = path.with_name(f"{node.module}.py")
            defined = definitions(file) if file.exists() else {}
            names = [alias for alias in node.names if alias.name in defined]
            beside |= {alias.asname or alias.name: (file, alias.name) for alias in names}
    return beside


def _used_names(node: ast.stmt) -> Iterator[str]:
    # Names, and the functions bound to a model: `model.backward`.
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute) and ast.unparse(part.value) == "model":
            yield part.attr


def cut(path: Path, name: str) -> Definition:
    """Return the definition of this name in a file."""
    node = definitions(path)[name]
    lines = path.read_text(encoding="utf-8").splitlines()
    first = min([node.lineno, *(line.lineno for line in getattr(node, "decorator_list", []))])
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    last = node.end_lineno or node.lineno
    while (
        last < len(lines) and lines[last].startswith(" ") and lines[last].lstrip().startswith("#")
    ):
        last += 1  # a comment that ends the body
    return Definition(name, path, first, "\n".join(lines[first - 1 : last]))
