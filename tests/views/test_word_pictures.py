from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from torchnle.views.audit_page import Section, write_page
from torchnle.views.words import OWN, plot_bars, plot_cloud


def test_larger_frequencies_are_drawn_larger_and_the_classes_words_in_colour():
    figure = plot_cloud({"hen": 1.0, "owl": 0.1, "never": 0.0}, own={"hen"})
    pixels = figure.axes[0].images[0].get_array().astype(int)
    red = pixels[..., 0] - pixels[..., 2] > 60
    dark = (pixels.sum(axis=2) < 500) & ~red
    assert red.sum() > 2 * dark.sum() > 0
    assert OWN.startswith("#c0")


def test_bars_have_their_lengths_and_intervals():
    axes = plot_bars(["hen", "owl"], [0.5, 0.2], [(0.4, 0.6), (0.1, 0.3)]).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [0.5, 0.2]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.4, 0.6], [0.1, 0.3]]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="none of 1 words"):
        plot_cloud({"hen": 0.0})
    with pytest.raises(ValueError, match="2 words, 1 values"):
        plot_bars(["hen", "owl"], [0.5])


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_a_page_needs_nothing_beside_itself_and_runs_nothing_of_others(tmp_path):
    evil = "<script>alert(1)</script>"
    picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    section = Section(
        evil, evil, ["word", "data"], [[evil, 0.5]], [(plot_bars([evil], [1.0]), evil)], [(picture, evil)]
    )
    file = write_page(tmp_path / "new" / "audit.html", evil, evil, [section])
    reader = Reader()
    reader.feed(file.read_text(encoding="utf-8"))
    assert "script" not in reader.tags
    assert evil in reader.text
    assert len(reader.links) == 2
    assert all(link.startswith("data:image/") for link in reader.links)
    assert [path.name for path in file.parent.iterdir()] == ["audit.html"]
