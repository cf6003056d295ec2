"""Find backend functions in their source files.

The files are located through entry points and parsed without importing a backend, so frameworks
need not be installed.
"""

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import registry
from ..contract import MODULES, VARIANTS
from ..errors import RNNScratchError

CONTRACT = tuple(dict.fromkeys(f.__name__ for functions in MODULES.values() for f in functions))
SHARED = tuple(module for module in MODULES if module not in VARIANTS)


@dataclass(frozen=True)
class Definition:
    """A backend function's source, including its decorators and the comments above it."""

    name: str
    file: Path
    line: int
    source: str


def find(backend: str, name: str, variant: str = VARIANTS[0]) -> list[Definition]:
    """Return a function of a backend variant, followed by the helpers that it uses.

    `name` can also be a function in a shared module or a helper; helpers are returned from every
    file that defines them. The list is empty if the variant or its contract function is missing.
    """
    paths = {path.stem: path for path in files(backend)}
    path = paths.get(variant)
    if path and name in definitions(path):
        return _cut_with_helpers(path, name)
    if path and name in (imported_helpers := _imported_helpers(path)):
        return _cut_with_helpers(*imported_helpers[name])
    for module in SHARED:
        if module in paths and name in definitions(paths[module]):
            return _cut_with_helpers(paths[module], name)
    if name in CONTRACT or path is None:
        return []
    defining_paths = [path for path in paths.values() if name in definitions(path)]
    return [definition for path in defining_paths for definition in _cut_with_helpers(path, name)]


def files(backend: str) -> list[Path]:
    """Return a backend package's source files."""
    package = registry.find(backend)
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    paths = sorted(path for folder in folders or [] for path in Path(folder).glob("*.py"))
    if not paths:
        raise RNNScratchError(
            f"The {backend} backend has no Python files: {package} is not a folder."
        )
    return paths


def names(backend: str) -> list[str]:
    """Return all names that `find` accepts: contract functions, then helpers."""
    helpers = [name for path in files(backend) for name in definitions(path)]
    return list(dict.fromkeys([*CONTRACT, *helpers]))


def sort_definitions(definitions: list[Definition]) -> list[Definition]:
    """Sort definitions by file and line, starting with the file of the first definition."""
    main = definitions[0].file if definitions else None
    return sorted(definitions, key=lambda part: (part.file != main, part.file, part.line))


def join(definitions: list[Definition]) -> str:
    """Return the source of a definition and its helpers, in the order of `sort_definitions`."""
    return "\n\n\n".join(definition.source for definition in sort_definitions(definitions))


def tree(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        problem = f"Syntax error in {path}, line {error.lineno}: {error.msg}."
        raise RNNScratchError(problem) from error


@functools.lru_cache(maxsize=100)  # notebooks look up many definitions in a few files
def _parse(source: str) -> ast.Module:
    return ast.parse(source)


def definitions(path: Path) -> dict[str, ast.stmt]:
    """Return a file's functions, classes and constants by name."""
    definitions: dict[str, ast.stmt] = {}
    for node in tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign):  # `step = compiled(_step)`, or a constant
            targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
            definitions |= {name: node for name in targets if not name.startswith("__")}
    return definitions


def _cut_with_helpers(path: Path, name: str) -> list[Definition]:
    locations = [(path, name)]
    for location in locations:  # the list grows, because helpers use other helpers
        locations += [helper for helper in _helpers(*location) if helper not in locations]
    return [cut(*location) for location in locations]


def _helpers(path: Path, name: str) -> Iterator[tuple[Path, str]]:
    """Yield the file and name of each helper that a function uses from its own or sibling files."""
    local_definitions, imported_helpers = definitions(path), _imported_helpers(path)
    for helper in dict.fromkeys(_used_names(local_definitions[name])):
        if helper in CONTRACT or helper in MODULES:
            continue
        if helper in local_definitions:
            yield path, helper
        elif helper in imported_helpers:
            yield imported_helpers[helper]


def _imported_helpers(path: Path) -> dict[str, tuple[Path, str]]:
    """Map each helper imported from a sibling file to its file and original name."""
    helpers: dict[str, tuple[Path, str]] = {}
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module not in MODULES:
            file = path.with_name(f"{node.module}.py")
            names_in_file = definitions(file) if file.exists() else {}
            names = [alias for alias in node.names if alias.name in names_in_file]
            helpers |= {alias.asname or alias.name: (file, alias.name) for alias in names}
    return helpers


def _used_names(node: ast.stmt) -> Iterator[str]:
    """Yield all names, plus attributes of `model` such as `backward` in `model.backward`."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute) and ast.unparse(part.value) == "model":
            yield part.attr


def cut(path: Path, name: str) -> Definition:
    """Return the definition of `name` in a file, with its decorators and comments."""
    node = definitions(path)[name]
    lines = path.read_text(encoding="utf-8").splitlines()
    start = min([node.lineno, *(line.lineno for line in getattr(node, "decorator_list", []))])
    while start > 1 and lines[start - 2].startswith("#"):
        start -= 1
    end = node.end_lineno or node.lineno
    while end < len(lines) and lines[end].startswith(" ") and lines[end].lstrip().startswith("#"):
        end += 1  # include a comment at the end of the body
    return Definition(name, path, start, "\n".join(lines[start - 1 : end]))
