"""Exact mode: the same bits in every backend, and in a run that changes its backend."""

import json
import math
import shutil
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest
from helpers import options, other_packages, skip_without, there, variants
from make import readme

from rnn_scratch import api, exact, registry
from rnn_scratch.check import exact_mode
from rnn_scratch.check.certificate import Certificate, Closest, Difference, Result, sentence
from rnn_scratch.cli.main import main
from rnn_scratch.contract import CELLS, VARIANTS, Options
from rnn_scratch.parameters import initial
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.runtime import Runtime
from rnn_scratch.runs.setup import set_up
from rnn_scratch.settings import make
from rnn_scratch.text import corpus, minibatches

# Some of the updates in so many epochs are clipped, and others are not: a test below counts them.
LONG = 6
SETTINGS = {
    "corpus": "tide-clock",
    "exact": True,
    "num_hiddens": 48,
    "batch_size": 8,
    "num_steps": 12,
    "max_tokens": 2_000,
    "sigma": 0.05,
    "theta": 0.3,
}


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


def test_some_updates_of_this_training_are_clipped_and_others_are_not():
    settings = make({k: v for k, v in SETTINGS.items() if k != "corpus"} | {"num_epochs": LONG})
    text, runtime = corpus.load("tide-clock"), Runtime("numpy", device="cpu")
    found = exact_mode.compare([runtime], settings, text, lambda *_: None).certificate
    assert 0.1 < found.clipped / found.updates < 0.9


@pytest.mark.parametrize("cell", ["rnn", pytest.param("lstm", marks=pytest.mark.frameworks)])
def test_a_run_that_changes_its_backend_ends_with_the_same_bits(
    backend_names, tmp_path, cell, references
):
    # In a ring: each writes a checkpoint, and each continues that of another one.
    for first in backend_names:
        trained(first, tmp_path / first, 2, cell=cell)
    for first, second in zip(backend_names, [*backend_names[1:], backend_names[0]]):
        folder = tmp_path / f"{first}-to-{second}"
        shutil.copytree(tmp_path / first, folder)
        run = api.resume(folder, 4, backend=second)
        assert exact.digest(run.arrays) == references(4, cell=cell), (first, second)
        assert checkpoint.load(folder / checkpoint.FILE).epoch == 4
        assert [row.backend for row in run.history] == [first] * 2 + [second] * 2


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
    with pytest.raises(SystemExit) as done:
        main(["check", *arguments, "--exact", "--json", *small])
    return done.value.code, json.loads(capsys.readouterr().out)


def test_check_exact_compares_backends(backend_names, capsys):
    code, answer = check_exact(capsys, *backend_names)
    assert code == 0
    assert answer["equal"]
    assert [run["backend"] for run in answer["runs"]] == list(backend_names)
    assert {run["model"] for run in answer["runs"]} == {"scratch"}
    for run in answer["runs"]:
        assert [row["epoch"] for row in run["digests"]] == [0, 2, 4]
        assert len({row["digest"] for row in run["digests"]}) == 3
    assert len({json.dumps(run["digests"][-1]["digest"]) for run in answer["runs"]}) == 1


@pytest.mark.frameworks(by_default=("numpy", "torch"))
def test_check_exact_compares_variants_and_runs_on_a_device(backend_name, device, capsys):
    skip_without(registry.load(backend_name), device, "float64")
    models = [argument for model in VARIANTS for argument in ("--model", model)]
    code, answer = check_exact(capsys, backend_name, *models, "--device", device)
    assert (code, answer["equal"]) == (0, True)
    outcomes = {run["model"]: run["outcome"] for run in answer["runs"]}
    offered = variants(backend_name)
    assert outcomes == {m: "trained" if m in offered else "not offered" for m in VARIANTS}


def test_check_exact_fails_where_nothing_can_be_trained(capsys):
    code, answer = check_exact(capsys, "numpy", "--model", "concise")
    assert (code, answer["equal"]) == (1, False)
    (run,) = answer["runs"]
    assert (run["outcome"], run["digests"]) == ("not offered", [])


# Some of these few updates are clipped.
TINY = {
    "num_hiddens": 6,
    "batch_size": 4,
    "num_steps": 8,
    "max_tokens": 120,
    "sigma": 0.3,
    "theta": 0.37,
    "lr": 0.5,
}
EPOCHS = 5


def steps_of(setup, batches):
    """The steps of each minibatch, from a state that is carried, and the norm of its gradients."""
    scratch, settings = registry.load("numpy").scratch, setup.settings
    state = setup.model.state(settings.batch_size)
    for batch in batches:
        _, grads, state = scratch.gradients(setup.model, batch, state)
        state = [np.round(each / exact.STATE_GRID) * exact.STATE_GRID for each in state]
        clipped, norm = scratch.clip(grads, settings.theta)
        arrays = setup.model.to_arrays(clipped)
        yield {name: settings.lr * grad for name, grad in arrays.items()}, norm


def distance(step):
    """How far a number is from the nearest midpoint of two multiples of the grid."""
    step, grid = Fraction(float(step)), Fraction(exact.GRID)
    below = math.floor(step / grid)
    return min(abs(step - (each + Fraction(1, 2)) * grid) for each in range(below - 1, below + 2))


@pytest.fixture(scope="module")
def by_hand():
    """The same training as a loop: every step, and how the optimized model's differ from them."""
    settings = make({**TINY, "num_epochs": EPOCHS, "exact": True})
    text = corpus.load("tide-clock")
    plain = set_up(settings, Runtime("numpy", "scratch", "cpu"), text)
    steps, norms, differences = [], [], []
    for epoch in range(1, EPOCHS + 1):
        batches = list(minibatches.of_epoch(plain.text.train, settings, epoch))
        fast = set_up(settings, Runtime("numpy", "fast", "cpu"), text, plain.model.params)
        (*_, (own, _)), (*_, (other, _)) = (steps_of(each, batches) for each in (plain, fast))
        differences += [(np.abs(own[name] - other[name]).max(), epoch, name) for name in own]
        for step, norm in steps_of(plain, batches):
            steps.append(step)
            norms.append(norm)
            for name, param in plain.model.params.items():
                param -= np.round(step[name] / exact.GRID) * exact.GRID
    return steps, norms, differences


def test_distances_are_exact():
    multiples = [0, 1, 0.5, -0.5, 1.5, -2.5, 0.3, -0.7, 12.25]
    steps = np.array([*multiples, *np.nextafter(multiples, 1)]) * exact.GRID
    assert [Fraction(each) for each in exact.distances(steps)] == [distance(s) for s in steps]
    assert exact.distances(steps).min() == 0
    assert exact.distances(steps).max() == exact.GRID / 2


def check_tiny(*arguments, **more):
    command = ("check", *arguments, "--exact", "--corpus", "tide-clock")
    return there(*command, *options(**TINY, num_epochs=EPOCHS), **more)


def test_the_certificate_has_the_closest_step_and_the_largest_difference(by_hand, tmp_path):
    models = ("--model", "scratch", "--model", "fast")
    done = check_tiny("numpy", *models, "--json")
    assert done.code == 0, done.err
    certificate = msgspec.json.decode(done.out, type=Result).certificate
    steps, norms, differences = by_hand
    closest = min(
        (distance(value), update, name, place)
        for update, step in enumerate(steps, 1)
        for name, values in step.items()
        for place, value in np.ndenumerate(values)
    )
    found = certificate.closest
    assert (found.distance, found.update, found.parameter, tuple(found.index)) == closest
    assert certificate.updates == len(steps)
    assert certificate.clipped == sum(norm > TINY["theta"] for norm in norms)
    assert 0 < certificate.clipped < len(steps)

    compared = certificate.compared
    assert compared.epochs == list(range(1, EPOCHS + 1))
    assert (compared.difference, compared.epoch, compared.parameter) in differences
    assert compared.difference == max(difference for difference, _, _ in differences)
    assert 0 < compared.difference < 1e-14
    assert certificate.factor == found.distance / compared.difference
    assert certificate.divergence is None
    assert certificate.sentence == (
        f"Closest step: {found.distance:.1e} from a rounding boundary, in update "
        f"{found.update} ({found.parameter}{found.index}); the models differ by at most "
        f"{compared.difference:.1e} in a step: a safety factor of {certificate.factor:,.0f}."
    )
    # What is printed ends with it, and a page quotes it.
    assert check_tiny("numpy", *models).out.splitlines()[-1] == certificate.sentence
    (tmp_path / "exact.json").write_text(done.out, encoding="utf-8")
    end = json.loads(done.out)["runs"][0]["digests"][-1]
    quoted = readme.part("exact", readme.exact(tmp_path))
    assert f"{end['digest']} and perplexity {end['perplexity']:.4f}. " in quoted
    clipped = f"clipped in {certificate.clipped} of {certificate.updates} updates. "
    assert quoted.endswith(clipped + certificate.sentence)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("scratch", ("from a rounding boundary, in update", "name another model")),
        ("fast", ("There is no certificate", "Name numpy, and with --model scratch")),
    ],
)
def test_a_certificate_of_one_model_says_what_is_missing(model, words):
    printed = check_tiny("numpy", "--model", model).out
    assert "Only one model was trained" in printed
    assert all(each in printed for each in words)


@pytest.mark.parametrize(
    ("closest", "difference", "words"),
    [
        (6.1e-15, 1.4e-17, "1.4e-17 in a step: a safety factor of 436."),
        (6.1e-15, 4.1e-15, "4.1e-15 in a step: a safety factor of 1.5."),
        (4.1e-18, 6.1e-17, "6.1e-17 in a step, which is more: they could have been rounded to"),
        (4.1e-18, 0.0, "the models do not differ in any step"),
    ],
)
def test_the_sentence_says_how_safe_it_was(closest, difference, words):
    found = sentence(
        Certificate(
            updates=4000,
            clipped=0,
            closest=Closest("W_hh", [3, 17], closest, 2817),
            compared=Difference("W_hh", [0, 0], difference, 1, [1]),
            factor=closest / difference if difference else None,
            divergence=None,
            sentence="",
        )
    )
    assert "in update 2,817 (W_hh[3, 17]); " in found
    assert words in found


# NumPy's backend, in whose parameters something is different after one update.
OFF = """
from types import SimpleNamespace
from rnn_scratch.backends.numpy import machine, scratch as plain
from rnn_scratch.exact import GRID

epoch = number = 0

def change(params):
    params["W_hh"][3, 2] += GRID

def build(arrays, options):
    return plain.build(arrays, options)

def train_epoch(model, minibatches, how, carry, state=None):
    global epoch, number
    if state is None:  # a long epoch takes several calls, each from the state of the one before
        epoch, number = epoch + 1, 0
    def changed():
        global number
        for minibatch in minibatches:
            yield minibatch
            number += 1
            if (epoch, number) == (3, 2):
                change(model.params)
    return plain.train_epoch(model, changed(), how, carry, state)

scratch = SimpleNamespace(**{**vars(plain), "build": build, "train_epoch": train_epoch})
"""


def check_off(folder, source, *arguments):
    done = check_tiny("off", *arguments, env=other_packages(folder, {"off": source}))
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    return done


def test_of_models_that_diverge_update_and_parameter_are_named(tmp_path, by_hand):
    done = check_off(tmp_path, OFF, "numpy", "--json", "--every", "1")
    answer = json.loads(done.out)
    assert not answer["equal"]
    off, numpy = answer["runs"]
    same = [a["digest"] == b["digest"] for a, b in zip(off["digests"], numpy["digests"])]
    assert same == [True] * 3 + [False] * 3
    update = numpy["digests"][2]["updates"] + 2
    certificate = answer["certificate"]
    where = {"models": ["numpy", "off"], "update": update, "parameters": ["W_hh"]}
    assert certificate["divergence"] == where
    assert certificate["factor"] is None
    assert certificate["compared"]["epochs"] == [1, 2, 3]
    assert certificate["compared"]["difference"] == 0
    assert certificate["sentence"] == (
        f"off differs from numpy after update {update}, in W_hh. "
        "Until then the models differed by at most 0.0e+00 in a step."
    )


def test_a_difference_in_the_beginning_is_named(tmp_path):
    wrong = 'return plain.build({**arrays, "b_q": arrays["b_q"] + 1}, options)'
    source = OFF.replace("return plain.build(arrays, options)", wrong)
    printed = check_off(tmp_path, source, "numpy").out
    assert "not equal to the last bit" in printed
    assert printed.splitlines()[-1] == "off differs from numpy from the start, in b_q."


def test_without_the_reference_a_divergence_is_named_all_the_same(tmp_path):
    env = other_packages(tmp_path, {"off": OFF, "same": OFF.replace("+= GRID", "+= 0")})
    done = check_tiny("off", "same", env=env)
    assert done.code == 1, done.err
    assert "same differs from off after update" in done.out.splitlines()[-1]
