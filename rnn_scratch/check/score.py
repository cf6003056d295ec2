"""Count the known mistakes that the test vectors detect."""

import warnings
from collections.abc import Sequence

import numpy as np

from ..contract import Backend
from ..system.records import Record
from .answers import compare
from .mistakes import insert_mistake
from .results import read_data
from .vector_calls import Group, run
from .vectors import TRAINING

NOT_IN_VECTORS = ("init_params",)  # a program in another language has no arrays to share


class FunctionScore(Record):
    """The number of a function's known mistakes that are detected, and those that are not."""

    function: str
    detected: int
    missed: list[str]

    @property
    def total(self) -> int:
        """The number of known mistakes."""
        return self.detected + len(self.missed)


def score(groups: Sequence[Group]) -> list[FunctionScore]:
    """Apply each known mistake to the reference, and count those that change a test's outputs."""
    scores = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for function, mistakes in read_data("mistakes.json").items():
            if function in NOT_IN_VECTORS:
                continue
            missed = []
            for name, change in mistakes.items():
                backend = insert_mistake(function, tuple(change))
                if not any(_differs(backend, group) for group in groups):
                    missed.append(name)
            scores.append(FunctionScore(function, len(mistakes) - len(missed), missed))
    return scores


def describe(scores: Sequence[FunctionScore]) -> list[str]:
    """Return lines with the total, each function's score, and the mistakes that are missed."""
    detected, total = sum(s.detected for s in scores), sum(s.total for s in scores)
    counts = ", ".join(f"{s.function} {s.detected}/{s.total}" for s in scores)
    lines = [f"The vectors detect {detected} of {total} known mistakes: {counts}."]
    for function in scores:
        for name in function.missed:
            lines.append(f"Not detected in `{function.function}`: {name}.")
    return lines


def _differs(backend: Backend, group: Group) -> bool:
    """Return whether a backend fails or gives another output in one of the group's tests."""
    for test in group.tests if group.name != TRAINING else ():
        try:
            if compare(group, test, run(backend, group, test)):
                return True
        except Exception:
            return True
    return False
