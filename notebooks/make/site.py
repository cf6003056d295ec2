"""The site's pages, written from the text, the code and the records: `python -m make.site`.

Run in the folder of the clone. What it writes, Markdown and pictures, goes under ``build/``, which
git ignores; `nox -s site` runs it, and has a site made of them.
"""

import dataclasses
import shutil
import sys
from pathlib import Path

from rnn_scratch.contract import RNNScratchError
from rnn_scratch.settings import Settings

from . import records, site_chapter, site_code, site_comparison, site_parity, site_prose
from .chapter import TEXTS
from .records import COMPARISONS, RECORDS

WRITTEN = TEXTS / "site"  # pages and looks that are written by hand
PAGES = Path("build/pages")


def pages(typeset: site_prose.Typeset = site_prose.mathml) -> dict[str, bytes]:
    """All pages and pictures, by where they lie; RNNScratchError where a text makes no sense."""
    texts = {f"{name}.md": text for name, text in site_chapter.told(typeset).items()}
    texts["errata.md"] = (TEXTS / "errata.md").read_text(encoding="utf-8")
    reference = (WRITTEN / "reference.md").read_text(encoding="utf-8")
    texts["reference.md"] = reference.replace("{settings}", _settings())
    texts["parity.md"], proof = site_parity.parity(RECORDS)
    texts["comparison.md"], measured = site_comparison.compared(COMPARISONS)
    found = {name: text.encode() for name, text in texts.items()} | proof | measured
    for sources in site_chapter.given().values():
        for output in (each for outputs in sources.values() for each in outputs if each.picture):
            found[site_code.figure_name(output.picture)] = output.picture
    for path in sorted(WRITTEN.glob("*.*")):
        if path.suffix in (".md", ".css", ".js"):
            found.setdefault(path.name, path.read_bytes())
    return found


def write(folder: Path) -> None:
    """Write all pages into the folder, in place of what is there."""
    found = pages()
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _settings() -> str:
    # What each setting is, as `train --help` says it too: their help is no docstring.
    rows = [
        [f"`{each.name}`", f"`{each.default!r}`", each.metadata["help"]]
        for each in dataclasses.fields(Settings)
    ]
    return records.markdown([["setting", "default", "what it is"], *rows])


if __name__ == "__main__":
    try:
        write(PAGES)
    except RNNScratchError as error:
        sys.exit(f"Error: {error}")
