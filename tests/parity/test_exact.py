"""Exact mode: results are identical in all backends and in runs that switch backends."""

import itertools
import json
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    install_packages,
    options,
    require_any,
    require_tested,
    run_in_process,
    run_subprocess,
    skip_without,
    variants,
)
from measure.exact import certify

from rnn_scratch import api, exact, registry
from rnn_scratch.check.case import make_case
from rnn_scratch.check.draws import CaseSpec
from rnn_scratch.contract import CELLS, VARIANTS, ModelConfig
from rnn_scratch.parameters import draw_parameters, trained_arrays
from rnn_scratch.settings import Settings
from rnn_scratch.steps import make_training_step
from rnn_scratch.text import books
from rnn_scratch.workers import WorkerGroup

NUM_EPOCHS = 4  # some updates are clipped, as `test_training_clips_some_updates` verifies
SETTINGS = {"corpus": "tide-clock", "exact": True, "sigma": 0.05, "theta": 0.3}
SETTINGS |= {"num_hiddens": 48, "batch_size": 8, "num_steps": 12, "max_tokens": 2_000}
# Within an epoch, any difference in the state grows until it is as large as the state itself.
CHAOTIC = {"sigma": 0.5, "theta": 1.0}
GRUS = [cell for cell in CELLS if cell.startswith("gru")]
# To save time, only NumPy and PyTorch run these tests by default.
FRAMEWORKS = pytest.mark.frameworks(by_default=("numpy", "torch"))


def train(backend, folder, epochs, **changes):
    """Train in exact mode; return the digest of the run's arrays."""
    run = api.train(backend, output=folder, num_epochs=epochs, **{**SETTINGS, **changes})
    return exact.digest(run.arrays)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return a cached function that trains with NumPy and returns the digest."""

    @cache
    def digest(epochs, changes):
        return train("numpy", tmp_path_factory.mktemp("numpy") / "run", epochs, **dict(changes))

    return lambda epochs, **changes: digest(epochs, tuple(changes.items()))


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("scratch", {"sampling": "random"}),
        ("scratch", CHAOTIC),
        *((variant, {"cell": cell}) for cell in ("rnn", "lstm") for variant in VARIANTS),
        *(
            pytest.param(variant, {"cell": cell}, marks=FRAMEWORKS)
            for cell in GRUS
            for variant in VARIANTS
        ),
        pytest.param("scratch", {"embedding": 5}, marks=FRAMEWORKS),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_models_end_with_equal_bits(backend_name, device, tmp_path, variant, changes, reference):
    if (backend_name, variant) == ("numpy", "scratch"):
        pytest.skip("this variant is the reference")
    skip_without(registry.load(backend_name), device, "float64")
    try:
        folder = tmp_path / "run"
        digest = train(backend_name, folder, NUM_EPOCHS, variant=variant, device=device, **changes)
    except registry.NotSupportedError:
        pytest.skip(f"{backend_name} has no {variant} variant of this cell")
    assert digest == reference(NUM_EPOCHS, **changes)


TINY_SIZES = {"num_hiddens": 8, "batch_size": 4, "num_steps": 6, "max_tokens": 300}
OPTIMIZERS = (
    {},
    {"optimizer": "momentum", "weight_decay": 0.1},
    {"optimizer": "adam", "schedule": "cosine", "warmup": 5},
)
DEEP = {"num_layers": 2, "dropout": 0.3, "optimizer": "adam", "weight_decay": 0.1}


@FRAMEWORKS
@pytest.mark.parametrize("cell", ["lstm", pytest.param("rnn", marks=pytest.mark.frameworks)])
def test_deep_networks_end_with_equal_bits(candidate, tmp_path, cell, reference):
    cases = itertools.product((1, 2), (0.0, 0.3), OPTIMIZERS)
    for index, (num_layers, dropout, optimizer) in enumerate(cases):
        changes = {"cell": cell, "num_layers": num_layers, "dropout": dropout, **TINY_SIZES}
        digest = train(candidate, tmp_path / str(index), 2, **changes, **optimizer)
        assert digest == reference(2, **changes, **optimizer), (changes, optimizer)


BY_DEFAULT = {"numpy", "torch"}
PAIRS = [
    pytest.param(*pair, marks=() if set(pair) == BY_DEFAULT else pytest.mark.frameworks)
    for pair in itertools.permutations(registry.BUILTIN_BACKENDS, 2)
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_another_backend_resumes_adam_exactly(backend_names, tmp_path, first, second, reference):
    require_tested(backend_names, first, second)
    changes = {"cell": "lstm", **DEEP, **TINY_SIZES}
    train(first, tmp_path / "run", 1, **changes)
    run = api.resume(tmp_path / "run", 2, backend=second)
    assert exact.digest(run.arrays) == reference(2, **changes)
    assert {"m.W_hc_2", "v.W_hc_2"} < set(run.arrays)
    assert [row.backend for row in run.history] == [first, second]


def test_training_clips_some_updates():
    settings = {name: value for name, value in SETTINGS.items() if name != "corpus"}
    settings = Settings(**settings, num_epochs=NUM_EPOCHS)
    certified = certify(["numpy"], settings, books.load("tide-clock"))
    assert 0.1 < certified["clipped"] / certified["updates"] < 0.9


def test_digest_depends_on_every_bit():
    arrays = draw_parameters(ModelConfig(5, 3), 1.0, 0)
    digest = exact.digest(arrays)
    assert exact.digest({name: values.copy() for name, values in arrays.items()}) == digest
    assert exact.digest({n: v.astype(np.float32) for n, v in arrays.items()}) != digest
    arrays["b_q"][2] = np.nextafter(arrays["b_q"][2], 1)
    assert exact.digest(arrays) != digest


# Environment variables that select other kernels, which sum in a different order. TensorFlow
# has no such variable for float64: TF_ENABLE_ONEDNN_OPTS has no effect. Any of OpenBLAS's kernels
# may be the usual ones: an old OpenBLAS uses its oldest on processors that it does not know.
CORES = [{"OPENBLAS_CORETYPE": core} for core in ("Nehalem", "Haswell")]
KERNELS = {
    "numpy": CORES,
    "torch": [{"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"}],
    "mxnet": CORES,
    "jax": [{"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}],
}
DIGESTS = """
import sys
from rnn_scratch import api, exact
settings = eval(sys.argv[2])
for mode in ({"exact": True}, {"exact": False, "dtype": "float64"}):
    run = api.train(sys.argv[1], output=f"{mode}", num_epochs=1, device="cpu", **settings, **mode)
    print("digest", exact.digest(run.arrays))
"""


@FRAMEWORKS
def test_exact_mode_ends_equal_with_other_kernels(backend_name):
    if backend_name not in KERNELS:
        pytest.skip(f"no variable is known that changes the kernels of {backend_name}")
    settings = {name: value for name, value in SETTINGS.items() if name != "exact"}

    def digests(folder, **kernels):
        Path(folder).mkdir()
        arguments = (backend_name, repr(settings))
        result = run_subprocess(
            *arguments, program=("-c", DIGESTS), env=kernels, cwd=folder
        ).assert_exit()
        return [line.split()[1] for line in result.out.splitlines() if line.startswith("digest")]

    variables = [{}, *KERNELS[backend_name]]
    exact_digests, others = zip(*(digests(f"run-{n}", **v) for n, v in enumerate(variables)))
    assert len(set(exact_digests)) == 1
    assert len(set(others)) > 1, "the kernels are equal, so the equality above proves nothing"


TWO_THREADS = """
import sys
from rnn_scratch import exact
from rnn_scratch.training import loop
from rnn_scratch.training.runtime import Runtime
from rnn_scratch.training.setup import prepare_run
from rnn_scratch.settings import Settings
from rnn_scratch.steps import make_training_step
from rnn_scratch.text import books
from rnn_scratch.workers import WorkerGroup
settings = {"num_steps": 3, "max_tokens": 900, "sigma": 0.05, "exact": True}
for num_hiddens in (48, 512):
    runtime = Runtime(sys.argv[1], "fast", "cpu", threads=int(sys.argv[2]))
    text = books.load("tide-clock")
    setup = prepare_run(Settings(num_hiddens=num_hiddens, **settings), runtime, text)
    next(loop.epochs(setup))
    params = setup.model.to_arrays(setup.model.params)
    print("threads", setup.runtime.threads, exact.digest(params))
"""


@pytest.mark.frameworks(by_default=("numpy", "jax"))
def test_two_threads_end_with_equal_bits(backend, backend_name):
    is_builtin = backend_name in registry.BUILTIN_BACKENDS
    if not is_builtin and "fast" not in variants(backend_name):
        pytest.skip("unsupported: the variant `fast`")
    # `backend.machine` has a default for every function that the package lacks.
    if not is_builtin and not hasattr(sys.modules[backend.package].machine, "set_threads"):
        pytest.skip("unsupported: `set_threads`")

    def train_with(threads):
        result = run_subprocess(backend_name, threads, program=("-c", TWO_THREADS)).assert_exit()
        return re.findall("threads (.*) (.*)", result.out)

    (_, small), (_, large) = train_with(1)
    assert train_with(2) == [("2", small), ("2", large)]


def check_exact(capsys, *arguments):
    """Run `check --exact` on text too long for an argument; return the exit code and JSON."""
    Path("long.txt").write_text("it was a long and quiet winter. " * 8_000, encoding="utf-8")
    small = ["--text", "long.txt", "--num-hiddens", "16", "--epochs", "20"]
    result = run_in_process(capsys, "check", *arguments, "--exact", "--json", *small)
    return result.code, json.loads(result.out)


@pytest.mark.parametrize(
    "backends",
    [BY_DEFAULT, pytest.param({*registry.BUILTIN_BACKENDS}, marks=pytest.mark.frameworks)],
    ids=len,
)
def test_check_exact_compares_backends(backends, backend_names, capsys):
    backend_names = require_any(backend_names, backends)
    code, answer = check_exact(capsys, *backend_names)
    assert (code, answer["equal"]) == (0, True)
    models = [(model["backend"], model["variant"]) for model in answer["models"]]
    assert models == [(name, "scratch") for name in backend_names]
    for model in answer["models"]:
        assert [row["epoch"] for row in model["digests"]] == [*range(0, 21, 2)]
        assert len({row["digest"] for row in model["digests"]}) == 11
    assert len({model["digests"][-1]["digest"] for model in answer["models"]}) == 1


def test_check_exact_fails_if_nothing_trains(capsys):
    code, answer = check_exact(capsys, "numpy", "--variant", "concise")
    assert (code, answer["equal"]) == (1, False)
    (model,) = answer["models"]
    assert (model["outcome"], model["digests"]) == ("not supported", [])


def test_check_exact_fails_if_only_one_model_trains(capsys):
    variants = ("--variant", "scratch", "--variant", "concise")
    code, answer = check_exact(capsys, "numpy", *variants)
    assert (code, answer["equal"]) == (2, True)
    assert [model["outcome"] for model in answer["models"]] == ["trained", "not supported"]


TINY = {"num_hiddens": 6, "batch_size": 4, "num_steps": 8, "max_tokens": 120}
TINY |= {"sigma": 0.3, "theta": 0.37, "lr": 0.5, "num_epochs": 5}


def check_tiny(*arguments, **kwargs):
    command = ("check", *arguments, "--exact", "--corpus", "tide-clock")
    return run_subprocess(*command, *options(**TINY), **kwargs)


def test_check_exact_prints_the_common_digest():
    result = check_tiny("numpy", "--variant", "scratch", "--variant", "fast").assert_exit()
    summary = r"numpy, numpy \(fast\): equal after each of 15 updates, digest [0-9a-f]{16}\."
    *_, line, _, command = result.out.splitlines()
    assert re.fullmatch(summary, line)
    assert command == "rnn-scratch check numpy"


# The NumPy backend, with one function changed to corrupt its first argument.
OFF = """
from rnn_scratch.backends.numpy import deep, exact, machine, scratch

plain, num_calls = scratch.{function}, 0

def off(*arguments):
    global num_calls
    num_calls += 1
    {change}
    return plain(*arguments)

scratch.{function} = off
"""


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        (
            "clip",
            "arguments[0]['W_hh'][2] *= 1.01 if num_calls > 5 else 1",
            "off: failed: It differs from numpy after update 6, in W_hh. Within a minibatch, "
            "rounding errors in the state ",
        ),
        (
            "build",
            "arguments[0]['b_q'] += 1",
            "off: failed: It differs from numpy from the start, in b_q.",
        ),
    ],
)
def test_difference_names_update_and_parameters(tmp_path, function, change, message):
    source = OFF.format(function=function, change=change)
    result = check_tiny(
        "off", "numpy", env=install_packages(tmp_path, {"off": source})
    ).assert_exit(1)
    output = " ".join(result.out.split())
    assert message in output, output[-400:]
    assert "To check each function, run: rnn-scratch check" in output


# Digests of runs on the first 31,511 characters of the built-in text, equal on x86-64 and ARM.
@pytest.mark.parametrize(
    ("backend", "variant", "cell", "num_hiddens", "num_epochs", "digest"),
    [
        ("numpy", "scratch", "rnn", 32, 2, "9794b4ab4cb72bc9"),
        ("numpy", "fast", "rnn", 32, 2, "9794b4ab4cb72bc9"),
        ("numpy", "scratch", "lstm", 32, 3, "ef9f67482066e6b1"),
        ("numpy", "scratch", "gru", 24, 3, "ba443fe277f88f85"),
        ("numpy", "scratch", "rnn", 96, 4, "fd2bc6733ca80f39"),
        ("torch", "scratch", "rnn", 32, 2, "9794b4ab4cb72bc9"),
        ("jax", "scratch", "rnn", 32, 2, "9794b4ab4cb72bc9"),
    ],
)
def test_digests_are_equal_on_every_processor(
    backend_names, backend, variant, cell, num_hiddens, num_epochs, digest
):
    require_tested(backend_names, backend)
    Path("text.txt").write_text(books.load("tide-clock").content[:31_511], encoding="utf-8")
    sizes = {"cell": cell, "num_hiddens": num_hiddens, "num_epochs": num_epochs}
    settings = {"text": "text.txt", "exact": True, "sigma": 0.1, **sizes}
    run = api.train(backend, variant=variant, threads=1, **settings)
    assert exact.digest(run.arrays) == digest


def test_exchange_keeps_the_bits_of_every_framework(backend, backend_name):
    MPI = pytest.importorskip("mpi4py.MPI")
    group = WorkerGroup(MPI.COMM_SELF)  # a single worker, which exchanges gradients with itself
    group.is_running = False  # otherwise, MPI would abort the test process at exit
    draw = CaseSpec(ModelConfig(11, 13, dtype="float64"), num_steps=2, optimizer="adam", exact=True)
    case = make_case(backend, "scratch", draw)
    arrays = []
    for average in (None, group.distribute):
        step = make_training_step(backend, True, average)
        model = replace(case.model(), train_minibatch=step)
        backend.scratch.train_epoch(model, *case.epoch(0), True)
        arrays.append(trained_arrays(model))
    assert exact.digest(arrays[0]) == exact.digest(arrays[1]) != exact.digest(case.arrays)
