"""Writes a program of one file: a kind of network, and its training with one backend.

Its functions are cut from the files of the backend and of the core, as they stand there. What only
such a program has is in ``standalone.txt``, the same for every framework: it calls the contract's
functions.
"""

import ast
import builtins
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ..contract import CELLS, OPTIMIZERS
from ..errors import RNNScratchError
from ..registry import FRAMEWORKS
from ..runs.presets import SAMPLE
from ..settings import Settings, model_options, update_rule
from .source_code import cut, definitions, files, tree

CORE = Path(__file__).parents[1]
# The core's files with functions for such a program, in their order there.
BEFORE = ("randomness", "contract", "text/minibatches", "runs/schedule", "parameters")
FILES = [CORE / f"{name}.py" for name in (*BEFORE, "runs/decoding")]
LESSONS = ("scratch", "cells", "deep")  # files of a backend
OTHERS = ("fast", "concise", "workers", "__init__")  # files that are not needed
TEMPLATES = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
IMPORTS = """
import re, sys, zipfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple
"""
Imports = Mapping[str, tuple[str, str]]  # by names: a module or "", and what is imported (from it)


def program(backend: str, settings: Settings, command: str) -> str:
    """Return the program for these settings; `command` is what it names as its origin.

    Raises RNNScratchError if there is no such backend, or something cannot be cut.
    """
    own = {path.stem: path for path in files(backend) if path.stem not in OTHERS}
    if missing := [name for name in (*LESSONS, "machine") if name not in own]:
        raise RNNScratchError(f"The {backend} backend has no file {missing[0]}.py.")
    lessons = [own.pop(name) for name in LESSONS]
    trees = [tree(path) for path in (*FILES, *own.values(), *reversed(lessons))]
    imports = _imports([ast.parse(IMPORTS), *trees])
    # MXNet has another module called np: then NumPy is numpy.
    numpy = "np." if imports["np"] == ("", "numpy as np") else "numpy."
    template = (CORE / "show" / "standalone.txt").read_text(encoding="utf-8")
    filled = TEMPLATES.from_string(template.replace("np.", numpy))
    context = {
        "settings": settings,
        "how": update_rule(settings),
        "options": model_options(settings, 0),
        "cell": CELLS[settings.cell],
        "optimizer": OPTIMIZERS[settings.optimizer],
        "sample": SAMPLE,
        "framework": {"numpy": "NumPy", **FRAMEWORKS}.get(backend, backend),
        "backward": "deep_backward" in definitions(lessons[-1]),
        "command": command,
    }
    lookup = [*lessons, *own.values(), *FILES]
    places = {name: file for file in reversed(lookup) for name in definitions(file)}

    def piece(name: str) -> str:
        table = _table(name, lessons, (settings.cell, settings.optimizer))
        source = table or cut(places[name], name).source
        if places[name] in FILES:
            return _plain(source).replace("np.", numpy)
        return _ordinary(source, settings.exact)

    main = filled.render(context, imports="", functions="")
    there = {getattr(node, "name", "") for node in ast.parse(main).body}
    starts = _starts(own["machine"], imports)
    sources: dict[str, str] = {}
    needed = set()
    waiting = [main, *starts]
    for source in waiting:  # the list grows in the loop
        for name in _used(source) - sources.keys():
            if name in places and name not in there:
                sources[name] = piece(name)
                waiting.append(sources[name])
            elif name in imports:
                needed.add(imports[name])
            elif source is not main or name not in there:
                raise RNNScratchError(
                    f"{name} cannot be cut from the {backend} backend: no file of it has such a "
                    "function or constant, or else the program has another one."
                )
    order = [*FILES[:-1], *own.values(), lessons[0], FILES[-1]]
    lines = {name: n for n, name in enumerate(definitions(lessons[0]))}

    def position(name: str) -> tuple[int, int, bool, int]:
        # Cells are before the table that names them, and `deep_step` is where `step` would be.
        file, node = places[name], definitions(places[name])[name]
        if file not in lessons:
            return order.index(file), 0, False, node.lineno
        table = lines.get("CELLS" if file == lessons[1] else "OPTIMIZERS", 0)
        line = lines.get(name.removeprefix("deep_"), table)
        return order.index(lessons[0]), line, isinstance(node, ast.Assign), node.lineno

    functions = "\n\n\n".join(sources[name] for name in sorted(sources, key=position))
    return filled.render(context, imports=_sorted(needed, starts), functions=functions)


def _ordinary(source: str, exact: bool) -> str:
    # A function of the backend without what `fast` has, as a comment says; and without `rounded`,
    # which outside of exact mode returns its argument.
    source = re.sub(r"^( *)if .*  # `fast` .*\n(\1 .*\n)*", "", source, flags=re.MULTILINE)
    if exact:
        return source
    source = re.sub(r"rounded\((.*), how\.\w*grid\)", r"\1", source)
    source = source.replace("tuple(each for each in state)", "state")
    return re.sub(r"[;,] (in exact mode )?rounded (in exact mode|to a grid)", "", source)


def _imports(trees: Sequence[ast.Module]) -> Imports:
    # What these files import from other packages.
    found = {}
    for node in (node for each in trees for node in ast.walk(each)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", "") or ""
            if not getattr(node, "level", 0) and module.partition(".")[0] != CORE.name:
                for each in node.names:
                    found[each.asname or each.name.partition(".")[0]] = module, ast.unparse(each)
    return found


def _used(source: str) -> set[str]:
    # The names in a source that are neither Python's nor variables of its own.
    used: set[str] = set()
    for statement in ast.parse(source).body:
        nodes = list(ast.walk(statement))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        own = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        own |= {str(getattr(node, "name", "")) for node in nodes}
        used |= {node.id for node in names} - own
    return used - vars(builtins).keys() - {"__name__"}


def _starts(machine: Path, imports: Imports) -> list[str]:
    # What has to be done before and after a framework is imported; but variables of the
    # environment, which are for speed and silence.
    text = machine.read_text(encoding="utf-8")
    nodes = [node for node in tree(machine).body if isinstance(node, (ast.Expr, ast.If))]
    starts = [ast.get_source_segment(text, node) or "" for node in nodes]
    return [start for start in starts if set() < _used(start) <= imports.keys() - {"os"}]


def _table(name: str, paths: Sequence[Path], kept: Collection[str]) -> str:
    # A table to which several files add, by NAME = {...}, NAME |= {...} and NAME[...] = ...
    pairs: list[tuple[ast.expr | None, ast.expr]] = []
    for node in (node for path in paths for node in tree(path).body):
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Subscript) and ast.unparse(target.value) == name:
                pairs.append((target.slice, node.value))
            elif isinstance(node.value, ast.Dict) and ast.unparse(target) == name:
                pairs += zip(node.value.keys, node.value.values)
    entries = {ast.literal_eval(key): ast.unparse(value) for key, value in pairs if key}
    words = ", ".join(f'"{key}": {entries[key]}' for key in entries if key in kept)
    return f"{name} = {{{words}}}" if words else ""


def _plain(source: str) -> str:
    # Code of the core as a backend's is: without types, and with docstrings of one paragraph.
    lines = source.split("\n")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    for node in sorted(nodes, key=lambda node: -node.lineno):  # upwards: the lines above stay there
        if isinstance(node, ast.AnnAssign):
            line, kind = lines[node.lineno - 1], node.annotation
            lines[node.lineno - 1] = line[: kind.col_offset] + "Any" + line[kind.end_col_offset :]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            first = node.body[0]
            words, *more = "\n".join(lines[first.lineno - 1 : first.end_lineno]).split("\n\n")
            if more and ast.get_docstring(node):
                words += "\n" + " " * first.col_offset if "\n" in words else ""
                lines[first.lineno - 1 : first.end_lineno] = f'{words}"""'.split("\n")
            if isinstance(node, ast.FunctionDef):
                for each in ast.walk(node.args):
                    vars(each).pop("annotation", None)
                header = f"{' ' * node.col_offset}def {node.name}({ast.unparse(node.args)}):"
                lines[node.lineno - 1 : first.lineno - 1] = [header]
    return "\n".join(lines)


def _sorted(imports: Collection[tuple[str, str]], starts: Sequence[str]) -> str:
    # As isort sorts them: the standard library, then others, but first what a start needs.
    before = [start for start in starts if _used(start) == {"numpy"}]
    groups: dict[tuple[int, bool, str], list[str]] = {}
    for module, words in sorted(imports, key=lambda each: (each[1][0].islower(), each)):
        root = (module or words).split(".")[0].split()[0]
        rank = 2 if before and root != "numpy" else 1
        rank = 0 if root in sys.stdlib_module_names else rank
        groups.setdefault((rank, bool(module), module or words), []).append(words)
    blocks: list[list[str]] = [[], [], []]
    for (rank, of, module), names in sorted(groups.items()):
        blocks[rank].append(
            f"from {module} import {', '.join(names)}" if of else f"import {module}"
        )
    standard, others, late = ("\n".join(block) for block in blocks)
    after = [start for start in starts if start not in before]
    return "\n\n".join(filter(None, [standard, others, *before, late, *after]))
