"""Every setting is checked, and an error names the option and the value."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.settings import Settings, differences, make, option_of

WHOLE = ["batch_size", "num_steps", "num_hiddens", "num_epochs"]
FROM_ZERO = ["embedding", "max_tokens", "valid_tokens", "seed"]
HIGHEST = {
    "batch_size": 2**20,
    "num_steps": 2**12,
    "num_hiddens": 2**15,
    "num_epochs": 10**6,
    "embedding": 2**15,
}
REAL = ["lr", "sigma", "theta"]
NAMED = ["cell", "activation", "sampling", "normalize", "dtype"]


def refused(**values):
    ((name, value),) = values.items()
    with pytest.raises(RNNScratchError) as caught:
        Settings(**values)
    message = str(caught.value)
    assert message.startswith(f"{option_of(name)} is {value!r}; it must be ")
    assert caught.value.exit_code == 2
    return message


def test_defaults_are_the_chapter_s():
    assert dataclasses.asdict(Settings()) == {
        "batch_size": 32,
        "num_steps": 35,
        "num_hiddens": 512,
        "cell": "rnn",
        "embedding": 0,
        "num_epochs": 500,
        "lr": 1.0,
        "sigma": 0.01,
        "theta": 1.0,
        "activation": "tanh",
        "sampling": "sequential",
        "normalize": "chapter",
        "max_tokens": 10_000,
        "valid_tokens": 0,
        "dtype": "float32",
        "exact": False,
        "seed": 0,
    }


def test_this_file_names_every_setting():
    assert {item.name for item in dataclasses.fields(Settings)} == {
        *WHOLE,
        *FROM_ZERO,
        *REAL,
        *NAMED,
        "exact",
    }


@pytest.mark.parametrize("name", WHOLE + FROM_ZERO)
@pytest.mark.parametrize(
    "value", [-1, -(10**30), 2**32, 10**30, 1.0, 2.5, math.nan, "3", None, True, [1]]
)
def test_whole_numbers(name, value):
    refused(**{name: value})


@pytest.mark.parametrize("name", WHOLE)
def test_zero_is_too_few(name):
    assert "from 1" in refused(**{name: 0})
    assert getattr(Settings(**{name: 1}), name) == 1


@pytest.mark.parametrize("name", FROM_ZERO)
def test_zero_means_something(name):
    assert getattr(Settings(**{name: 0}), name) == 0


@pytest.mark.parametrize("name", WHOLE + FROM_ZERO)
def test_the_highest_number(name):
    highest = HIGHEST.get(name, 2**32 - 1)
    assert getattr(Settings(**{name: highest}), name) == highest
    words = f"{highest:,}" if name in HIGHEST else "2**32 - 1"
    assert refused(**{name: highest + 1}).endswith(f"to {words}.")


def test_values_that_cannot_be_shown():
    class Odd:
        def __repr__(self):
            raise ValueError

    for value, words in ((10**5000, "type int"), (Odd(), "type Odd"), ("x" * 10**6, "xxx...")):
        with pytest.raises(RNNScratchError, match=r"^--num-hiddens is ") as caught:
            Settings(num_hiddens=value)
        assert words in str(caught.value)
        assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    "value",
    [0, 0.0, -0.0, -1, -1e-300, math.inf, -math.inf, math.nan, 10**400, "1", True, 1j, [1.0]],
)
def test_real_numbers(name, value):
    refused(**{name: value})


@pytest.mark.parametrize("name", ["lr", "sigma"])
def test_only_theta_may_be_none(name):
    refused(**{name: None})
    assert Settings(theta=None).theta is None


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("value", ["", "TANH", "float16", "Chapter", None, 3, ["tanh"]])
def test_named_choices(name, value):
    message = refused(**{name: value})
    default = getattr(Settings(), name)
    assert default in message


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
def test_exact_is_true_or_false(value):
    refused(exact=value)


def test_numbers_of_other_types_become_python_s():
    settings = Settings(
        batch_size=np.int64(8), lr=np.float64(0.5), sigma=1, theta=Fraction(1, 4), seed=np.uint8(3)
    )
    assert Settings(exact=np.bool_(False)).exact is False
    assert type(Settings(cell=np.str_("gru")).cell) is str
    for name, value in {"batch_size": 8, "lr": 0.5, "sigma": 1.0, "theta": 0.25, "seed": 3}.items():
        assert getattr(settings, name) == value
        assert type(getattr(settings, name)) is type(value)


def test_exact_mode_implies_float64():
    assert make({"exact": True}).dtype == "float64"
    assert make({"exact": False}).dtype == "float32"
    with pytest.raises(RNNScratchError, match=r"--dtype is 'float32'.*float64"):
        make({"exact": True, "dtype": "float32"})


def test_an_unknown_setting_is_named_with_the_known_ones():
    with pytest.raises(RNNScratchError, match=r"Unknown setting: learning_rate\.\n.*\blr\b"):
        make({"learning_rate": 1.0})


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().lr = 0.0


def test_differences_leave_out_the_number_of_epochs():
    old = Settings(num_epochs=4)
    assert differences(old, Settings(num_epochs=8)) == []
    assert differences(old, Settings(lr=0.5, theta=None)) == [
        "--lr: 1.0 before, 0.5 now",
        "--theta: 1.0 before, None now",
    ]
