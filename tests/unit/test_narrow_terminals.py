"""At any width of a terminal, nothing that a command prints is cut."""

import shutil

import pytest
from helpers import COMPARISONS, SMALL
from measure.measuring import load
from sabotages import changed_copy

import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.check import runner
from rnn_scratch.check.inputs import PLAIN, in_each_dtype
from rnn_scratch.compare import report, tables
from rnn_scratch.compare.record import read

pytestmark = pytest.mark.parametrize("columns", [60, 80, 100])
RECORD = COMPARISONS / "speed"
STEP = 'h @ params["W_hh"] + '


@pytest.fixture
def shown(on_terminal, columns):
    """A function that runs a command, and returns what it shows on a terminal of this width."""

    def run(*arguments, code=0):
        output = on_terminal(*arguments, columns=columns).ended(code).out
        assert "…" not in output
        return output

    return run


def assert_fits(output, columns):
    assert max(map(len, output.splitlines())) <= columns


def assert_has(output, values):
    """Each value is there, once white space is removed, which is where a line may be broken."""
    text = "".join(output.split())
    assert [value for value in values if "".join(str(value).split()) not in text] == []


def test_the_list_of_commands(shown, columns):
    output = shown("--help")
    assert_fits(output, columns)
    assert "..." not in output.partition("Commands:")[2]


def test_runs_and_evaluate(shown, columns):
    folder = f"runs/{'a-very-long-name-' * 5}"
    settings = {"num_epochs": 1, "valid_share": 0.3, "cell": "gru-after", "num_layers": 2, **SMALL}
    run = rnn_scratch.train("numpy", run=folder, **settings)
    last = run.history[-1]
    figures = [f"{number:.2f}" for number in (last.perplexity, last.valid_perplexity)]
    output = shown("runs")
    assert_fits(output, columns)
    assert_has(output, [folder, "numpy", "scratch", "gru-after", "2 x 12", "tide-clock", "1/1"])
    assert_has(output, [*figures, "finished", f"{run.record.sessions[0].started:%Y-%m-%d}"])
    assert_has(shown("evaluate", 1), [figures[1], f"{last.valid_loss:.3f} nats"])


def test_errors(shown, columns):
    command = ("compare", "--backends", "numpy", "--corpus", "tide-clock", "--target", "1")
    error = shown(*command, code=2)
    assert_fits(error, columns)
    assert "above 1 and below 1e300, and requires held-out text" in " ".join(error.split())


@pytest.fixture(scope="module")
def probes():
    """What `backends` says of all backends, and of one that there is none of."""
    return registry.probes([*registry.names(), "nothing"])


def test_backends(shown, columns, probes, monkeypatch):
    monkeypatch.setattr(registry, "probes", lambda names: probes)  # which are the same each time
    output = shown("backends")
    assert_fits(output, columns)
    for name, probe in probes.items():
        versions = () if isinstance(probe, str) else probe.environment.items()
        assert_has(output, [name, *(f"{key} {version}" for key, version in versions)])
        assert_has(output, [probe] if isinstance(probe, str) else probe.devices)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The check of a fast variant that does not follow a change of `step`, and of no variant."""
    folder, numpy = tmp_path_factory.mktemp("package"), registry.load("numpy")
    changed = load(changed_copy(numpy, folder, (STEP, f"1.5 * {STEP}")))
    cases = in_each_dtype(PLAIN)
    return [
        *runner.check("numpy", changed, "fast", cases, short=True),
        *runner.check("numpy", changed, "concise", cases, short=True),
    ]


@pytest.mark.parametrize("detail", [(), ("--all",)], ids=["short", "all"])
def test_check(shown, columns, rows, detail, monkeypatch):
    monkeypatch.setattr(runner, "rows", lambda *arguments: rows)  # without another process
    output = shown("check", "numpy", "--model", "fast", *detail, code=1)
    assert_fits(output, columns)
    failures = [row for row in rows if not row.passed]
    first = failures[0]
    number = f"numpy, fast: {len(failures)} of {len(rows)} comparisons fail; look first at: "
    assert_has(output, [f"{number}{first.place}: {first.result}{first.where} is "])
    if detail:
        for row in rows:
            figures = [f"off by {row.difference:.1e}", f"allowed {row.allowed:.1e}"]
            place = [row.where] if row.difference else []
            assert_has(output, [row.piece, row.result, row.case, row.note, *place])
            assert_has(output, figures if row.expected is not None else [])
        return
    # One line for each function: the first number that is off, or that nothing is.
    for piece in dict.fromkeys(row.piece for row in rows if row.offered):
        failed = next((row for row in failures if row.piece == piece), None)
        assert_has(output, [f"{piece} DIFFERS", failed.sentence] if failed else [f"{piece} ok"])
    assert_has(output, ["concise", "not offered", "NumPy has no recurrent layer of its own"])


def test_a_comparison(shown, columns, tmp_path):  # `report` prints it as `compare` does
    shutil.copytree(RECORD, tmp_path / "speed")
    output, record = shown("report", "speed"), read(RECORD)
    assert_fits(output, columns)
    assert "  report.html" not in output
    assert_has(output, [*report.lines("setting", record), *report.lines("notes", record)])
    for table in tables.tables(record):
        assert_has(output, [cell for row in table.cells() for cell in row])
