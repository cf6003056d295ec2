"""The record of ARM, and the tool that makes it."""

import json

import pytest
from helpers import CLONE
from tools import arm

from rnn_scratch import exact

CASES = json.loads((CLONE / "notebooks/records/arm.json").read_bytes())["cases"]


def test_this_code_ends_with_the_digest_of_both_architectures():
    run = arm.train(arm.CASES[0], "exact")
    assert set(CASES[0]["exact"].values()) == {exact.digest(run.arrays)}


def test_the_digests_are_equal_in_exact_mode_and_would_not_be_without():
    assert [tuple(case[name] for name in arm.FIELDS) for case in CASES] == list(arm.CASES)
    assert all(len(set(case["exact"].values())) == 1 for case in CASES)
    assert all(len(set(case["ordinary"].values())) == 2 for case in CASES)


def test_without_the_emulator_the_tool_says_what_it_needs(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"^This needs"):
        arm.main()
