"""Update the golden values of `check numpy` after an intended change: `python -m make.pinned`.

The values are only as correct as the reference, which `check` and test_epoch.py test in other ways.
"""

import json
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.check import draws, results, runner
from rnn_scratch.check.case import make_case

FILE = Path("rnn_scratch/check/pinned.json")


def reference_sums() -> dict[str, dict[str, float]]:
    """Return weighted sums of the reference's outputs, keyed by case and "function: output"."""
    sums: dict[str, dict[str, float]] = {}
    for draw in map(draws.draw, range(draws.NUM_DRAWS)):
        case = make_case(registry.load("numpy"), "scratch", draw)
        sums[draw.label] = {
            key: results.weighted_sum(value)
            for check in runner.CHECKS["scratch"]
            for key, value in case.outputs(check).items()
        }
    return sums


def main() -> None:
    """Replace the file of golden values."""
    text = json.dumps(reference_sums(), indent=1, ensure_ascii=False)
    FILE.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
