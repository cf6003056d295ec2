"""Random changes of a JSON record, drawn from a seed."""

import copy
import json
import random

FACTORS = (0, -1, 2, 0.1, 1e-6, 1e6, 1e12, 1e200)
NAMES = ("new", "", "state", "reason", "float64", "x" * 1_000)
# JSON that `json.dumps` cannot write: deeply nested lists, and a number of a thousand digits.
PLACEHOLDERS = {"-deep-": "[" * 5_000 + "]" * 5_000, "-huge-": "9" * 1_000}
VALUES = (
    *(None, {}, [], [None], [[]], {"": {}}, "", "text", "\x1b]0;title\x07", "$x^{$", "<b>", "[/]"),
    *("\ud800", "x" * 10_000, True, False, 0, 1, -1, 2, 2**31, 2**63, 10**300, *PLACEHOLDERS),
    *(0.0, 0.5, -0.5, 1e-320, 1e-9, 1e9, 1e30, 1e300, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
)


def mutations(record, seed, count):
    """Yield `count` JSON texts of the record with one to three random changes.

    About 5 % of the texts are truncated.
    """
    rng = random.Random(seed)
    for _ in range(count):
        value = copy.deepcopy(record)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            change(rng, list(places(value)))
        text = json.dumps(value)
        for placeholder, content in PLACEHOLDERS.items():
            text = text.replace(json.dumps(placeholder), content)
        yield text if rng.random() > 0.05 else text[: rng.randrange(len(text))]


def change(rng, places):
    """Remove, replace or scale a value at a random place, or add one next to it."""
    kind = rng.choice(("remove", "replace", "replace", "scale", "scale", "add"))
    if kind == "scale":
        places = [place for place in places if type(place[0][place[1]]) in (int, float)] or places
    elif rng.random() < 0.5:  # prefer dicts: most places are elements of lists of numbers
        places = [place for place in places if isinstance(place[0], dict)] or places
    if not places:
        return
    container, key = rng.choice(places)
    if kind == "remove":
        del container[key]
    elif kind == "scale" and type(container[key]) in (int, float):
        container[key] *= rng.choice(FACTORS)
    elif kind == "add" and isinstance(container, dict):
        container[rng.choice(NAMES)] = copy.deepcopy(rng.choice(VALUES))
    else:
        container[key] = copy.deepcopy(rng.choice(VALUES))


def places(value):
    """Yield the container and the key of every value in a record."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from places(value[key])
