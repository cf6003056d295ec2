"""Random changes of the files of runs and of comparisons: no traceback.

Commands refuse what was changed, or do without it; or it is valid, and they tell of it.
"""

import contextlib
import copy
import hashlib
import json
import random
import shutil
from pathlib import Path

import pytest
from helpers import CLONE, SMALL, here, put_together, safetensors_parts
from matplotlib.figure import Figure

import rnn_scratch
from rnn_scratch.compare import pictures, report, tables
from rnn_scratch.compare.record import Failure, read
from rnn_scratch.compare.tables import spreadsheet
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import checkpoint
from rnn_scratch.runs.run_folder import HISTORY, RUN_FILE
from rnn_scratch.system import records

# Files of a run, with the digests that belong to them.

RUN = Path("runs/damaged")
RUNS, RESUME = ("runs",), ("train", "--resume", RUN, "--epochs", 13)
BEST = ("predict", RUN, "--best", "--temperature", 1)
EVALUATE = ("evaluate", RUN, "--corpus", "tide-clock")


def write_checkpoint(about):
    """Put these metadata, a text, into the checkpoint."""
    header, numbers = safetensors_parts(RUN / checkpoint.FILE)
    header["__metadata__"]["checkpoint"] = about
    put_together(RUN / checkpoint.FILE, header, numbers)


def change_record(seed, count):
    for text in mutations(json.loads((RUN / RUN_FILE).read_bytes()), seed, count):
        yield lambda text=text: (RUN / RUN_FILE).write_text(text)


def change_history(seed, count):
    whole = (RUN / HISTORY).read_text().splitlines(keepends=True)
    about, epoch = metadata(), checkpoint.load(RUN).epoch
    for number, text in enumerate(mutations(json.loads(whole[-1]), seed, count)):

        def write(number=number, text=text):
            lines = list(whole)
            lines[number % len(whole)] = text + "\n"
            content = "".join(lines).encode()
            (RUN / HISTORY).write_bytes(content)
            mark = len(content), hashlib.sha256(content).hexdigest()
            write_checkpoint(json.dumps({**about, "epoch": epoch, "history": mark}))

        yield write


def metadata():
    return json.loads(safetensors_parts(RUN / checkpoint.FILE)[0]["__metadata__"]["checkpoint"])


def change_checkpoint(seed, count):
    for text in mutations(metadata(), seed, count):
        yield lambda text=text: write_checkpoint(text)


def change_both(seed, count):
    """The settings, the text and the runtime in all files alike."""
    about, record = metadata(), json.loads((RUN / RUN_FILE).read_bytes())
    common = {name: about[name] for name in ("settings", "text", "runtime")}
    for text in mutations(common, seed, count):

        def write(text=text):
            with contextlib.suppress(ValueError, RecursionError):  # one that is cut off
                changed = json.loads(text)
                write_checkpoint(json.dumps({**about, **changed}))
                runtime = changed.pop("runtime", {})
                record["sessions"][0]["runtime"] = runtime
                (RUN / RUN_FILE).write_text(json.dumps({**record, **changed}))

        yield write


@pytest.mark.faults
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


# Records of comparisons. One of each kind: with curves, a target, and values of threads.
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


# Random changes of a record, from a seed

FACTORS = (0, -1, 2, 0.1, 1e-6, 1e6, 1e12, 1e200)
NAMES = ("new", "", "state", "reason", "float64", "x" * 1_000)
# What `json.dumps` cannot write: lists in lists, and a number of a thousand digits.
PLACEHOLDERS = {"-deep-": "[" * 5_000 + "]" * 5_000, "-huge-": "9" * 1_000}
VALUES = (
    *(None, {}, [], [None], [[]], {"": {}}, "", "text", "\x1b]0;title\x07", "$x^{$", "<b>", "[/]"),
    *("\ud800", "x" * 10_000, True, False, 0, 1, -1, 2, 2**31, 2**63, 10**300, *PLACEHOLDERS),
    *(0.0, 0.5, -0.5, 1e-320, 1e-9, 1e9, 1e30, 1e300, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
)


def mutations(record, seed, count):
    """Yield `count` texts in JSON of this record with one to three changes at random places.

    Now and then the text is cut off.
    """
    chance = random.Random(seed)
    for _ in range(count):
        value = copy.deepcopy(record)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            change(chance, list(places(value)))
        text = json.dumps(value)
        for placeholder, content in PLACEHOLDERS.items():
            text = text.replace(json.dumps(placeholder), content)
        yield text if chance.random() > 0.05 else text[: chance.randrange(len(text))]


def change(chance, places):
    """Remove, replace, scale or add the value at one of these places."""
    kind = chance.choice(("remove", "replace", "replace", "scale", "scale", "add"))
    if kind == "scale":
        places = [place for place in places if type(place[0][place[1]]) in (int, float)] or places
    elif chance.random() < 0.5:  # or most would be elements of lists of numbers
        places = [place for place in places if isinstance(place[0], dict)] or places
    if not places:
        return
    container, key = chance.choice(places)
    if kind == "remove":
        del container[key]
    elif kind == "scale" and type(container[key]) in (int, float):
        container[key] *= chance.choice(FACTORS)
    elif kind == "add" and isinstance(container, dict):
        container[chance.choice(NAMES)] = copy.deepcopy(chance.choice(VALUES))
    else:
        container[key] = copy.deepcopy(chance.choice(VALUES))


def places(value):
    """Every place in a record: what contains it, and its key there."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])
