"""Sphinx configuration for the site, which is built from the pages that `make.site` writes."""

from docutils import nodes
from latex2mathml import converter

project = "rnn-scratch"
extensions = ["myst_parser", "sphinx_copybutton"]

# Generate heading anchors, so that Sphinx also checks links to headings.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
smartquotes = False  # smart quotes would turn the -- in options into a dash

html_theme = "pydata_sphinx_theme"
html_title = "rnn-scratch"
html_static_path = ["../../build/pages/_static"]
html_css_files = ["frameworks.css"]
# Follow the system's color mode unless the reader chose one; without JavaScript, use light mode.
SYSTEM = 'document.documentElement.dataset.mode = localStorage.getItem("mode") || "auto";'
html_js_files = [(None, {"body": SYSTEM}), ("frameworks.js", {"defer": "defer"})]
html_sidebars: dict[str, list[str]] = {"**": []}  # the top navigation bar lists all pages
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_show_sphinx = False
html_show_search_summary = False  # summaries fetch other pages, which fails for file:// URLs
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


def setup(app):
    """Render formulas as MathML, which browsers display without JavaScript."""

    def inline(self, node):
        self.body.append(converter.convert(node.astext()))
        raise nodes.SkipNode

    def block(self, node):
        formula = converter.convert(node.astext(), display="block")
        self.body.append(f'<div class="formula">{formula}</div>')
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (inline, None), (block, None))
