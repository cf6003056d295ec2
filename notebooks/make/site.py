"""Write the source of the site from the pages and the lessons: `python -m make.site`.

Run it in the folder of the clone; it writes ``build/pages``, from which `nox -s site` builds the
site with Sphinx. The pages come from ``notebooks/site``, the lessons, and three files in the root
folder. Links to notebooks become links to the lessons' pages, and interactive parts replace the
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

from . import figures, prose, site_code, site_lessons, site_play
from .lessons import LESSONS
from .pages import FOLDER
from .site_code import STATIC

BUILD = Path("build/pages")
FILES = "files"  # folder of linked files that are not pages
ROOT_FILES = ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
WIDE = ("index.md", "play.md")  # pages without a table of contents in the sidebar
NO_CONTENTS = "---\nhtml_theme.sidebar_secondary.remove: true\n---\n\n"
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
PART = re.compile(r"<!-- site: (\w+)(?: (\w+))? -->\n(.*?)<!-- end of \1 -->", re.DOTALL)
PICTURE = re.compile(
    r'<picture>\n.*?<img alt="([^"]*)" src="([^"]*)"[^>]*>\n</picture>(?:\n\n\*([^\n]*)\*)?',
    re.DOTALL,
)


def pages(backends: Sequence[str] = registry.BUILTIN_BACKENDS) -> dict[str, bytes]:
    """Return the content of all pages, pictures, styles and scripts, keyed by path."""
    texts = {f"{name}.md": text for name, text in site_lessons.render(backends).items()}
    files = site_play.scripts()
    parts = site_play.parts()
    for path in (*sorted(FOLDER.glob("*.md")), *map(Path, ROOT_FILES)):
        text = prose.render(path.read_text(encoding="utf-8"), backends)
        link = partial(_link, folder=path.parent, files=files)
        text = prose.outside_fences(text, partial(LINK.sub, link))
        text = PICTURE.sub(_figure, text)
        text = PART.sub(lambda match: _part(match, parts, backends), text)
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
    # Convert a link in the clone to a link in the site; add targets that are not pages to `files`.
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
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img src="{name}" alt="{alt}">{below}</figure>'


def _part(match: re.Match[str], parts: dict[str, str], backends: Sequence[str]) -> str:
    name, function, _ = match.groups()
    if name == "code":
        return site_code.group(site_code.find_code(backends, function), backends)
    if name == "step":
        pair = backends[:2]
        return site_code.group(site_code.find_code(pair, "rnn", "step"), pair, kind="pair")
    if name == "contents":
        return prose.TEMPLATES.get_template("toctree.md").render()
    return parts[name]


def write(folder: Path = BUILD) -> None:
    """Replace a folder's content with all files of the site and the font for formulas."""
    files = {**pages(), f"{STATIC}/formulas.woff": prose.formula_font()}
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write()
