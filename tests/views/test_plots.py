from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import Image

from torchnle import Description, DescriptionGrid
from torchnle.views.plots import plot_descriptions, plot_saliency, save


def photo(width=60, height=40):
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_every_place_carries_its_own_words_at_its_centre():
    cells = [Description(f"word {i}", 0.0, layer="l", location=divmod(i, 3)) for i in range(6)]
    axes = plot_descriptions(photo(), DescriptionGrid(cells, (2, 3))).axes[0]
    written = {text.get_text(): text.get_position() for text in axes.texts}
    assert written["word 0"] == (10, 10)
    assert written["word 5"] == (50, 30)


def test_maps_share_one_scale_and_state_their_raw_range():
    maps = torch.stack([torch.full((2, 2), 0.25), torch.tensor([[0.0, 1.0], [0.5, 0.5]])])
    figure = plot_saliency(photo(), maps, ["flat", "wide"])
    limits = [axes.images[-1].get_clim() for axes in figure.axes[:2]]
    assert limits == [(0.0, 1.0), (0.0, 1.0)]
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["0.250 to 0.250", "0.000 to 1.000"]


def test_a_constant_map_is_drawn(tmp_path):
    assert save(plot_saliency(photo(), torch.zeros(1, 3, 3), ["nothing"]), tmp_path / "flat.png").exists()


@pytest.mark.parametrize(
    "text", ["$x^2$ and $y$", "$5 or 10$", "a \\\\frac $", "100 % & _ {", "$\\notacommand$"]
)
@pytest.mark.parametrize("usetex", [False, True])
def test_texts_are_drawn_as_they_are(tmp_path, text, usetex):
    import matplotlib

    whole = Description(text, 0.0, layer="l")
    cells = [Description(text, 0.0, layer="l", location=(0, i)) for i in range(2)]
    with matplotlib.rc_context({"text.usetex": usetex, "axes.formatter.use_mathtext": False}):
        words = plot_descriptions(photo(), DescriptionGrid(cells, (1, 2)), whole=whole)
        maps = plot_saliency(photo(), torch.rand(1, 3, 3), [text], score_name=text)
    drawn = [words.axes[0].title, *words.axes[0].texts, maps.axes[0].title, maps.axes[-1].yaxis.label]
    assert len(drawn) == 5
    for each in drawn:
        assert each.get_text().replace("\n", " ") == text
        assert not each.get_usetex()
        assert not each.get_parse_math()
    assert save(words, tmp_path / "words.png").exists()
    if not usetex:  # its numbers would need a TeX of the machine's
        assert save(maps, tmp_path / "maps.png").exists()


def test_the_number_of_texts_must_fit():
    with pytest.raises(ValueError, match="2 maps were given with 1 texts"):
        plot_saliency(photo(), torch.zeros(2, 3, 3), ["one"])


def test_saving_makes_folders_and_leaves_only_the_picture(tmp_path):
    path = save(plot_saliency(photo(), torch.rand(1, 3, 3), ["a"]), tmp_path / "a" / "b.png")
    assert Image.open(path).format == "PNG"
    assert os.listdir(tmp_path / "a") == ["b.png"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot write to"):
        save(plot_saliency(photo(), torch.rand(1, 3, 3), ["a"]), tmp_path / "file" / "x.png")


def test_a_failed_drawing_leaves_nothing(tmp_path):
    figure = plot_saliency(photo(), torch.rand(1, 3, 3), ["a"])
    figure.savefig = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no ink"))
    with pytest.raises(RuntimeError, match="no ink"):
        save(figure, tmp_path / "x.png")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_names_the_picture_and_leaves_the_old_one(tmp_path):
    resource = pytest.importorskip("resource")
    file = save(plot_saliency(photo(), torch.rand(1, 3, 3), ["a"]), tmp_path / "x.png")
    old, before = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="could not be saved: File too large") as caught:
            save(plot_saliency(photo(), torch.rand(1, 3, 3), ["b"]), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(file)
    assert (file.read_bytes(), os.listdir(tmp_path)) == (old, ["x.png"])
