"""A run's record or history with random damages: commands refuse it, or do without a traceback."""

import json
import random

import pytest
from helpers import SMALL, here
from mutations import mutations

import rnn_scratch
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs import folder as run_folder

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(
    ("command", "codes"),
    [(("runs",), {0}), (("train", "--resume", "runs/damaged", "--epochs", "13"), {0, 2})],
)
@pytest.mark.parametrize("file", [run_folder.RUN_FILE, run_folder.HISTORY])
def test_a_command_with_a_damaged_run(capsys, file, command, codes):
    run = rnn_scratch.train("numpy", num_epochs=12, run="runs/damaged", **SMALL).folder
    paths = (run / run_folder.RUN_FILE, run / run_folder.HISTORY, checkpoint.find(run))
    whole = {path: path.read_bytes() for path in paths}
    lines = whole[run / file].decode().splitlines() if file == run_folder.HISTORY else []
    lines = lines or [whole[run / file].decode()]
    seed, found = random.randrange(10**6), set()
    for number, text in enumerate(mutations(json.loads(lines[-1]), seed, 200)):
        for path, content in whole.items():
            path.write_bytes(content)
        changed = number % len(lines)
        damaged = [text if each == changed else line for each, line in enumerate(lines)]
        (run / file).write_text("".join(line + "\n" for line in damaged), encoding="utf-8")
        done = here(capsys, *command)
        assert done.code in codes, (seed, number, done)
        found.add(done.code)
    assert found == codes
