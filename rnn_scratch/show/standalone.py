"""Writes a program of one file: a kind of network, and its training with one backend.

The program is ``standalone.txt``, the same for every framework. What differs between frameworks is
cut from the files of the backend, and made plainer: settings are variables, and a model is its
parameters. Replacing text, rather than nodes of a syntax tree, keeps comments and line breaks.
"""

import ast
import builtins
import re
import sys
from pathlib import Path
from symtable import symtable

from jinja2 import Environment

from .. import parameters
from ..contract import CELLS, OPTIMIZERS, VARIANTS
from ..errors import RNNScratchError
from ..randomness import PURPOSES
from ..registry import FRAMEWORKS
from ..runs import schedule
from ..runs.presets import SAMPLE
from ..settings import Settings, model_options, update_rule
from .source_code import cut, definitions, files

TEMPLATE = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")
TEMPLATES = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
# A function that returns its argument, as some do where tensors are arrays.
SAME = re.compile(r'def \w+\((\w+).*\):\n(?: +""".*"""\n)? +return \1(?:  #.*)?')


def program(backend: str, settings: Settings, command: str) -> str:
    """Return the program for these settings; `command` is what it names as its origin.

    Raises RNNScratchError if there is no such backend, or something cannot be cut.
    """
    paths = [path for path in files(backend) if path.stem not in VARIANTS[1:]]
    paths += (Path(str(module.__file__)) for module in (parameters, schedule))
    paths.sort(key=lambda path: path.stem not in ("scratch", "cells", "deep"))
    places = {name: (path, name) for path in reversed(paths) for name in definitions(path)}
    deep = model_options(settings, 0).deep
    if deep:
        places |= {name.removeprefix("deep_"): places[name] for name in places if "deep_" in name}
    if "backward" in places:
        places["gradients"] = places["backward"]
    cell = settings.cell.replace("-", "_")
    varies = settings.schedule != "constant" or settings.warmup > 0
    rules = _rules(settings, backend, cell, deep)
    sources: dict[str, str] = {}

    def plain(name: str) -> str:
        source = cut(*places[name]).source
        for old, new in rules.items():
            source = re.sub(old, new, source)
        return source

    def add(*names: str) -> None:
        # These functions, if there are such, each after what it uses.
        for name in names:
            if name in places and name not in sources:
                sources[name] = plain(name)
                add(*_used(sources[name]))
                sources[name] = sources.pop(name)

    add("tensor", "array")
    for name in ("params", "state", "encode", cell, "step", "forward", "loss"):
        add(name, *[f"{name}_back"] * ("backward" in places))
    add("gradients", "clip", settings.optimizer, "predict")
    add(*["learning_rate"] * varies)
    same = [name for name in sources if SAME.fullmatch(sources[name])]
    scratch = places["params"][0].read_text(encoding="utf-8")
    # MXNet has another module called np.
    template = TEMPLATE.replace("np.", "numpy.") if backend == "mxnet" else TEMPLATE
    text = whole = TEMPLATES.from_string(template).render(
        settings=settings,
        how=update_rule(settings),
        deep=deep,
        varies=varies,
        cell=CELLS[settings.cell],
        optimizer=OPTIMIZERS[settings.optimizer],
        purposes=PURPOSES,
        sample=SAMPLE,
        backend=backend,
        framework={"numpy": "NumPy", **FRAMEWORKS}.get(backend, backend),
        command=command,
        imports=re.findall(r"(?m)^(?:import|from) (?!rnn_scratch|\.).*$", scratch),
        decorators=plain("train_minibatch").partition("def ")[0],
        functions=[sources[name] for name in sources if name not in same],
    )
    # In place of a call of such a function, its argument.
    for node in ast.walk(ast.parse(whole)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in same:
            call, argument = (ast.get_source_segment(whole, n) or "" for n in (node, node.args[0]))
            text = text.replace(call, argument)
    # Without the settings that nothing uses.
    for line, name in re.findall(r"(?m)(^(\w+) = .*\n)", text):
        text = text if len(re.findall(rf"\b{name}\b", text)) > 1 else text.replace(line, "")
    missing = set(_used(text))
    if others := missing - sys.stdlib_module_names:
        name = min(others)
        raise RNNScratchError(f"{name} cannot be cut from the {backend} backend, which has none.")
    standard = "\n".join(f"import {name}" for name in sorted(missing))
    return text.replace('"""\n\n', f'"""\n\n{standard}\n\n', 1)


def _rules(settings: Settings, backend: str, cell: str, deep: bool) -> dict[str, str]:
    # What is replaced in the functions, and by what, one after another.
    states, optimizer = CELLS[settings.cell].num_states, OPTIMIZERS[settings.optimizer]
    rules = {
        r"(?m)^( *)if .*  # `fast` .*\n(\1 .*\n)*": "",
        r"  # .*`how`.*": "",
        r"\bsettings: \w+, |(?<=\w): ([A-Z]\w+|int)(?=[,)])|(?<=\)) -> .*(?=:\n)": "",  # types
        r"@on_its_device": "@on(device)",
        r"@compiled": "@jax.jit",
        r"device_of\(device\)": "jax.devices(device)[0]",
        r"CELLS\[options\.cell\]": cell,
        r"CELLS_BACK\[options\.cell\]": f"{cell}_back",
        r"\bdeep_": "",
        r'def backward\(.*\n    """What `gradients` returns': (
            'def gradients(model, batch, state):\n    """Loss, gradients and the last state'
        ),
        r"model\.forward\((.*?), state(, params=params)?\)": r"forward(\1, state, params)",
        r"model\.state\b|(?<=def )state\b": "initial_state",
        r"options\.num_states": f"{states} * num_layers" if deep else f"{states}",
        r"\brates\b(?!\.)": "lr, c_m, c_v" if optimizer.needs_rates else "lr",
        r"numbers\(how, model.options\), |(?<=\n    )how, ": "",
    }
    if settings.dtype == "float32":
        rules |= {r"\bnumber\((\S+), \w+\)": r"\1"}
    elif backend == "mxnet":
        rules |= {r"\(1 - how\.(beta\d)\)": r"number(1 - \1, grad)"}
        rules |= {r"how\.(beta\d|epsilon|weight_decay)": r"number(\1, param)"}
    if not settings.exact:
        rules |= {r"rounded\((.*), how\.\w*grid\)": r"\1", "; in exact mode rounded to a grid": ""}
    return rules | {
        r"batch\.inputs": "(X, masks)" if deep else "X",
        r"\b(model\.options|model|batch|options|how|settings|rates)\.": "",
        r", (options|how)\b": "",
        r"\bbatch\b": "X, Y, masks" if deep else "X, Y",
        r"\bmodel(?=, grads)": "params, slots" if optimizer.slots else "params",
        r"\bmodel\b": "params",
        r"\n +(.*) = \1(?=\n)": "",
    }


def _used(source: str) -> list[str]:
    # The names in a source that are neither Python's nor its own, in their order.
    tables = [symtable(source, "rnn.py", "exec")]
    for table in tables:  # the list grows in the loop
        tables += table.get_children()
    own = {s.get_name() for s in tables[0].get_symbols() if s.is_assigned() or s.is_imported()}
    names = [s.get_name() for table in tables for s in table.get_symbols() if s.is_global()]
    return [name for name in names if name not in own | vars(builtins).keys()]
