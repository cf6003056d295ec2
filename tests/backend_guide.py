"""The guide to writing a backend as data: its blocks of code, and the package that they make."""

import re
import shlex
from typing import NamedTuple

from helpers import CLONE, other_packages, there

TEXT = (CLONE / "notebooks" / "site" / "backend.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A block of code: its language, the file that it belongs to, and its text."""

    language: str
    title: str
    text: str


class Command(NamedTuple):
    """A command of a console block, the file that its output is added to, and what is shown."""

    arguments: list[str]
    file: str
    shown: list[str]


def blocks():
    """All blocks, in order."""
    pattern = r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$'
    return [Block(*found) for found in re.findall(pattern, TEXT, re.DOTALL | re.MULTILINE)]


def commands(block):
    """The commands of a console block."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, *shown = part.splitlines()
        line, _, file = line.partition(" >> ")
        program, *arguments = shlex.split(line)
        assert program == "rnn-scratch"
        yield Command(arguments, file, shown)


def install(site):
    """Install the package with nothing in it but the framework; the environment that has it."""
    variables = other_packages(site, {"toy": ""})
    (site / "toy_rnn" / "toy.py").write_text((CLONE / "tests" / "toy.py").read_text())
    return {**variables, "OMP_NUM_THREADS": "1", "COLUMNS": "1000"}


def write(site, title, text):
    """Write a file of the package; `scratch.py` comes in parts, of which a later one may edit."""
    file = site / title
    before = file.read_text() if file.name == "scratch.py" and file.exists() else ""
    for name in re.findall(r"^def (\w+)", text, re.MULTILINE):
        before = re.sub(rf"^def {name}\(.*?(?=^\S|\Z)", "", before, flags=re.DOTALL | re.MULTILINE)
    file.write_text(before + text + "\n\n", encoding="utf-8")


def follow(site, env, only_files=False):
    """Write the files and run the commands, in order: each command and how it ended.

    With `only_files` those that only show something are left out.
    """
    for block in blocks():
        if block.language == "python" and block.title.startswith("toy_rnn/"):
            write(site, block.title, block.text)
        elif block.language == "console":
            for command in commands(block):
                if command.file or not only_files:
                    done = there(*command.arguments, env=env)
                    if command.file:
                        assert done.code == 0, done.err
                        write(site, command.file, done.out)
                    yield command, done


def files(site):
    """Write all files; the environment that has the package."""
    env = install(site)
    list(follow(site, env, only_files=True))
    return env


def mistakes():
    """The rows of the guide's table: what is in a file, what takes its place, and what is named."""
    rows = re.findall(r"^\| `(.*?)` \| `(.*?)` \| (.*?) \|$", TEXT, re.MULTILINE)
    assert rows
    return rows
