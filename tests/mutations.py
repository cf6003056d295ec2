"""Random changes of a record, from a seed."""

import copy
import json
import random

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
