"""What a student changes in `scratch.py` is what trains next: the README's path, in a copy."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from helpers import CLONE, there

import rnn_scratch

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

README = (CLONE / "README.md").read_text(encoding="utf-8")
PATH = README.split("## Change a line")[1].split("\n## ")[0]
COMMANDS = [line.strip() for line in PATH.splitlines() if line.startswith("    ")]
(EDIT,) = (command for command in COMMANDS if command.startswith("perl "))
CHANGE = re.search(r"'s/\\Q(.*?)/(.*)/' (\S+)", EDIT).groups()  # old, new, file
SHORT = {"num_hiddens": 16, "num_steps": 8, "batch_size": 4, "max_tokens": 800, "num_epochs": 1}
SHORT |= {"corpus": "tide-clock", "sigma": 0.3, "dtype": "float64", "threads": 1, "device": "cpu"}

# A program for a process in the copy.
TRAIN = """
import json, sys
import rnn_scratch
from rnn_scratch import registry
from rnn_scratch.check import runner

run = rnn_scratch.train(sys.argv[1], **json.loads(sys.argv[2]))
backend = registry.load(sys.argv[1])
answers = {"perplexity": run.perplexity, "file": backend.scratch.__file__}
rows = runner.check(sys.argv[1], backend)  # up to the first that fails
answers["first"] = next((row.piece for row in rows if not row.passed), None)
rows.close()  # and not when the process ends, without its modules
print(json.dumps(answers))
"""


def run(copy, name):
    """The answers of the program, run in the copy by a new process."""
    arguments, env = (name, json.dumps(SHORT)), {"OMP_NUM_THREADS": 1}
    done = there(*arguments, program=("-c", TRAIN), cwd=copy, env=env).ended()
    answers = json.loads(done.out.splitlines()[-1])
    assert Path(answers["file"]).is_relative_to(copy)
    return answers


def test_the_readme_s_edit_of_the_step_changes_the_next_training(own_name, copy):
    file = copy / "backends" / own_name / "scratch.py"
    text = file.read_text(encoding="utf-8")
    assert text.count(CHANGE[0]) == 1
    file.write_text(text.replace(*CHANGE[:2]), encoding="utf-8")
    answers = run(copy, own_name)
    before = rnn_scratch.train(own_name, **SHORT).perplexity
    assert abs(answers["perplexity"] - before) > 0.01 * before
    assert answers["first"] == "rnn"


def test_the_perplexities_that_the_readme_quotes_are_those_of_its_commands(backend_names, copy):
    if "torch" not in backend_names:
        pytest.skip("the README's commands train with PyTorch")
    quoted = re.findall(r"ends\s+at\s+(?:a\s+\*perplexity\*\s+of\s+)?(\d+\.\d)", PATH)
    train = next(command for command in COMMANDS if " train " in command)
    arguments = train.split(" train ")[1].split()
    program, env = ("-c", "from rnn_scratch.cli.main import main; main()"), {"OMP_NUM_THREADS": 1}
    measured = []
    for command in (None, EDIT):
        if command:
            subprocess.run(command, shell=True, check=True, cwd=copy)
            assert not list(copy.rglob("*.bak"))  # it leaves no file behind
        done = there("train", *arguments, "--device", "cpu", program=program, cwd=copy, env=env)
        (perplexity,) = re.findall(r"^training text .* perplexity (\S+)$", done.out, re.MULTILINE)
        measured.append(float(perplexity))
    # The figures are rounded, and processors differ in the last bits.
    assert [float(number) for number in quoted] == pytest.approx(measured, abs=0.11)
