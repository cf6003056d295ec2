"""Random changes of the record of a comparison: it is refused with advice, or it is shown."""

import json
from pathlib import Path

import pytest
from helpers import COMPARISONS, here
from matplotlib.figure import Figure
from mutations import mutations

from rnn_scratch.compare import pictures, report, tables
from rnn_scratch.compare.record import Failure, read
from rnn_scratch.compare.tables import spreadsheet
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.system import records

FOLDERS = [COMPARISONS / name for name in ("curves", "target-rnn", "speed")]


def shortened(value, longest=3):
    """A record with at most `longest` elements in each list."""
    if isinstance(value, dict):
        return {key: shortened(each, longest) for key, each in value.items()}
    if isinstance(value, list):
        return [shortened(each, longest) for each in value[:longest]]
    return value


def write(text):
    Path("damaged").mkdir(exist_ok=True)
    Path("damaged/comparison.json").write_text(text, encoding="utf-8")


def small_record(folder):
    """A record with all parts that a record can have, as values of JSON."""
    value = shortened(json.loads((folder / "comparison.json").read_bytes()))
    value["settings"]["num_epochs"] = 3
    if value["plan"]["target"]:
        value["plan"]["target"] = 1.0  # which is not reached
    write(json.dumps(value))
    record = read(Path("damaged"))
    record.against = read(Path("damaged"))
    record.candidates[1].failures = [Failure("it was killed", phase="timing")]
    record.candidates[2].failures = [Failure("it was killed")]
    return json.loads(records.encoded(record))


def show(record, with_pictures=True):
    """Make all of a report but the files of the pictures, which take long."""
    tables.tables(record), spreadsheet(record).encode()
    report.page(record, {"perplexity.svg": b""}).encode()
    for picture in pictures.PICTURES.values() if with_pictures else ():
        picture(Figure().add_subplot(), record)


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


def test_the_command_refuses_a_damaged_record_and_names_the_place(capsys):
    whole = small_record(FOLDERS[-1])
    for part, key, value, words in (
        ("plan", "values", [], "values that are varied need a name"),
        ("plan", "vary", "lr", "at `$.plan.vary`"),
        ("settings", "lr", -1.0, "`--lr` must be"),
        ("machine", "cores", "2", "Expected `int`, got `str` - at `$.machine.cores`"),
        ("machine", "more", 1, "unknown field `more` - at `$.machine`"),
        ("against", "candidates", [], "at `$.against.candidates`"),
    ):
        write(json.dumps({**whole, part: {**whole[part], key: value}}))
        again = "compare", "--backends", "numpy", "--against", "damaged"
        for command in (("report", "damaged"), again):
            done = here(capsys, *command)
            done.refused("damaged/comparison.json", words, "compare again: rnn-scratch compare")
    assert not Path("runs").exists()


def test_records_that_are_none_or_of_another_format(capsys):
    here(capsys, "report", "nowhere").refused("nowhere", "comparison.json")
    for content in ("", "[]", "{}", '{"format": 8}', '{"format": "8"}', "{"):
        write(content)
        with pytest.raises(RNNScratchError, match=r"damaged/comparison.json .* damaged: "):
            read(Path("damaged"))
    write('{"format": 7, "something": "else"}')
    done = here(capsys, "report", "damaged")
    done.refused("damaged/comparison.json has format 7", "reads format 8")
