"""Install the cell and optimizer of extending.md as a package, and use them in new processes."""

import json
import re
from functools import partial

import pytest
from backend_mutations import mutate_file as make
from helpers import (
    EXTENDING,
    SETTINGS,
    assert_same,
    environment,
    install_packages,
    options,
    python_path,
    require_tested,
    run_subprocess,
)
from safetensors.numpy import load_file

FILES = dict(re.findall(r'```python title="(.*?)"\n(.*?)\n```', EXTENDING, re.DOTALL))
ENTRY_POINTS = re.findall(r'(?m)^(\[)project.entry-points."(.*)"\]\n(\w+) = "(.*)"', EXTENDING)
CELL, OPTIMIZER = "janet_cell.py", "adabelief_optimizer.py"
SMALL = options(corpus="tide-clock", cell="janet", optimizer="adabelief", **SETTINGS)
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "torch"])


def install(folder, changes=(), file=CELL):
    """Install the page's package in `folder` with changes to a file; return a command runner."""
    info = folder / "more_gates-1.0.dist-info"
    info.mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: more-gates\nVersion: 1.0\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    lines = [f"[{group}]\n{name} = {value}\n" for _, group, name, value in ENTRY_POINTS]
    (info / "entry_points.txt").write_text("".join(lines), encoding="utf-8")
    for name, source in FILES.items():
        (folder / name).write_text(source, encoding="utf-8")
    if changes:
        make(changes, folder / file)
    env = environment(**python_path(folder), OMP_NUM_THREADS=1)
    return partial(run_subprocess, env=env)


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a command in an environment with the package."""
    return install(tmp_path / "site")


@BACKENDS
def test_package_trains_and_resumes_in_another_process(run, backend, backend_names, tmp_path):
    require_tested(backend_names, backend)
    train = ("train", "--backend", backend, *SMALL, "--beta1", 0.8)
    run(*train, "--output", "whole", "--epochs", 3).assert_exit()
    run(*train, "--output", "resumed", "--epochs", 2).assert_exit()
    run("train", "--resume", "resumed", "--epochs", 3).assert_exit()
    paths = [tmp_path / name / "checkpoint.safetensors" for name in ("resumed", "whole")]
    arrays = [load_file(path) for path in paths]
    assert_same(*arrays)
    assert arrays[0].keys() > {"W_xf", "b_c", "m.W_hf", "s.W_hf"}
    assert abs(arrays[0]["b_f"] - 1).max() < 0.5 < arrays[0]["b_f"].min()
    settings = json.loads((tmp_path / "whole" / "run.json").read_text())["settings"]
    assert settings | {"beta1": 0.8, "beta2": 0.999, "epsilon": 1e-8} == settings


def test_a_run_of_a_package_that_is_gone_names_what_it_needs(run, backend_names):
    require_tested(backend_names, "numpy")
    for name, value in (("cell", "janet"), ("optimizer", "adabelief")):
        settings = options(corpus="tide-clock", epochs=1, **SETTINGS, **{name: value})
        run("train", "--backend", "numpy", *settings, "--output", name).assert_exit()
        for command in (("predict", name), ("train", "--resume", name)):
            result = run_subprocess(*command)  # without the package
            result.assert_error(f"uses the {name} {value}, which is not installed", "Install the")


def test_check_compares_the_package(run, backend_names):
    require_tested(backend_names, "numpy", "torch")
    check = ("check", "numpy", "torch", "--json")
    rows = json.loads(run(*check, "--cell", "janet", "--variant", "scratch").assert_exit().out)
    assert {"janet", "adabelief", "gradients"} <= {row["function"] for row in rows}
    assert any("by finite differences" in row["output"] for row in rows)
    assert json.loads(run(*check, "--exact", "--epochs", 2, *SMALL).assert_exit().out)["equal"]


@pytest.mark.parametrize(
    ("file", "old", "new", "function"),
    [
        (CELL, "torch.tanh(", "0.9 * torch.tanh(", "janet"),
        (CELL, "d_h * f + d_h_gates", "d_h * f", "gradients"),
        (OPTIMIZER, "torch.sqrt(s[name]", "torch.sqrt(m[name] ** 2 + s[name]", "adabelief"),
    ],
)
def test_check_names_a_mistake(tmp_path, backend_names, file, old, new, function):
    require_tested(backend_names, "numpy", "torch")
    run = install(tmp_path / "site", (old, new), file)
    name = "numpy" if function == "gradients" else "torch"
    command = ("check", name, "--cell", "janet", "--variant", "scratch", "--json")
    rows = json.loads(run(*command).assert_exit(1).out)
    assert next(row["function"] for row in rows if not row["passed"]) == function


def test_backend_without_the_cell_is_refused_with_advice(tmp_path, backend_names):
    require_tested(backend_names, "numpy")
    install_packages(
        tmp_path / "site",
        {"other": "from rnn_scratch.backends.numpy import deep, exact, machine, scratch"},
    )
    run = install(tmp_path / "site")
    for kind, name in (("cell", "janet"), ("optimizer", "adabelief")):
        settings = options(corpus="tide-clock", **SETTINGS, **{kind: name})
        result = run("train", "--backend", "other", *settings)
        result.assert_error(f"does not support the {kind} {name}.", 'function for "other"')


LION = """
import numpy as np
from rnn_scratch.contract import OPTIMIZERS, Optimizer
OPTIMIZERS["lion"] = Optimizer(lr=0.001, slots=("m",))
def lion(params, grads, slots, update):
    m = slots["m"]
    for name, param in params.items():
        sign = np.sign(update.beta1 * m[name] + (1 - update.beta1) * grads[name])
        m[name] = update.beta2 * m[name] + (1 - update.beta2) * grads[name]
        param -= update.lr * (sign + update.weight_decay * param)
    return params, slots
"""


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("", "", 0),
        ("update.weight_decay", "0", 1),
        ("update.lr *", "0.01 *", 1),
        ("m[name] = update", "m[name] = np.zeros(1) + update", 1),  # float64 in a float32 model
        ("return params, slots", "pass", 1),
        ("m = slots", "m = {**slots", 2),
    ],
)
def test_check_compares_a_new_optimizer_in_a_file(tmp_path, backend_names, old, new, code):
    require_tested(backend_names, "numpy")
    (tmp_path / "mine.py").write_text(LION.replace(old, new, 1) if old else LION)
    result = run_subprocess("check", "mine.py").assert_exit(code)
    assert ("consistent" in result.out) == (code == 0), result.out


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("from rnn_scratch.contract import Cell", "import nobody_has_this", "ModuleNotFoundError"),
        ("\nfrom rnn_scratch", "\nimport torch\nfrom rnn_scratch", "it imports torch outside"),
        ('gates=("f", "c")', 'gates=("f", "q")', "its gates ('f', 'q')"),
        ('biases={"f": 1.0}', 'biases={"g": 1.0}', "it cannot use the name g"),
        ("return janet, janet_backward", "return janet", "for the numpy backend: the result is"),
        ("janet = Cell(", "janet = dict(", "is not a rnn_scratch.contract.Cell"),
    ],
)
def test_broken_package_is_named_without_a_traceback(tmp_path, backend_names, old, new, problem):
    require_tested(backend_names, "numpy", "torch")
    result = install(tmp_path / "site", (old, new))("train", "--backend", "numpy", *SMALL)
    start = "The package more-gates cannot add the cell janet (janet_cell:janet): "
    result.assert_error(start, problem, "pip uninstall more-gates")


def test_setting_is_refused_by_backends_that_do_not_know_it(copy, backend_names):
    require_tested(backend_names, "numpy", "torch")
    field = 'device: str = "cpu"  #: device name\n'
    make((field, f"{field}    smoothing: float = 0.0\n"), copy / "rnn_scratch" / "contract.py")
    field = '    schedule: Annotated[\n        Literal["constant", "cosine"],'
    new = f'    smoothing: Annotated[float, Meta(ge=0), "Smoothing."] = 0.0\n{field}'
    make((field, new), copy / "rnn_scratch" / "settings.py")
    known = 'OPTIMIZERS = {"sgd": sgd}\n'
    make((known, f'{known}SETTINGS = ("smoothing",)\n'), copy / "backends/numpy/scratch.py")
    small = options(corpus="tide-clock", num_epochs=1, **SETTINGS)
    run = partial(run_subprocess, env=environment(PYTHONPATH=copy), cwd=copy)
    run("train", "--backend", "numpy", *small, "--smoothing", 0.1).assert_exit()
    run("train", "--backend", "torch", *small).assert_exit()
    for backend, variant in (("torch", "scratch"), ("numpy", "fast")):
        command = ("train", "--backend", backend, "--variant", variant, *small)
        message = (
            f"The {variant} variant of the {backend} backend does not know `--smoothing` (0.1)."
        )
        run(*command, "--smoothing", 0.1).assert_error(message)
