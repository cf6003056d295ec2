"""Where a browser is found: the machine's own Chromium, or the one that Playwright installs."""

import shutil


def executable():
    """The path of the machine's own Chromium, or None for Playwright's."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)
