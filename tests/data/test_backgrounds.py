"""Backgrounds: their words, their size, and that only the generator decides what they look like."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from torchnle.data import (
    Gradient,
    Picture,
    gradient_backgrounds,
    photo_backgrounds,
    plain_backgrounds,
    texture_backgrounds,
)

EVERY = [*plain_backgrounds(), *gradient_backgrounds(), *texture_backgrounds()]
TALL = photo_backgrounds([Image.effect_noise((30, 60), 50)], "on the moon")[0]


@pytest.mark.parametrize("background", [*EVERY, TALL], ids=lambda background: background.location)
def test_a_background_is_drawn_by_its_generator_alone(background):
    first, again, other = (background.draw(np.random.default_rng(seed), 48) for seed in (1, 1, 2))
    assert first.mode == "RGB"
    assert first.size == (48, 48)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_the_words_for_backgrounds_differ():
    locations = [background.location for background in EVERY]
    assert len(set(locations)) == len(locations)
    assert {"on grass", "on gravel", "in front of a brick wall", "on an orange background"} <= set(locations)


@pytest.mark.parametrize("background", EVERY, ids=lambda background: background.location)
def test_a_background_has_the_colours_that_it_says(background):
    drawn = np.mean(
        [np.asarray(background.draw(np.random.default_rng(i), 16)) for i in range(40)], axis=(0, 1, 2)
    )
    assert np.abs(drawn - np.mean(background.colours, axis=0)).max() < 16


def test_a_gradient_runs_from_one_colour_to_the_other():
    pixels = np.asarray(Gradient("", (0, 0, 0), (200, 200, 200)).draw(np.random.default_rng(0), 64))
    assert pixels.min() < 30
    assert pixels.max() > 170
    assert np.abs(np.diff(pixels[..., 0].astype(int), axis=0)).max() <= 5


def test_a_picture_is_cut_from_the_photo_without_stretching():
    photo = Image.fromarray(np.add.outer(np.arange(64), np.zeros(200)).astype(np.uint8) * 4)
    columns = np.asarray(Picture("", photo).draw(np.random.default_rng(3), 32))[..., 0].astype(int)
    assert (columns == columns[:, :1]).all()
    assert (np.diff(columns[:, 0]) > 0).all()
