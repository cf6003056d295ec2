"""Exact mode: the same bits in every backend, and in a run that changes its backend."""

import itertools
import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from helpers import (
    CLONE,
    RECORDS,
    here,
    options,
    other_packages,
    require_tested,
    skip_without,
    there,
)
from measure import arm, certificate

from rnn_scratch import api, exact, registry
from rnn_scratch.contract import CELLS, VARIANTS, Options, Rates
from rnn_scratch.parameters import initial
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings, update_rule
from rnn_scratch.text import books, minibatches

# Some of the updates in so many epochs are clipped, and others are not: a test below counts them.
LONG = 6
SETTINGS = {"corpus": "tide-clock", "exact": True, "sigma": 0.05, "theta": 0.3}
SETTINGS |= {"num_hiddens": 48, "batch_size": 8, "num_steps": 12, "max_tokens": 2_000}
# A difference in the state grows within an epoch until it is as large as the state itself.
CHAOTIC = {"sigma": 0.5, "theta": 1.0}


# By default their trainings in NumPy and PyTorch are enough.
OTHERS = pytest.mark.frameworks(by_default=("numpy", "torch"))
GRUS = [cell for cell in CELLS if cell.startswith("gru")]


def trained(backend, folder, epochs, **changes):
    run = api.train(backend, run=folder, num_epochs=epochs, **{**SETTINGS, **changes})
    return exact.digest(run.arrays)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """A function that returns the reference's digest, which it trains for once."""
    digests = {}

    def reference(epochs, **changes):
        key = (epochs, *changes.items())
        if key not in digests:
            digests[key] = trained(
                "numpy", tmp_path_factory.mktemp("numpy") / "run", epochs, **changes
            )
        return digests[key]

    return reference


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("scratch", {"sampling": "random"}),
        ("scratch", CHAOTIC),
        *((model, {"cell": cell}) for cell in ("rnn", "lstm") for model in VARIANTS),
        *(pytest.param(model, {"cell": cell}, marks=OTHERS) for cell in GRUS for model in VARIANTS),
        pytest.param("scratch", {"embedding": 5}, marks=OTHERS),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
)
def test_every_model_ends_with_the_same_bits(
    backend_name, device, tmp_path, model, changes, references
):
    skip_without(registry.load(backend_name), device, "float64")
    try:
        digest = trained(
            backend_name, tmp_path / "run", LONG, model=model, device=device, **changes
        )
    except registry.NotOffered:
        pytest.skip(f"{backend_name} has no {model} model of this cell")
    assert digest == references(LONG, **changes)


# Layers, dropout and optimizers in small sizes.
TINY_SIZES = {"num_hiddens": 8, "batch_size": 4, "num_steps": 6, "max_tokens": 300}
COSINE = {"schedule": "cosine", "warmup": 5}
OPTIMIZED = ({}, {"optimizer": "adam"}, {"optimizer": "adam", **COSINE})
DEEP = {"num_layers": 2, "dropout": 0.3, "optimizer": "adam", "weight_decay": 0.1}


@OTHERS
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_layers_dropout_and_optimizers_end_with_the_same_bits(
    backend_name, tmp_path, cell, references
):
    for number, (num_layers, dropout, more) in enumerate(
        itertools.product((1, 2), (0.0, 0.3), OPTIMIZED)
    ):
        changes = {"cell": cell, "num_layers": num_layers, "dropout": dropout, **more, **TINY_SIZES}
        digest = trained(backend_name, tmp_path / str(number), 2, **changes)
        assert digest == references(2, **changes), changes


BY_DEFAULT = {"numpy", "torch"}
PAIRS = [
    pytest.param(*pair, marks=() if set(pair) == BY_DEFAULT else pytest.mark.frameworks)
    for pair in itertools.permutations(registry.OURS, 2)
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_what_adam_remembers_is_exchanged(backend_names, tmp_path, first, second, references):
    require_tested(backend_names, first, second)
    changes = {"cell": "lstm", **DEEP, **TINY_SIZES}
    trained(first, tmp_path / "run", 1, **changes)
    run = api.resume(tmp_path / "run", 2, backend=second)
    assert exact.digest(run.arrays) == references(2, **changes)
    assert {"m.W_hc_2", "v.W_hc_2"} < set(run.arrays)
    assert [row.backend for row in run.history] == [first, second]


@pytest.fixture
def _tools(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(CLONE / "notebooks"))  # for a tool's children


@pytest.mark.usefixtures("_tools")
def test_some_updates_of_this_training_are_clipped_and_others_are_not():
    settings = Settings(**{k: v for k, v in SETTINGS.items() if k != "corpus"}, num_epochs=LONG)
    text, runtime = books.load("tide-clock"), Runtime("numpy", device="cpu")
    certified = certificate.certify([runtime], settings, text).certificate
    assert 0.1 < certified.clipped / certified.updates < 0.9


def test_a_digest_depends_on_every_bit():
    arrays = initial(Options(5, 3), 1.0, 0)
    before = exact.digest(arrays)
    assert exact.digest({name: values.copy() for name, values in arrays.items()}) == before
    arrays["b_q"][2] = np.nextafter(arrays["b_q"][2], 1)
    assert exact.digest(arrays) != before
    arrays["b_q"][2] = 0
    assert exact.digest(arrays) == before
    assert exact.digest({n: v.astype(np.float32) for n, v in arrays.items()}) != before


def check_exact(capsys, *arguments):
    # A text too long for a command line, as a book is.
    Path("long.txt").write_text("it was a long and quiet winter. " * 8_000, encoding="utf-8")
    small = ["--text", "long.txt", "--num-hiddens", "16", "--epochs", "4", "--every", "2"]
    done = here(capsys, "check", *arguments, "--exact", "--json", *small)
    return done.code, json.loads(done.out)


# Other kernels of the framework's libraries, which add in another order. (TensorFlow has no such
# variable for float64: TF_ENABLE_ONEDNN_OPTS changes nothing.)
KERNELS = {
    "numpy": {"OPENBLAS_CORETYPE": "Nehalem"},
    "torch": {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default"},
    "mxnet": {"OPENBLAS_CORETYPE": "Nehalem"},
    "jax": {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"},
}
DIGESTS = """
import sys
from rnn_scratch import api, exact
settings = eval(sys.argv[2])
for mode in ({"exact": True}, {"exact": False, "dtype": "float64"}):
    run = api.train(sys.argv[1], run=f"{mode}", num_epochs=1, device="cpu", **settings, **mode)
    print("digest", exact.digest(run.arrays))
"""


@OTHERS
def test_other_kernels_change_ordinary_training_and_not_exact_mode(backend_name):
    if backend_name not in KERNELS:
        pytest.skip(f"no variable is known that changes the kernels of {backend_name}")
    settings = {name: value for name, value in SETTINGS.items() if name != "exact"}

    def digests(folder, **kernels):
        Path(folder).mkdir()
        arguments = (backend_name, repr(settings))
        done = there(*arguments, program=("-c", DIGESTS), env=kernels, cwd=folder).ended()
        return [line.split()[1] for line in done.out.splitlines() if line.startswith("digest")]

    (exact_own, own), (exact_other, other) = digests("own"), digests("o", **KERNELS[backend_name])
    assert exact_own == exact_other
    assert own != other, "they are the same kernels, so that the equality above proves nothing"


TWO_THREADS = """
import sys
from rnn_scratch import exact
from rnn_scratch.runs import training
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import Settings
from rnn_scratch.text import books
settings = {"num_steps": 3, "max_tokens": 900, "sigma": 0.05, "exact": True}
for num_hiddens in (48, 512):
    runtime = Runtime(sys.argv[1], "fast", "cpu")
    setup = set_up(Settings(num_hiddens=num_hiddens, **settings), runtime, books.load("tide-clock"))
    next(training.epochs(setup))
    params = setup.model.to_arrays(setup.model.params)
    print("threads", setup.runtime.threads, exact.digest(params))
"""


@pytest.mark.frameworks(by_default=("numpy", "jax"))
def test_two_threads_end_with_the_bits_of_one_and_small_networks_have_one(backend_name):
    def trained_with(threads):
        variables = dict.fromkeys(("OMP_NUM_THREADS", "NPROC", "TF_NUM_INTEROP_THREADS"), threads)
        done = there(backend_name, program=("-c", TWO_THREADS), env=variables).ended()
        return re.findall("threads (.*) (.*)", done.out)

    (_, small), (_, large) = trained_with("1")
    fewest = "2" if backend_name in ("tensorflow", "jax") else "1"
    assert trained_with("2") == [(fewest, small), ("2", large)]


@pytest.mark.parametrize(
    "chosen", [BY_DEFAULT, pytest.param({*registry.OURS}, marks=pytest.mark.frameworks)], ids=len
)
def test_check_exact_compares_backends(chosen, backend_names, capsys):
    backend_names = [name for name in backend_names if name in chosen]
    code, answer = check_exact(capsys, *backend_names)
    assert code == 0
    assert answer["equal"]
    assert [model["backend"] for model in answer["models"]] == backend_names
    assert {model["model"] for model in answer["models"]} == {"scratch"}
    for model in answer["models"]:
        assert [row["epoch"] for row in model["digests"]] == [0, 2, 4]
        assert len({row["digest"] for row in model["digests"]}) == 3
    assert len({model["digests"][-1]["digest"] for model in answer["models"]}) == 1


def test_check_exact_fails_where_nothing_can_be_trained(capsys):
    code, answer = check_exact(capsys, "numpy", "--model", "concise")
    assert (code, answer["equal"]) == (1, False)
    (model,) = answer["models"]
    assert (model["outcome"], model["digests"]) == ("not offered", [])


# Some of these few updates are clipped.
TINY = {"num_hiddens": 6, "batch_size": 4, "num_steps": 8, "max_tokens": 120}
TINY |= {"sigma": 0.3, "theta": 0.37, "lr": 0.5, "num_epochs": 5}


def distance(value, grid):
    """How far a number is from the nearest midpoint of two multiples of the grid."""
    share = Fraction(float(value)) / Fraction(grid) % 1
    return float(abs(share - Fraction(1, 2)) * Fraction(grid))


def by_hand(settings):
    """The training as a loop: updates, those that are clipped, and each element's figures."""
    text, scratch = books.load("tide-clock"), registry.load("numpy").scratch
    setups = [set_up(settings, Runtime("numpy", m, "cpu"), text) for m in ("scratch", "fast")]
    update, clipped, elements = 0, 0, []
    for epoch in range(1, settings.num_epochs + 1):
        state = setups[0].model.state(settings.batch_size)
        for batch in minibatches.epoch_batches(setups[0].dataset.train, settings, epoch):
            update, each = update + 1, []
            for setup in setups:
                _, grads, (after,) = scratch.gradients(setup.model, batch, state)
                grads, norm = scratch.clip(grads, settings.theta)
                steps = setup.model.to_arrays({n: settings.lr * g for n, g in grads.items()})
                each.append({"state": after, **steps})
                rates = Rates(np.asarray(settings.lr))
                scratch.sgd(setup.model, grads, update_rule(settings), rates)
            for name, values in each[0].items():
                grid = exact.STATE_GRID if name == "state" else exact.GRID
                for place, value in np.ndenumerate(values):
                    pair = value, each[1][name][place]
                    least = min(distance(one, grid) for one in pair)
                    elements.append((least, abs(pair[0] - pair[1]), update, name, list(place)))
            clipped += norm > settings.theta
            state = (np.round(each[0]["state"] / exact.STATE_GRID) * exact.STATE_GRID,)
    return update, clipped, elements


def check_tiny(*arguments, **more):
    command = ("check", *arguments, "--exact", "--corpus", "tide-clock")
    return there(*command, *options(**TINY), **more)


@pytest.mark.usefixtures("_tools")
def test_the_certificate_has_the_smallest_ratio_of_all_elements():
    runtimes = [Runtime("numpy", model, "cpu") for model in ("scratch", "fast")]
    settings = Settings(**{**TINY, "exact": True})
    record = certificate.certify(runtimes, settings, books.load("tide-clock"))
    updates, clipped, elements = by_hand(settings)
    assert (record.certificate.updates, record.certificate.clipped) == (updates, clipped)
    assert 0 < clipped < updates

    closest = record.certificate.closest
    least = min((each for each in elements if each[1]), key=lambda each: each[0] / each[1])
    place = (closest.distance, closest.difference, closest.update, closest.tensor, closest.index)
    assert place == least
    assert record.certificate.factor == least[0] / least[1]
    factor = f"a safety factor of {record.certificate.factor:,.0f}, the smallest of 80 "
    assert factor in record.certificate.sentence
    # The observed models are trained like any others.
    digests = [[end.digest for end in model.digests] for model in record.models]
    answer = json.loads(check_tiny("numpy", "--json", "--every", 1).ended().out)
    assert digests == 2 * [[end["digest"] for end in answer["models"][0]["digests"]]]


def test_equal_models_have_a_line_with_updates_and_digest():
    done = check_tiny("numpy", "--model", "scratch", "--model", "fast").ended()
    digest = done.out.splitlines()[-2].split()[2]
    last = f"numpy, numpy (fast): equal after 15 updates, digest {digest}."
    assert done.out.splitlines()[-1] == last


# NumPy's backend, in which one function is another one from some call on.
OFF = """
from rnn_scratch.backends.numpy import deep, machine, scratch

plain, number = scratch.{function}, 0

def off(*arguments):
    global number
    number += 1
    {change}
    return plain(*arguments)

scratch.{function} = off
"""


@pytest.mark.parametrize(
    ("function", "change", "other", "words"),
    [
        # In the first update it is called twice.
        (
            "clip",
            "arguments[0]['W_hh'][2] *= 1.001 if number > 5 else 1",
            "numpy",
            "off differs from numpy after update 6, in W_hh. Over a minibatch a difference in the "
            "state grows ",
        ),
        (
            "clip",
            "arguments[0]['W_hq'] *= 1.001",
            "torch",
            "torch differs from off after update 1, in W_xh, W_hh, W_hq, b_q. Over",
        ),
        (
            "build",
            "arguments[0]['b_q'] += 1",
            "numpy",
            "off differs from numpy from the start, in b_q.",
        ),
    ],
)
def test_of_models_that_diverge_update_and_parameter_are_named(
    backend_names, tmp_path, function, change, other, words
):
    require_tested(backend_names, other)
    source = OFF.format(function=function, change=change)
    done = check_tiny("off", other, env=other_packages(tmp_path, {"off": source})).ended(1)
    said = " ".join(done.out.split())
    assert words in said, said[-400:]
    assert "rounding is unlikely to be the reason. To check each function, run: " in said


def test_rounding_is_named_where_it_is_likely():
    # With weights as large as these, a difference grows within a minibatch.
    models = ("--model", "scratch", "--model", "fast")
    chaos = options(corpus="tide-clock", num_hiddens=32, sigma=1.0, num_epochs=2)
    done = there("check", "numpy", *models, "--exact", *chaos).ended(1)
    said = r"grows (\S+)-fold, so rounding is the likely reason. To .* run: rnn-scratch check numpy"
    assert float(re.search(said, " ".join(done.out.split()))[1]) > 1e6


def test_this_code_ends_with_the_digest_of_both_architectures():
    first, *_ = json.loads((RECORDS / "arm.json").read_bytes())["cases"]
    run = arm.train(arm.CASES[0], "exact")
    assert set(first["exact"].values()) == {exact.digest(run.arrays)}
