"""The functions cut from the backends' files, and `show`, which displays them side by side."""

import ast
import re
from pathlib import Path

import pytest
from helpers import CLONE, here, other_packages, there

from rnn_scratch import contract, registry
from rnn_scratch.show import alignment, source_code


@pytest.fixture
def shown(on_terminal, _in_the_clone):
    """A function that returns the lines of `show` on a terminal of this width."""
    # From elsewhere, a long path to the clone would take two lines of a title.
    return lambda width, *names: on_terminal("show", *names, columns=width).out.splitlines()


def source_of(*arguments):
    return source_code.join(source_code.find(*arguments))


@pytest.mark.parametrize("name", registry.OURS)
def test_every_function_of_the_contract_is_found_where_it_is(name):
    for module in ("scratch", "deep", "machine", "workers"):
        for function in contract.MODULES[module]:
            if (name, function.__name__) in (("mxnet", f) for f in ("join", "leave", "engine")):
                assert source_code.find(name, function.__name__) == []  # it uses NumPy's
                continue
            piece = source_code.find(name, function.__name__)[0]
            assert piece.file == CLONE / "backends" / name / f"{module}.py"
            lines = piece.file.read_text(encoding="utf-8").splitlines()
            source = piece.source.splitlines()
            assert lines[piece.line - 1 :][: len(source)] == source


@pytest.mark.parametrize("name", registry.OURS)
def test_all_functions_and_helpers_together_are_the_whole_file(name):
    pieces = [piece for each in source_code.names(name) for piece in source_code.find(name, each)]
    for path in source_code.files(name):
        if path.stem in ("scratch", "cells", "deep"):
            text = path.read_text(encoding="utf-8")
            for piece in pieces:
                if piece.file == path:
                    text = text.replace(piece.source, "")
            text = re.sub(r"^(CELLS|CELLS_BACK|OPTIMIZERS)(\[.*\] =| \|=) .*", "", text, flags=re.M)
            rest = ast.parse(text).body
            kinds = (ast.Expr, ast.Import, ast.ImportFrom)
            assert all(isinstance(node, kinds) for node in rest), text


def test_decorators_and_comments_above_belong_to_a_function(tmp_path):
    source = (
        "import functools\n\n# Not this one.\n\n# Why it is cached,\n# in two lines.\n"
        "@functools.cache  # once\ndef step(x):\n    return x\n    # the end\n\n\n"
        "forward = _loop(step)\n"
    )
    env = other_packages(tmp_path / "site", {"commented": ""})
    (tmp_path / "site" / "commented_rnn" / "scratch.py").write_text(source)
    out = there("show", "step", "--backends", "commented", env=env).out
    place = Path("site", "commented_rnn", "scratch.py")
    assert out.splitlines() == [f"# commented: {place}:5", *source.splitlines()[4:10]]
    out = there("show", "forward", "--backends", "commented", env=env).out
    assert "forward = _loop(step)" in out


def test_helpers_come_with_the_function_that_uses_them_and_by_name(capsys):
    def names(*arguments):
        return [piece.name for piece in source_code.find(*arguments)]

    assert names("numpy", "step") == ["step", "CELLS", "rnn"]
    assert names("torch", "lstm") == ["lstm", "gate"]
    assert names("torch", "deep_step") == ["deep_step"]
    assert {"CELLS", "rows", "recurrence", "gru"} <= set(names("numpy", "forward", "fast"))
    # Through model.backward too, which is how NumPy's gradients call their backward pass.
    of_gradients = names("numpy", "gradients")
    assert of_gradients[:3] == ["gradients", "backward", "through_time"]
    assert {"step_back", "CELLS_BACK", "rnn_back"} <= set(of_gradients)
    # From files beside it, if they are no part of the contract.
    assert {"product", "split"} <= set(names("tensorflow", "forward", "fast"))
    assert "tensor" not in names("torch", "state")
    ours = ("--backends", ",".join(registry.OURS))
    assert here(capsys, "show", "rows", *ours).out.count("def rows(") == len(registry.OURS)
    done = here(capsys, "show", "rows_back", *ours)
    assert done.out.count("def rows_back(") == 1
    assert done.err == "There is no rows_back in: torch, tensorflow, mxnet, jax.\n"


def test_a_package_in_another_one_with_a_file_of_helpers(tmp_path):
    env = other_packages(tmp_path, {"nested": ""})
    (info,) = tmp_path.glob("*/entry_points.txt")
    info.write_text("[rnn_scratch.backends]\nnested = nested_rnn.backend\n")
    folder = tmp_path / "nested_rnn" / "backend"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "scratch.py").write_text(
        "from .helpers import cell as own\n\n\ndef step(x):\n    return own(x), 'mine'\n"
    )
    (folder / "helpers.py").write_text("def cell(x):\n    return x\n")
    out = there("show", "step", "--backends", "nested,numpy", env=env).out
    assert out.startswith(
        f"# nested: {Path('nested_rnn', 'backend', 'scratch.py')}:4\ndef step(x):"
    )
    assert "def cell(x):" in out
    assert "def cell(x):" in there("show", "cell", "--backends", "nested", env=env).out
    (tmp_path / "nested_rnn" / "__init__.py").write_text("raise RuntimeError('broken')")
    there("show", "step", "--backends", "nested", env=env).refused("the package nested_rnn.backend")


def test_a_backend_without_source_is_skipped_unless_it_is_named(tmp_path):
    env = other_packages(tmp_path / "site", {"broken": "def step(:\n"})
    command = ("show", "step", "--backends", "broken")
    there(*command, env=env).refused("__init__.py, line 1", "not Python")
    package = tmp_path / "site" / "broken_rnn"
    (package / "__init__.py").rename(tmp_path / "site" / "broken_rnn.py")
    package.rmdir()
    there(*command, env=env).refused("the package broken_rnn")  # one file in the place of a package
    done = there("show", "step", env=env)
    assert "def step" in done.out
    assert "skipping broken: The source of the broken backend" in done.err


def test_piped_it_is_plain_text_one_after_another(capsys):
    out = here(capsys, "show", "clip", "--backends", "torch, torch,numpy,numpy:scratch").out
    first, second = out.removeprefix("# torch: ").split("\n\n\n# numpy: ")
    assert first.split("\n", 1)[1] == source_of("torch", "clip")
    assert second.split("\n", 1)[1] == source_of("numpy", "clip") + "\n"


@pytest.mark.parametrize(
    ("width", "rows"), [(60, [1, 1, 1, 1, 1]), (120, [2, 2, 1]), (200, [3, 2]), (400, [5])]
)
def test_as_many_columns_as_fit(shown, width, rows):
    lines = shown(width, "step")
    heads = [line for line in lines if "scratch.py:" in line]
    assert [line.count("scratch.py:") for line in heads] == rows
    assert max(map(len, lines)) <= width
    assert all(name in " ".join(heads) for name in registry.OURS)


def test_in_a_narrow_terminal_the_first_code_is_complete_and_the_others_what_differs(shown):
    lines = [line.rstrip() for line in shown(80, "rnn", "--backends", "numpy,torch")]
    end = lines.index("", lines.index("    return (h,)"))
    assert "".join("".join(lines[2:end]).split()) == "".join(source_of("numpy", "rnn").split())
    head, legend, *lines = lines[end + 1 :]
    assert head.startswith("   torch  backends/torch/scratch.py:")
    assert legend == "   # compared with numpy: | changed, > added, < missing"
    assert [line[:3] for line in lines] == ["   ", " | ", "   "]
    assert "torch.tanh(" in lines[1]
    lines = shown(80, "gradients", "--backends", "numpy,torch")
    assert any(line.startswith("   # without backward, through_time, step_back,") for line in lines)


def test_corresponding_lines_are_beside_each_other_and_wrapped_ones_indented(shown):
    def halves(name):
        rows = shown(120, name, "--backends", "torch,tensorflow")
        column = next(row for row in rows if "scratch.py:" in row).index("tensorflow  ")
        return [(row[:column].rstrip(), row[column:].rstrip()) for row in rows]

    # One is short in torch, and wrapped in tensorflow; what follows stands beside its like again.
    rows = halves("forward")
    first = next(n for n, (left, _) in enumerate(rows) if left.startswith("    for x in "))
    assert rows[first][1].startswith("    for x in")
    assert rows[first + 1][0] == ""
    assert rows[first + 1][1].startswith(" " * 8)
    rows = halves("step")
    for word in ("def rnn(", "(h,) = state", "return (h,)", "def step("):
        (row,) = [half for half in rows if word in half[0]]
        assert row[0] == row[1]
    assert len([half for half in rows if half == ("", "")]) == 2, "between three definitions"
    # In any terminal nothing is lost, and no line is longer than it.
    for width in (30, 64, 120):
        lines = shown(width, "forward", "--backends", "mxnet")
        assert max(map(len, lines)) <= width
        source = "".join(source_of("mxnet", "forward").split())
        assert "".join("".join(lines).split()).endswith(source)


def test_a_difference_is_marked(shown):
    rows = shown(220, "gradients", "--diff", "torch", "tensorflow")
    assert any(" | " in row and "torch.autograd.grad" in row for row in rows)
    assert any(" > " in row and "tf.GradientTape()" in row for row in rows)
    assert any(row.startswith("def gradients") and "|" not in row for row in rows), "equal"
    rows = shown(220, "forward", "--diff", "torch", "torch:fast")
    assert "scratch.py:" in rows[1]
    assert "torch:fast  " in rows[1]
    assert any(" > " in row and "class Recurrence" in row for row in rows)
    rows = shown(220, "step", "--diff", "torch", "jax")
    assert not any(row.strip() in ("<", ">", "|") for row in rows), "between two functions"


def test_piped_a_difference_is_a_unified_diff(capsys):
    out = here(capsys, "show", "train_minibatch", "--diff", "numpy", "mxnet").out
    assert "train_minibatch is the same in numpy and mxnet." in out
    out = here(capsys, "show", "detach", "--diff", "numpy", "torch").out
    assert out.startswith("--- numpy: ")
    assert "\n-    return state  # an array has no history\n" in out
    assert "\n+    return tuple(s.detach() for s in state)" in out
    out = here(capsys, "show", "forward", "--model", "fast", "--diff", "numpy", "mxnet:scratch").out
    assert out.startswith("--- numpy:fast: ")
    assert "\n+++ mxnet: " in out


def test_lines_are_aligned():
    left = ["a = 1", "", "only here", "return f(x, 1)"]
    right = ["a = 1", "", "return f(x, 2)", "xyz"]
    assert alignment.align(left, right) == [
        ("a = 1", "a = 1"),
        ("", ""),
        ("only here", None),
        ("return f(x, 1)", "return f(x, 2)"),
        (None, "xyz"),
    ]
    texts = [["apple", "cut"], ["BEET", "cut"], ["apple", "BEET", "(1)"]]
    assert alignment.align_all(texts) == [
        ("apple", None, "apple"),
        (None, "BEET", "BEET"),
        ("cut", "cut", None),
        (None, None, "(1)"),
    ]
    texts = [source_of(name, "gradients").splitlines() for name in registry.OURS]
    rows = alignment.align_all(texts)
    assert [[line for line in side if line is not None] for side in zip(*rows)] == texts
