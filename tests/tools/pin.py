"""The numbers that `check numpy` holds the reference to: `python tests/tools/pin.py FILE`.

To be run after a change of the reference, or of the cases, that is meant. What is written is only
as right as the reference is by then: its gradients are held against finite differences in
test_gradients.py, and whole trainings to losses as literals in test_epoch.py.
"""

import json
import sys
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.check import pieces, pinned


def main():
    """Write what the reference computes now."""
    found = {}

    def keep(case, piece, result, value):
        found.setdefault(case, {})[f"{piece}: {result}"] = pinned.number(value)
        return 0.0

    pinned.difference, pinned.holds = keep, lambda case: case.startswith("float64")
    assert all(row.passed for row in pieces.hold(registry.load("numpy")))
    text = json.dumps(found, indent=1, ensure_ascii=False)
    Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
