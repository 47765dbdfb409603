"""Folders of cut-outs: what is read, what is skipped and named, and how phrases are held out."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from torchnle.data import Cutouts, load_cutouts, shapes


def stamp(folder, name, caption=None, *, size=(40, 30), margin=5, mode="RGBA"):
    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", size)
    image.paste("red", (margin, margin, size[0] - margin, size[1] - margin))
    image.convert(mode).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    stamp(tmp_path, "birds/hen", "A hen.\nde.utf8=Eine Henne.\n")
    stamp(tmp_path, "tools/saw", "\ufeffAn saw.", size=(1200, 900))
    stamp(tmp_path, "no_caption")
    stamp(tmp_path, "blank", " \nA hen.\n")
    stamp(tmp_path, "sentence", "Remember to wash your hands!")
    stamp(tmp_path, "opaque", "A wall.", mode="RGB")
    stamp(tmp_path, "empty", "A ghost.", margin=15)
    stamp(tmp_path, "tiny", "An ant.", size=(20, 20))
    stamp(tmp_path, "symbols/alphabets/a", "A letter.")
    stamp(tmp_path, "birds/hen_mirror", "A hen.")
    stamp(tmp_path, "latin", "x").with_suffix(".txt").write_bytes(b"A caf\xe9.\n")
    stamp(tmp_path, "broken", "A bin.").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    whole = stamp(tmp_path, "cut_short", "A bin.", size=(300, 300))
    whole.write_bytes(whole.read_bytes()[:60])
    (tmp_path / "sound.ogg").write_bytes(b"")
    return tmp_path


def test_a_folder_of_stamps_gives_its_things_and_names_the_rest(folder, caplog):
    with caplog.at_level(logging.WARNING):
        cutouts = load_cutouts(folder)
    assert [(cutout.phrase, cutout.source) for cutout in cutouts] == [
        ("a hen", "birds/hen.png"),
        ("a saw", "tools/saw.png"),
    ]
    assert cutouts.skipped == {
        "no_caption.png": "without a caption file",
        "blank.png": "with a blank caption",
        "sentence.png": "whose caption is no noun phrase",
        "opaque.png": "without transparency",
        "empty.png": "with next to nothing visible",
        "tiny.png": "smaller than 24 pixels",
        "symbols/alphabets/a.png": "left out by `exclude`",
        "birds/hen_mirror.png": "left out by `exclude`",
        "latin.png": "with a caption that is not UTF-8",
        "broken.png": "unreadable",
        "cut_short.png": "unreadable",
    }
    (record,) = caplog.records
    assert "2 cut-outs; skipped 11" in record.message
    assert "2 unreadable (broken.png, cut_short.png)" in record.message


def test_pictures_are_cropped_to_what_is_visible_and_reduced(folder):
    hen, saw = load_cutouts(folder, largest=100)
    assert hen.image.size == (30, 20)
    assert hen.image.getpixel((0, 0)) == (255, 0, 0, 255)
    assert max(saw.image.size) == 100


def test_palette_pictures_keep_their_transparency(tmp_path):
    stamp(tmp_path, "hen", "A hen.", mode="P")
    (hen,) = load_cutouts(tmp_path)
    assert hen.image.mode == "RGBA"
    assert hen.image.size == (30, 20)


def test_folders_without_cutouts_are_refused(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        load_cutouts(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no PNG there"):
        load_cutouts(tmp_path)
    stamp(tmp_path, "only")
    with pytest.raises(ValueError, match="1 without a caption file"):
        load_cutouts(tmp_path)


def test_a_split_parts_phrases_for_good():
    cutouts = shapes()
    train, test = cutouts.split("train"), cutouts.split("test")
    assert set(train.phrases).isdisjoint(test.phrases)
    assert set(train.phrases) | set(test.phrases) == set(cutouts.phrases)
    assert 0.1 < len(test) / len(cutouts) < 0.3
    some = cutouts[:20]
    assert set(some.split("test").phrases) == set(test.phrases) & set(some.phrases)
    assert Cutouts([]).split("test").phrases == ()
    assert cutouts.split("test", share=0).phrases == ()
    with pytest.raises(ValueError, match="'val'"):
        cutouts.split("val")
    with pytest.raises(ValueError, match=r"share=1\.5"):
        cutouts.split("test", share=1.5)


def test_shapes_have_their_colour_soft_edges_and_different_outlines():
    cutouts = shapes(size=64)
    assert len(cutouts) == len(set(cutouts.phrases)) >= 64
    outlines = set()
    for cutout in cutouts:
        pixels = np.asarray(cutout.image)
        alpha = pixels[..., 3]
        assert cutout.image.getbbox(alpha_only=True) == (0, 0, *cutout.image.size)
        assert len(np.unique(pixels[alpha > 0][:, :3], axis=0)) == 1
        outlines.add(alpha.tobytes())
    assert len(outlines) == len({phrase.split()[-1] for phrase in cutouts.phrases})
    circle = np.asarray(shapes(names=["circle"], colours=["red"], size=100)[0].image)[..., 3] / 255
    assert circle.sum() == pytest.approx(np.pi * 50**2, rel=0.02)
    assert ((circle > 0) & (circle < 1)).any()


def test_unknown_shapes_are_refused():
    with pytest.raises(ValueError, match=r"unknown shapes \['blob'\]"):
        shapes(names=["blob"])
    with pytest.raises(ValueError, match=r"unknown colours \['ultraviolet'\]"):
        shapes(colours=["ultraviolet"])
    with pytest.raises(ValueError, match="size=0"):
        shapes(size=0)
