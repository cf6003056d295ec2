"""Configuration of Sphinx, which builds the site from the pages that `make.site` writes."""

from typing import get_type_hints

from rnn_scratch import Epoch, Progress

project = "rnn-scratch"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]

# Pages are Markdown. Their own Markdown links are checked, with the headings that they lead to.
myst_heading_anchors = 3
smartquotes = False  # it would change the -- of options

# The reference: names in single backticks are code, as in the docstrings.
default_role = "literal"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
toc_object_entries_show_parents = "hide"
for record in (Epoch, Progress):  # without the bounds of what is read from a file
    record.__annotations__ = get_type_hints(record)

html_theme = "pydata_sphinx_theme"
html_title = "rnn-scratch"
html_static_path = ["../../build/pages/_static"]
html_css_files = ["frameworks.css"]
# Light or dark as the system is, unless the reader has chosen. Without a script a page is light.
SYSTEM = 'document.documentElement.dataset.mode = localStorage.getItem("mode") || "auto";'
html_js_files = [(None, {"body": SYSTEM}), ("frameworks.js", {"defer": "defer"})]
html_sidebars: dict[str, list[str]] = {"**": []}  # all pages are in the navigation at the top
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_show_sphinx = False
html_show_search_summary = False  # it is loaded from the pages, which a page in a folder may not do
html_context = {"default_mode": "light"}
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "footer_start": [],
    "footer_end": [],
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_selector = ".highlight pre"
