"""Record golden values for `check numpy` from the reference: `python -m measure pin FILE`.

Run it after an intended change to the reference or the random inputs. The golden values are only as
correct as the reference, whose gradients `check` compares with finite differences, and whose losses
in whole training runs test_epoch.py compares with literals.
"""

import json
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.check import draws, results, runner


def outputs():
    """Return the weighted sums of the reference's outputs, keyed by case and "function: output"."""
    sums = {}
    for draw in draws.draw_all():
        case = draws.make_case("numpy", registry.load("numpy"), "scratch", draw)
        sums[draw.label] = {
            f"{result.function or case.function_name(check)}: {result.name}": (
                results.weighted_sum(case.to_arrays(result.value))
            )
            for check in runner.CHECKS["scratch"]
            for result in check(case)
            if result.expected is None
        }
    return sums


def main(file):
    """Write the golden values to `file`."""
    text = json.dumps(outputs(), indent=1, ensure_ascii=False)
    Path(file).write_text(text + "\n", encoding="utf-8")
