"""The reference of the Python interface in Markdown, made from signatures and docstrings."""

import ast
import inspect
import pkgutil
import re
import textwrap
from typing import Any

from rnn_scratch import contract

SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):$")
POWER = re.compile(r"`[^`]*`|\w+\*\*-?\w+")  # code, or a power, which Markdown would make bold


def entry(name: str) -> str:
    """Return the description of a function or class of the package, under a heading."""
    item = pkgutil.resolve_name(f"rnn_scratch.{name}")
    source = textwrap.dedent(inspect.getsource(item))
    (node,) = ast.parse(source).body
    lines = source.splitlines()
    if not isinstance(node, ast.ClassDef):
        return f"### {item.__name__}\n\n{_function(lines, node)}"
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    parts = [f"### {item.__name__}", f"```python\nclass {item.__name__}({bases})\n```"]
    parts += [_described(item), _fields(lines, node)]
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
            parts += [f"#### {item.__name__}.{member.name}", _function(lines, member)]
    return "\n\n".join(filter(None, parts))


def backend_entries() -> str:
    """Return the descriptions of the contract: its records, then the functions of each file."""
    records = ("Cell", "Options", "Optimizer", "Update", "Batch", "WorkerGroup", "Model")
    parts = [entry(f"contract.{name}") for name in records]
    for file, functions in contract.MODULES.items():
        parts.append(f"### The file `{file}.py`")
        for function in functions:
            lines = textwrap.dedent(inspect.getsource(function)).splitlines()
            (node,) = ast.parse("\n".join(lines)).body
            parts += [f"#### {function.__name__}", _function(lines, node)]
    return "\n\n".join(parts)


def _function(lines: list[str], node: Any) -> str:
    # The signature as in the source, and the docstring.
    first = node.lineno - 1
    signature = textwrap.dedent("\n".join(lines[first : node.body[0].lineno - 1])).rstrip(":")
    docstring = _markdown(ast.get_docstring(node) or "")
    if any(ast.unparse(decorator) == "property" for decorator in node.decorator_list):
        return docstring
    return f"```python\n{signature}\n```\n\n{docstring}"


def _fields(lines: list[str], node: ast.ClassDef) -> str:
    # A table of the fields that have a comment.
    rows = []
    for member in node.body:
        last = lines[(member.end_lineno or member.lineno) - 1]
        comment = last.partition("#: ")[2]
        if isinstance(member, ast.AnnAssign) and comment:
            rows.append(f"| `{ast.unparse(member.target)}` | {comment} |")
    return "\n".join(["| Field | Meaning |", "|---|---|", *rows]) if rows else ""


def _described(item: type) -> str:
    return _markdown(inspect.cleandoc(item.__doc__ or ""))


def _as_code(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith("`") else f"`{match[0]}`"


def _markdown(docstring: str) -> str:
    # A docstring in Google style: its sections are lists.
    lines: list[str] = []
    in_section = ""
    for line in POWER.sub(_as_code, docstring.replace("``", "`")).splitlines():
        if match := SECTION.match(line):
            in_section = match[1]
            lines += [f"**{in_section}**", ""]
            continue
        if in_section and line.startswith("    "):
            text = line[4:]
            item = re.match(r"(\*{0,2}\w+(?:, \w+)*): (.*)", text)
            if item and in_section not in ("Returns", "Yields"):
                text = f"- `{item[1]}`: {item[2]}"
            elif in_section not in ("Returns", "Yields"):
                text = f"  {text.strip()}"
            line = text
        elif line:
            in_section = ""
        lines.append(line)
    return "\n".join(lines).strip()
