"""Interactive parts of the site: trained networks that generate text, and their scripts."""

from rnn_scratch.play import page

from . import play, prose, site_code

SOURCES = play.SCRIPT.parent  # folder of scripts for the site only, not for `rnn-scratch play`
START = "start.js"


def parts() -> dict[str, str]:
    """Return the HTML of the interactive parts, keyed by the name in a page's marks."""
    networks = play.read()
    values = {
        "network": play.PRESET,
        "written": networks[play.PRESET]["expected"]["greedy"],
        "start_scripts": (play.SCRIPT.name, *page.SCRIPTS[:-1], START),
        "scripts": (play.SCRIPT.name, *page.SCRIPTS),
        "controls": (page.FOLDER / page.CONTROLS).read_text(encoding="utf-8"),
        "prefixes": dict.fromkeys(saved["expected"]["prefix"] for saved in networks.values()),
    }
    names = ("writer", "networks", "difference")
    return {name: prose.TEMPLATES.get_template(f"{name}.html").render(values) for name in names}


def scripts() -> dict[str, bytes]:
    """Return the scripts and the style sheet of the interactive parts, keyed by path."""
    files = {name: (page.FOLDER / name).read_bytes() for name in (*page.SCRIPTS, page.STYLE)}
    files |= {name: (SOURCES / name).read_bytes() for name in (play.SCRIPT.name, START)}
    return {f"{site_code.STATIC}/play/{name}": content for name, content in files.items()}
