"""Write the site's source from the pages and lessons: `python -m make.site`.

Run it from the repository root; it writes ``build/pages``, from which `nox -s site` builds the
site with Sphinx. The pages come from ``notebooks/site``, the lessons, and three files in the
repository root. Links to notebooks become links to lesson pages, and interactive parts replace the
text between ``<!-- site: NAME -->`` and ``<!-- end of NAME -->``.
"""

import itertools
import json
import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rnn_scratch import registry
from rnn_scratch.play import page

from . import figures, lab, play, prose, site_code, site_lessons
from .lessons import LESSONS
from .pages import FOLDER
from .site_code import STATIC

BUILD = Path("build/pages")
FILES = "files"  # folder of linked files that are not pages
ROOT_FILES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
# Pages without a table of contents in the sidebar.
WIDE = ("index.md", "play.md", "lab.md", "program.md")
PROGRAM = Path("notebooks/programs/torch_rnn.py")
NO_CONTENTS = "---\nhtml_theme.sidebar_secondary.remove: true\n---\n\n"
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
PART = re.compile(r"<!-- site: (\w+) -->\n.*?<!-- end of \1 -->", re.DOTALL)
PICTURE = re.compile(
    r'^<img alt="([^"]*)" src="(figures/[^"]*)">(?:\n\n\*([^\n]*)\*)?', re.MULTILINE
)
SCRIPTS = (play.SCRIPT, play.SCRIPT.with_name("start.js"))  # scripts for the site only
LAB = tuple(lab.SCRIPT.with_name(name) for name in ("networks.js", "trace.js", "lab.js", "lab.css"))


def pages(backends: Sequence[str] = registry.BUILTIN_BACKENDS) -> dict[str, bytes]:
    """Return the content of all pages, pictures, styles and scripts, keyed by path."""
    texts = {f"{name}.md": text for name, text in site_lessons.render(backends).items()}
    scripts = (page.FOLDER / name for name in (*page.SCRIPTS, page.STYLE))
    files = {f"{STATIC}/play/{path.name}": path.read_bytes() for path in (*scripts, *SCRIPTS)}
    files |= {f"{STATIC}/lab/{path.name}": path.read_bytes() for path in LAB}
    parts = _parts(backends)
    for path in (*sorted(FOLDER.glob("*.md")), *map(Path, ROOT_FILES)):
        text = prose.render(path.read_text(encoding="utf-8"), backends)
        link = partial(_link, folder=path.parent, files=files)
        text = prose.map_outside_fences(text, partial(LINK.sub, link))
        text = PICTURE.sub(_figure, text)
        text = PART.sub(lambda match: parts[match[1]], text)
        texts[path.name.lower()] = NO_CONTENTS * (path.name in WIDE) + text
    script = (FOLDER / "frameworks.js").read_text(encoding="utf-8")
    titles = {backend: prose.framework(backend) for backend in backends}
    texts[f"{STATIC}/frameworks.js"] = script.replace("{frameworks}", json.dumps(titles))
    files |= {name: text.encode() for name, text in texts.items()}
    for sources in site_lessons.read_results(backends).values():
        for output in itertools.chain(*sources.values()):
            if output.picture:
                files[site_code.figure_name(output.picture)] = output.picture
    for picture in (FOLDER / figures.FOLDER).glob("*.svg"):
        files[f"{STATIC}/figures/{picture.name}"] = picture.read_bytes()
    files[f"{STATIC}/frameworks.css"] = (FOLDER / "frameworks.css").read_bytes()
    return files


def _link(match: re.Match[str], folder: Path, files: dict[str, bytes]) -> str:
    """Convert a link for use on the site; add the target to `files` if it is not a page."""
    target, fragment = Path(os.path.normpath(folder / match[1])), match[2] or ""
    if target.suffix == ".ipynb" and target.stem in LESSONS:
        anchor = prose.slug(fragment.removeprefix("#"))
        return f"]({target.stem}.md{'#' + anchor if anchor else ''})"
    if target.parent == FOLDER and target.suffix == ".md":
        return f"]({target.name}{fragment})"
    if target.name in ROOT_FILES:
        return f"]({target.name.lower()}{fragment})"
    if target.name == "README.md":
        return "](index.md)"
    place = f"{FILES}/{target.as_posix()}"
    files[place] = target.read_bytes()
    return f"]({place})"


def _figure(match: re.Match[str]) -> str:
    alt, place, caption = match.groups()
    name = f"{STATIC}/figures/{Path(place).name}"
    figcaption = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img src="{name}" alt="{alt}">{figcaption}</figure>'


def _parts(backends: Sequence[str]) -> dict[str, str]:
    """Return the HTML of the interactive parts, keyed by their names in page markers."""
    networks, pair = play.read(), backends[:2]
    values = {
        "network": "lstm",
        "written": networks["lstm"]["expected"]["greedy"],
        "start_scripts": (play.SCRIPT.name, *page.SCRIPTS[:-1], SCRIPTS[1].name),
        "scripts": (play.SCRIPT.name, *page.SCRIPTS),
        "lab_scripts": (
            *(f"play/{name}" for name in page.SCRIPTS[:-1]),
            *(f"lab/{path.name}" for path in LAB[:-1]),
        ),
        "controls": (page.FOLDER / page.CONTROLS).read_text(encoding="utf-8"),
        "networks": networks,
    }
    step = site_code.group(site_code.find_code(pair, "rnn", "step"), pair, kind="pair")
    names = ("writer", "networks", "difference", "lab", "contents")
    templates = {name: prose.TEMPLATES.get_template(f"{name}.html") for name in names}
    program = site_code.annotated(PROGRAM.read_text(encoding="utf-8"))
    parts = {"step": step, "program": program}
    return parts | {name: item.render(values) for name, item in templates.items()}


def write(folder: Path = BUILD) -> None:
    """Replace a folder's content with the site's files and the formula font."""
    files = {**pages(), f"{STATIC}/formulas.woff": prose.formula_font()}
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write()
