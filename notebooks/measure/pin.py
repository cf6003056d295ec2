"""Record the outputs that `check numpy` compares the reference with: `python -m measure pin FILE`.

Run it after an intended change of the reference or of the draws. The file is only as correct as the
reference is then: `check` compares its gradients with finite differences, and test_epoch.py the
losses of whole training runs with literals.
"""

import json
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.check import draws, results, runner


def outputs():
    """Return the weighted sums of the reference's outputs, by case and "function: output"."""
    sums = {}
    for draw in draws.draw_all():
        case = draws.make_case("numpy", registry.load("numpy"), "scratch", draw)
        if draw.options.dtype == "float64":
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
    """Write the file."""
    text = json.dumps(outputs(), indent=1, ensure_ascii=False)
    Path(file).write_text(text + "\n", encoding="utf-8")
