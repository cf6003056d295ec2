"""The single-file programs use only their framework, learn, and have the losses of `train`."""

import ast
import re
import runpy
import sys

import pytest
from helpers import CLONE

from rnn_scratch import registry
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.training import loop
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

PROGRAMS = CLONE / "notebooks/programs"
BOOK = "Η θάλασσα ήρθε, και η θάλασσα έφυγε.\n" * 20


def read_program(backend):
    return (PROGRAMS / f"{backend}_rnn.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_program_is_short_and_imports_only_its_framework(backend):
    source = read_program(backend)
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name])
    }
    assert modules - sys.stdlib_module_names <= {"numpy", backend}
    assert source.count("\n") <= 110


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_program_has_the_losses_of_train(builtin_name, tmp_path, monkeypatch, capsys):
    source = read_program(builtin_name)
    for text, replacement in {
        "B, T, H = 32, 35, 256": "B, T, H = 4, 6, 12",
        "num_epochs, lr, theta, sigma = 10, 1.0, 1.0, 0.05": (
            "num_epochs, lr, theta, sigma = 3, 1.0, 0.1, 0.05"
        ),
        'dtype, seed = "float32"': 'dtype, seed = "float64"',
        "losses):.3f}": "losses):.15f}",
    }.items():
        assert source.count(text) == 1, text
        source = source.replace(text, replacement)
    script, book = tmp_path / "program.py", tmp_path / "book.txt"
    script.write_text(source, encoding="utf-8")
    book.write_text(BOOK, encoding="utf-8")
    settings = Settings(
        **{"batch_size": 4, "num_steps": 6, "num_hiddens": 12, "num_epochs": 3, "theta": 0.1},
        **{"sigma": 0.05, "max_tokens": 0, "normalize": "none", "dtype": "float64"},
    )
    runtime = Runtime(builtin_name, device="cpu", threads=1)
    run = prepare_run(settings, runtime, books.read_file(str(book)))
    expected = [epoch.loss for epoch in loop.epochs(run)]
    monkeypatch.setattr(sys, "argv", [str(script), str(book)])
    runpy.run_path(str(script), run_name="__main__")
    out = capsys.readouterr().out
    losses = [float(text) for text in re.findall(r"loss (\S+)", out)]
    assert losses == pytest.approx(expected, rel=1e-9)
    assert f"\n{BOOK[:20]}" in out
    assert "<unk>" not in out
