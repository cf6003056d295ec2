"""Random changes of a run's files, with the digests that belong to them: no traceback.

Commands refuse what was changed, or do without it; or it is a valid run, of which they tell.
"""

import contextlib
import json
import random
import shutil
from pathlib import Path

import msgspec
import pytest
from helpers import SMALL, here, put_together, safetensors_parts
from mutations import mutations

import rnn_scratch
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs import folder as run_folder
from rnn_scratch.runs.folder import HISTORY, RUN_FILE, Epoch
from rnn_scratch.system import records

pytestmark = pytest.mark.faults

RUN = Path("runs/damaged")
RUNS, RESUME = ("runs",), ("train", "--resume", RUN, "--epochs", 13)
BEST = ("predict", RUN, "--best", "--temperature", 1)
EVALUATE = ("evaluate", RUN, "--corpus", "tide-clock")


def write_checkpoints(about):
    """Put these metadata, a text, into the checkpoints."""
    for name in (checkpoint.FILE, checkpoint.BEST):
        header, numbers = safetensors_parts(RUN / name)
        header["__metadata__"]["checkpoint"] = about
        put_together(RUN / name, header, numbers)


def change_record(seed, count):
    for text in mutations(json.loads((RUN / RUN_FILE).read_bytes()), seed, count):
        yield lambda text=text: (RUN / RUN_FILE).write_text(text)


def change_history(seed, count):
    whole = (RUN / HISTORY).read_text().splitlines(keepends=True)
    identity, about = run_folder.identity(RUN), metadata()
    for number, text in enumerate(mutations(json.loads(whole[-1]), seed, count)):

        def write(number=number, text=text):
            digest, lines = identity, list(whole)
            lines[number % len(whole)] = text + "\n"
            for place, line in enumerate(lines):
                with contextlib.suppress(ValueError, RecursionError):
                    epoch = run_folder.sealed(msgspec.json.decode(line, type=Epoch), digest)
                    lines[place], digest = records.line(epoch).decode(), epoch.digest
            (RUN / HISTORY).write_text("".join(lines), encoding="utf-8")
            write_checkpoints(json.dumps({**about, "history": digest}))

        yield write


def metadata():
    return json.loads(safetensors_parts(checkpoint.find(RUN))[0]["__metadata__"]["checkpoint"])


def change_checkpoint(seed, count):
    for text in mutations(metadata(), seed, count):
        yield lambda text=text: write_checkpoints(text)


def change_both(seed, count):
    """The settings, the text and the runtime in all files alike."""
    about, record = metadata(), json.loads((RUN / RUN_FILE).read_bytes())
    common = {name: about[name] for name in ("settings", "text", "runtime")}
    for text in mutations(common, seed, count):

        def write(text=text):
            with contextlib.suppress(ValueError, RecursionError):  # one that is cut off
                changed = json.loads(text)
                write_checkpoints(json.dumps({**about, **changed}))
                runtime = changed.pop("runtime", {})
                record["sessions"][0]["runtime"] = runtime
                (RUN / RUN_FILE).write_text(json.dumps({**record, **changed}))

        yield write


@pytest.mark.parametrize(
    ("change", "commands"),
    [
        (change_record, [RUNS, RESUME]),
        (change_history, [RUNS, RESUME]),
        (change_checkpoint, [("predict", RUN), BEST, EVALUATE, RESUME]),
        (change_both, [RUNS, ("predict", RUN), RESUME]),
    ],
)
def test_commands_with_a_damaged_run(capsys, trials, change, commands):
    settings = {**SMALL, "max_tokens": 200, "valid_share": 0.3}
    rnn_scratch.train("numpy", num_epochs=12, run=RUN, **settings)
    shutil.copytree(RUN, "whole")
    seed, codes = random.randrange(10**6), set()
    for number, write in enumerate(change(seed, trials or 100)):
        for command in commands:
            shutil.rmtree(RUN)
            shutil.copytree("whole", RUN)
            write()
            done = here(capsys, *command)
            # 1: the training that is described diverges.
            assert done.code in (0, 1, 2), (seed, number, done)
            assert len(done.err) < 5000, (seed, number)
            codes.add(done.code)
    assert codes >= {0, 2}
