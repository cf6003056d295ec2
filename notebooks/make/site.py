"""Writes the site's pages from the text, the code and the records: `python -m make.site`.

It runs in the folder of the clone. The pages, Markdown and pictures, are written under ``build/``,
which git ignores; `nox -s site` runs it, and builds a site from them. With
``--backends numpy,torch,theirs`` the chapter has the code of these backends, which may be of other
packages.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.contract import RNNScratchError
from rnn_scratch.settings import Settings

from . import (
    names,
    readme,
    site_chapter,
    site_code,
    site_comparison,
    site_parity,
    site_play,
    site_prose,
    site_start,
    site_workers,
)
from .chapter import TEXTS
from .readme import COMPARISONS, RECORDS
from .site_code import STATIC

SOURCES = TEXTS / "site"  # pages and styles that are written by hand
PAGES = Path("build/pages")


def pages(
    backends: Sequence[str] = registry.OURS, typeset: site_prose.Typeset = site_prose.mathml
) -> dict[str, bytes]:
    """All pages and pictures, by their places; RNNScratchError where a text makes no sense."""
    texts = {f"{name}.md": text for name, text in site_chapter.render(backends, typeset).items()}
    texts["errata.md"] = (TEXTS / "errata.md").read_text(encoding="utf-8")
    reference = (SOURCES / "reference.md").read_text(encoding="utf-8")
    texts["reference.md"] = reference.replace("{settings}", _settings())
    texts["index.md"] = site_start.render(RECORDS, backends)
    texts["parity.md"], parity_pictures = site_parity.render(RECORDS)
    texts["comparison.md"], comparison_pictures = site_comparison.render(COMPARISONS, RECORDS)
    texts["workers.md"], workers_pictures = site_workers.render(RECORDS, backends, typeset)
    texts["play.md"], play_files = site_play.render(backends)
    script = (SOURCES / "frameworks.js").read_text(encoding="utf-8")
    titles = {backend: names.framework(backend) for backend in backends}
    texts[f"{STATIC}/frameworks.js"] = script.replace("{frameworks}", json.dumps(titles))
    files = {name: text.encode() for name, text in texts.items()}
    files |= parity_pictures | comparison_pictures | workers_pictures | play_files
    for sources in site_chapter.read_results(backends).values():
        for output in (each for outputs in sources.values() for each in outputs if each.picture):
            files[site_code.figure_name(output.picture)] = output.picture
    files[f"{STATIC}/frameworks.css"] = (SOURCES / "frameworks.css").read_bytes()
    for path in sorted(SOURCES.glob("*.md")):
        files.setdefault(path.name, path.read_bytes())
    return files


def write(folder: Path, backends: Sequence[str]) -> None:
    """Write all pages into the folder, in place of its content."""
    files = pages(backends)
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _settings() -> str:
    # The meaning of each setting, as in `train --help`: it is not in a docstring.
    rows = [
        [f"`{each.name}`", f"`{each.default!r}`", each.metadata["help"]]
        for each in dataclasses.fields(Settings)
    ]
    return readme.markdown([["setting", "default", "meaning"], *rows])


def main() -> None:
    """Write the pages for the backends named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m make.site")
    parser.add_argument(
        "--backends",
        metavar="A,B,...",
        default=",".join(registry.OURS),
        help="those whose code the chapter has (default: %(default)s)",
    )
    backends = parser.parse_args().backends.split(",")
    try:
        write(PAGES, backends)
    except RNNScratchError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
