"""The single-file programs are up to date and reproduce `train` bit for bit."""

import ast
import re
import runpy
import sys

import pytest
from helpers import CLONE
from make import programs
from msgspec.structs import replace

from rnn_scratch import registry
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
from rnn_scratch.training import loop
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run

BOOK = "Η θάλασσα ήρθε, και η θάλασσα έφυγε.\n" * 20  # lacks the letters in the default prefixes


def source_of(backend):
    return (CLONE / programs.path(backend)).read_text(encoding="utf-8")


@pytest.mark.usefixtures("_in_the_clone")
@pytest.mark.parametrize("backend", registry.BUILTIN_BACKENDS)
def test_program_is_up_to_date_and_self_contained(backend):
    source = source_of(backend)
    assert source == programs.program(backend), "run: nox -s pages"
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [node.names[0].name])
    }
    assert modules - sys.stdlib_module_names <= {"numpy", backend}


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_program_has_the_losses_and_weights_of_train(builtin_name, tmp_path, monkeypatch, capsys):
    settings, source = Settings(), source_of(builtin_name)
    sizes = f"{settings.batch_size}, {settings.num_steps}, {settings.num_epochs}, "
    for text, replacement in {
        f" = {sizes}{settings.max_tokens}": " = 4, 6, 3, 500",
        f"num_hiddens={settings.num_hiddens}": "num_hiddens=12",
        'dtype="float32"': 'dtype="float64"',
        "num_epochs // 20": "1",
    }.items():
        assert source.count(text) == 1, text
        source = source.replace(text, replacement)
    script, book = tmp_path / "program.py", tmp_path / "book.txt"
    script.write_text(source, encoding="utf-8")
    book.write_text(BOOK, encoding="utf-8")
    short = replace(
        settings,
        **{"batch_size": 4, "num_steps": 6, "num_epochs": 3, "max_tokens": 500},
        **{"num_hiddens": 12, "dtype": "float64", "normalize": "none"},
    )
    runtime = Runtime(builtin_name, device="cpu", threads=1)
    setup = prepare_run(short, runtime, books.read_file(str(book)))
    losses = [epoch.loss for epoch in loop.epochs(setup)]
    monkeypatch.setattr(sys, "argv", [str(script), str(book)])
    result = runpy.run_path(str(script), run_name="__main__")
    assert result["losses"] == losses
    to_arrays = setup.backend.machine.to_arrays
    expected = to_arrays(setup.model.params)
    arrays = to_arrays(result["params"])
    assert {name: array.tobytes() for name, array in arrays.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }
    out = capsys.readouterr().out
    assert re.search(r"perplexity \d", out)
    assert f"\n{BOOK[:20]}" in out
    assert "<unk>" not in out


@pytest.mark.parametrize(
    ("content", "message"), [(None, "Usage: python"), ("Too short.", "are needed")]
)
def test_error_ends_the_program_with_a_message(content, message, tmp_path, monkeypatch):
    book = tmp_path / "book.txt"
    if content:
        book.write_text(content, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["program.py", str(book)])
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(CLONE / programs.path("numpy")), run_name="__main__")
