"""Writes a program of one file: a kind of network, and its training with one backend.

Its functions are cut from the files of the backend and of the core, as they stand there. What only
such a program has is in ``standalone.txt``, the same for every framework: it calls the contract's
functions.
"""

import ast
import json
import math
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from msgspec.structs import asdict

from ..contract import CELLS, OPTIMIZERS
from ..registry import FRAMEWORKS
from ..runs import schedule
from ..runs.presets import SAMPLE
from ..settings import OPTIONS, Settings, model_options, update_rule
from ..text.vocabulary import BETWEEN
from . import cutting, source_code
from .source_code import CORE, Import, bindings, definitions, tree

TEMPLATES = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
# The core's files with functions for such a program, in their order there.
FILES = ("text/vocabulary", "randomness", "contract", "text/minibatches", "runs/schedule")
CORE_FILES = [CORE / f"{name}.py" for name in (*FILES, "parameters", "runs/decoding")]
OTHERS = ("__init__", "fast", "concise", "workers")  # files of a backend without any
NUMPY = Import("numpy", "", "np")
IMPORTS = {  # of the template
    "np": NUMPY,
    "numpy": Import("numpy"),
    "sys": Import("sys"),
    "zipfile": Import("zipfile"),
    "Any": Import("typing", "Any"),
    "NamedTuple": Import("typing", "NamedTuple"),
    "Path": Import("pathlib", "Path"),
}
FIXED = ("cell", "optimizer", "num_states")  # settings for whose values the functions are chosen
WORDS = {
    "theta": "Clip gradients to this norm θ (infinite: don't clip)",
    "device": "Device: cpu, cuda, or another one that the framework has",
    "num_states": "Number of tensors in the state",
    "prefix": "Text to continue",
    "length": "Number of characters to write",
    "temperature": "Sample at this temperature (0: always the most likely character)",
}


def program(backend: str, settings: Settings, command: str) -> str:
    """Return the program for these settings; `command` is what it names as its origin.

    Raises RNNScratchError if there is no such backend, or its functions cannot be cut.
    """
    files = {f.stem: f for f in source_code.files(backend) if f.stem not in OTHERS}
    options, optimizer = model_options(settings, 0), OPTIMIZERS[settings.optimizer]
    values = {
        **asdict(settings),
        **update_rule(settings)._asdict(),
        "num_states": options.num_states,
        "device": options.device,
        "prefix": "time traveller ",
        "length": SAMPLE["length"],
        "temperature": SAMPLE["temperature"],
    }
    context = {
        **values,
        "framework": FRAMEWORKS.get(backend, backend),
        "command": command,
        "deep": options.deep,
        "backward": "deep_backward" in definitions(files["deep"]),
        "gates": "".join(options.gates),
        "between": BETWEEN.get(settings.normalize),
        "numbered": schedule.numbered(settings),
        "varies": settings.schedule != "constant" or settings.warmup > 0,
        "needs_rates": optimizer.needs_rates,
        "slots": "".join(optimizer.slots),
    }
    known: dict[str, source_code.Place | Import] = {}
    for file in (*reversed(CORE_FILES), *files.values(), files["scratch"]):
        known |= bindings(file)
    # MXNet calls its own arrays' module np: then NumPy is numpy.
    numpy = "np" if known["np"] == NUMPY else "numpy"
    template = (CORE / "show" / "standalone.txt").read_text(encoding="utf-8")
    template = TEMPLATES.from_string(template.replace("np.", f"{numpy}."))
    main = template.render(context, imports="", fields="    cell: str", functions="")
    first, then = _starts(files["machine"])
    sources, imports = cutting.reached(
        "\n".join([*first, *then, main]),
        known | IMPORTS,
        list(files.values()),
        (settings.cell, settings.optimizer),
        numpy,
    )
    places = cutting.ordered(sources, CORE_FILES[:-1], files)
    places += [place for place in sources if place.file == CORE_FILES[-1]]
    functions = "\n\n\n".join(sources[place] for place in places)
    return template.render(
        context,
        imports=_imports(imports, first, then),
        fields=_fields(values, f"{main}\n{functions}"),
        functions=functions,
    )


def _starts(machine: Path) -> tuple[list[str], list[str]]:
    # What ``machine`` calls when it is imported, and what has to be called: before the framework is
    # imported, and after. The environment's variables are for speed and silence.
    first, then = [], []
    names = bindings(machine)
    lines = machine.read_text(encoding="utf-8").splitlines()
    for node in tree(machine).body:
        if isinstance(node, (ast.Expr, ast.If)):
            used = {names.get(each.id) for each in ast.walk(node) if isinstance(each, ast.Name)}
            used -= {None}
            if used and all(isinstance(each, Import) and each.module != "os" for each in used):
                start = node.lineno - 1
                while lines[start - 1].startswith("#"):
                    start -= 1
                early = all(each.module == "numpy" for each in used)
                (first if early else then).append("\n".join(lines[start : node.end_lineno]))
    return first, then


def _imports(imports: Collection[Import], first: list[str], then: list[str]) -> str:
    # The standard library, NumPy and the framework.
    groups: list[list[Import]] = [[], [], []]
    for each in imports:
        root = each.module.partition(".")[0]
        rank = 0 if root in sys.stdlib_module_names else 2 if first and root != "numpy" else 1
        groups[rank].append(each)
    standard, others, late = map(_sorted, groups)
    return "\n\n".join(filter(None, [standard, others, *first, late, *then]))


def _sorted(imports: Collection[Import]) -> str:
    modules: list[str] = []
    names: dict[str, list[str]] = {}
    for module, name, alias in sorted(imports, key=lambda i: (i.name[:1].islower(), i)):
        words = (name or module) + (f" as {alias}" if alias else "")
        if name:
            names.setdefault(module, []).append(words)
        else:
            modules.append(f"import {words}")
    return "\n".join([*modules, *(f"from {m} import {', '.join(names[m])}" for m in sorted(names))])


def _fields(values: Mapping[str, Any], source: str) -> str:
    # The settings that the program reads, each with its meaning.
    statements = ast.parse(source).body
    read = {node.attr for each in statements for node in ast.walk(each) if isinstance(node, ast.Attribute)}
    for statement in statements:
        if "getattr(how" in ast.unparse(statement):
            read |= {n.value for n in ast.walk(statement) if isinstance(n, ast.Constant)}
    comments = dict(
        re.findall(r"^    (\w+): .*  # (.*)$", (CORE / "contract.py").read_text(encoding="utf-8"), re.M)
    )
    lines = []
    for name, value in sorted(values.items(), key=lambda item: item[0] in FIXED):
        if name in read:
            words = re.split(r"[;:] (?=[^)]*$)", OPTIONS[name].help)[0] if name in OPTIONS else ""
            words = WORDS.get(name) or words.rstrip(".") or comments[name]
            kind = "float | None" if value is None else type(value).__name__
            shown = json.dumps(value) if isinstance(value, str) else repr(value)
            if value == math.inf:
                shown = 'float("inf")'
            elif name == "num_states" and "num_layers" in read:
                shown = f"{CELLS[values['cell']].num_states} * num_layers"
            lines.append(f"    {name}: {kind} = {shown}  # {words[0].upper()}{words[1:]}")
    lines.insert(-len(FIXED), "    # The functions below are for these:")
    return "\n".join(lines)
