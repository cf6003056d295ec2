"""`compare` and `report` at the terminal: progress, tables, and the files that are written."""

import csv
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..compare import changes, comparison, conclusions, pictures, report, results, summary, words
from ..compare.plan import Candidate, Plan, Progress, Record, name
from ..compare.summary import Spread
from ..contract import RNNScratchError
from ..runs import folder as run_folder
from ..runs.progress import format_perplexity
from ..settings import Settings
from ..system import files, locks
from ..text.corpus import Text
from . import display

# What the CSV has of a candidate's training, and the names of its columns.
QUALITY = {
    "perplexity": "perplexity",
    "held_out": "held_out",
    "bits": "bits_per_character",
    "seconds": "target_seconds",
    "epochs": "target_epochs",
    "reached": "target_reached",
    "seeds": "seeds",
}


class Steps(Progress):
    """Progress as lines, one whenever a candidate begins another activity."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Report each line by `say`."""
        self.say = say
        self.latest: dict[str, str] = {}

    def activity(self, candidate: Candidate, activity: str) -> None:
        """Report the activity, but not each of its epochs."""
        key, kind = name(candidate), activity.split(":")[0]
        if self.latest.get(key) != kind:
            self.say(f"{key}: {kind}")
        self.latest[key] = kind

    def end(self, candidate: Candidate) -> None:
        """Report a failure."""
        if candidate["state"] == "failed":
            self.say(f"{name(candidate)} failed: {candidate['reason']}")


class LiveTable(Progress):
    """Progress as a table that is updated, a row for each candidate."""

    def __init__(self, screen: Console) -> None:
        """Draw on this console."""
        self.live = Live(console=screen, transient=True, refresh_per_second=8)
        self.activities: dict[str, str] = {}
        self.ended = 0  # processes

    def start(self, record: Record) -> None:
        """Draw the table."""
        self.record, plan = record, record["plan"]
        times = plan["repeats"] * (len(plan["vary"]["values"]) if plan["vary"] else 1)
        self.processes = len(record["candidates"]) * (plan["seeds"] + 1 + times)
        self.live.start()
        self._draw()

    def activity(self, candidate: Candidate, activity: str) -> None:
        """Write the activity in the candidate's row."""
        self.activities[name(candidate)] = activity
        self._draw()

    def end(self, candidate: Candidate) -> None:
        """Remove the activity from the candidate's row."""
        self.activities.pop(name(candidate), None)
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
        speeds = {row.candidate: row.train for row in summary.speeds(self.record) if row.train}
        for candidate in self.record["candidates"]:
            key, curve = name(candidate), (candidate["trainings"] or [{}])[-1].get("perplexity")
            reason = candidate.get("reason", "") if candidate["state"] != "waiting" else ""
            table.add_row(
                key,
                format_perplexity(curve[-1]) if curve else "",
                f"{speeds[key].median:,.0f}" if key in speeds else "",
                self.activities.get(key, reason),
                style="bold" if key in self.activities else None,
            )
        self.live.update(table)


def compare(
    plan: Plan,
    settings: Settings,
    text: Text,
    output: Path | None,
    older: Path | None,
    command: str,
) -> Record:
    """Compare, print the result, and write it to a folder."""
    comparison.validate(plan, settings, text)
    before = None if older is None else comparison.read(older)
    folder = _create(output)
    screen = display.console()
    progress = LiveTable(screen) if screen.is_terminal else Steps(display.ConsoleReport(screen).say)
    refusal = f"Another comparison writes to {folder}.\nChoose another folder with --output."
    with locks.hold(folder, lambda: refusal):
        _require_empty(folder)
        record = comparison.run(plan, settings, text, folder, command, progress)
        if before is not None:
            record["against"] = {
                "started": before["started"],
                "differences": changes.differences(record, before),
                "speeds": changes.against(record, before),
            }
            comparison.write(folder, record)
        show(folder, record, screen)
    return record


def show(folder: Path, record: Record, screen: Console) -> None:
    """Print the tables of a record, and make its files again: CSV, pictures, report."""
    images = pictures.draw(record)
    for file_name, content in images.items():
        files.replace(folder / file_name, content)
    files.replace(folder / "comparison.csv", spreadsheet(record).encode())
    files.replace(folder / "report.html", report.page(record, images).encode())
    say = display.ConsoleReport(screen).say
    for line in conclusions.sentences(record):
        say(line.replace("`", ""))
    say("")
    for line in words.setting_lines(record):
        say(line)
    for title, cells in results.tables(record).items():
        screen.print()
        screen.print(_table(title, cells))
    say("")
    for line in (*words.notes(record), *words.how_measured(record)):
        say(line)
    say(f"\nThe report, for a browser: {folder / 'report.html'}")


def spreadsheet(record: Record) -> str:
    """All figures of a record as CSV: medians, or means of the seeds, with lowest and highest."""
    results_of = {row.candidate: row for row in summary.qualities(record)}
    rows = []
    for row in summary.speeds(record):
        flat: dict[str, Any] = {}
        quality = results_of[row.candidate]._asdict()
        more = {column: quality[key] for key, column in QUALITY.items()}
        for key, value in {**row._asdict(), **more}.items():
            if isinstance(value, Spread):
                flat |= {key: value.median, f"{key}_low": value.low, f"{key}_high": value.high}
            else:
                flat[key] = value
        rows.append(flat)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(title: str, cells: results.Cells) -> Table:
    heading, *rows = cells
    numbers = title != "Quality"  # which are read from the right
    table = Table(title=title, title_justify="left", box=None)
    for number, column in enumerate(heading):
        table.add_column(column, justify="right" if numbers and number else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _create(output: Path | None) -> Path:
    try:
        if output is None:
            return run_folder.dated("comparison")
        output.mkdir(parents=True, exist_ok=True)
        _require_empty(output)
    except OSError as error:
        raise RNNScratchError(
            f"The folder {output or run_folder.PARENT} could not be created: {error.strerror}."
        ) from error
    return output


def _require_empty(folder: Path) -> None:
    if {path.name for path in folder.iterdir()} - {locks.FILE}:
        raise RNNScratchError(
            f"The folder {folder} is not empty, and would mix two results.\n"
            "Choose another one with --output."
        )
