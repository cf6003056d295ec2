"""Writes the site's pages from the text, the code and the records: `python -m make.site`.

It runs in the folder of the clone. The pages, Markdown and pictures, are written under ``build/``,
which git ignores; `nox -s site` runs it, and builds a site from them. With
``--backends numpy,torch,theirs`` the lessons have the code of these backends, which may be of other
packages.
"""

import argparse
import itertools
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grading

from rnn_scratch import registry
from rnn_scratch.api import in_python
from rnn_scratch.errors import RNNScratchError
from rnn_scratch.runs import run_folder
from rnn_scratch.runs.presets import PRESETS
from rnn_scratch.settings import SETTINGS, Settings
from rnn_scratch.show import source_code, standalone

from . import (
    prose,
    readme,
    site_code,
    site_comparison,
    site_lessons,
    site_parity,
    site_play,
    site_workers,
)
from .lessons import TEXTS, Code
from .prose import SOURCES
from .readme import COMPARISONS, RECORDS
from .site_code import STATIC

PAGES = Path("build/pages")
RUN = "numpy-scratch-sequential"  # whose samples the start page has
EPOCHS = (10, 150, 200, 500)
FUNCTIONS = ("rnn", "step")  # of the start page, of which one calls the other


def pages(
    backends: Sequence[str] = registry.OURS, typeset: prose.Typeset = prose.mathml
) -> dict[str, bytes]:
    """Return all pages and pictures by place; raise RNNScratchError where a text makes no sense."""
    texts = {f"{name}.md": text for name, text in site_lessons.render(backends, typeset).items()}
    texts["errata.md"] = (TEXTS / "errata.md").read_text(encoding="utf-8")
    files: dict[str, bytes] = {}
    for name, (text, pictures) in {
        "parity": site_parity.render(RECORDS),
        "comparison": site_comparison.render(COMPARISONS),
        "workers": site_workers.render(RECORDS, backends, typeset),
        "play": site_play.render(backends),
    }.items():
        texts[f"{name}.md"] = text
        files |= pictures
    values = {
        "settings": SETTINGS,
        "defaults": Settings(),
        "in_python": in_python,
        "presets": readme.presets()["presets"],
        "arguments_of_presets": PRESETS,
        "mistakes": _mistakes(),
        **_start(backends),
    }
    programs = {
        name: standalone.program(name, Settings(), f"rnn-scratch standalone {name}")
        for name in backends
        if name in registry.OURS
    }
    texts |= {f"{STATIC}/{name}/rnn.py": source for name, source in programs.items()}
    values |= _programs(programs, backends)
    for path in sorted(SOURCES.glob("*.md")):
        if path.name not in texts:
            texts[path.name] = prose.page(path.name, values, backends, typeset)
    script = (SOURCES / "frameworks.js").read_text(encoding="utf-8")
    titles = {backend: prose.framework(backend) for backend in backends}
    texts[f"{STATIC}/frameworks.js"] = script.replace("{frameworks}", json.dumps(titles))
    files |= {name: text.encode() for name, text in texts.items()}
    for sources in site_lessons.read_results(backends).values():
        for output in itertools.chain(*sources.values()):
            if output.picture:
                files[site_code.figure_name(output.picture)] = output.picture
    files[f"{STATIC}/frameworks.css"] = (SOURCES / "frameworks.css").read_bytes()
    return files


def _mistakes() -> dict[str, list[str]]:
    # Those that grading recognizes, by the function in whose code, in NumPy, they are made.
    names: dict[str, list[str]] = {}
    for function in grading.GRADED_BY:
        source = source_code.join(source_code.find("numpy", function)[:1])
        names[function] = [
            mistake.name
            for mistake in grading.known(function)
            if all(old in source for old in mistake.changes["numpy"][::2])
        ]
    return names


def _start(backends: Sequence[str]) -> dict[str, Any]:
    # The start page: what the network learns, and the same function in two frameworks.
    run = RECORDS / RUN
    return {
        "backends": backends,
        **site_play.writer(),
        "characters": run_folder.read(run).text.train_tokens,
        "samples": [row for row in run_folder.history(run) if row.epoch in EPOCHS and row.sample],
        "step": site_code.group(site_code.of(backends[:2], *FUNCTIONS), backends[:2], kind="pair"),
    }


def _programs(sources: Mapping[str, str], backends: Sequence[str]) -> dict[str, str]:
    # The programs of one file, and a button for each that downloads it.
    button = '<a class="download" href="{}/{}/rnn.py" download>Download rnn.py</a>'
    downloads = [site_code.panel([name], button.format(STATIC, name)) for name in sources]
    codes = {name: Code(source.rstrip("\n")) for name, source in sources.items()}
    return {"downloads": "\n\n".join(downloads), "programs": site_code.group(codes, backends)}


def write(folder: Path, backends: Sequence[str]) -> None:
    """Write all pages into the folder, in place of its content, and the font of their formulas."""
    files = {**pages(backends), f"{STATIC}/formulas.woff": prose.formula_font()}
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def main() -> None:
    """Write the pages for the backends named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m make.site")
    parser.add_argument(
        "--backends",
        metavar="A,B,...",
        default=",".join(registry.OURS),
        help="those whose code the lessons have (default: %(default)s)",
    )
    backends = parser.parse_args().backends.split(",")
    try:
        write(PAGES, backends)
    except RNNScratchError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
