"""Write the single-file programs of all frameworks: `python -m make.programs`.

Run it in the folder of the clone; it writes ``notebooks/programs/``. Complete functions are copied
from the backends. The settings, the definitions that the functions refer to, and the main part are
in ``templates/program.txt``.
"""

import ast
import re
import textwrap
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from rnn_scratch import registry
from rnn_scratch.contract import CELLS, OPTIMIZERS
from rnn_scratch.randomness import PURPOSES
from rnn_scratch.registry import FRAMEWORKS
from rnn_scratch.settings import Settings, update_rule
from rnn_scratch.show import source_code

FOLDER = Path("notebooks/programs")
KINDS = {
    "rnn": Settings(),
    "lstm": Settings(cell="lstm", optimizer="adam", num_hiddens=256, num_epochs=100, lr=0.005),
}
TITLES = {
    "rnn": "A recurrent language model",
    "lstm": "An LSTM language model",
}
OMITTED = ("train_epoch", "evaluate", "build")  # programs have their own training loop
# Simple imports and definitions that replace imports of `scratch` and `machine` in programs.
IMPORTS = {
    "mxnet": """
        import numpy

        numpy.bool = bool  # NumPy 1.24 removed this name, which MXNet 1.9.1 uses

        import mxnet  # noqa: E402
        from mxnet import autograd, np, npx  # noqa: E402

        npx.set_np()
    """
}
MACHINE = {
    ("jax", "jit_update"): '''
        def jit_update(train_minibatch):
            """Compile `train_minibatch` as a pure function of all that changes."""

            @jax.jit
            def pure(params, slots, batch, state, numbers):
                model = Model(params, slots)
                result = train_minibatch(model, batch, state, rule._replace(**numbers))
                return result, model.params, model.slots

            def train(model, batch, state, update):
                numbers = {name: getattr(update, name) for name in changing}
                result, params, slots = pure(model.params, model.slots, batch, state, numbers)
                model.params.update(params)
                model.slots.update(slots)
                return result

            return train
    ''',
    ("jax", "device_of"): '''
        def device_of(device):
            """Return JAX's object for the device."""
            return jax.devices(device)[0]
    ''',
    ("tensorflow", "compile_update"): '''
        def compile_update(train_minibatch):
            """Compile `train_minibatch` as a graph, in which numbers that change are tensors."""
            graph = tf.function(train_minibatch)

            def train(model, batch, state, update):
                with device_scope(options.device):
                    numbers = {n: tf.constant(getattr(update, n), options.dtype) for n in changing}
                    return graph(model, batch, state, rule._replace(**numbers))

            return train
    ''',
    ("tensorflow", "device_scope"): '''
        def device_scope(device):
            """Return the context in which TensorFlow computes on the device."""
            return tf.device("/GPU:0" if device == "cuda" else "/CPU:0")
    ''',
    ("tensorflow", "run_on_model_device"): '''
        def run_on_model_device(function):
            """Run a function on the device of the options."""

            def on_device(*args, **kwargs):
                with device_scope(options.device):
                    return function(*args, **kwargs)

            return on_device
    ''',
    ("mxnet", "prefer_backward"): '''
        def prefer_backward(gradients):
            """Return `gradients`, because programs have no hand-written backward pass."""
            return gradients
    ''',
}
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def program(backend: str, kind: str) -> str:
    """Return the source of a program: a kind of network, written with one framework."""
    scratch = next(path for path in source_code.files(backend) if path.stem == "scratch")
    settings = KINDS[kind]
    text = "\n\n\n".join(_functions(backend, scratch, settings))
    text = re.sub(r"(?m)^(\w+ = .*)\n\n\n(?=\w+ = )", r"\1\n", text)  # constants need no gap
    np = "numpy" if backend == "mxnet" else "np"
    fields = ["X", "Y", *(name for name in ("extras", "step_extras") if f"batch.{name}" in text)]
    values = {"X": "x", "Y": "y", "extras": "{}", "step_extras": "[{}] * T"}
    return TEMPLATES.get_template("program.txt").render(
        file=f"{backend}_{kind}.py",
        title=TITLES[kind],
        framework={"numpy": "NumPy", **FRAMEWORKS}[backend],
        imports=_imports(backend, scratch),
        np=np,
        fields=" ".join(fields),
        values=", ".join(values[name] for name in fields),
        settings=settings,
        update=update_rule(settings),
        cell=CELLS[settings.cell],
        optimizer=OPTIMIZERS[settings.optimizer],
        purposes=PURPOSES,
        functions=text,
        helpers=_helpers(backend, scratch, text),
    )


def _imports(backend: str, scratch: Path) -> list[str]:
    if backend in IMPORTS:
        return [textwrap.dedent(IMPORTS[backend]).strip()]
    source = scratch.read_text(encoding="utf-8")
    lines = re.findall(r"(?m)^(?:import|from) (?!rnn_scratch|\.).*$", source)
    return sorted({*lines, "import numpy as np"}, key=lambda line: line.split()[1])


def _functions(backend: str, scratch: Path, settings: Settings) -> list[str]:
    # Return the functions of `scratch`, with the cell and the optimizer of the settings.
    replacements = {"rnn": settings.cell, "sgd": settings.optimizer}
    replacements["rnn_backward"] = f"{settings.cell}_backward"
    sources = []
    for name in source_code.definitions(scratch):
        if name in OMITTED:
            continue
        replaced = name in replacements and source_code.find(backend, replacements[name])
        pieces = replaced or [source_code.cut(scratch, name)]
        for piece in source_code.ordered(pieces):
            source = piece.source
            if name in ("CELLS", "CELL_BACKWARD", "OPTIMIZERS"):
                for plain, replacement in replacements.items():
                    source = re.sub(rf"\b{plain}\b", replacement, source)
            if source not in sources:
                sources.append(source)
    return sources


def _helpers(backend: str, scratch: Path, functions: str) -> str:
    # Return the functions of `machine` that these functions call.
    machine = scratch.with_name("machine.py")
    imported = [
        alias.name
        for node in source_code.tree(scratch).body
        if isinstance(node, ast.ImportFrom) and node.module == "machine"
        for alias in node.names
    ]
    if backend != "numpy":
        functions += "tensor"  # the main part calls this function
    helpers = [name for name in imported if re.search(rf"\b{name}\b", functions)]
    sources = [
        textwrap.dedent(MACHINE[backend, name]).strip()
        if (backend, name) in MACHINE
        else source_code.cut(machine, name).source
        for name in sorted(
            helpers, key=["device_scope", "device_of", "context"].__contains__, reverse=True
        )
    ]
    return "\n\n\n".join(sources)


def main() -> None:
    """Write all programs."""
    FOLDER.mkdir(exist_ok=True)
    for backend in registry.BUILTIN_BACKENDS:
        for kind in KINDS:
            source = program(backend, kind)
            (FOLDER / f"{backend}_{kind}.py").write_text(source, encoding="utf-8")


if __name__ == "__main__":
    main()
