"""The errata page lists the book releases that contain each mistake.

To compare the page with the releases, set D2L_EN to a clone of github.com/d2l-ai/d2l-en with its
tags. The project contains no part of the book, so the tests search the clone for each mistake.
"""

import os
import re
import subprocess

import pytest
from helpers import CLONE

PAGE = (CLONE / "notebooks" / "site" / "errata.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", PAGE, flags=re.MULTILINE)
RELEASES = [
    f"0.{minor}.{n}" for minor, last in ((15, 1), (16, 7), (17, 6)) for n in range(last + 1)
]
SCRATCH, MODELS, TEXTS = "rnn-scratch", "language-models-and-dataset", "text-preprocessing"
TABS = ("mxnet", "pytorch", "tensorflow")


def has_old_model_in_second_run(blocks):
    """Return whether no new model or parameters are created after the first training run."""
    _, _, rest = "\n".join(blocks).partition("\ntrain_ch8(")
    return not re.search(r"RNNModelScratch\(|get_params\(", rest)


def has(pattern, *absent):
    """Return a predicate for code that matches `pattern` and none of the patterns in `absent`."""

    def matches(blocks):
        code = "\n".join(blocks)
        return bool(re.search(pattern, code)) and not any(re.search(p, code) for p in absent)

    return matches


# Maps each erratum number and label to a file, frameworks, and a test for the mistake.
MISTAKES = {
    (1, ""): (SCRATCH, TABS[2:], has(r"reshape\(Y,")),
    (2, "MXNet, PyTorch"): (SCRATCH, TABS[:2], lambda blocks: " train_iter," in blocks[-1]),
    (2, "TensorFlow"): (SCRATCH, TABS[2:], lambda blocks: " train_iter," in blocks[-1]),
    (3, "MXNet, PyTorch"): (SCRATCH, TABS[:2], has_old_model_in_second_run),
    (3, "TensorFlow"): (SCRATCH, TABS[2:], has_old_model_in_second_run),
    (4, "random sampling"): (MODELS, TABS, has(r"corpus\[random.randint\(0, num_steps\)")),
    (4, "sequential partitioning"): (MODELS, TABS, has(r"offset = random.randint\(0, num_steps\)")),
    (5, ""): (TEXTS, TABS, has(r"strip\(\)\.lower\(\)(?s:.*)for line in tokens for token in line")),
    (6, ""): (SCRATCH, TABS, has("def train_ch8", "valid")),
    (7, ""): (SCRATCH, TABS[2:], has(r"def get_params\(vocab_size, num_hidden\)")),
    (8, ""): (SCRATCH, TABS[2:], has(r"def train_ch8(?s:.*)\n    +params = get_params\(")),
    (9, "`.numpy()`"): (SCRATCH, TABS[2:], has(r"grad \*\* 2\)\)\.numpy\(\)")),
    (9, "sparse gradients"): (SCRATCH, TABS[2:], has("def grad_clipping", "IndexedSlices")),
    (10, ""): (SCRATCH, TABS[2:], has(r"SGD\(lr\)(?s:.*)lr = 500, 1\b")),
    (11, ""): (SCRATCH, TABS[1:2], has(r"s\.detach_\(\)")),
    (12, ""): (SCRATCH, TABS[:1], has(r"init\.Normal", r"import.*\binit\b")),
    (13, ""): (SCRATCH, TABS, has(r"prefix\[0\](?s:.*)metric\[0\] / metric\[1\]", "raise")),
    (14, ""): (SCRATCH, TABS[2:], has("persistent=True")),
    (15, ""): (SCRATCH, TABS[1:2], has("def predict_ch8", "no_grad")),
    (16, ""): (SCRATCH, TABS[:1], has(r"\n +s\.detach\(\)\n")),
    (17, ""): (SCRATCH, TABS[:1], has("def train_ch8", r"\n        +print\(predict")),
}


def split_labels(cell):
    """Return the values in a table cell such as "label: value; label: value", keyed by label."""
    parts = (part.rpartition(": ") for part in cell.split("; "))
    return {label: value for label, _, value in parts}


def releases_by_label(number):
    """Yield each label of an erratum with its affected releases and the first fixed release."""
    cells = next(row for n, row in ROWS if int(n) == number).split("|")
    present, fixed = (split_labels(cell.strip()) for cell in cells[2:4])
    for label, span in present.items():
        first, _, last = span.partition(" to ")
        start, end = RELEASES.index(first), RELEASES.index(last or first) + 1
        yield label, RELEASES[start:end], fixed.get(label) or fixed.get("", "–")


def test_every_mistake_has_a_row():
    assert [int(number) for number, _ in ROWS] == sorted({number for number, _ in MISTAKES})


@pytest.mark.parametrize("number", sorted({number for number, _ in MISTAKES}))
def test_fix_follows_the_last_release_with_the_mistake(number):
    labels = [label for n, label in MISTAKES if n == number]
    assert [label for label, *_ in releases_by_label(number)] == labels
    for _, present, fixed in releases_by_label(number):
        following = [*RELEASES, "–"][RELEASES.index(present[-1]) + 1]
        assert fixed == following


@pytest.fixture(scope="module")
def chapter():
    """Return a function that yields a framework's code blocks from a file in a release."""
    if "D2L_EN" not in os.environ:
        pytest.skip("D2L_EN is not set to a clone of the book")

    def blocks(release, file, tab):
        path = f"v{release}:chapter_recurrent-neural-networks/{file}.md"
        command = ("git", "-C", os.environ["D2L_EN"], "show", path)
        text = subprocess.run(command, capture_output=True, check=True, encoding="utf-8").stdout
        sources = re.findall(r"```\{\.python \.input\}\n(.*?)```", text, flags=re.DOTALL)
        for source in sources:
            tabs = re.match(r"#@tab (.*)", source)  # blocks for MXNet alone have no `#@tab`
            if tab in re.split(", *", tabs[1] if tabs else "mxnet") or (tabs and tabs[1] == "all"):
                yield f"\n{source}"

    return blocks


@pytest.mark.parametrize("number", sorted({number for number, _ in MISTAKES}))
def test_releases_have_the_mistakes_that_the_page_names(number, chapter):
    for label, present, _ in releases_by_label(number):
        file, tabs, is_present = MISTAKES[number, label]
        for tab in tabs:
            found = [r for r in RELEASES if is_present([*chapter(r, file, tab)])]
            assert found == present, tab
