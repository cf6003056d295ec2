"""The section "Change a line" of *Build it*: editing `scratch.py` changes the next training run."""

import itertools
import math
import re
from collections import Counter

import pytest
from backend_mutations import mutate_file, mutated_copy
from helpers import CLONE, require_tested, run_subprocess
from measure.measuring import load

from rnn_scratch.check import runner
from rnn_scratch.support import lesson

pytestmark = pytest.mark.student(by_default=("numpy", "torch"))

README = (CLONE / "README.md").read_text(encoding="utf-8")
LESSON = (CLONE / "notebooks/make/lessons/build.md").read_text(encoding="utf-8")
PATH = LESSON.split("## Change a line")[1].split("\n## ")[0].replace("{backend}", "torch")
COMMANDS = [line.strip() for line in PATH.splitlines() if line.startswith("    ")]
CHANGE = re.search(r"replace `(.*?)` with `(.*?)`", README).groups()  # old, new


def test_check_names_the_edited_function(backend, builtin_name, tmp_path):
    changed = load(mutated_copy(backend, tmp_path, CHANGE))
    failure = next(row for row in runner.check(changed) if not row.passed)
    assert failure.function == "rnn"


def test_readme_commands_reach_the_quoted_perplexities(backend_names, copy):
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
        (perplexity,) = re.findall(r"^training loss .* perplexity (\S+)$", result.out, re.MULTILINE)
        measured.append(float(perplexity))
    # The README rounds the perplexities, because their last bits depend on the processor.
    assert [float(perplexity) for perplexity in ends] == pytest.approx(measured, abs=0.11)


def test_bigram_table_reaches_the_quoted_perplexity():
    text = lesson.story("chapter")[: lesson.NUM_TRAIN_TOKENS]
    pairs, letters = Counter(itertools.pairwise(text)), Counter(text[:-1])
    loss = -sum(n * math.log(n / letters[a]) for (a, _), n in pairs.items()) / (len(text) - 1)
    quoted = re.search(r"bigram\s+table\s+\((\d+\.\d)\)", PATH)[1]
    assert quoted == f"{math.exp(loss):.1f}"
