"""A damaged comparison record is refused, and the error names the field."""

import json
from pathlib import Path

import pytest
from helpers import run_in_process
from small_records import make_candidate, make_record

from rnn_scratch.compare.record import read
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.system import records


def write(text):
    Path("damaged").mkdir(exist_ok=True)
    Path("damaged/comparison.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("part", "field", "value", "problem"),
    [
        ("plan", "values", [1], "`vary` requires `values`"),
        ("plan", "vary", "lr", "at `$.plan.vary`"),
        ("settings", "lr", -1.0, "at `$.settings.lr`"),
        ("machine", "cores", "2", "Expected `int`, got `str` - at `$.machine.cores`"),
        ("machine", "color", 1, "unknown field `color` - at `$.machine`"),
    ],
)
def test_report_names_the_damaged_field(capsys, part, field, value, problem):
    record = json.loads(records.line(make_record(make_candidate("numpy", "scratch"))))
    record[part][field] = value
    write(json.dumps(record))
    result = run_in_process(capsys, "report", "damaged")
    result.assert_error("damaged/comparison.json", problem, "Restore it from a backup")
    assert not Path("runs").exists()


def test_report_refuses_other_files_and_formats(capsys):
    run_in_process(capsys, "report", "nowhere").assert_error("nowhere", "comparison.json")
    for content in ("", "[]", "{}", '{"format": 9}', '{"format": "9"}', "{"):
        write(content)
        with pytest.raises(RNNScratchError, match=r"comparison.json (is damaged|was written by)"):
            read(Path("damaged"))
    write('{"format": 8, "something": "else"}')
    result = run_in_process(capsys, "report", "damaged")
    result.assert_error("comparison.json was written by another version of rnn-scratch.")
