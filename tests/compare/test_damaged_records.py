"""Reading corrupted comparison records either raises a helpful error or makes a report."""

import json
from pathlib import Path

import pytest
from helpers import COMPARISONS, run_in_process
from matplotlib.figure import Figure
from mutations import mutations

from rnn_scratch.compare import pictures, report, tables
from rnn_scratch.compare.record import Failure, read
from rnn_scratch.compare.tables import spreadsheet
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.system import records

FOLDERS = [COMPARISONS / name for name in ("curves", "target-rnn", "speed")]


def truncate(value, longest=3):
    """Return a record with at most `longest` elements in each list."""
    if isinstance(value, dict):
        return {key: truncate(item, longest) for key, item in value.items()}
    if isinstance(value, list):
        return [truncate(item, longest) for item in value[:longest]]
    return value


def write(text):
    Path("damaged").mkdir(exist_ok=True)
    Path("damaged/comparison.json").write_text(text, encoding="utf-8")


def small_record(folder):
    """Return a record with all optional parts, as JSON values."""
    value = truncate(json.loads((folder / "comparison.json").read_bytes()))
    value["settings"]["num_epochs"] = 3
    if value["plan"]["target"]:
        value["plan"]["target"] = 1.0  # a perplexity that no run reaches
    write(json.dumps(value))
    record = read(Path("damaged"))
    record.candidates[1].failures = [Failure("it was killed", phase="timing")]
    record.candidates[2].failures = [Failure("it was killed")]
    return json.loads(records.line(record))


def show(record, with_pictures=True):
    """Make a report without rendering its figures, which would take long."""
    tables.tables(record), spreadsheet(record).encode()
    report.page(record, {"perplexity": b""}).encode()
    for picture in pictures.PICTURES.values() if with_pictures else ():
        picture(Figure(), record)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_mutated_records_are_refused_with_advice_or_shown(folder):
    refusals, number_shown = [], 0
    for text in mutations(small_record(folder), seed=13, count=70):
        write(text)
        try:
            record = read(Path("damaged"))
        except RNNScratchError as error:
            refusals.append(str(error))
        else:
            show(record, with_pictures=number_shown % 4 == 0)
            number_shown += 1
    path = str(Path("damaged", "comparison.json"))
    for message in refusals:
        assert path in message
        assert "compare again: rnn-scratch compare" in message or "reads format" in message
        assert len(message) < 600
    assert min(len(refusals), number_shown) > 5


def test_report_refuses_a_damaged_record_and_names_the_field(capsys):
    record = small_record(FOLDERS[-1])
    for part, key, value, problem in (
        ("plan", "values", [], "`vary` requires `values`"),
        ("plan", "vary", "lr", "at `$.plan.vary`"),
        ("settings", "lr", -1.0, "at `$.settings.lr`"),
        ("machine", "cores", "2", "Expected `int`, got `str` - at `$.machine.cores`"),
        ("machine", "more", 1, "unknown field `more` - at `$.machine`"),
    ):
        write(json.dumps({**record, part: {**record[part], key: value}}))
        result = run_in_process(capsys, "report", "damaged")
        result.assert_error(
            "damaged/comparison.json", problem, "compare again: rnn-scratch compare"
        )
    assert not Path("runs").exists()


def test_other_files_and_formats_are_refused(capsys):
    run_in_process(capsys, "report", "nowhere").assert_error("nowhere", "comparison.json")
    for content in ("", "[]", "{}", '{"format": 9}', '{"format": "9"}', "{"):
        write(content)
        with pytest.raises(RNNScratchError, match=r"damaged/comparison.json .* damaged: "):
            read(Path("damaged"))
    write('{"format": 8, "something": "else"}')
    result = run_in_process(capsys, "report", "damaged")
    result.assert_error("damaged/comparison.json has format 8", "reads format 9")
