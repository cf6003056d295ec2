"""Every option is checked by one table; an error names the option and the value."""

import math
import re
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from rnn_scratch.contract import OPTIMIZERS
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import OPTIONS, Settings, checked, option_of
from rnn_scratch.system.kinds import BOOL, STRING


def ends(kind):
    """The lowest and the highest integer, as the error says them."""
    low, high = re.fullmatch("an integer from (.*) to (.*)", kind.words).groups()
    return int(low), 2**32 - 1 if "**" in high else int(high.replace(",", ""))


KINDS = {name: option.kind for name, option in OPTIONS.items()}
INTEGERS = {name: ends(kind) for name, kind in KINDS.items() if kind.convert is int}
NAMED = {name: kind.choices for name, kind in KINDS.items() if kind.choices}
FROM_ZERO = ("valid_share", "dropout", "weight_decay")
REAL = [name for name, kind in KINDS.items() if kind.convert is float and name not in FROM_ZERO]
REAL += ["theta"]
MOST = {**dict.fromkeys(("top_p", "min_p"), 1), "timeout": 10**6}

NO_NUMBERS = ["3", None, True, [1], np.array([1, 2]), 1j, math.nan, math.inf, -1, 10**5000]
# None of these is, but for a theta that is None.
WRONG = {
    **dict.fromkeys(INTEGERS, (*NO_NUMBERS, -(10**30), 2**32, 1.0, 2.5)),
    **dict.fromkeys(REAL, (*NO_NUMBERS, 0, -0.0, -1e-300, -math.inf, 10**400)),
    **dict.fromkeys(("valid_share", "dropout"), (*NO_NUMBERS, -1e-300, 1, 1.5, 10**400)),
    "weight_decay": (*NO_NUMBERS, -1e-300, -math.inf, 10**400),
    **dict.fromkeys(NAMED, ("", "TANH", None, 3, ["tanh"], np.array(["rnn", "gru"]), np)),
    **dict.fromkeys([n for n in KINDS if KINDS[n] is BOOL], (1, 0, None, "yes")),
    **dict.fromkeys([n for n in KINDS if KINDS[n] is STRING], (None, 3, b"numpy", ["numpy"])),
    "text": [None, 3, b"story.txt", "nul\0.txt", ["story.txt"]],
}


def refused(name, value):
    with pytest.raises(RNNScratchError) as caught:
        checked(name, value)
    message = str(caught.value)
    assert message.startswith(f"`{option_of(name)}` must be "), message
    assert re.search(r" \(got [^\0]*\)\.$", message)
    assert caught.value.exit_code == 2
    return message


@pytest.mark.parametrize("name", {**WRONG, **KINDS})
def test_wrong_values(name):
    for value in WRONG[name]:
        if name != "theta" or value is not None:
            refused(name, value)


@pytest.mark.parametrize("name", INTEGERS)
def test_the_ends_of_a_range(name):
    low, high = INTEGERS[name]
    for value in (low, high, np.int64(high)):
        assert checked(name, value) == value
        assert type(checked(name, value)) is int
    words = f"an integer from {low} to {'2**32 - 1' if high == 2**32 - 1 else f'{high:,}'}"
    for value in (low - 1, high + 1):
        assert f"must be {words} (got {value})." in refused(name, value)


@pytest.mark.parametrize("name", REAL)
def test_real_numbers(name):
    for value in (1e-300, Fraction(1, 4), np.float32(1), 1):
        assert checked(name, value) == value
        assert type(checked(name, value)) is float
    if name in MOST:
        assert checked(name, MOST[name]) == MOST[name]
        assert f"at most {MOST[name]:,} (got " in refused(name, MOST[name] * 1.01)


def test_only_theta_may_be_none():
    assert checked("theta", None) is checked("theta", "none") is None
    assert "a finite number above 0, or none (got 'all')." in refused("theta", "all")


@pytest.mark.parametrize("name", NAMED)
def test_named_choices(name):
    for value in NAMED[name]:
        assert checked(name, np.str_(value)) == value
        assert type(checked(name, np.str_(value))) is str
        assert value in refused(name, "other")


def test_values_that_cannot_be_shown():
    class Odd:
        def __repr__(self):
            raise ValueError

    for value, words in ((10**5000, "type int"), (Odd(), "type Odd"), ("x" * 10**6, "xxx ... xxx")):
        assert words in refused("num_hiddens", value)
        assert len(refused("num_hiddens", value)) < 700


def test_exact_mode_implies_float64():
    assert Settings(exact=True).dtype == "float64"
    assert Settings(exact=False).dtype == "float32"
    with pytest.raises(RNNScratchError, match=r"`--dtype` must be float64 .* \(got float32\)"):
        Settings(exact=True, dtype="float32")


def test_an_optimizer_implies_its_learning_rate():
    assert [Settings(optimizer=name).lr for name in OPTIMIZERS] == [1.0, 0.1, 0.002]
    assert Settings(optimizer="adam", lr=0.5).lr == 0.5
    with pytest.raises(RNNScratchError, match=r"`--optimizer` .* \(got \['adam'\]\)"):
        Settings(optimizer=["adam"])


def test_a_record_has_the_values_that_others_imply():
    made = Settings(optimizer="adam", exact=True)
    encoded = msgspec.json.encode(made)
    assert {"lr": 0.002, "dtype": "float64"}.items() <= msgspec.json.decode(encoded).items()
    assert msgspec.json.decode(encoded, type=Settings) == made
    with pytest.raises(msgspec.ValidationError, match="lr"):
        msgspec.json.decode(b'{"lr": null}', type=Settings)
