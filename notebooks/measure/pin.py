"""Records what `check numpy` compares the reference with: `python -m measure pin FILE`.

Run it after an intended change of the reference or of the cases. The file is only as correct as the
reference is then: `check` compares its gradients with finite differences, and test_epoch.py the
losses of whole trainings with literals.
"""

import json
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.check import inputs, results, runner


def main(file):
    """Compute all weighted sums, and write the file."""
    numbers = {}
    for options in inputs.cases():
        case = inputs.make_case("numpy", registry.load("numpy"), "scratch", options)
        if options.dtype == "float64":
            numbers[case.label] = {
                f"{case.name_of(piece)}: {result.name}": results.weighted_sum(result.value)
                for piece in runner.of_case(case)
                for result in piece(case)
                if isinstance(result, results.Computed) and result.expected is None
            }
    text = json.dumps(numbers, indent=1, ensure_ascii=False)
    Path(file).write_text(text + "\n", encoding="utf-8")
