"""Find the functions of the backends in their source files.

The files are located from the entry points and parsed, without importing a backend: no framework
needs to be installed.
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
    """The source of a function of a backend, with decorators and comments above it."""

    name: str
    file: Path
    line: int
    source: str


def find(backend: str, name: str, variant: str = VARIANTS[0]) -> list[Definition]:
    """Return a function of a backend's variant, then the helpers that it uses.

    Functions of shared modules and helpers are found by name, too; helpers in every file that
    defines them. The list is empty if the variant does not define the function.
    """
    paths = {path.stem: path for path in files(backend)}
    path = paths.get(variant)
    if path and name in definitions(path):
        return _with_helpers(path, name)
    if path and name in (beside := _beside(path)):
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
        spec = importlib.util.find_spec(package)
    except Exception:  # raised by the packages that contain it
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
    """Return all names that `find` accepts: the functions of the contract, then helpers."""
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
    found = [(path, name)]
    for definition in found:  # the list grows in the loop, because helpers have helpers
        found += [helper for helper in _helpers(*definition) if helper not in found]
    return [cut(*definition) for definition in found]


def _helpers(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    # Yield the helpers that a function uses, from its file and from sibling files outside the
    # contract.
    local, beside = definitions(path), _beside(path)
    for helper in dict.fromkeys(_used_names(local[name])):
        if helper in CONTRACT or helper in MODULES:
            continue
        if helper in local:
            yield path, helper
        elif helper in beside:
            yield beside[helper]


def _beside(path: Path) -> dict[str, tuple[Path, str]]:
    # Map the local names of helpers imported from sibling files to the file and the name there.
    beside: dict[str, tuple[Path, str]] = {}
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module not in MODULES:
            file = path.with_name(f"{node.module}.py")
            defined = definitions(file) if file.exists() else {}
            names = [alias for alias in node.names if alias.name in defined]
            beside |= {alias.asname or alias.name: (file, alias.name) for alias in names}
    return beside


def _used_names(node: ast.stmt) -> Iterator[str]:
    # Yield names, and the functions bound to a model, such as `model.backward`.
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
        last += 1  # include a comment at the end of the body
    return Definition(name, path, first, "\n".join(lines[first - 1 : last]))
