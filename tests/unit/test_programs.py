"""The single-file programs run, stay parallel, and compute what the backends compute."""

import ast
import re
import runpy
import sys

import numpy as np
import pytest
from helpers import CLONE

from rnn_scratch import registry
from rnn_scratch.contract import ModelConfig, UpdateRule
from rnn_scratch.text import minibatches

BOOK = "Η θάλασσα ήρθε, και η θάλασσα έφυγε.\n" * 20
SIZES = {"B": 4, "T": 6, "H": 12, "num_epochs": 3}
SHAPES = {"W_xh": "VH", "W_hh": "HH", "b_h": "H", "W_hq": "HV", "b_q": "V"}


def path_of(backend):
    return CLONE / "notebooks" / "programs" / f"{backend}_rnn.py"


def source_of(backend):
    return path_of(backend).read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_program_is_short_and_self_contained(backend):
    source = source_of(backend)
    assert 80 <= source.count("\n") <= 115
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name])
    }
    assert modules - sys.stdlib_module_names <= {"numpy", backend}


def test_programs_have_the_same_functions_and_texts():
    def outline(backend):
        functions = [
            n for n in ast.parse(source_of(backend)).body if isinstance(n, ast.FunctionDef)
        ]
        comments = re.findall(r"^# .*", source_of(backend), re.MULTILINE)
        return [(f.name, ast.unparse(f.args)) for f in functions], comments

    for backend in registry.BUILTIN_BACKENDS[1:]:
        assert outline(backend) == outline("numpy"), backend


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_program_has_the_losses_and_weights_of_the_backend(
    builtin_name, tmp_path, monkeypatch, capsys
):
    book, script = tmp_path / "book.txt", tmp_path / "program.py"
    book.write_text(BOOK, encoding="utf-8")
    sizes, count = re.subn(
        r"(?m)^B, T, H, num_epochs = .*$",
        f"B, T, H, num_epochs = {', '.join(map(str, SIZES.values()))}",
        source_of(builtin_name),
    )
    assert count == 1
    script.write_text(sizes.replace("float32", "float64"), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(script), str(book)])
    if builtin_name == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    result = runpy.run_path(str(script), run_name="__main__")
    losses, arrays = train_backend(builtin_name, result)
    assert result["losses"] == pytest.approx(losses, rel=1e-11)
    actual = registry.load(builtin_name).machine.to_arrays(result["params"])
    for name, array in arrays.items():
        assert actual[name].dtype == "float64"
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=1e-11, err_msg=name)
    out = capsys.readouterr().out
    assert re.findall(r"^epoch  (\d)  loss \d\.\d{3}  '", out, re.MULTILINE) == ["1", "2", "3"]
    assert f"\n{BOOK[:20]}" in out


def train_backend(name, program):
    """Train a backend as a program did; return the last epoch's losses, and the parameters."""
    backend, rng = registry.load(name), np.random.RandomState(0)
    B, T, H, num_epochs = SIZES.values()
    vocab = sorted({*BOOK})
    size = {"V": len(vocab), "H": H}
    arrays = {}
    for parameter, letters in SHAPES.items():
        shape = [size[letter] for letter in letters]
        is_weight = parameter.startswith("W")
        arrays[parameter] = rng.normal(0, program["sigma"], shape) if is_weight else np.zeros(shape)
    options = ModelConfig(len(vocab), H, dtype="float64")
    model = registry.build(backend, "scratch", arrays, options)
    tokens = np.array([vocab.index(character) for character in BOOK])
    rule = UpdateRule(lr=program["lr"], theta=program["theta"])
    for _ in range(num_epochs):
        batches = [*minibatches.sequential(tokens, B, T, rng.randint(T))]
        losses, _ = backend.scratch.train_epoch(model, batches, [rule] * len(batches), True)
    return [float(loss) for loss in losses], model.to_arrays(model.params)


def test_short_text_ends_the_program_with_a_message(tmp_path, monkeypatch):
    book = tmp_path / "book.txt"
    book.write_text("Too short.", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["program.py", str(book)])
    with pytest.raises(SystemExit, match="has 10 characters; 1155 are needed"):
        runpy.run_path(str(path_of("numpy")), run_name="__main__")
