"""Function sources from backend files, and the `show` command that prints them."""

import html
import re
from pathlib import Path

import pytest
from helpers import CLONE, install_packages, run_in_process, run_subprocess

from rnn_scratch import contract, registry
from rnn_scratch.show import columns, source_code


@pytest.fixture
def show_lines(on_terminal, _in_the_clone):
    """Return a function that runs `show` on a terminal of a given width and returns the lines."""
    # Run in the clone, because elsewhere paths would be longer and titles would take two lines.
    return lambda width, *names: on_terminal("show", *names, columns=width).out.splitlines()


def source_of(*arguments):
    return source_code.join(source_code.find(*arguments))


@pytest.mark.parametrize("name", registry.BUILTIN_BACKENDS)
def test_contract_functions_are_found_in_their_files(name):
    for module in ("scratch", "deep", "machine"):
        for function in contract.MODULES[module]:
            if function.__name__ == "jit":  # optional
                continue
            piece = source_code.find(name, function.__name__)[0]
            assert piece.file == CLONE / "backends" / name / f"{module}.py"
            lines = piece.file.read_text(encoding="utf-8").splitlines()
            source = piece.source.splitlines()
            assert lines[piece.line - 1 :][: len(source)] == source


def test_decorators_and_comments_above_belong_to_a_function(tmp_path):
    source = (
        "import functools\n\n# Not this one.\n\n# Why it is cached,\n# in two lines.\n"
        "@functools.cache  # once\ndef step(x):\n    return x\n    # the end\n\n\n"
        "forward = _loop(step)\n"
    )
    env = install_packages(tmp_path / "site", {"commented": ""})
    (tmp_path / "site" / "commented_rnn" / "scratch.py").write_text(source)
    out = run_subprocess("show", "step", "--backends", "commented", env=env).out
    path = Path("site", "commented_rnn", "scratch.py")
    assert out.splitlines() == [f"# commented: {path}:5", *source.splitlines()[4:10]]
    out = run_subprocess("show", "forward", "--backends", "commented", env=env).out
    assert "forward = _loop(step)" in out


def test_helpers_follow_the_function_that_uses_them(capsys):
    def names(*arguments):
        return {piece.name for piece in source_code.find(*arguments)}

    assert names("numpy", "step") == {"step", "CELLS", "rnn"}
    assert names("torch", "lstm") == {"lstm", "gate"}
    assert {"step_backward", "CELL_BACKWARD", "rnn_backward"} <= names("numpy", "gradients")
    # Helpers may be in sibling files that are not part of the contract.
    assert {"product", "split"} <= names("tensorflow", "forward", "fast")
    assert "tensor" not in names("torch", "init_state")
    result = run_in_process(capsys, "show", "rnn_backward", "--backends", "numpy,torch")
    assert result.out.count("def rnn_backward(") == 1
    assert result.err == "rnn_backward is not defined in: torch.\n"


def test_piped_output_is_plain_text(capsys):
    out = run_in_process(
        capsys, "show", "clip", "--backends", "torch, torch,numpy,numpy:scratch"
    ).out
    torch_source, numpy_source = out.removeprefix("# torch: ").split("\n\n\n# numpy: ")
    assert torch_source.split("\n", 1)[1] == source_of("torch", "clip")
    assert numpy_source.split("\n", 1)[1] == source_of("numpy", "clip") + "\n"
    out = run_in_process(capsys, "show", "detach", "--diff", "numpy", "torch").out
    assert out.startswith("--- numpy: ")
    assert "\n+++ torch: " in out
    assert "\n+    return tuple(s.detach() for s in state)" in out
    out = run_in_process(capsys, "show", "train_minibatch", "--diff", "numpy", "mxnet").out
    assert "train_minibatch is the same in numpy and mxnet." in out


@pytest.mark.parametrize(
    ("width", "rows"), [(60, [1, 1, 1, 1, 1]), (120, [2, 2, 1]), (200, [3, 2]), (400, [5])]
)
def test_terminal_width_determines_the_number_of_columns(show_lines, width, rows):
    lines = show_lines(width, "step")
    heads = [line for line in lines if "scratch.py:" in line]
    assert [line.count("scratch.py:") for line in heads] == rows
    assert max(map(len, lines)) <= width
    assert all(name in " ".join(heads) for name in registry.BUILTIN_BACKENDS)
    # Each title gives the first line number shown, which is where the cell function starts.
    assert f"scratch.py:{source_code.find('numpy', 'rnn')[0].line} " in heads[0] + " "


@pytest.mark.parametrize("width", [30, 64, 120])
def test_folding_loses_nothing(show_lines, width):
    lines = show_lines(width, "forward", "--backends", "mxnet")
    assert max(map(len, lines)) <= width
    source = "".join(source_of("mxnet", "forward").split())
    assert "".join("".join(lines).split()).endswith(source)


def test_differences_are_marked(show_lines):
    rows = show_lines(220, "gradients", "--diff", "torch", "tensorflow")
    assert any(" | " in row and "torch.autograd.grad" in row for row in rows)
    assert any(" > " in row and "tf.GradientTape()" in row for row in rows)
    assert any(row.startswith("def gradients") and "|" not in row for row in rows), "marked lines"
    rows = show_lines(220, "forward", "--diff", "torch", "torch:fast")
    assert "torch:fast  " in rows[1]
    rows = show_lines(220, "step", "--diff", "torch", "jax")
    assert not any(row.strip() in ("<", ">", "|") for row in rows), "marked gaps"


@pytest.mark.parametrize("names", [("torch", "tensorflow"), registry.BUILTIN_BACKENDS])
@pytest.mark.parametrize("function", ["step", "gradients", "train_epoch"])
def test_html_has_aligned_columns(names, function):
    page = columns.render_html({name: source_code.find(name, function) for name in names})
    heading, *lines = html.unescape(re.sub("<[^>]*>", "", page)).split("\n")
    starts = [heading.index(name) for name in names]
    for name, start, end in zip(names, starts, [*starts[1:], None]):
        end = end and end - columns.GAP
        words = " ".join(line[start:end] for line in lines).split()
        assert words == source_code.join(source_code.find(name, function)).split()
    marks = {line[start - columns.GAP : start].strip() for line in lines for start in starts[1:]}
    assert marks <= {"", "|", "<", ">"}
    assert "|" in marks or function == "train_epoch"
    assert (f"background-color: {columns.HIGHLIGHT}" in page) == bool(marks & {"|", ">"})
