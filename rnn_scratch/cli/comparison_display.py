"""`compare` and `report` at the terminal: progress, tables, and the files that are written."""

import contextlib
import csv
import statistics
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from ..compare import metrics, pictures, report, sentences, tables
from ..compare.metrics import Spread
from ..compare.record import Candidate, Comparison
from ..system import files
from .screen import Screen


@contextlib.contextmanager
def progress(screen: Screen) -> Iterator[Callable[[str, str], None]]:
    """A function that shows a step of a comparison as a line and, on a terminal, how far it is."""
    say, last = screen.say, ""
    with screen.status("", spinner="line") as status:

        def tell(step: str, how_far: str) -> None:
            nonlocal last
            if step != last:
                say(step)
            last = step
            status.update(f"{how_far}; Ctrl-C keeps what has been measured")

        yield tell


def show(folder: Path, record: Comparison, screen: Screen) -> None:
    """Print the tables of a record, and make its files again: CSV, pictures, report."""
    images = pictures.draw(record)
    for file_name, content in images.items():
        files.replace(folder / file_name, content)
    files.replace(folder / "comparison.csv", spreadsheet(record).encode())
    files.replace(folder / "report.html", report.page(record, images).encode())
    conclusions = [line.replace("`", "") for line in sentences.conclusions(record)]
    for line in (*conclusions, "", *sentences.setting(record)):
        screen.print(line)
    for title, cells in tables.tables(record).items():
        screen.print()
        heading, *rows = cells
        keys = 2 if heading[1] == record.plan.vary else 1
        # The figures are read from the right.
        screen.table(heading, rows, title, numbers=title != "Quality", keys=keys)
    for line in ("", *sentences.notes(record)):
        screen.print(line)
    screen.say(f"\nThe report, for a browser, with how it was measured: {folder / 'report.html'}")


def spreadsheet(record: Comparison) -> str:
    """All figures of a record as CSV, with a column for each part of a spread, and for a mean."""
    results = {row.candidate.name: row for row in metrics.qualities(record)}
    rows = []
    for row in metrics.speeds(record):
        flat: dict[str, Any] = {}
        for key, value in {**row._asdict(), **results[row.candidate.name]._asdict()}.items():
            if isinstance(value, Candidate):
                flat |= {"candidate": value.name, "backend": value.backend, "model": value.model}
                flat["environment"] = value.environment
            elif isinstance(value, Spread):
                flat |= {f"{key}_{part}": number for part, number in value._asdict().items()}
            elif isinstance(value, list):
                flat[f"{key}_mean"] = statistics.fmean(value) if value else ""
                flat[f"{key}_deviation"] = statistics.stdev(value) if len(value) > 1 else ""
            else:
                flat[key] = value
        rows.append(flat)
    text = StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
