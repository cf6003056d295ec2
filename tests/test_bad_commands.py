"""Command lines with a mistake are refused by an error that names it, before anything is done."""

from pathlib import Path

import bad_commands
import pytest
from helpers import here

from rnn_scratch import registry
from rnn_scratch.system import processes


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch):
    """No framework is imported, and no process started."""

    def refuse(*_, **__):
        pytest.fail("the command has begun its work")

    def load(name):
        registry.find(name)  # a wrong name is an error before any import
        refuse()

    monkeypatch.setattr(registry, "load", load)
    monkeypatch.setattr(processes, "ask", refuse)


@pytest.mark.parametrize(("arguments", "word"), bad_commands.COMMANDS)
def test_a_mistake(capsys, arguments, word):
    here(capsys, *arguments).refused(word)
    assert not list(Path().rglob("*")), "nothing is written"


def test_there_are_many_more():
    assert len(list(bad_commands.multiplied())) >= 250
