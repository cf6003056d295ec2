"""The page for contributors and the workflow name sessions and files that there are."""

import re

import pytest
from helpers import CLONE

from rnn_scratch import contract, registry
from rnn_scratch.check import functions, runner
from rnn_scratch.check.inputs import PLAIN, in_each_dtype

PAGE = (CLONE / "notebooks/site/contributing.md").read_text(encoding="utf-8")
WORKFLOW = (CLONE / ".github/workflows/ci.yml").read_text(encoding="utf-8")
SESSIONS = set(
    re.findall(
        r'^@nox\.session(?:\(name="(\w+)"\)|.*)\n(?:@.*\n)*def (\w+)',
        (CLONE / "noxfile.py").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
)
NAMES = {name or function for name, function in SESSIONS}


def test_the_page_s_sessions_are_those_of_the_noxfile():
    (table,) = re.findall(r"\| `nox -s` .*?\n\n", PAGE, re.DOTALL)
    rows = [line.split("|")[1] for line in table.splitlines()[2:] if line]
    listed = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert listed == NAMES
    for name in re.findall(r'nox -s "?(\w+)', PAGE):
        assert name in NAMES, name


def test_the_workflow_runs_what_the_page_says():
    (table,) = re.findall(r"\| `nox -s` .*?\n\n", PAGE, re.DOTALL)
    rows = [line.split("|")[1] for line in table.splitlines()[2:12]]
    for job, listed in (("nox", rows[:4]), ("weekly", rows[4:])):
        text = WORKFLOW.split(f"  {job}:\n")[1].split("steps:")[0]
        (together,) = re.findall(r"session: \[(.*?)\]", text)
        sessions = {*together.split(", "), *re.findall(r"session: (\w+)", text)}
        assert sessions == {name for row in listed for name in re.findall(r"`(\w+)`", row)}
        assert sessions <= NAMES


@pytest.mark.parametrize("path", sorted(set(re.findall(r"[\w./]+/[\w./]+\.\w+", PAGE))))
def test_every_file_that_the_page_names_is_there(path):
    assert (CLONE / path).is_file()


def test_the_optimizer_of_the_page_is_equal_in_every_backend(backend_name, monkeypatch):
    (function,) = re.findall(r"```python\n(def lion.*?)```", PAGE, re.DOTALL)
    (slots,) = re.findall(r'`"lion": (.*?)`', PAGE)
    monkeypatch.setitem(contract.OPTIMIZERS, "lion", eval(slots))
    modules = {"torch": "torch", "tensorflow": "tf", "jax": "jnp"}
    for name in {"numpy", backend_name}:
        scratch = registry.load(name).scratch
        names = dict(vars(scratch))
        exec(function.replace("torch.", f"{modules.get(name, 'np')}."), names)
        monkeypatch.setitem(scratch.OPTIMIZERS, "lion", names["lion"])
    pieces = (*runner.PIECES["scratch"], *runner.ONCE, *runner.OF_A_DTYPE)
    omit = [piece for piece in pieces if piece is not functions.update]
    cases = in_each_dtype(PLAIN)
    backend = registry.load(backend_name)
    rows = runner.check(backend_name, backend, cases=cases, short=True, omit=omit)
    own = [row for row in rows if row.result.startswith("lion")]
    assert len(own) == 3
    assert all(row.passed for row in own)
