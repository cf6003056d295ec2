"""Every setting is validated against its declared type; errors name the setting and the value."""

import math

import click
import msgspec
import numpy as np
import pytest

from rnn_scratch.cli.options import click_type
from rnn_scratch.contract import OPTIMIZERS
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.settings import (
    NonNegativeInt,
    Positive,
    Probability,
    Settings,
    Threads,
    annotations,
    declaration,
    validate,
)

DECLARATIONS = {name: declaration(kind) for name, kind in annotations(Settings).items()}
INTEGERS = [name for name, declared in DECLARATIONS.items() if declared.base is int]
NUMBERS = [name for name, declared in DECLARATIONS.items() if declared.base is float]
CHOICES = [name for name in DECLARATIONS if name not in {*INTEGERS, *NUMBERS, "exact"}]
NOT_NUMBERS = ["3", True, [1], np.array([1, 2]), 1j, math.nan, math.inf, -1]
WRONG_VALUES = {
    **dict.fromkeys(INTEGERS, (*NOT_NUMBERS, None, -(10**30), 2**32, 1.0, 2.5)),
    **dict.fromkeys(NUMBERS, (*NOT_NUMBERS, -1e-300, -math.inf, 10**400)),
    **dict.fromkeys(CHOICES, ("", "TANH", 3, ["rnn"], np.array(["rnn", "gru"]), np)),
    "exact": [1, 0, None, "yes"],
}


def error_message(name, value):
    with pytest.raises(RNNScratchError) as caught:
        Settings(**{name: value})
    return str(caught.value)


@pytest.mark.parametrize("name", DECLARATIONS)
def test_wrong_value_names_the_setting(name):
    assert DECLARATIONS[name].description
    for value in WRONG_VALUES[name]:
        message = error_message(name, value)
        assert message.startswith(f"`{name}` must be "), message
        assert " (got " in message


@pytest.mark.parametrize("name", INTEGERS)
def test_integer_setting_has_inclusive_bounds(name):
    low, high = DECLARATIONS[name].limits["ge"], DECLARATIONS[name].limits["le"]
    for value in (low, high, np.int64(high)):
        converted = getattr(Settings(**{name: value}), name)
        assert (converted, type(converted)) == (value, int)
    for value in (low - 1, high + 1):
        assert error_message(name, value) == (
            f"`{name}` must be an integer >= {low} and <= {high:,} (got {value})."
        )


@pytest.mark.parametrize("name", NUMBERS)
def test_number_setting_becomes_a_float(name):
    optimizer = "adam" if name in OPTIMIZERS["adam"].settings else "sgd"
    for value in (1e-300, np.float32(0.5), 0.25):
        converted = getattr(Settings(optimizer=optimizer, **{name: value}), name)
        assert (converted, type(converted)) == (value, float)


@pytest.mark.parametrize(
    ("annotation", "allowed", "refused", "description"),
    [
        (Positive, [1e-300, 1e300], [0, -0.0], "a finite number > 0"),
        (Probability, [0.1, 1], [0, 1.1], "a finite number > 0 and <= 1"),
        (annotations(Settings)["valid_share"], [0, 0.9], [1], "a finite number >= 0 and < 1"),
        (annotations(Settings)["theta"], [1, None], [0], "a finite number > 0, or None"),
        (annotations(Settings)["weight_decay"], [0], [-1.0], "a finite number >= 0"),
        (Threads, [1, 1024], [0, 1025], "an integer >= 1 and <= 1,024"),
        (NonNegativeInt, [0, 2**32 - 1], [2**32], "an integer >= 0 and <= 4,294,967,295"),
    ],
)
def test_python_and_command_line_have_the_same_bounds(annotation, allowed, refused, description):
    option_type = click_type(annotation)
    for value in allowed:
        assert validate("x", value, annotation) == value
        text = "none" if value is None else str(value)
        assert option_type.convert(text, None, None) == value
    for value in refused:
        with pytest.raises(RNNScratchError) as caught:
            validate("x", value, annotation)
        assert str(caught.value) == f"`x` must be {description} (got {value!r})."
        with pytest.raises(click.BadParameter):
            option_type.convert(str(value), None, None)


@pytest.mark.parametrize("name", CHOICES)
def test_error_lists_the_choices(name):
    for value in click_type(annotations(Settings)[name]).choices:
        converted = getattr(Settings(**{name: np.str_(value)}), name)
        assert (converted, type(converted)) == (value, str)
        assert value in error_message(name, "other")


def test_exact_mode_implies_float64():
    assert Settings(exact=True).dtype == "float64"
    assert Settings(exact=False).dtype == "float32"
    with pytest.raises(RNNScratchError, match=r"`dtype` must be float64 .* \(got float32\)"):
        Settings(exact=True, dtype="float32")


def test_optimizer_implies_the_learning_rate():
    assert [Settings(optimizer=name).lr for name in OPTIMIZERS] == [1.0, 0.1, 0.002]
    assert repr(Settings(optimizer="adam", lr=1).lr) == "1.0"  # converted from an integer


def test_record_contains_the_implied_values():
    settings = Settings(optimizer="adam", exact=True)
    encoded = msgspec.json.encode(settings)
    assert {"lr": 0.002, "dtype": "float64"}.items() <= msgspec.json.decode(encoded).items()
    assert msgspec.json.decode(encoded, type=Settings) == settings
    for text in (b'{"lr": null}', b'{"num_hiddens": 0}', b'{"cell": "x"}', b'{"units": 3}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=Settings)
