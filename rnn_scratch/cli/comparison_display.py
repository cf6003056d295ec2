"""`compare` and `report` at the terminal: progress, tables, and the files that are written."""

import csv
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..compare import metrics, pictures, report, sentences, tables
from ..compare.metrics import Mean
from ..compare.phases import Progress
from ..compare.record import Candidate, Comparison, Spread
from ..runs.progress import format_perplexity
from ..system import files
from . import display


class Steps(Progress):
    """Progress as lines, one whenever a candidate begins another activity."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Report each line by `say`."""
        self.say = say
        self.latest: dict[str, str] = {}

    def activity(self, candidate: Candidate, activity: str) -> None:
        """Report the activity, but not each of its epochs."""
        kind = activity.split(":")[0]
        if self.latest.get(candidate.name) != kind:
            self.say(f"{candidate.name}: {kind}")
        self.latest[candidate.name] = kind

    def end(self, candidate: Candidate) -> None:
        """Report a failure."""
        if candidate.failure and candidate.is_offered:
            self.say(f"{candidate.name} failed: {candidate.failure.reason}")


class LiveTable(Progress):
    """Progress as a table that is updated, a row for each candidate."""

    def __init__(self, screen: Console) -> None:
        """Draw on this console."""
        self.live = Live(console=screen, transient=True, refresh_per_second=8)
        self.activities: dict[str, str] = {}
        self.ended = 0  # processes

    def start(self, record: Comparison) -> None:
        """Draw the table."""
        self.record, plan = record, record.plan
        times = plan.repeats * len(plan.points)
        self.processes = len(record.candidates) * (plan.seeds + 1 + times)
        self.live.start()
        self._draw()

    def activity(self, candidate: Candidate, activity: str) -> None:
        """Write the activity in the candidate's row."""
        self.activities[candidate.name] = activity
        self._draw()

    def end(self, candidate: Candidate) -> None:
        """Remove the activity from the candidate's row."""
        self.activities.pop(candidate.name, None)
        self.ended += 1
        self._draw()

    def stop(self) -> None:
        """Remove the table."""
        self.live.stop()

    def _draw(self) -> None:
        table = Table(
            "",
            "perplexity",
            "characters/s",
            "",
            box=None,
            caption=f"{self.ended} of at most {self.processes} processes have ended; "
            "Ctrl-C keeps what has been measured",
            caption_justify="left",
            min_width=60,
        )
        speeds = {row.candidate: row.train.median for row in metrics.speeds(self.record)}
        for candidate in self.record.candidates:
            key, runs = candidate.name, candidate.trainings
            curve = runs[-1].epochs if runs else []
            reason = candidate.failure.reason if candidate.failure else ""
            table.add_row(
                key,
                format_perplexity(curve[-1].perplexity) if curve else "",
                f"{speeds[key]:,.0f}" if key in speeds else "",
                self.activities.get(key, reason),
                style="bold" if key in self.activities else None,
            )
        self.live.update(table)


def progress(screen: Console) -> Progress:
    """The progress of a comparison, as suits the console."""
    return LiveTable(screen) if screen.is_terminal else Steps(display.ConsoleReport(screen).say)


def show(folder: Path, record: Comparison, screen: Console) -> None:
    """Print the tables of a record, and make its files again: CSV, pictures, report."""
    images = pictures.draw(record)
    for file_name, content in images.items():
        files.replace(folder / file_name, content)
    files.replace(folder / "comparison.csv", spreadsheet(record).encode())
    files.replace(folder / "report.html", report.page(record, images).encode())
    say = display.ConsoleReport(screen).say
    conclusions = [line.replace("`", "") for line in sentences.conclusions(record)]
    for line in (*conclusions, "", *sentences.setting(record)):
        say(line)
    for title, cells in tables.tables(record).items():
        screen.print()
        screen.print(_table(title, cells))
    for line in ("", *sentences.notes(record)):
        say(line)
    say(f"\nThe report, for a browser, with how it was measured: {folder / 'report.html'}")


def spreadsheet(record: Comparison) -> str:
    """All figures of a record as CSV: medians, or means of the seeds, with lowest and highest."""
    results = {row.candidate.name: row for row in metrics.qualities(record)}
    rows = []
    for row in metrics.speeds(record):
        flat: dict[str, Any] = {}
        quality = {**results[row.candidate]._asdict(), "candidate": row.candidate}
        for key, value in {**msgspec.structs.asdict(row), **quality}.items():
            if isinstance(value, (Spread, Mean)):
                middle = value.mean if isinstance(value, Mean) else value.median
                flat |= {key: middle, f"{key}_low": value.low, f"{key}_high": value.high}
            else:
                flat[key] = value
        rows.append(flat)
    text = StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(title: str, cells: tables.Cells) -> Table:
    heading, *rows = cells
    numbers = title != "Quality"  # which are read from the right
    table = Table(title=title, title_justify="left", box=None)
    for number, column in enumerate(heading):
        table.add_column(column, justify="right" if numbers and number else "left")
    for row in rows:
        table.add_row(*row)
    return table
