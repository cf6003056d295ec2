"""Finds the functions of the backends in their source files, so that they can be compared.

Nothing here imports a backend: its files are located from its entry point and parsed, so that the
code for a framework can be read where the framework is not installed.
"""

import ast
import functools
import importlib.util
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .. import registry
from ..contract import MACHINE, SCRATCH, VARIANTS, WORKERS, RNNScratchError

CONTRACT = tuple(function.__name__ for function in (*SCRATCH, *MACHINE, *WORKERS))
MODULES = (*VARIANTS, "machine", "workers")


class Piece(NamedTuple):
    """A function of a backend as it stands in its file, with decorators and comments above it."""

    name: str
    file: Path
    line: int  # where it begins
    source: str


class Definition(NamedTuple):
    """Where a name is defined."""

    module: str
    path: Path
    name: str
    scope: str = ""  # the class that it is in, if any


def find(backend: str, name: str, model: str = VARIANTS[0]) -> list[Piece]:
    """A function of a variant of a backend, then the helpers that it uses.

    The functions of ``machine`` and ``workers`` and helpers are found by name too, a helper in each
    file that defines it. The list is empty where there is none, for instance for a function that a
    variant takes from ``scratch``. Raises RNNScratchError if there is no such backend, or no source
    of it on this machine.
    """
    package = registry.find(backend)
    sources = files(backend)
    for module in (model, "machine", "workers"):
        if definition := _member(package, module, name):
            return _with_helpers(definition)
    if name in CONTRACT and (model != VARIANTS[0] or _variant(package, model)):
        return []
    beside = [path.stem for path in sources if sources[1:] and path.name != "__init__.py"]
    definitions = [
        Definition(f"{package}.{path.stem}" if path.stem in beside else package, path, name)
        for path in sources
        if name in _definitions(_parse(path))
    ]
    return [piece for definition in definitions for piece in _with_helpers(definition)]


def files(backend: str) -> list[Path]:
    """The source files of a backend, those of its package or the one of its module."""
    package = registry.find(backend)
    path = _locate(package)
    if path is None:
        raise RNNScratchError(
            f"The source of the {backend} backend is not on this machine: there is no Python file "
            f"for the module {package}."
        )
    return sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]


def names(backend: str) -> list[str]:
    """All names that `find` knows for a backend: the contract's functions first, then helpers."""
    helpers = [name for path in files(backend) for name in _definitions(_parse(path))]
    return list(dict.fromkeys([*CONTRACT, *(name for name in helpers if name not in MODULES)]))


def ordered(pieces: list[Piece]) -> list[Piece]:
    """A piece and its helpers in the order of their file; other files come last."""
    main = pieces[0].file if pieces else None
    return sorted(pieces, key=lambda piece: (piece.file != main, piece.file, piece.line))


def join(pieces: list[Piece]) -> str:
    """The source of a piece and its helpers, in that order."""
    return "\n\n\n".join(piece.source for piece in ordered(pieces))


def imports(backend: str) -> str:
    """What ``scratch`` imports: its neighbours first, by their full names.

    They come first because a backend's ``machine`` sets what must be set before its framework is
    imported.
    """
    package = registry.find(backend)
    definition = _member(package, VARIANTS[0], "step")
    if definition is None:
        raise RNNScratchError(f"The {backend} backend ({package}) has no step in its source.")
    neighbours, others = [], []
    for node in _parse(definition.path).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            imported = ", ".join(ast.unparse(alias) for alias in node.names)
            neighbours.append(f"from {_origin(node, definition)} import {imported}")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            others.append(ast.unparse(node))
    return "\n".join([*neighbours, *others])


def _locate(module: str) -> Path | None:
    # Not importlib.util.find_spec, which imports the packages around a module: they may be a
    # framework's.
    path, origin = None, None
    for end in range(1, module.count(".") + 2):
        name = ".".join(module.split(".")[:end])
        finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
        spec = next(filter(None, (finder.find_spec(name, path) for finder in finders)), None)
        if spec is None:
            return None
        path, origin = spec.submodule_search_locations, spec.origin
        if path is None and end <= module.count("."):
            return None  # a module has no modules in it
    file = Path(origin or "")
    return file if file.suffix == ".py" and file.exists() else None


def _member(package: str, model: str, name: str) -> Definition | None:
    # The definition of a function of one of a backend's modules, or objects in place of modules.
    variant = _variant(package, model)
    if variant is None:
        return None
    if not variant.name:
        return _resolve(variant.module, name, set())
    node = _definitions(_parse(variant.path))[variant.name]
    if isinstance(node, ast.ClassDef):
        functions = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        return variant._replace(name=name, scope=variant.name) if name in functions else None
    call = getattr(node, "value", None)
    if isinstance(call, ast.Call) and call.keywords and all(each.arg for each in call.keywords):
        values = {each.arg: each.value for each in call.keywords}
        value = values.get(name)
        return _resolve(variant.module, value.id, set()) if isinstance(value, ast.Name) else None
    return _resolve(variant.module, name, set())


def _variant(package: str, model: str) -> Definition | None:
    # One of a backend's modules, with no name; or, by its name, the object in its place.
    if path := _locate(f"{package}.{model}"):
        return Definition(f"{package}.{model}", path, "")
    path = _locate(package)
    if path is None:
        return None
    tree = _parse(path)
    if model in _definitions(tree):
        return Definition(package, path, model)
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for alias in node.names:
            if model != (alias.asname or alias.name):
                continue
            if isinstance(node, ast.Import):
                file = _locate(alias.name)
                return Definition(alias.name, file, "") if file else None
            origin = _origin(node, Definition(package, path, ""))
            if file := _locate(f"{origin}.{alias.name}"):
                return Definition(f"{origin}.{alias.name}", file, "")
            return _resolve(origin, alias.name, set())
    return None


def _resolve(module: str, name: str, seen: set[tuple[str, str]]) -> Definition | None:
    # Where a name of a module is defined: in its own file, or in one that it imports it from.
    path = _locate(module)
    if path is None or (module, name) in seen:
        return None
    seen.add((module, name))
    tree = _parse(path)
    if name in _definitions(tree):
        return Definition(module, path, name)
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            origin = _origin(node, Definition(module, path, name))
            for alias in node.names:
                original = name if alias.name == "*" else alias.name
                if name == (alias.asname or original) and (
                    definition := _resolve(origin, original, seen)
                ):
                    return definition
    return None


def _origin(node: ast.ImportFrom, importer: Definition) -> str:
    # The full name of the module that an import statement takes from.
    in_package = importer.path.name == "__init__.py"
    package = importer.module if in_package else importer.module.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def _parse(path: Path) -> ast.Module:
    try:
        return _tree(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise RNNScratchError(
            f"{path}, line {error.lineno}, is not Python: {error.msg}."
        ) from error


@functools.lru_cache(maxsize=100)  # a notebook needs the same files for every piece
def _tree(source: str) -> ast.Module:
    return ast.parse(source)


def _definitions(tree: ast.Module | ast.ClassDef) -> dict[str, ast.stmt]:
    definitions: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            definitions[node.name] = node
        elif isinstance(node, ast.Assign):  # `step = compiled(_step)`, or a constant
            definitions |= {
                target.id: node
                for target in node.targets
                if isinstance(target, ast.Name) and not target.id.startswith("__")
            }
    return definitions


def _node(definition: Definition) -> ast.stmt:
    tree: ast.Module | ast.ClassDef = _parse(definition.path)
    if definition.scope:
        (tree,) = (
            each
            for each in tree.body
            if isinstance(each, ast.ClassDef) and each.name == definition.scope
        )
    return _definitions(tree)[definition.name]


def _with_helpers(definition: Definition) -> list[Piece]:
    definitions = [definition]
    for each in definitions:  # the list grows in the loop: helpers have helpers
        for helper in _helpers(each):
            if all(helper[1:3] != known[1:3] for known in definitions):
                definitions.append(helper)
    return [_cut(each) for each in definitions]


def _helpers(user: Definition) -> Iterator[Definition]:
    # What a function uses of its own file, and of files beside it that are no part of the contract.
    tree = _parse(user.path)
    local = _definitions(tree)
    imported = {
        alias.asname or alias.name: (_origin(node, user), alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    for name in dict.fromkeys(_used_names(_node(user))):
        if name in CONTRACT or name in MODULES:
            continue
        if name in local:
            yield Definition(user.module, user.path, name)
        elif name in imported and imported[name][0].rpartition(".")[2] not in MODULES:
            definition = _resolve(*imported[name], set())
            if definition is not None:
                yield definition


def _used_names(node: ast.stmt) -> Iterator[str]:
    # Names, and the functions bound to a model: `model.backward`.
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute) and ast.unparse(part.value) == "model":
            yield part.attr


def _cut(definition: Definition) -> Piece:
    node = _node(definition)
    lines = definition.path.read_text(encoding="utf-8").splitlines()
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    indent = " " * node.col_offset
    while first > 1 and lines[first - 2].startswith(f"{indent}#"):
        first -= 1
    last = node.end_lineno or node.lineno
    while (
        last < len(lines)
        and lines[last].lstrip().startswith("#")
        and (lines[last].startswith(f"{indent} "))
    ):
        last += 1  # a comment that ends the body
    source = textwrap.dedent("\n".join(lines[first - 1 : last]))
    return Piece(definition.name, definition.path, first, source)
