"""Cuts the definitions that a program needs from the files of a backend and of the core."""

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import RNNScratchError
from .source_code import CORE, Import, Place, bindings, cut, definitions, tree

Bindings = Mapping[str, Place | Import]
Sources = dict[Place, str]


def reached(
    main: str, known: Bindings, files: Sequence[Path], kept: Collection[str], numpy: str
) -> tuple[Sources, set[Import]]:
    """Return the definitions that `main` needs, in any order, with their imports.

    `known` is what the names in `main` stand for. A table to which several of the backend's `files`
    add gets the entries that are `kept`. Raises RNNScratchError for what cannot be cut.
    """
    sources: Sources = {}
    imports: set[Import] = set()
    names = {getattr(node, "name", "") for node in ast.parse(main).body}
    waiting = [(main, {name: known[name] for name in known.keys() - names})]
    for source, here in waiting:  # the list grows in the loop
        for name in _used_names(source):
            place = here.get(name)
            if isinstance(place, Import):
                imports.add(place)
            elif place is not None and place not in sources:
                if place.name in names:
                    raise RNNScratchError(
                        f"{place.file} has a {place.name}, and so have other parts of the program.",
                        "Give it another name.",
                    )
                names.add(place.name)
                sources[place], there = _piece(place, files, kept, numpy)
                waiting.append((sources[place], {**known, **there}))
    return sources, imports


def ordered(sources: Sources, before: Sequence[Path], backend: Mapping[str, Path]) -> list[Place]:
    """Return the definitions as they follow one another in the files `before`, and in the backend's.

    These have the order of ``scratch``: what its tables name stands before them, and `deep_step` at
    the place of `step`.
    """
    scratch, *lessons = (backend[name] for name in ("scratch", "cells", "deep") if name in backend)
    others = [file for file in backend.values() if file not in (scratch, *lessons)]
    places = [Place(file, name) for file in (*before, *others) for name in definitions(file)]
    for name in definitions(scratch):
        table = sources.get(Place(scratch, name), "") if name.isupper() else ""
        for file in lessons:
            own = list(definitions(file))
            ends = [n for n, each in enumerate(own, 1) if each in _used_names(table)]
            places += [Place(file, each) for each in own[: max(ends, default=0)]]
            places.append(Place(file, f"deep_{name}"))
        places.append(Place(scratch, name))
    return list(dict.fromkeys(place for place in places if place in sources))


def _used_names(source: str) -> Iterator[str]:
    # Names that are not variables of the definition itself.
    for statement in ast.parse(source).body:
        nodes = list(ast.walk(statement))
        names = [node for node in nodes if isinstance(node, ast.Name)]
        own = {node.arg for node in nodes if isinstance(node, ast.arg)}
        own |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
        yield from dict.fromkeys(node.id for node in names if node.id not in own)


def _piece(place: Place, files: Sequence[Path], kept: Collection[str], numpy: str) -> tuple[str, Bindings]:
    # The source of a definition, and what the names in it stand for.
    if place.file.parent == files[0].parent:
        entries = {key: (value, file) for file in files for key, value in _entries(place.name, file)}
        if chosen := {key: entry for key, entry in entries.items() if key in kept}:
            pairs = ", ".join(f'"{key}": {value}' for key, (value, _) in chosen.items())
            known = {value: bindings(file)[value] for value, file in chosen.values()}
            return f"{place.name} = {{{pairs}}}", known
    if place.name not in definitions(place.file):
        raise RNNScratchError(
            f"{place.file.name} is imported as a module, and only functions can be cut from it.",
            f"Import them by name, as in: from .{place.file.stem} import ...",
        )
    source = cut(*place).source
    ours = place.file.parent != files[0].parent
    if ours:
        source = _without_types(source).replace("np.", f"{numpy}.")
    return source, bindings(place.file)


def _entries(table: str, file: Path) -> Iterator[tuple[str, str]]:
    # What a file puts into a table: NAME = {...}, NAME |= {...}, or NAME[...] = ...
    for node in tree(file).body:
        if isinstance(node, (ast.Assign, ast.AugAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = node.value
            if ast.unparse(target) == table and isinstance(value, ast.Dict):
                yield from zip(map(_text, value.keys), map(_text, value.values))
            elif isinstance(target, ast.Subscript) and ast.unparse(target.value) == table:
                yield _text(target.slice), _text(value)


def _text(node: ast.expr | None) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node or ast.Pass())


def _without_types(source: str) -> str:
    # As the code of a backend is; and of a docstring the first paragraph.
    lines = source.split("\n")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    for node in sorted(nodes, key=lambda node: -node.lineno):  # upwards: what is above stays there
        if isinstance(node, ast.AnnAssign):
            line, kind = lines[node.lineno - 1], node.annotation
            lines[node.lineno - 1] = line[: kind.col_offset] + "Any" + line[kind.end_col_offset :]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            text = slice(node.body[0].lineno - 1, node.body[0].end_lineno)
            if "" in lines[text] and ast.get_docstring(node):
                words = "\n".join(lines[text]).partition("\n\n")[0]
                ending = "\n" + " " * node.body[0].col_offset if "\n" in words else ""
                lines[text] = f'{words}{ending}"""'.split("\n")
            if isinstance(node, ast.FunctionDef):
                arguments = [arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)]
                for argument in arguments:
                    argument.annotation = None
                header = f"{' ' * node.col_offset}def {node.name}({ast.unparse(node.args)}):"
                comments = [each for each in lines[node.lineno : text.start] if "# " in each]
                lines[node.lineno - 1 : text.start] = [header, *comments]
    return "\n".join(lines)
