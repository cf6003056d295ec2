"""Reference for the Python interface: source code without function bodies."""

import ast
import inspect
import pkgutil
import re
import textwrap
from typing import Any

from rnn_scratch import contract

RECORDS = ("Cell", "ModelConfig", "Optimizer", "UpdateRule", "Batch", "Model", "Backend")


def entry(name: str) -> str:
    """Return the outline of a function or class of `rnn_scratch`, under a heading with its name."""
    item = pkgutil.resolve_name(f"rnn_scratch.{name}")
    return f"### {item.__name__}\n\n{outline(item)}"


def backend_entries() -> str:
    """Return the contract: its introduction, its records, and each backend file's functions."""
    parts = [f'```python\n"""{inspect.getdoc(contract)}\n"""\n```']
    parts += [entry(f"contract.{name}") for name in RECORDS]
    for file, functions in contract.MODULES.items():
        if file == "cells" or file in contract.VARIANTS[1:]:
            continue  # cells are declared in CELLS, and the other variants define only `build`
        parts.append(f"### The file `{file}.py`")
        parts += [f"#### {function.__name__}\n\n{outline(function)}" for function in functions]
    return "\n\n".join(parts)


def outline(item: Any) -> str:
    """Return a function or class as Markdown code, omitting bodies and undocumented methods."""
    source = textwrap.dedent(inspect.getsource(item))
    # Without indentation, a signature may fit on one line.
    source = re.sub(r"(?m)^(def .*\()\n {4}(.*[^,])\n(\).*:)$", _join_if_short, source)
    lines = source.rstrip("\n").split("\n")
    omitted: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(line.lineno for line in node.decorator_list)])
            start = node.body[0].end_lineno if ast.get_docstring(node) else first - 1
            omitted |= set(range(start or 0, node.end_lineno or 0))
    remaining = [line for index, line in enumerate(lines) if index not in omitted]
    return "```python\n" + "\n".join(remaining).rstrip() + "\n```"


def _join_if_short(match: re.Match[str]) -> str:
    line = "".join(match.groups())
    return line if len(line) <= 100 else match[0]
