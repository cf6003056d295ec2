"""Notebook outputs in a real browser, both with JupyterLab's styles and without, as on GitHub."""

import pytest
from browser import SHOTS
from make import lessons, notebooks
from nbconvert import HTMLExporter

pytest_plugins = ["browser"]  # defines the fixtures
# Script that returns misaligned, cut-off or non-monospaced code in tables and columns.
MISFITS = """[...document.querySelectorAll("td code, .jp-RenderedHTML pre *")].filter(code => {
    const {fontFamily, textAlign} = getComputedStyle(code), box = code.closest("pre") ?? code;
    const isAligned = ["left", "start"].includes(textAlign) && /monospace$/.test(fontFamily);
    const numLines = box.textContent.split("\\n").length;
    const isWrapped = code.parentNode === box && code.getClientRects().length > numLines;
    return !isAligned || isWrapped || box.scrollWidth > box.clientWidth + 1;
}).map(code => code.textContent)"""
SMALL_PICTURES = """Promise.all([...document.images].map(async image => {
    await image.decode();
    const width = Number(image.getAttribute("width") ?? image.naturalWidth);
    return image.clientWidth < Math.max(250, width);
})).then(list => list.filter(Boolean).length)"""


@pytest.mark.usefixtures("_in_the_clone")
@pytest.mark.parametrize("name", [name for name in notebooks.ALL if notebooks.STUDENT not in name])
def test_code_is_aligned_and_pictures_are_large(open_page, tmp_path, name):
    scripts = dict.fromkeys(("mathjax_url", "require_js_url", "mermaid_js_url"), "")
    exporter = HTMLExporter(template_name="lab", exclude_input=True, **scripts)
    html, _ = exporter.from_filename(lessons.notebook_path(name))
    (tmp_path / "notebook.html").write_text(html, encoding="utf-8")
    page = open_page(tmp_path / "notebook.html", 1100)
    assert page.evaluate(SMALL_PICTURES) == 0
    assert page.locator("img").count() > 1 or name == "side_by_side"
    page.screenshot(path=SHOTS / f"notebook-{name}.png", full_page=True)
    assert page.evaluate(MISFITS) == []
    outputs = page.locator(".jp-RenderedHTML [style]")
    assert outputs.count() > 100 or name != "side_by_side"
    outputs.evaluate_all("elements => elements.forEach(e => e.removeAttribute('style'))")
    assert page.evaluate(MISFITS) == []
