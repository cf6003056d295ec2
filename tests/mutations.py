"""Random changes of a record, from a seed."""

import copy
import json
import random

KINDS = ("remove", "replace", "replace", "exchange", "repeat", "add", "scale", "scale", "scale")
FACTORS = (0, -1, 2, 0.1, 1e-6, 1e6, 1e12, 1e200)
NAMES = ("new", "", "state", "reason", "float64", "x" * 1_000)
DEEP = "-deep-"  # stands for lists in lists, which `json.dumps` cannot write
HUGE = "-huge-"  # stands for a number of a thousand digits
VALUES = (
    *(None, {}, [], [None], [[]], {"": {}}, "", "text", "\x1b]0;title\x07", "$x^{$", "<b>", "[/]"),
    *("\ud800", "x" * 10_000, True, False, 0, 1, -1, 2, 2**31, 2**63, 10**300, HUGE, DEEP),
    *(0.0, 0.5, -0.5, 1e-320, 1e-9, 1e9, 1e30, 1e300, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
)


def mutations(record, seed, count):
    """Yield `count` texts in JSON of this record with one to three changes at random places.

    Values are removed, replaced, exchanged, repeated or added, and numbers scaled. Now and then the
    text is cut off.
    """
    chance = random.Random(seed)
    original = json.dumps(record, ensure_ascii=False)
    for _ in range(count):
        value = json.loads(original)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            value = _changed(value, chance)
        text = json.dumps(value)
        for placeholder, content in PLACEHOLDERS.items():
            text = text.replace(json.dumps(placeholder), content)
        if chance.random() < 0.05:
            text = text[: chance.randrange(len(text))]
        yield text


PLACEHOLDERS = {DEEP: "[" * 5_000 + "]" * 5_000, HUGE: "9" * 1_000}


def _changed(value, chance):
    places = list(_places(value))
    kind = chance.choice(KINDS)
    # Most places are elements of lists of numbers: half of the changes are where there is a name.
    subsets = {
        "scale": [(each, key) for each, key in places if type(each[key]) in (int, float)],
        "repeat": [(each, key) for each, key in places if isinstance(each, list)],
        "add": [(each, key) for each, key in places if isinstance(each, dict)],
    }
    named = subsets["add"] if chance.random() < 0.5 else []
    candidates = subsets.get(kind) or named or places
    if not candidates:
        return copy.deepcopy(chance.choice(VALUES))
    container, key = chance.choice(candidates)
    if kind == "remove":
        del container[key]
    elif kind == "exchange":
        other, other_key = chance.choice(places)
        container[key] = copy.deepcopy(other[other_key])
    elif kind == "scale" and type(container[key]) in (int, float):
        container[key] *= chance.choice(FACTORS)
    elif kind == "repeat" and isinstance(container, list):
        container.insert(key, container[key])
    elif kind == "add" and isinstance(container, dict):
        container[chance.choice(NAMES)] = copy.deepcopy(chance.choice(VALUES))
    else:
        container[key] = copy.deepcopy(chance.choice(VALUES))
    return value


def _places(value):
    # Every place in the record: what contains it, and its key there.
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])
