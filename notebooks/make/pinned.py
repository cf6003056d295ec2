"""Update the golden values of `check` after an intended change: `python -m make.pinned`.

The values are only as correct as the reference, which `check` and test_epoch.py test in other ways.
"""

import json
from pathlib import Path
from typing import Any

from rnn_scratch import registry
from rnn_scratch.check import draws, results, runner, training
from rnn_scratch.check.case import make_case
from rnn_scratch.contract import VARIANTS

FILE = Path("rnn_scratch/check/pinned.json")


def reference_sums() -> dict[str, dict[str, Any]]:
    """Return sums of the reference's outputs, keyed by case and "function: output".

    The key "training" has the results of complete trainings.
    """
    sums: dict[str, dict[str, Any]] = {}
    for draw in draws.draw_all(range(draws.NUM_DRAWS)):
        if VARIANTS[0] in draw.variants:
            case = make_case(registry.load("numpy"), VARIANTS[0], draw)
            sums[draw.label] = {
                key: results.weighted_sum(value)
                for check in runner.CHECKS[VARIANTS[0]]
                for key, value in case.outputs(check).items()
            }
    return sums | {"training": training.train_reference()}


def main() -> None:
    """Replace the file of golden values."""
    text = json.dumps(reference_sums(), indent=1, ensure_ascii=False)
    FILE.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
