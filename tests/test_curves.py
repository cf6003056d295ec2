"""The curve of a run, and the card with it that a notebook shows."""

from io import BytesIO
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from helpers import SMALL, epoch_row

import rnn_scratch
from rnn_scratch.runs import curve


def test_the_card_of_a_run_depends_on_no_clock():
    settings = {"num_epochs": 3, "valid_tokens": 60, "threads": 1, **SMALL}
    one, two = (rnn_scratch.train("numpy", run=name, **settings) for name in ("one", "two"))
    assert one._repr_html_() == two._repr_html_().replace(">two<", ">one<")
    for text in one.record.sessions[0].predictions:
        assert text in one._repr_html_()


def test_text_is_not_taken_for_html():
    run = rnn_scratch.train("numpy", num_epochs=1, run="<u>", **SMALL)
    run.record.sessions[-1].predictions = ["<i> & so on"]
    texts = list(ElementTree.fromstring(run._repr_html_()).itertext())
    assert [text for text in texts if "<" in text] == ["<i> & so on", "<u>"]


def image(*perplexities, **row):
    """The picture of epochs with these perplexities: heights, widths, and four colors each."""
    rows = [epoch_row(n, perplexity=p, **row) for n, p in enumerate(perplexities, 1)]
    return matplotlib.image.imread(BytesIO(curve.picture({"numpy": rows})))


def test_the_picture_suits_light_and_dark_pages_and_shows_what_there_is():
    empty, one, two = image(), image(20.0, 3.0, 2.0), image(20.0, 3.0, 2.0, valid_perplexity=9.0)
    for each in (empty, one, two):
        assert each[0, 0, 3] == each[100, 400, 3] == 0, "nothing is behind the curve"
        grey = each[..., :3][(np.ptp(each[..., :3], axis=2) == 0) & (each[..., 3] == 1)]
        assert np.unique(grey) == pytest.approx(int(curve.INK[1:3], 16) / 255, abs=0.01)
    blue = [int((np.ptp(each[..., :3], axis=2) > 0.3).sum()) for each in (empty, one, two)]
    assert 0 == blue[0] < blue[1] < blue[2]


@pytest.mark.parametrize("perplexities", [(None, 3.0), (1e299, 3.0, 2.0), (1.0, 1.0), (None,)])
def test_any_perplexities_can_be_drawn(perplexities, recwarn):
    drawn = image(*perplexities, valid_perplexity=2.5)
    assert (np.ptp(drawn[..., :3], axis=2) > 0.3).any()
    assert not recwarn.list
