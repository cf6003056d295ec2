"""The pieces cut out of the backends' source, to be set side by side.

Nothing here imports a backend: its files are found from its entry point and read, so that the code
of a framework can be read where the framework is not installed.
"""

import ast
import difflib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .. import registry
from ..contract import MACHINE, PIECES, RNNScratchError

CONTRACT = tuple(piece.__name__ for piece in (*PIECES, *MACHINE))


class Piece(NamedTuple):
    """A function of a backend as it stands in its file, decorators and comments above included."""

    name: str
    file: Path
    line: int  # where it begins
    source: str


def find(backend: str, name: str) -> list[Piece]:
    """The piece of that name in a backend, and after it the helpers of its file that it uses.

    A helper's name finds it too, in each file that defines it; the list is empty where there is
    none. Raises RNNScratchError if there is no such backend, or its source can't be read.
    """
    module = registry.known(backend)
    if found := _resolve(module, name, set()):
        return _with_helpers(*found[1:])
    return [
        piece
        for path in files(backend)
        if (tree := _parsed(path)) and name in _defined(tree)
        for piece in _with_helpers(path, name)
    ]


def files(backend: str) -> list[Path]:
    """The source files of a backend, those of its package or the one of its module."""
    path = _located(registry.known(backend))
    if path is None:
        raise RNNScratchError(
            f"The source of the {backend} backend ({registry.known(backend)}) can't be found: "
            "there is no Python file of that name on this machine."
        )
    return sorted(path.parent.glob("*.py")) if path.name == "__init__.py" else [path]


def names(backend: str) -> list[str]:
    """All that `find` finds in a backend: the contract's pieces first, then the helpers."""
    helpers = [name for path in files(backend) for name in _defined(_parsed(path))]
    return list(dict.fromkeys([*CONTRACT, *helpers]))


def joined(pieces: list[Piece]) -> str:
    """The source of a piece and its helpers, as they would stand in one file."""
    return "\n\n\n".join(piece.source for piece in pieces)


def imports(backend: str) -> str:
    """What the file of the pieces imports, with its neighbours by their full names, and first.

    First because a backend's machine sets what must be set before its framework is imported.
    """
    module = registry.known(backend)
    found = _resolve(module, "step", set())
    if found is None:
        raise RNNScratchError(f"The {backend} backend ({module}) has no step in its source.")
    module, path, _ = found
    ours, others = [], []
    for node in _parsed(path).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [ast.unparse(alias) for alias in node.names]
            ours.append(f"from {_source(node, module, path)} import {', '.join(names)}")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            others.append(ast.unparse(node))
    return "\n".join([*ours, *others])


def aligned(left: list[str], right: list[str]) -> list[tuple[str | None, str | None]]:
    """The lines of two texts set level: equal and similar ones beside each other, None for none."""
    likeness = [[_alike(a, b) for b in right] for a in left]
    # best[i][j]: the most likeness that can be had from left[i:] and right[j:].
    best = [[0.0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            paired = likeness[i][j] + best[i + 1][j + 1] if likeness[i][j] else 0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    rows: list[tuple[str | None, str | None]] = []
    i = j = 0
    while i < len(left) and j < len(right):
        if likeness[i][j] and best[i][j] == likeness[i][j] + best[i + 1][j + 1]:
            rows.append((left[i], right[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            rows.append((left[i], None))
            i += 1
        else:
            rows.append((None, right[j]))
            j += 1
    return [*rows, *((a, None) for a in left[i:]), *((None, b) for b in right[j:])]


def _alike(a: str, b: str) -> float:
    # 1 for equal lines; 0 for lines that have too little in common to be set beside each other.
    if a == b:
        return 1.0 if a.strip() else 0.1  # an empty line says little about what belongs together
    matcher = difflib.SequenceMatcher(None, a.strip(), b.strip(), autojunk=False)
    if matcher.real_quick_ratio() < 0.4 or matcher.quick_ratio() < 0.4:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= 0.4 else 0.0


def _located(module: str) -> Path | None:
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
    found = Path(origin or "")
    return found if found.suffix == ".py" and found.exists() else None


def _resolve(module: str, name: str, seen: set[tuple[str, str]]) -> tuple[str, Path, str] | None:
    # The module that defines what another calls by a name: itself, or one that it imports it from.
    path = _located(module)
    if path is None or (module, name) in seen:
        return None
    seen.add((module, name))
    tree = _parsed(path)
    if name in _defined(tree):
        return module, path, name
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            source = _source(node, module, path)
            for alias in node.names:
                asked = name if alias.name == "*" else alias.name
                if name == (alias.asname or asked) and (found := _resolve(source, asked, seen)):
                    return found
    return None


def _source(node: ast.ImportFrom, module: str, path: Path) -> str:
    # The full name of the module that an import in another takes from.
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise RNNScratchError(
            f"{path}, line {error.lineno}, is not Python: {error.msg}."
        ) from error


def _defined(tree: ast.Module) -> dict[str, ast.stmt]:
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign):  # `step = compiled(_step)`, or a constant
            found |= {
                target.id: node
                for target in node.targets
                if isinstance(target, ast.Name) and not target.id.startswith("__")
            }
    return found


def _with_helpers(path: Path, name: str) -> list[Piece]:
    lines = path.read_text(encoding="utf-8").splitlines()
    defined = _defined(_parsed(path))
    wanted = [name]
    for each in wanted:  # which grows as it is gone through: helpers have helpers
        wanted += [
            used
            for used in dict.fromkeys(_used(defined[each]))
            if used in defined and used not in wanted and used not in CONTRACT
        ]
    return [_cut(path, lines, each, defined[each]) for each in wanted]


def _used(node: ast.stmt) -> Iterator[str]:
    # Names, and the functions that a model brings along: `model.backward`.
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, ast.Attribute) and ast.unparse(part.value) == "model":
            yield part.attr


def _cut(path: Path, lines: list[str], name: str, node: ast.stmt) -> Piece:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(each.lineno for each in decorators)])
    while first > 1 and lines[first - 2].startswith("#"):
        first -= 1
    last = node.end_lineno or node.lineno
    while last < len(lines) and lines[last].lstrip().startswith("#") and lines[last][0] == " ":
        last += 1  # a comment that ends the body
    return Piece(name, path, first, "\n".join(lines[first - 1 : last]))
