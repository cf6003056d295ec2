"""Configuration of Sphinx, which builds the site from the pages that `make.site` writes."""

project = "rnn-scratch"
extensions = ["myst_parser", "sphinx_copybutton"]

# Sphinx verifies the Markdown links of the pages, with the headings that they lead to.
myst_heading_anchors = 4
smartquotes = False  # smart quotes would change the -- of options

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
