"""`compare` and `report` at the terminal: progress, a row each; tables; where it all lies."""

import csv
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..compare import comparison, pictures, report, summary, words
from ..compare.plan import Candidate, Plan, Record, Watch, name
from ..compare.summary import Spread
from ..contract import RNNScratchError
from ..runs import folder as run_folder
from ..settings import Settings
from ..system import files
from ..text.corpus import Text
from . import display


class Lines(Watch):
    """Progress as lines, one when a candidate begins something else."""

    def __init__(self, screen: Console) -> None:
        """Print on this console."""
        self.screen = screen
        self.told: dict[str, str] = {}

    def busy(self, candidate: Candidate, doing: str) -> None:
        """Print what a candidate does, but not each of its epochs."""
        part, key = doing.split(":")[0], name(candidate)
        if self.told.get(key) != part:
            self.screen.print(f"{key}: {part}", soft_wrap=True)
        self.told[key] = part

    def done(self, candidate: Candidate) -> None:
        """Print what came to nothing."""
        if candidate["state"] == "failed":
            self.screen.print(f"{name(candidate)} failed: {candidate['reason']}", soft_wrap=True)

    def stop(self) -> None:
        """Nothing to take away."""


class Rows(Watch):
    """Progress as a live table, a row for each candidate."""

    def __init__(self, screen: Console) -> None:
        """Draw on this console."""
        self.live = Live(console=screen, transient=True, refresh_per_second=8)
        self.doing: dict[str, str] = {}
        self.ended = 0  # workers

    def begin(self, record: Record) -> None:
        """Draw the table."""
        self.record, plan = record, record["plan"]
        times = plan["repeats"] * (len(plan["vary"][1]) if plan["vary"] else 1)
        self.workers = len(record["candidates"]) * (plan["seeds"] + 1 + times)
        self.live.start()
        self._draw()

    def busy(self, candidate: Candidate, doing: str) -> None:
        """Say it in the candidate's row."""
        self.doing[name(candidate)] = doing
        self._draw()

    def done(self, candidate: Candidate) -> None:
        """Nothing more is doing in the candidate's row."""
        self.doing.pop(name(candidate), None)
        self.ended += 1
        self._draw()

    def stop(self) -> None:
        """Take the table away."""
        self.live.stop()

    def _draw(self) -> None:
        caption = (
            f"{self.ended} workers done, of {self.workers} at most; Ctrl-C keeps what there is"
        )
        table = Table(
            "",
            "perplexity",
            "characters/s",
            "",
            box=None,
            caption=caption,
            caption_justify="left",
            min_width=60,
        )
        rows = summary.speeds(self.record)
        for candidate in self.record["candidates"]:
            key = name(candidate)
            curve = candidate["trainings"][-1]["perplexity"] if candidate["trainings"] else []
            timed = [row.train.median for row in rows if row.candidate == key and row.train]
            reason = candidate.get("reason", "") if candidate["state"] != "waiting" else ""
            table.add_row(
                key, display.shown(curve[-1]) if curve else "",
                f"{timed[-1]:,.0f}" if timed else "", self.doing.get(key, reason),
                style="bold" if key in self.doing else None,
            )  # fmt: skip
        self.live.update(table)


def compare(
    plan: Plan, settings: Settings, text: Text, output: Path | None, older: Path | None,
    command: str,
) -> Record:  # fmt: skip
    """Compare, show what came out, and leave it in a folder."""
    comparison.ready(plan, settings, text)
    before = None if older is None else comparison.read(older)
    folder = _folder(output)
    screen = display.console()
    watch = (Rows if screen.is_terminal else Lines)(screen)
    try:
        record = comparison.run(plan, settings, text, folder, command, watch)
    finally:
        watch.stop()
    if before is not None:
        record["against"] = {
            "started": before["started"],
            "machine": before["machine"],
            "differences": comparison.differences(record, before),
            "speeds": summary.against(record, before),
        }
        comparison.write(folder, record)
    show(folder, record, screen)
    return record


def show(folder: Path, record: Record, screen: Console) -> None:
    """Print the tables of a record, and make its files again: CSV, pictures, report."""
    images = pictures.draw(record)
    for title, content in images.items():
        files.replace(folder / title, content)
    files.replace(folder / "comparison.csv", table(record).encode())
    files.replace(folder / "report.html", report.page(record, images).encode())
    for line in words.setting_lines(record):
        screen.print(line, soft_wrap=True)
    tables = [
        _table("Speed of training", words.speed_cells(record), True),
        _table("Start, generation, memory", words.other_cells(record), True),
        _table("Quality", words.quality_cells(record), False),
    ]
    if "against" in record:
        title = f"Against the comparison of {record['against']['started']}"
        tables.append(_table(title, words.against_cells(record), True))
    for each in tables:
        screen.print()
        screen.print(each)
    screen.print()
    for note in words.notes(record):
        screen.print(note, soft_wrap=True)
    screen.print(f"\nThe report, to be opened in a browser: {folder / 'report.html'}",
                 soft_wrap=True)  # fmt: skip


def _table(title: str, cells: words.Cells, numbers: bool) -> Table:
    head, *rows = cells
    found = Table(title=title, title_justify="left", box=None)
    for number, column in enumerate(head):
        found.add_column(column, justify="right" if numbers and number else "left")
    for row in rows:
        found.add_row(*row)
    return found


def table(record: Record) -> str:
    """All figures of a record as CSV: medians, and the lowest and highest of each."""
    rows = []
    for row in summary.speeds(record):
        flat: dict[str, Any] = {}
        for key, value in row._asdict().items():
            if isinstance(value, Spread):
                flat |= {key: value.median, f"{key}_low": value.low, f"{key}_high": value.high}
            else:
                flat[key] = value
        rows.append(flat)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _folder(output: Path | None) -> Path:
    try:
        if output is None:
            return run_folder.dated("comparison")
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()):
            raise RNNScratchError(
                f"The folder {output} is not empty: a comparison would mix with what is there.\n"
                "Give another with --output."
            )
    except OSError as error:
        raise RNNScratchError(
            f"The folder {output or run_folder.PARENT} could not be made: {error.strerror}."
        ) from error
    return output
