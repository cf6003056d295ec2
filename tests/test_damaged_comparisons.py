"""A damaged record of a comparison is refused, with the place of the damage, or shown."""

import json
from pathlib import Path

import pytest
from helpers import CLONE, there
from matplotlib.figure import Figure
from mutations import mutations

from rnn_scratch.cli.comparison_display import spreadsheet
from rnn_scratch.compare import changes, comparison, pictures, report, results, words
from rnn_scratch.contract import RNNScratchError

# One of each kind: with curves, a target, and values of threads.
FOLDERS = [CLONE / "notebooks" / "comparisons" / name for name in ("curves", "target-rnn", "speed")]


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
    """A record of the present format with all parts that a record can have."""
    write(json.dumps(shortened(json.loads((folder / "comparison.json").read_bytes()))))
    record = comparison.read(Path("damaged"))
    record["against"] = {
        "started": record["started"],
        "differences": ["--lr: 1.0 before, 0.5 now"],
        "speeds": changes.against(record, record),
    }
    record["candidates"][1]["float64"] = {"state": "failed", "reason": "it was killed"}
    record["candidates"][2] |= {"state": "failed", "reason": "it was killed"}
    return record


def show(record, with_pictures=True):
    """Make all of a report but the files of the pictures, which take long."""
    words.setting_lines(record), results.tables(record), words.notes(record)
    spreadsheet(record).encode()
    report.page(record, {"divergence.svg": b""}).encode()
    for picture in pictures.PICTURES.values() if with_pictures else ():
        picture(Figure().add_subplot(), record)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_mutated_records_are_refused_with_advice_or_shown(folder):
    refusals, number_shown = [], 0
    for text in mutations(small_record(folder), seed=13, count=70):
        write(text)
        try:
            record = comparison.read(Path("damaged"))
        except RNNScratchError as error:
            refusals.append(str(error))
        else:
            show(record, with_pictures=number_shown % 4 == 0)
            number_shown += 1
    path = str(Path("damaged", "comparison.json"))
    for message in refusals:
        assert path in message
        assert "compare again: rnn-scratch compare" in message or "a newer one" in message
        assert len(message) < 600
    assert min(len(refusals), number_shown) > 5


def test_the_command_refuses_a_damaged_record_and_names_the_place():
    record = small_record(FOLDERS[0])
    record["candidates"][1]["speed"][0]["rounds"][0]["first"] = "soon"
    write(json.dumps(record))
    place = "candidates[1].speed[0].rounds[0].first is 'soon', not a number"
    there("report", "damaged").refused("damaged/comparison.json", place, "compare again")
    done = there("compare", "--backends", "numpy", "--against", "damaged")
    done.refused("damaged/comparison.json", place, "compare again")
    assert not Path("runs").exists()


def test_a_name_with_dollar_signs_is_no_formula():
    write(json.dumps(small_record(FOLDERS[-1])).replace('"torch"', '"$x^{$"'))
    images = pictures.draw(comparison.read(Path("damaged")))
    assert "speed.svg" in images


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda record: record["candidates"][0].update(backend="other"), "candidates[0] is not in"),
        (lambda record: record["candidates"][1]["speed"].pop(), "candidates[1] has other values"),
        (lambda record: record["candidates"][2].pop("reason"), "a failure without a reason"),
        (lambda record: record["candidates"][0].pop("machine"), "candidates[0] lacks 'machine'"),
        (
            lambda record: record["candidates"][0]["trainings"][0].update(perplexity=[]),
            "candidates[0] has a training run without epochs",
        ),
        (
            lambda record: [
                training.update(reached=True) or training.pop("seconds")
                for training in record["candidates"][0]["trainings"]
            ],
            "candidates[0] has a run that reached its target, without seconds",
        ),
        (lambda record: record["plan"].update(vary=None), "has other values than the plan"),
        (lambda record: record["settings"].pop("dtype"), "settings is"),
        (lambda record: record["settings"].update(lr=-1.0), "--lr is -1.0"),
        (lambda record: record.update(more=1), "it has 'more'"),
        (lambda record: record["machine"].update(cores="2"), "`$.cores`"),
        (lambda record: record["machine"].update(numa_nodes="2"), "`$.numa_nodes`"),
        (
            lambda record: record.update(baselines={"uniform": 0, "unigram": 3}),
            "baselines.uniform is 0",
        ),
    ],
)
def test_parts_that_do_not_fit_each_other(change, place):
    record = small_record(FOLDERS[-1])
    change(record)
    write(json.dumps(record))
    with pytest.raises(RNNScratchError) as error:
        comparison.read(Path("damaged"))
    assert place in str(error.value)
