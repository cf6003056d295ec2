"""What a student changes in `scratch.py` is what trains next: the README's path, in a copy."""

import re
import subprocess

import pytest
from helpers import CLONE, require_tested, there
from measure.measuring import load
from sabotages import changed_copy

from rnn_scratch.check import runner

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

README = (CLONE / "README.md").read_text(encoding="utf-8")
PATH = README.split("## Change a line")[1].split("\n## ")[0]
COMMANDS = [line.strip() for line in PATH.splitlines() if line.startswith("    ")]
(EDIT,) = (command for command in COMMANDS if command.startswith("perl "))
CHANGE = re.search(r"'s/\\Q(.*?)/(.*)/' (\S+)", EDIT).groups()  # old, new, file


def test_the_check_detects_the_readme_s_edit_in_the_cell(backend, own_name, tmp_path):
    changed = load(changed_copy(backend, tmp_path, CHANGE[:2]))
    first = next(row for row in runner.check(own_name, changed) if not row.passed)
    assert first.piece == "rnn"


def test_the_perplexities_that_the_readme_quotes_are_those_of_its_commands(backend_names, copy):
    require_tested(backend_names, "torch")
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
