"""Writes a program of one file: a kind of network, and its training with one backend.

The program is ``standalone.txt``, the same for every framework. What differs between frameworks is
cut from the files of the backend, and made plainer: settings are variables, and a model is its
parameters.
"""

import ast
import builtins
import re
import sys
from pathlib import Path
from symtable import symtable

from jinja2 import Environment, StrictUndefined

from .. import parameters
from ..contract import CELLS, OPTIMIZERS, VARIANTS
from ..errors import RNNScratchError
from ..randomness import PURPOSES
from ..registry import FRAMEWORKS
from ..runs.presets import SAMPLE
from ..settings import Settings, model_options, update_rule
from .source_code import cut, definitions, files

TEMPLATE = Path(__file__).with_suffix(".txt")
TEMPLATES = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
# A function that returns its argument, as some do where tensors are arrays; its name.
SAME = re.compile(r'def (\w+)\((\w+).*\):\n(?: +""".*"""\n)? +return \2(?:  #.*)?')
STANDARD = "# The standard library\n"  # whose imports are known when all else is


def program(backend: str, settings: Settings, command: str) -> str:
    """Return the program for these settings; `command` is what it names as its origin.

    Raises RNNScratchError if there is no such backend, or something cannot be cut.
    """
    paths = [path for path in files(backend) if path.stem not in VARIANTS[1:]]
    paths.append(Path(parameters.__file__))
    paths.sort(key=lambda path: path.stem not in ("scratch", "cells", "deep"))
    places = {name: path for path in reversed(paths) for name in definitions(path)}
    rules = _rules(settings, backend)
    sources: dict[str, str] = {}

    def plain(name: str) -> str:
        source = cut(places[name], name).source
        for old, new in rules.items():
            source = re.sub(old, new, source)
        return source

    def add(*names: str) -> None:
        # These functions if the backend has them, each after what it uses.
        for name in names:
            if name in places and name not in sources:
                sources[name] = plain(name)
                add(*_used(sources[name]))
                sources[name] = sources.pop(name)

    deep = "deep_" if model_options(settings, 0).deep else ""
    cell = settings.cell.replace("-", "_")
    backward = f"{deep}backward" if f"{deep}backward" in places else ""
    add("tensor", "array")
    for name in ("params", "state", "encode", cell, f"{deep}step", f"{deep}forward", "loss"):
        add(name, f"{name}_back" if backward else name)
    add(backward or "gradients", "clip", settings.optimizer, "predict")
    same = [found[1] for found in map(SAME.fullmatch, sources.values()) if found]
    template = TEMPLATE.read_text(encoding="utf-8")
    if backend == "mxnet":  # which has another module called np
        template = template.replace("np.", "numpy.")
    scratch = places["params"].read_text(encoding="utf-8")
    text = original = TEMPLATES.from_string(template).render(
        settings=settings,
        how=update_rule(settings),
        deep=deep,
        cell=CELLS[settings.cell],
        optimizer=OPTIMIZERS[settings.optimizer],
        purposes=PURPOSES,
        sample=SAMPLE,
        backend=backend,
        framework={"numpy": "NumPy", **FRAMEWORKS}.get(backend, backend),
        command=command,
        standard=STANDARD,
        imports=re.findall(r"(?m)^(?:import|from) (?!rnn_scratch|\.).*$", scratch),
        decorators=plain("train_minibatch").partition("def ")[0],
        functions=[sources[name] for name in sources if name not in same],
        backward=backward,
    )
    for node in ast.walk(ast.parse(original)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in same:
            whole, value = (ast.get_source_segment(original, each) for each in (node, node.args[0]))
            text = text.replace(str(whole), str(value))
    missing = set(_used(text))
    if others := missing - sys.stdlib_module_names:
        raise RNNScratchError(
            f"{min(others)} cannot be cut from the {backend} backend: no file of it has such a "
            "function, or else the program has another one."
        )
    return text.replace(STANDARD, "".join(f"import {name}\n" for name in sorted(missing)))


def _rules(settings: Settings, backend: str) -> dict[str, str]:
    # What is replaced in functions, and by what.
    deep, optimizer = model_options(settings, 0).deep, OPTIMIZERS[settings.optimizer]
    cell, states = settings.cell.replace("-", "_"), CELLS[settings.cell].num_states
    rules = {
        r"(?m)^( *)if .*  # `fast` .*\n(\1 .*\n)*": "",
        r"(?m)^(@.*?)  #.*": r"\1",
        r"@on_its_device": "@on(device)",
        r"@compiled": "@jax.jit",
        r"_device\(device\)": "jax.devices(device)[0]",
        r"(?<=\w): ([A-Z]\w+|int)(?=[,)])|(?m:(?<=\)) -> .*(?=:$))": "",  # types
        r"CELLS\[options\.cell\]": cell,
        r"CELLS_BACK\[options\.cell\]": f"{cell}_back",
        r"OPTIMIZERS\[how\.optimizer\]": settings.optimizer,
        r"model\.forward\((.*?), state(, params=params)?\)": (
            rf"{'deep_' if deep else ''}forward(\1, state, params)"
        ),
        r"model\.backward": f"{'deep_' if deep else ''}backward",
        r"model\.state\b|(?<=def )state\b": "initial_state",
        r"options\.num_states": f"{states} * num_layers" if deep else f"{states}",
        r"numbers\(how, model.options\), |(?m:(?<=^    )how, )": "",  # of MXNet
    }
    if settings.dtype == "float32":
        rules |= {r"\bnumber\((\S+), \w+\)": r"\1"}
    elif backend == "mxnet":
        rules |= {r"how\.(beta1|beta2|epsilon|weight_decay)": r"number(\1, param)"}
    if not settings.exact:
        rules |= {r"rounded\((.*), how\.\w*grid\)": r"\1"}
        rules |= {r"; in exact mode rounded to a grid|, rounded in exact mode": ""}
        rules |= {r"tuple\(rounded.*": "state"}
    rules |= {
        r"\b(model\.options|options|how)\.": "",
        r", (options|how)\b": "",
        r"batch\.inputs": "(X, masks)" if deep else "X",
        r"\bbatch\.": "",
        r"\bbatch\b": "X, Y, masks" if deep else "X, Y",
        r"\bmodel(?=, grads)": "params, slots" if optimizer.slots else "params",
        r"\bmodel\b(?!\.)": "params",
        r"\bmodel\.": "",
        r"\n +(.*) = \1(?=\n)": "",
    }
    if not optimizer.needs_rates:
        rules |= {r"\brates\.lr|\brates\b": "lr"}
    return rules


def _used(source: str) -> list[str]:
    # The names in a source that are neither Python's nor its own, in their order.
    tables = [symtable(source, "rnn.py", "exec")]
    for table in tables:  # the list grows in the loop
        tables += table.get_children()
    top = tables[0].get_symbols()
    own = {each.get_name() for each in top if each.is_assigned() or each.is_imported()}
    names = [s.get_name() for table in tables for s in table.get_symbols() if s.is_global()]
    return [name for name in names if name not in own | vars(builtins).keys()]
