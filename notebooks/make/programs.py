"""Write the single-file programs for all frameworks: `python -m make.programs`.

Run it from the repository root; it writes ``notebooks/programs/``. Functions are copied from the
backends. In ``templates``, ``program.txt`` contains the settings, the definitions that the
functions need, and the main part; files named after backends have simpler versions of some helpers.
"""

import ast
import re
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.randomness import PURPOSES
from rnn_scratch.settings import Settings, update_rule
from rnn_scratch.show import source_code

from . import prose

FOLDER = Path("notebooks/programs")
OMITTED = ("train_epoch", "evaluate", "build")  # replaced by the program's training loop
TEXTS = Path(__file__).with_name("templates")


def path(backend: str) -> Path:
    """Return the path of a backend's program."""
    return FOLDER / f"{backend}_rnn.py"


def program(backend: str) -> str:
    """Return the source of a backend's program."""
    scratch = next(path for path in source_code.files(backend) if path.stem == "scratch")
    settings = Settings()
    names = [name for name in source_code.definitions(scratch) if name not in OMITTED]
    text = "\n\n\n".join(source_code.cut(scratch, name).source for name in names)
    text = re.sub(r"(?m)^(\w+ = .*)\n\n\n(?=\w+ = )", r"\1\n", text)  # join consecutive constants
    # In JAX, an update is static, because programs do not register its class with JAX.
    text = text.replace('static_argnames=("options"', 'static_argnames=("update", "options"')
    np = "numpy" if backend == "mxnet" else "np"
    source = prose.TEMPLATES.get_template("program.txt").render(
        file=path(backend).name,
        framework=prose.framework(backend),
        imports=_imports(backend, scratch),
        np=np,
        settings=settings,
        theta=update_rule(settings).theta,
        purposes=PURPOSES,
        functions=text,
        helpers=_helpers(backend, scratch, text),
    )
    return f"{source}\n"


def _imports(backend: str, scratch: Path) -> list[str]:
    if backend == "mxnet":
        return [(TEXTS / "mxnet_imports.txt").read_text(encoding="utf-8").strip()]
    source = scratch.read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^(?:import|from) (?!functools|rnn_scratch|\.).*$", source)
    return sorted({*lines, "import numpy as np"}, key=lambda line: line.split()[1])


def _helpers(backend: str, scratch: Path, functions: str) -> str:
    """Return the source of the `machine` functions that the code in `functions` calls."""
    machine = scratch.with_name("machine.py")
    imported = [
        alias.name
        for node in source_code.tree(scratch).body
        if isinstance(node, ast.ImportFrom) and node.module == "machine"
        for alias in node.names
    ]
    if backend != "numpy":
        functions += "tensor"  # the main part calls `tensor`
    helpers = [name for name in imported if re.search(rf"\b{name}\b", functions)]
    order = ["device_scope", "get_device", "context"]  # first, because other helpers call them
    helpers.sort(key=order.__contains__, reverse=True)
    simple = TEXTS / f"{backend}.txt"  # simplified versions of some helpers
    replaced = source_code.definitions(simple) if simple.exists() else {}
    sources = [
        source_code.cut(simple if name in replaced else machine, name).source for name in helpers
    ]
    return "\n\n\n".join(sources)


def main() -> None:
    """Write all programs."""
    FOLDER.mkdir(exist_ok=True)
    for backend in registry.BUILTIN_BACKENDS:
        path(backend).write_text(program(backend), encoding="utf-8")


if __name__ == "__main__":
    main()
