"""The types that a program outside the clone sees, as mypy and pyright report them."""

import subprocess
import sys

import pytest

PROGRAM = """
import rnn_scratch

run = rnn_scratch.train("numpy", preset="minute", text="mine.txt")
net = rnn_scratch.load(run, best=True)
print(net.predict("The ", 200, temperature=0.5))
print(net.evaluate(), net.params["W_hq"].shape)
print(rnn_scratch.predict("last", "The ", 200, temperature=0.5, best=True))
run = rnn_scratch.resume(run, 40, variant="fast", report=None)
print(run.folder, run.perplexity, run.history[-1].loss)
"""
WRONG = """
import rnn_scratch

rnn_scratch.train("numpy", preset="tiny")
rnn_scratch.train("numpy", variant="slow")
rnn_scratch.load("last").predict("The ", "200")
rnn_scratch.train("numpy").perplexity + 1
"""
TOOLS = {  # commands, without the file
    "mypy": ("-m", "mypy", "--strict", "--python-executable", sys.executable),
    "basedpyright": ("-m", "basedpyright", "--pythonpath", sys.executable),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_programs_are_checked_against_the_package(tool, tmp_path):
    pytest.importorskip(tool, reason="to check types, pip install -e '.[test]'")
    # The default mode of basedpyright is stricter than pyright's.
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    for program, wrong_lines in ((PROGRAM, []), (WRONG, [4, 5, 6, 7])):
        (tmp_path / "program.py").write_text(program)
        command = (sys.executable, *TOOLS[tool], "program.py")
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        lines = [line for line in result.stdout.splitlines() if "error: " in line]
        assert len(lines) == len(wrong_lines), result.stdout + result.stderr
        for number, line in zip(wrong_lines, lines):
            assert f"program.py:{number}:" in line
