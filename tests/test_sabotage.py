"""Tests of the tests: each mistake of the sabotages turns the check red, in the right piece."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tools.sabotages import SABOTAGES, sabotaged

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.check import pieces, whole

CORE = Path(rnn_scratch.__file__).parent


def first_off(backend):
    return next((row for row in pieces.hold(backend, only=("tanh", 0)) if not row.passed), None)


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.mistake)
def test_a_mistake_in_a_backend_is_caught_and_named(backend, backend_name, sabotage, tmp_path):
    if backend_name not in sabotage.changes:
        pytest.skip(f"not a mistake that can be made so in {backend_name}")
    row = first_off(sabotaged(backend, sabotage.changes[backend_name], tmp_path))
    assert row is not None, "not caught"
    assert row.piece == sabotage.piece, row
    assert sabotage.result in (row.result + row.where), row


@pytest.mark.parametrize(
    "sabotage",
    [s for s in SABOTAGES if "numpy" in s.changes],
    ids=lambda sabotage: sabotage.mistake,
)
def test_a_mistake_in_the_reference_itself_is_caught_and_named(sabotage, tmp_path, monkeypatch):
    # As when its file is changed: reference and candidate are then the same, mistake and all.
    broken = sabotaged(registry.load("numpy"), sabotage.changes["numpy"], tmp_path)
    monkeypatch.setattr(registry, "load", lambda name: broken)
    whole.trained_model.cache_clear()
    try:
        row = next((row for row in pieces.hold(broken) if not row.passed), None)
    finally:
        whole.trained_model.cache_clear()
    assert row is not None, "not caught"
    assert row.piece == sabotage.piece, row
    assert sabotage.result in (row.result + row.where), row


def test_not_detaching_raises_in_pytorch_and_hides_elsewhere(candidate, tmp_path):
    # PyTorch has freed the graph that it is sent back into. The others' loops begin a new record
    # or tape with each minibatch, which never saw where the old state came from.
    (sabotage,) = (s for s in SABOTAGES if s.mistake == "state not detached")
    broken = sabotaged(registry.load(candidate), sabotage.changes[candidate], tmp_path)
    rows = [row for row in pieces.hold(broken, only=("tanh", 0)) if row.piece == "train_epoch"]
    if candidate == "torch":
        assert any(row.result == "raised" and "second time" in row.where for row in rows)
    else:
        assert all(row.passed for row in rows)


def test_a_copy_without_a_mistake_passes(backend, tmp_path):
    same = "def params(arrays, options):"
    assert first_off(sabotaged(backend, (same, same), tmp_path)) is None


def test_fourteen_mistakes_at_least():
    assert len({sabotage.mistake for sabotage in SABOTAGES} | set(CORE_MISTAKES)) >= 14


# Mistakes in the core, which reference and candidate share: values pinned in tests catch them.
CORE_MISTAKES = {
    "offset one too far": (
        "minibatches.py",
        'generator(seed, "offset", epoch).randint(num_steps)',
        'generator(seed, "offset", epoch).randint(num_steps + 1)',
        "test_minibatches.py",
    ),
    "offset ignored": (
        "minibatches.py",
        "X_rows = tokens[offset : offset + batch_size * length]",
        "X_rows = tokens[0 : batch_size * length]",
        "test_minibatches.py",
    ),
    "the least likely token chosen": (
        "decoding.py", "int(np.argmax(logits))", "int(np.argmin(logits))", "test_decoding.py",
    ),
    "temperature multiplied": (
        "decoding.py", "logits.max()) / temperature", "logits.max()) * temperature",
        "test_decoding.py",
    ),
    "weights drawn with the variance for the standard deviation": (
        "initial.py", "chance.normal(0, sigma, shape)", "chance.normal(0, sigma**2, shape)",
        "test_chance.py",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", CORE_MISTAKES)
def test_a_mistake_in_the_core_is_caught_by_pinned_values(mistake, tmp_path):
    file, old, new, tests = CORE_MISTAKES[mistake]
    here = Path(__file__).parent

    def run():
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                   "--backends", "numpy", str(here / tests)]  # fmt: skip
        # The copy comes first on the path; what it lacks, the backends, is still found.
        return subprocess.run(
            command, cwd=here, capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path)}
        )

    shutil.copytree(CORE, tmp_path / "rnn_scratch", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "rnn_scratch" / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} does not stand in {file}: make the sabotage follow the code"
    path.write_text(text.replace(old, new), encoding="utf-8")
    done = run()
    assert done.returncode == 1, done.stdout
    assert "FAILED" in done.stdout, done.stdout
