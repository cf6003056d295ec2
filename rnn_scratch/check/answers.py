"""Compare a program's answers to the test vectors with the reference."""

import contextlib
import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RNNScratchError, truncate
from ..system.records import Record
from .mistakes import insert_mistake
from .results import CheckResult, WorstMismatch, find_worst_mismatch, read_data
from .vector_calls import FUNCTIONS, Group, Test, run
from .vector_files import Answers, read_answers
from .vectors import TRAINING, make

CLOSE = {"float64": 1e-9, "float32": 1e-3}  # mistakes may magnify rounding errors


class FunctionVerdict(Record):
    """The comparison of a function's tests."""

    function: str
    right: int = 0  # number of tests whose outputs are right
    wrong: int = 0
    missing: int = 0  # number of tests that the program does not answer
    failure: CheckResult | None = None  # first difference
    note: str = ""  # what the first test that differs detects
    mistake: str = ""  # known mistake with the same values

    @property
    def outcome(self) -> str:
        """The outcome in a few words."""
        if not self.right and not self.wrong:
            return "not implemented"
        tests = f"{self.right + self.wrong} test" + "s" * (self.right + self.wrong > 1)
        start = f"DIFFERS in {self.wrong} of {tests}" if self.wrong else f"right, in {tests}"
        return start + f"; {self.missing} not implemented" * bool(self.missing)

    def explain(self) -> list[str]:
        """Return lines that describe the first difference."""
        if self.failure is None:
            return []
        lines = [f"`{self.function}` differs from the reference:", f"  {self.failure.problem}"]
        lines += [f"  in {self.failure.case}", f"  This test detects: {self.note}."]
        known = f"These are the values of a known mistake: {self.mistake}."
        return lines + [known] * bool(self.mistake)


def check_answers(path: Path) -> list[FunctionVerdict]:
    """Compare an answers file; return a verdict for each function, in the order of the tests.

    Raises RNNScratchError if the file cannot be used.
    """
    answers = read_answers(path)
    groups = make(seed=answers.seed, dtype=answers.dtype)
    _require_known(path, answers, groups)
    verdicts = dict[str, FunctionVerdict]()
    first: tuple[FunctionVerdict, Group] | None = None
    for group, test in sorted_tests(groups):
        verdict = verdicts.setdefault(test.function, FunctionVerdict(test.function))
        if test.id not in answers.outputs:
            verdict.missing += 1
            continue
        failure = compare(group, test, answers.outputs[test.id])
        verdict.right += failure is None
        verdict.wrong += failure is not None
        if failure is not None and verdict.failure is None:
            verdict.failure, verdict.note = failure, test.note
            first = first or (verdict, group)
    if first is not None:
        verdict, group = first
        verdict.mistake = identify_mistake(verdict.function, group, groups, answers)
    return [*verdicts.values()]


def sorted_tests(groups: Sequence[Group]) -> list[tuple[Group, Test]]:
    """Return all tests with their groups; a function's tests precede those of its callers."""
    order = [*FUNCTIONS, "train"]
    pairs = [(group, test) for group in groups for test in group.tests]
    return sorted(pairs, key=lambda pair: order.index(pair[1].function))


def compare(group: Group, test: Test, outputs: dict[str, Any]) -> CheckResult | None:
    """Return the first output that differs from a test's expected outputs, or None."""
    for name in [*test.outputs, *outputs]:
        expected, actual = test.outputs.get(name), outputs.get(name)
        if expected is None:
            worst = WorstMismatch(None, f"no such output; they are {', '.join(test.outputs)}")
        elif actual is None:
            worst = WorstMismatch(None, "the output is missing")
        elif isinstance(actual, str):
            worst = WorstMismatch(None, actual)
        else:
            worst = find_worst_mismatch(*(array.astype("float64") for array in (expected, actual)))
        result = CheckResult(
            function=test.function,
            output=f"{test.id}: {truncate(name, 60)}",
            case=group.label,
            tolerance=test.tolerance,
            **worst._asdict(),
        )
        if not result.passed:
            return result
    return None


def identify_mistake(function: str, group: Group, groups: Sequence[Group], answers: Answers) -> str:
    """Return the name of the known mistake that gives the same answers for a cell, or ""."""
    cell = group.options.cell.replace("-", "_")
    callees = {"cell": (cell,), "gradients": (f"{cell}_backward", "bptt", "loss_backward")}
    first = callees.get(function, (function,))
    mistakes = [
        (owner, name, change)
        for owner, named in read_data("mistakes.json").items()
        for name, change in named.items()
    ]
    answered = [
        (other, test)
        for other in groups
        for test in other.tests
        if test.function == function and test.id in answers.outputs
        if other.options.cell == group.options.cell and other.name != TRAINING
    ]
    if not all(
        isinstance(array, np.ndarray) and name in test.outputs
        for _, test in answered
        for name, array in answers.outputs[test.id].items()
    ):
        return ""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for owner, name, change in sorted(mistakes, key=lambda mistake: mistake[0] not in first):
            backend = insert_mistake(owner, tuple(change))
            with contextlib.suppress(Exception):  # the mistake may make the reference fail
                if all(
                    _is_close(run(backend, other, test), answers.outputs[test.id], other)
                    for other, test in answered
                ):
                    return name
    return ""


def _is_close(expected: dict[str, Any], actual: dict[str, Any], group: Group) -> bool:
    """Return whether all given outputs are equal up to rounding errors; NaN equals NaN."""
    limit = CLOSE[group.options.dtype]
    return all(
        expected[name].shape == array.shape
        and np.allclose(expected[name], array, rtol=limit, atol=limit, equal_nan=True)
        for name, array in actual.items()
    )


def _require_known(path: Path, answers: Answers, groups: Sequence[Group]) -> None:
    """Raise RNNScratchError if the program answers tests that do not exist."""
    known = [test.id for group in groups for test in group.tests]
    unknown = [place for place in answers.outputs if place not in known]
    if unknown:
        matches = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"Did you mean `{matches[0]}`?" if matches else ""
        raise RNNScratchError(f"{path} answers `{unknown[0]}`, which is not a test.", hint)
