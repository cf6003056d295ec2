"""The functions cut from the backends' files, and `show`, which displays them side by side."""

import ast
import inspect
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import CLONE, here, there

from rnn_scratch import contract, registry
from rnn_scratch.cli.main import main
from rnn_scratch.contract import CELLS, RNNScratchError
from rnn_scratch.show import alignment, source_code

BACKENDS = Path(__file__).parent.parent / "backends"


@pytest.fixture
def terminal(monkeypatch):
    """Make the output a terminal with this number of columns."""

    def columns(number):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(number))

    return columns


def plain(text):
    """A terminal's text without colours."""
    from rich.text import Text

    return Text.from_ansi(text).plain


@pytest.fixture
def foreign(tmp_path):
    """Write a backend of another package; returns the environment in which it is registered."""

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
def test_every_function_of_the_contract_is_found_with_its_signature(name):
    modules = {
        "scratch": contract.SCRATCH,
        "machine": contract.MACHINE,
        "workers": contract.WORKERS,
    }
    for module, functions in modules.items():
        for function in functions:
            piece = source_code.find(name, function.__name__)[0]
            assert piece.file == BACKENDS / name / f"{module}.py"
            (node,) = ast.parse(piece.source).body
            arguments = [each.arg for each in node.args.args]
            assert arguments == list(inspect.signature(function).parameters)
            lines = piece.file.read_text(encoding="utf-8").splitlines()
            source = piece.source.splitlines()
            assert lines[piece.line - 1 :][: len(source)] == source


@pytest.mark.parametrize("model", contract.VARIANTS)
@pytest.mark.parametrize("name", registry.OURS)
def test_a_variant_has_its_own_functions_and_takes_the_others_from_scratch(name, model):
    file = BACKENDS / name / f"{model}.py"
    own = [
        node.name
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    ]
    for function in source_code.CONTRACT[: len(contract.SCRATCH)]:
        pieces = source_code.find(name, function, model)
        assert [piece.file for piece in pieces[:1]] == [file] * (function in own)


@pytest.mark.parametrize("name", registry.OURS)
def test_all_functions_and_helpers_together_are_the_whole_file(name):
    (path,) = [path for path in source_code.files(name) if path.name == "scratch.py"]
    pieces = [piece for each in source_code.names(name) for piece in source_code.find(name, each)]
    text = path.read_text(encoding="utf-8")
    for piece in pieces:
        if piece.file == path:
            text = text.replace(piece.source, "")
    rest = ast.parse(text).body
    assert all(isinstance(node, (ast.Expr, ast.Import, ast.ImportFrom)) for node in rest), text


def test_decorators_and_comments_above_belong_to_a_function(foreign, tmp_path):
    source = (
        "import functools\n\n# Not this one.\n\n# Why it is cached,\n# in two lines.\n"
        "@functools.cache  # once\ndef step(x):\n    return x\n    # the end\n\n\n"
        "forward = _loop(step)\n"
    )
    env = foreign("commented", "commented", {"commented.py": source})
    done = there("show", "step", "--backends", "commented", env=env)
    assert done.out.splitlines() == [
        f"# commented: {'site/commented.py'}:5",
        *source.splitlines()[4:10],
    ]
    assert (
        "forward = _loop(step)" in there("show", "forward", "--backends", "commented", env=env).out
    )


def test_helpers_come_with_the_function_that_uses_them_and_by_name(capsys):
    def names(*arguments):
        return [piece.name for piece in source_code.find(*arguments)]

    cells = [name.replace("-", "_") for name in CELLS]
    of_step = names("numpy", "step")
    assert of_step[: len(cells) + 2] == ["step", "CELLS", *cells]
    assert "activation" in of_step  # which the cells use
    assert {"CELLS", "rows", *cells} <= set(names("numpy", "forward", "fast"))
    # Through model.backward too, which is how NumPy's gradients call their backward pass.
    assert names("numpy", "gradients")[:4] == ["gradients", "backward", "loss_back", "CELLS_BACK"]
    # From files beside it, if they are no part of the contract.
    assert {"product", "split"} <= set(names("tensorflow", "forward", "fast"))
    assert "tensor" not in names("torch", "state")
    ours = ("--backends", ",".join(registry.OURS))
    assert here(capsys, "show", "rows", *ours).out.count("def rows(") == len(registry.OURS)
    done = here(capsys, "show", "rows_back", *ours)
    assert done.out.count("def rows_back(") == 1
    assert done.err == "There is no rows_back in: torch, tensorflow, mxnet, jax.\n"
    assert here(capsys, "show", "activation", "--backends", "torch").out.count("def ") == 1
    assert here(capsys, "show", "activation", "--backends", "torch:fast").out.count("tanh_(") == 1


@pytest.mark.parametrize("name", registry.OURS)
def test_a_function_and_its_helpers_can_be_executed_in_the_order_of_their_file(name):
    for function in ("step", "forward", "gradients"):
        tree = ast.parse(source_code.join(source_code.find(name, function)))
        defined = set()
        for node in tree.body:
            if isinstance(node, ast.Assign):  # such as CELLS = {"rnn": rnn}
                used = {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
                assert used <= defined
            else:
                defined.add(node.name)


def test_no_framework_and_no_backend_is_imported():
    code = (
        "import sys; from rnn_scratch.cli import main as cli\n"
        "for more in ([], ['--model', 'fast'], ['--diff', 'mxnet', 'mxnet:fast']):\n"
        "    try: cli.main(['show', 'all', *more])\n"
        "    except SystemExit: pass\n"
        "names = ('torch', 'tensorflow', 'keras', 'mxnet', 'jax', 'rnn_scratch.backends.numpy')\n"
        "sys.exit(str([name for name in names if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().endswith("[]"), done.stderr
    assert "def train_epoch" in done.stdout


def test_a_package_around_a_backend_is_not_imported_either(foreign):
    env = foreign(
        "nested",
        "outer.inner.backend",
        {
            "outer/__init__.py": "raise RuntimeError('imported')",
            "outer/inner/__init__.py": "raise RuntimeError('imported')",
            "outer/inner/backend/__init__.py": "from .. import pieces as scratch\n"
            "from rnn_scratch.backends.numpy import fast, machine\n",
            "outer/inner/pieces.py": "from rnn_scratch.backends.numpy.scratch import *\n\n\n"
            "def step(x, state, params, options):\n    return 'mine'\n",
        },
    )
    done = there("show", "step", "--backends", "nested,numpy", env=env)
    assert done.out.startswith("# nested: site/outer/inner/pieces.py:4\ndef step(")
    assert "def clip(grads, theta)" in there("show", "clip", "--backends", "nested", env=env).out
    fast = there("show", "forward", "--backends", "nested:fast", env=env)
    assert "def rows(" in fast.out
    assert "def multiply(" in there("show", "multiply", "--backends", "nested", env=env).out


ONE_FILE = '''
from types import SimpleNamespace

import a_framework_that_is_not_installed


def _cell(x):
    return x


def _step(x, state, params, options):
    return _cell(x), state


def clip(grads, theta):
    return grads, 0


class fast:
    """The optimized model."""

    @staticmethod
    def build(arrays, options):
        return _cell(arrays)


scratch = SimpleNamespace(step=_step, clip=clip)
concise = SimpleNamespace(**fast.functions)
'''


def test_a_backend_in_one_file_whose_modules_are_objects(foreign):
    # A module of another name beside it is none of its modules.
    env = foreign("single", "single", {"single.py": ONE_FILE, "scratch.py": "def update(): pass"})

    def output(*arguments):
        return there("show", *arguments, env=env).out

    assert "def _step(" in output("step", "--backends", "single")
    assert "def _cell(" in output("step", "--backends", "single")
    assert "def clip(" in output("clip", "--backends", "single,numpy")
    build = output("build", "--backends", "single:fast")
    assert build.splitlines()[1:3] == ["def _cell(x):", "    return x"]
    assert "\n@staticmethod\ndef build(arrays, options):\n    return _cell(arrays)" in build
    for arguments in (["step", "--model", "fast"], ["update"], ["build", "--model", "concise"]):
        there("show", *arguments, "--backends", "single", env=env).refused(
            f"no {arguments[0]} in: single"
        )


def test_a_backend_without_source_is_skipped_unless_it_is_named(foreign):
    env = foreign("ghost", "a_module_that_nobody_has", {})
    done = there("show", "step", env=env)
    assert "def step" in done.out
    assert "skipping ghost: The source of the ghost backend" in done.err
    there("show", "step", "--backends", "ghost", env=env).refused("a_module_that_nobody_has")


def test_a_file_that_is_not_python_is_named(foreign):
    env = foreign("broken", "broken", {"broken.py": "def step(:\n"})
    there("show", "step", "--backends", "broken", env=env).refused(
        "broken.py, line 1", "not Python"
    )


def test_piped_it_is_plain_text_one_after_another(capsys):
    done = here(capsys, "show", "clip", "--backends", "torch,numpy")
    sources = {
        name: source_code.join(source_code.find(name, "clip")) for name in ("torch", "numpy")
    }
    assert "\x1b" not in done.out
    first, second = done.out.split("\n\n\n# ")
    assert first.startswith("# torch: ")
    assert second.startswith("numpy: ")
    assert first.endswith(sources["torch"])
    assert second == second.split("\n")[0] + "\n" + sources["numpy"] + "\n"


def test_all_is_every_function_of_scratch_in_the_order_of_the_contract(capsys):
    out = here(capsys, "show", "all", "--backends", "torch").out
    places = [out.index(f"\ndef {function.__name__}(") for function in contract.SCRATCH]
    assert places == sorted(places)
    done = here(capsys, "show", "all", "--backends", "torch", "--model", "fast")
    assert "class Recurrence" in done.out
    assert "def clip" not in done.out
    assert done.err == ""


@pytest.mark.parametrize(("width", "beside"), [(60, 1), (118, 1), (120, 2), (200, 3), (400, 5)])
def test_as_many_columns_as_fit(capsys, terminal, monkeypatch, width, beside):
    monkeypatch.chdir(CLONE)  # from elsewhere, a long path to it would take two lines of a title
    terminal(width)
    out = plain(here(capsys, "show", "step").out)
    heads = [line for line in out.splitlines() if "scratch.py:" in line]
    assert [line.count("scratch.py:") for line in heads] == {
        1: [1, 1, 1, 1, 1],
        2: [2, 2, 1],
        3: [3, 2],
        5: [5],
    }[beside]
    assert max(map(len, out.splitlines())) <= width
    for name in registry.OURS:
        assert any(line.find(name) >= 0 for line in heads)


def test_corresponding_lines_are_beside_each_other_and_wrapped_ones_indented(capsys, terminal):
    terminal(120)
    rows = plain(here(capsys, "show", "rnn", "--backends", "torch,jax").out).splitlines()
    column = next(row for row in rows if "scratch.py:" in row).index("jax  ")
    halves = [(row[:column].rstrip(), row[column:].rstrip()) for row in rows]
    # One is short in torch, and wrapped in jax; what follows it stands beside its like again.
    short = next(n for n, (left, _) in enumerate(halves) if left.endswith("torch.relu(z)"))
    assert halves[short - 1][0].startswith("    return torch.tanh(z)")
    assert halves[short][0].startswith(" " * 12)
    for word in ("def activation(", '"""Hyperbolic', "def rnn(", "(h,) = state", "return (h,)"):
        (row,) = [half for half in halves if word in half[0]]
        assert row[0] == row[1]
    assert len([half for half in halves if half == ("", "")]) == 1, "one between two functions"
    # In a narrow terminal too, where nothing is lost, and no line is longer than it.
    for width in (30, 64, 120):
        terminal(width)
        out = plain(here(capsys, "show", "forward", "--backends", "mxnet").out)
        assert max(map(len, out.splitlines())) <= width
        source = source_code.join(source_code.find("mxnet", "forward"))
        assert "".join(out.split()).endswith("".join(source.split()))


def test_functions_stand_beside_those_of_their_name(tmp_path):
    def pieces(*functions):
        return [
            source_code.Piece(name, tmp_path / "a.py", line, f"def {name}():\n    {body}")
            for line, (name, body) in enumerate(functions)
        ]

    rows = alignment.beside(
        [
            pieces(("a", "return 1"), ("only", "return 2")),
            pieces(("b", "x"), ("a", "return 3")),
            pieces(("a", "return 1"), ("b", "x")),
        ]
    )
    assert rows == [
        (None, "def b():", None),
        (None, "    x", None),
        (None, None, None),
        ("def a():", "def a():", "def a():"),
        ("    return 1", "    return 3", "    return 1"),
        (None, None, None),
        ("def only():", None, None),
        ("    return 2", None, None),
        (None, None, None),
        (None, None, "def b():"),
        (None, None, "    x"),
    ]


class Terminal(io.StringIO):
    """Takes what is printed, as a terminal of 120 by 40 characters."""

    def isatty(self):
        return True


@pytest.fixture
def paged(monkeypatch, tmp_path):
    """Run `show` in a terminal with a pager; the exit code, what is printed, what is paged."""
    for name, value in {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments, pager="open('paged', 'w').write(sys.stdin.read())"):
        Path("pager.py").write_text(f"import os, signal, sys\n{pager}\n")
        command = [sys.executable, str(tmp_path / "pager.py")]
        if pager is not None:
            text = subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
            monkeypatch.setenv("PAGER", text)
        Path("paged").unlink(missing_ok=True)
        code = 0
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Terminal())
            try:
                main(["show", *arguments])
            except SystemExit as error:
                code = error.code
            printed = sys.stdout.getvalue()
        return code, printed, Path("paged").read_text() if Path("paged").exists() else None

    return run


def test_a_long_output_goes_through_the_pager_with_its_colours(paged):
    code, printed, text = paged("step")
    assert (code, printed) == (0, "")
    assert "\x1b[" in text
    assert plain(text).count("def step(") == len(registry.OURS)
    code, printed, text = paged("step", "--diff", "torch", "mxnet")
    assert (code, printed) == (0, "")
    assert " | " in plain(text)


def test_a_short_output_is_printed(paged):
    code, printed, text = paged("clip", "--backends", "numpy,torch")
    assert (code, text) == (0, None)
    assert plain(printed).count("def clip(") == 2


def test_the_pager_can_be_turned_off(paged, monkeypatch):
    _, printed, text = paged("step", "--no-pager")
    assert text is None
    assert plain(printed).count("def step(") == len(registry.OURS)
    for value in ("cat", "", " ", "a-pager-that-nobody-has", "its quotes 'do not match"):
        monkeypatch.setenv("PAGER", value)
        code, again, text = paged("step", pager=None)
        assert (code, again, text) == (0, printed, None), value
    # Nor is there one without a terminal, even if it is to be coloured.
    monkeypatch.setenv("PAGER", shlex.join([sys.executable, "-c", "raise SystemExit"]))
    for color in ({}, {"FORCE_COLOR": "1"}):
        done = there("show", "step", env=color)
        assert plain(done.out).count("def step(") == len(registry.OURS)
    monkeypatch.setenv("TERM", "dumb")
    assert paged("step")[2] is None


def test_less_passes_colours_on_unless_its_options_are_set(paged, monkeypatch):
    look = "open('paged', 'w').write(os.environ['LESS'])"
    monkeypatch.delenv("LESS", raising=False)
    assert paged("step", pager=look)[2] == "FRX"
    monkeypatch.setenv("LESS", "-i")
    assert paged("step", pager=look)[2] == "-i"


def test_a_pager_that_is_quit_early_is_no_error(paged, capfd):
    for pager in ("pass", "sys.stdin.read(10)", "sys.exit(1)"):
        assert paged("all", pager=pager) == (0, "", None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send another a Ctrl-C there")
def test_ctrl_c_is_for_the_pager(paged):
    before = signal.getsignal(signal.SIGINT)
    interrupt = "os.kill(os.getppid(), signal.SIGINT); open('paged', 'w').write('still there')"
    assert paged("step", pager=interrupt) == (0, "", "still there")
    assert signal.getsignal(signal.SIGINT) is before


def test_on_a_terminal_it_is_coloured_and_nothing_is_lost(capsys, terminal):
    terminal(120)
    out = here(capsys, "show", "forward", "--backends", "mxnet").out
    assert "\x1b[" in out
    lines = [line.rstrip() for line in plain(out).splitlines()]
    for line in source_code.join(source_code.find("mxnet", "forward")).splitlines():
        assert line in lines


def test_a_difference_is_marked_within_the_line(capsys, terminal):
    terminal(220)
    out = here(capsys, "show", "gradients", "--diff", "torch", "tensorflow").out
    assert "\x1b[7" in out or ";7;" in out  # reversed
    rows = plain(out).splitlines()
    assert any(" | " in row and "torch.autograd.grad" in row for row in rows)
    assert any(" > " in row and "tf.GradientTape()" in row for row in rows)


def test_scratch_is_compared_with_fast(capsys, terminal):
    terminal(220)
    rows = plain(here(capsys, "show", "forward", "--diff", "torch", "torch:fast").out).splitlines()
    assert "scratch.py:" in rows[1]
    assert "torch:fast  " in rows[1]
    # In scratch alone, or beside a line that is similar.
    assert any(re.search(r"outputs = \[\] .*[<|] ", row) for row in rows)
    assert any(" > " in row and "class Recurrence" in row for row in rows)


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


def test_lines_of_several_texts_are_aligned():
    texts = [["apple", "cut"], ["BEET", "cut"], ["apple", "BEET", "(1)"]]
    assert alignment.align_all(texts) == [
        ("apple", None, "apple"),
        (None, "BEET", "BEET"),
        ("cut", "cut", None),
        (None, None, "(1)"),
    ]
    assert alignment.align_all([[], ["x"], ["x"]]) == [(None, "x", "x")]


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
    assert alignment.align([], ["x"]) == [(None, "x")]
    for name in registry.OURS[1:]:
        texts = [
            source_code.join(source_code.find(each, "gradients")).splitlines()
            for each in ("numpy", name)
        ]
        rows = alignment.align(*texts)
        assert [[line for line in side if line is not None] for side in zip(*rows)] == texts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["stp"],
            ["no function 'stp'", "Did you mean step?", "params, state, encode", "activation"],
        ),
        (["step", "--backends", "torc"], ["no backend 'torc'", "Did you mean torch?", "mxnet"]),
        (["step", "--backends", ""], ["no backend ''"]),
        (["step", "--backends", "torch:quick"], ["no variant 'quick'", "scratch, fast, concise"]),
        (["step", "--backends", "torc:fast"], ["no backend 'torc'"]),
        (["clip", "--model", "fast", "--backends", "torch"], ["no clip in: torch:fast", "scratch"]),
        (["step", "--diff", "torch", "nmpy"], ["no backend 'nmpy'", "numpy"]),
        (["step", "--diff", "torch", "torch"], ["two different", "--diff torch torch:fast"]),
        (["step", "--diff", "torch", "torch:scratch"], ["two different"]),
        (
            ["step", "--diff", "torch", "numpy", "--backends", "mxnet"],
            ["--backends mxnet", "--diff"],
        ),
        (["step", "--diff", "torch"], ["2 arguments"]),
        (
            ["_transposed", "--backends", "numpy,tensorflow"],
            ["no function '_transposed' in numpy, te"],
        ),
    ],
)
def test_error_messages(capsys, arguments, words):
    here(capsys, "show", *arguments).refused(*words)


def test_a_name_that_occurs_twice_is_shown_once(capsys):
    out = here(capsys, "show", "clip", "--backends", "torch, torch, torch:scratch").out
    assert out.count("def clip") == 1


def test_unknown_backend_in_python():
    with pytest.raises(RNNScratchError, match="no backend"):
        source_code.find("nobody", "step")
