"""The pieces cut out of the backends' files, and `show`, which sets them side by side."""

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import here, there

from rnn_scratch import contract, registry
from rnn_scratch.cli import source_code
from rnn_scratch.contract import RNNScratchError

BACKENDS = Path(__file__).parent.parent / "backends"


@pytest.fixture
def terminal(monkeypatch):
    """The output is a terminal of so many columns."""

    def columns(number):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(number))

    return columns


def plain(text):
    """What the terminal shows, without colours."""
    from rich.text import Text

    return Text.from_ansi(text).plain


@pytest.fixture
def foreign(tmp_path):
    """Write a backend of another package, and say what a process needs to find it."""

    def write(name, module, sources):
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rnn_scratch.backends]\n{name} = {module}\n")
        for file, source in sources.items():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            (site / file).write_text(source)
        return {"PYTHONPATH": f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    return write


@pytest.mark.parametrize("name", registry.OURS)
def test_every_piece_of_the_contract_is_found_with_its_signature(name):
    for piece in (*contract.PIECES, *contract.MACHINE):
        found = source_code.find(name, piece.__name__)[0]
        (function,) = ast.parse(found.source).body
        assert [each.arg for each in function.args.args] == list(
            inspect.signature(piece).parameters
        )
        lines = found.file.read_text(encoding="utf-8").splitlines()
        assert (
            lines[found.line - 1 :][: len(found.source.splitlines())] == found.source.splitlines()
        )


@pytest.mark.parametrize("name", registry.OURS)
def test_all_pieces_and_helpers_together_are_the_whole_file(name):
    (path,) = [path for path in source_code.files(name) if path.name == "scratch.py"]
    found = [piece for each in source_code.names(name) for piece in source_code.find(name, each)]
    cut = {piece.name: piece.source for piece in found if piece.file == path}
    text = path.read_text(encoding="utf-8")
    for source in cut.values():
        text = text.replace(source, "")
    left = ast.parse(text).body
    assert all(isinstance(node, (ast.Expr, ast.Import, ast.ImportFrom)) for node in left), text


def test_decorators_and_comments_above_belong_to_a_piece(foreign, tmp_path):
    source = (
        "import functools\n\n# Not this one.\n\n# Why it is cached,\n# in two lines.\n"
        "@functools.cache  # once\ndef step(x):\n    return x\n    # so it ends\n\n\n"
        "forward = _loop(step)\n"
    )
    env = foreign("commented", "commented", {"commented.py": source})
    done = there("show", "step", "--backends", "commented", env=env)
    assert done.out.splitlines() == [
        f"# commented: {'site/commented.py'}:5", *source.splitlines()[4:10]
    ]  # fmt: skip
    assert (
        "forward = _loop(step)" in there("show", "forward", "--backends", "commented", env=env).out
    )


def test_helpers_come_with_the_piece_that_uses_them_and_by_name(capsys):
    assert [piece.name for piece in source_code.find("numpy", "forward")] == [
        "forward", "_hiddens", "_table", "_activation"
    ]  # fmt: skip
    # Through model.backward too, as NumPy's gradients reach their way back.
    assert "_slope" in [piece.name for piece in source_code.find("numpy", "gradients")]
    done = here(capsys, "show", "_recurrence")
    assert "def _recurrence(inputs, H, W_hh, options):" in done.out
    assert done.err == "There is no _recurrence in: numpy, torch, mxnet.\n"
    assert (
        here(capsys, "show", "_to_arrays", "--backends", "torch").out.count("def _to_arrays") == 2
    )


def test_no_framework_and_no_backend_is_imported():
    code = (
        "import sys; from rnn_scratch.cli import main as cli\n"
        "try: cli.main(['show', 'all'])\nexcept SystemExit: pass\n"
        "names = ('torch', 'tensorflow', 'mxnet', 'keras', 'rnn_scratch.backends.numpy')\n"
        "sys.exit(str([name for name in names if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("[]"), done.stderr
    assert "def train_epoch" in done.stdout


def test_a_package_around_a_backend_is_not_imported_either(foreign):
    env = foreign("nested", "outer.inner.backend", {
        "outer/__init__.py": "raise RuntimeError('imported')",
        "outer/inner/__init__.py": "raise RuntimeError('imported')",
        "outer/inner/backend/__init__.py": "from ..pieces import step as step\n"
        "from rnn_scratch.backends.numpy import *\n",
        "outer/inner/pieces.py": "def step(x, state, params, options):\n    return 'mine'\n",
    })  # fmt: skip
    done = there("show", "step", "--backends", "nested,numpy", env=env)
    assert done.out.startswith("# nested: site/outer/inner/pieces.py:1\ndef step(")
    assert "def clip(grads, theta)" in there("show", "clip", "--backends", "nested", env=env).out


def test_a_backend_without_source_is_left_out_unless_asked_for(foreign):
    env = foreign("ghost", "a_module_that_nobody_has", {})
    done = there("show", "step", env=env)
    assert "def step" in done.out
    assert "ghost is left out: The source of the ghost backend" in done.err
    there("show", "step", "--backends", "ghost", env=env).refused("a_module_that_nobody_has")


def test_a_file_that_is_no_python_is_named(foreign):
    env = foreign("broken", "broken", {"broken.py": "def step(:\n"})
    there("show", "step", "--backends", "broken", env=env).refused(
        "broken.py, line 1", "not Python"
    )


def test_piped_it_is_plain_text_one_after_another(capsys):
    done = here(capsys, "show", "step", "--backends", "torch,numpy")
    sources = {
        name: source_code.joined(source_code.find(name, "step")) for name in ("torch", "numpy")
    }
    assert "\x1b" not in done.out
    first, second = done.out.split("\n\n\n# ")
    assert first.startswith("# torch: ")
    assert second.startswith("numpy: ")
    assert first.endswith(sources["torch"])
    assert second == second.split("\n")[0] + "\n" + sources["numpy"] + "\n"


def test_all_is_every_piece_that_is_taught_in_the_contract_s_order(capsys):
    out = here(capsys, "show", "all", "--backends", "torch").out
    places = [out.index(f"\ndef {piece.__name__}(") for piece in contract.PIECES]
    assert places == sorted(places)


@pytest.mark.parametrize(("width", "beside"), [(60, 1), (131, 2), (200, 3), (400, 4)])
def test_as_many_columns_as_fit(capsys, terminal, width, beside):
    terminal(width)
    out = plain(here(capsys, "show", "step").out)
    heads = [line for line in out.splitlines() if "scratch.py:" in line]
    assert [line.count("scratch.py:") for line in heads] == {
        1: [1, 1, 1, 1], 2: [2, 2], 3: [3, 1], 4: [4]
    }[beside]  # fmt: skip
    assert max(map(len, out.splitlines())) <= width
    for name in registry.OURS:
        assert any(line.find(name) >= 0 for line in heads)


def test_on_a_terminal_it_is_coloured_and_nothing_is_lost(capsys, terminal):
    terminal(120)
    out = here(capsys, "show", "forward", "--backends", "mxnet").out
    assert "\x1b[" in out
    shown = [line.rstrip() for line in plain(out).splitlines()]
    for line in source_code.joined(source_code.find("mxnet", "forward")).splitlines():
        assert line in shown


def test_a_difference_is_marked_within_the_line(capsys, terminal):
    terminal(220)
    out = here(capsys, "show", "forward", "--diff", "torch", "tensorflow").out
    assert "\x1b[7" in out or ";7;" in out  # reversed
    rows = plain(out).splitlines()
    assert any(" | " in row and "F.embedding" in row and "rows(" in row for row in rows)
    assert any(" > " in row and "@compiled" in row for row in rows)
    assert any(" < " in row and "summed several times" in row for row in rows)


def test_piped_a_difference_is_a_unified_diff(capsys):
    out = here(capsys, "show", "train_minibatch", "--diff", "numpy", "mxnet").out
    assert "train_minibatch is the same in numpy and mxnet." in out
    out = here(capsys, "show", "state", "--diff", "numpy", "torch").out
    assert out.startswith("--- numpy: ")
    assert "\n-    return (np.zeros((batch_size, num_hiddens), options.dtype),)\n" in out
    assert "\n+    dtype = getattr(torch, options.dtype)\n" in out


def test_lines_are_set_level():
    left = ["a = 1", "", "only here", "return f(x, 1)"]
    right = ["a = 1", "", "return f(x, 2)", "xyz"]
    assert source_code.aligned(left, right) == [
        ("a = 1", "a = 1"), ("", ""), ("only here", None),
        ("return f(x, 1)", "return f(x, 2)"), (None, "xyz"),
    ]  # fmt: skip
    assert source_code.aligned([], ["x"]) == [(None, "x")]
    for name in ("torch", "tensorflow", "mxnet"):
        texts = [
            source_code.joined(source_code.find(each, "forward")).splitlines()
            for each in ("numpy", name)
        ]
        rows = source_code.aligned(*texts)
        assert [[line for line in side if line is not None] for side in zip(*rows)] == texts


@pytest.mark.parametrize(("arguments", "words"), [
    (["stp"], ["no piece 'stp'", "Did you mean step?", "params, state, encode", "_activation"]),
    (["step", "--backends", "torc"], ["no backend 'torc'", "Did you mean torch?", "mxnet"]),
    (["step", "--backends", ""], ["no backend ''"]),
    (["step", "--diff", "torch", "nmpy"], ["no backend 'nmpy'", "numpy"]),
    (["step", "--diff", "torch", "torch"], ["two different"]),
    (["step", "--diff", "torch", "numpy", "--backends", "mxnet"], ["--backends mxnet", "--diff"]),
    (["step", "--diff", "torch"], ["2 arguments"]),
    (["_flat", "--backends", "torch,mxnet"], ["no piece '_flat' in torch, mxnet"]),
])  # fmt: skip
def test_what_is_wrong_is_told(capsys, arguments, words):
    here(capsys, "show", *arguments).refused(*words)


def test_a_name_that_is_given_twice_is_shown_once(capsys):
    assert here(capsys, "show", "clip", "--backends", "torch, torch").out.count("def clip") == 1


def test_unknown_backend_in_python():
    with pytest.raises(RNNScratchError, match="no backend"):
        source_code.find("nobody", "step")
