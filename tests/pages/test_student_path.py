"""The README's path: an edit of `scratch.py` in a copy changes the next training."""

import itertools
import math
import re
from collections import Counter

import lesson
import pytest
from backend_mutations import mutate_file, mutated_copy
from helpers import CLONE, require_tested, run_subprocess
from measure.measuring import load

from rnn_scratch.check import runner

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

README = (CLONE / "README.md").read_text(encoding="utf-8")
PATH = README.split("## Change a line")[1].split("\n## ")[0]
COMMANDS = [line.strip() for line in PATH.splitlines() if line.startswith("    ")]
CHANGE = re.search(r"replace `(.*?)` with `(.*?)`", PATH).groups()  # old, new


def test_check_names_the_function_with_the_readme_s_edit(backend, builtin_name, tmp_path):
    changed = load(mutated_copy(backend, tmp_path, CHANGE))
    first = next(row for row in runner.check(builtin_name, changed) if not row.passed)
    assert first.function == "rnn"


def test_perplexities_in_the_readme_are_results_of_its_commands(backend_names, copy):
    require_tested(backend_names, "torch")
    ends = re.findall(r"run\s+ends\s+at\s+(?:a\s+perplexity\s+of\s+)?(\d+\.\d)", PATH)
    train = next(command for command in COMMANDS if " train " in command)
    arguments = train.split(" train ")[1].split()
    program, env = ("-c", "from rnn_scratch.cli.main import main; main()"), {"OMP_NUM_THREADS": 1}
    measured = []
    for change in (None, CHANGE):
        if change:
            mutate_file(change, copy / "backends" / "torch" / "scratch.py")
        result = run_subprocess(
            "train", *arguments, "--device", "cpu", program=program, cwd=copy, env=env
        )
        (perplexity,) = re.findall(r"^training text .* perplexity (\S+)$", result.out, re.MULTILINE)
        measured.append(float(perplexity))
    # The README rounds, and processors differ in the last bits.
    assert [float(number) for number in ends] == pytest.approx(measured, abs=0.11)


def test_table_of_letter_pairs_has_the_readme_s_perplexity():
    text = lesson.story()[: lesson.LESSON]
    pairs, first = Counter(itertools.pairwise(text)), Counter(text[:-1])
    loss = -sum(n * math.log(n / first[a]) for (a, _), n in pairs.items()) / (len(text) - 1)
    quoted = re.search(r"letter\s+pairs,\s+which\s+reaches\s+(\d+\.\d)", PATH)[1]
    assert quoted == f"{math.exp(loss):.1f}"
