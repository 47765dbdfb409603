import base64
import io
import re

import pytest
import torch
from explorer_world import HOSTILE, picture
from fakes import LetterTranslator, conv_net
from matplotlib import colormaps
from PIL import Image

from torchnle import LanguageAttribution
from torchnle.backbones import Preprocess
from torchnle.views.batch_page import overlay


@pytest.fixture
def flat():
    return LanguageAttribution(conv_net(), "norm", LetterTranslator())


def test_words_of_every_image_and_maps_of_every_text_are_on_the_page(tmp_path):
    lang = LanguageAttribution(conv_net(), ["layer", "norm"], LetterTranslator())
    images, texts = torch.rand(3, 3, 8, 8), ["a cat", "a <b>door</b>"]
    page = lang.report(images, tmp_path / "new" / "page.html", texts=texts).read_text()
    for words in lang.describe(images):
        for each in words:
            assert each.marked_text in page
    assert page.count("<section>") == 3
    assert page.count("<img") == 3 + 3 * 2 * 2
    maps = lang.saliency(images, texts, interpolate_mode=None)
    values = torch.cat([one.flatten() for one in maps])
    low, high = values.min(), values.max()
    assert f"from {low:.3f} (dark) to {high:.3f} (bright)" in page
    for one in maps:
        for row in one[:, 0]:
            peak = divmod(int(row.argmax()), row.shape[1])
            assert f"a cat: highest {row.max():.3f} at {peak}" in page
    assert "<b>" not in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_files_are_shown_by_name_as_the_model_sees_them(flat, tmp_path):
    flat.preprocess = Preprocess(8, 0.0, 255.0)
    files = [picture(tmp_path / HOSTILE, 1), picture(tmp_path / "b.png", 2)]
    page = flat.report(files, tmp_path / "page.html").read_text()
    assert "<img src=x" not in page
    assert "b.png" in page
    shown = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", page)]
    assert [Image.open(io.BytesIO(each)).size for each in shown] == [(160, 160)] * 2


def test_too_few_names_are_refused(flat, tmp_path):
    with pytest.raises(ValueError, match="1 names were given for 2 images"):
        flat.report(torch.rand(2, 3, 8, 8), tmp_path / "page.html", names=["one"])
    with pytest.raises(ValueError, match="0 pictures"):
        flat.report(torch.rand(2, 3, 8, 8), tmp_path / "page.html", pictures=[])


def test_the_overlay_is_the_colour_scale_over_grey():
    grey = Image.new("RGB", (4, 4), (90, 90, 90))
    for share in (0.0, 0.5, 1.0):
        found = overlay(grey, torch.full((3, 3), 2.0 + share), 2.0, 3.0).getpixel((80, 80))
        expected = [0.4 * 90 + 0.6 * 255 * c for c in colormaps["inferno"](share)[:3]]
        assert found == pytest.approx(expected, abs=2)
