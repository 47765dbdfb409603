"""Composed scenes: the same for a seed everywhere, and true to what they say of their objects."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from torchnle.data import Cutout, Gradient, Scenes, plain_backgrounds, shapes
from torchnle.data.layout import overlap, place_boxes
from torchnle.data.palette import COLOURS

SHAPES = shapes(size=48)


def scenes(**options):
    return Scenes(SHAPES, **{"length": 20, "size": 64, **options})


def same(first, second):
    return (
        first.image.tobytes() == second.image.tobytes()
        and first.caption == second.caption
        and [(o.phrase, o.box, o.mask.tobytes()) for o in first.objects]
        == [(o.phrase, o.box, o.mask.tobytes()) for o in second.objects]
    )


def test_a_scene_depends_on_its_seed_and_index_alone():
    data = scenes(seed=5)
    backwards = [data[i] for i in reversed(range(20))][::-1]
    assert all(same(a, b) for a, b in zip(data[:], backwards, strict=True))
    assert all(same(a, b) for a, b in zip(data[:], scenes(seed=5, length=99), strict=False))
    assert same(data[-1], data[19])
    assert not same(data[0], data[1])
    assert not same(data[0], scenes(seed=6)[0])
    assert same(pickle.loads(pickle.dumps(data))[3], data[3])


def test_worker_processes_give_the_same_scenes():
    data = scenes(length=8)
    loaded = [s for batch in DataLoader(data, batch_size=3, collate_fn=list, num_workers=2) for s in batch]
    assert len(loaded) == 8
    assert all(same(a, b) for a, b in zip(loaded, data, strict=True))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    least=st.integers(1, 4),
    large=st.floats(0.2, 1),
    max_overlap=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_what_a_scene_says_is_true(seed, least, large, max_overlap):
    data = scenes(
        seed=seed, objects=(least, 4), scale=(0.2, large), max_overlap=max_overlap, length=1, size=96
    )
    scene = data[0]
    assert least <= len(scene.objects) <= 4
    phrases = [thing.phrase for thing in scene.objects]
    assert len(set(phrases)) == len(phrases)
    assert (
        scene.caption
        == f"{', '.join(phrases[:-1])}{' and ' * (len(phrases) > 1)}{phrases[-1]} {scene.location}"
    )
    assert sum(thing.mask.astype(int) for thing in scene.objects).max() == 1
    pixels = np.asarray(scene.image).astype(int)
    for thing in scene.objects:
        rows, columns = np.where(thing.mask)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        colour = COLOURS[thing.phrase.split()[1]]
        inner = thing.mask & (np.abs(pixels - colour).max(-1) < 8)
        assert inner.sum() > 0.4 * thing.mask.sum()


def test_objects_stay_apart_and_within_their_scale():
    for scene in scenes(objects=(2, 2), scale=(0.25, 0.4), max_overlap=0, size=128):
        first, second = (thing.box for thing in scene.objects)
        assert overlap(first, second) == 0
        for left, top, right, bottom in (first, second):
            assert 0.25 * 128 - 3 <= max(right - left, bottom - top) <= 0.4 * 128 + 1


def test_objects_too_large_for_the_image_are_made_smaller():
    for scene in scenes(objects=(4, 4), scale=(1.0, 1.0), max_overlap=0):
        sides = [max(t.box[2] - t.box[0], t.box[3] - t.box[1]) for t in scene.objects]
        assert min(sides) > 8
        assert max(sides) - min(sides) <= 3


def test_a_thing_is_never_set_on_its_own_colour():
    data = scenes(backgrounds=plain_backgrounds(), objects=(1, 1), length=150)
    assert not any(s.objects[0].phrase.split()[1] in s.location.split() for s in data)


def test_where_every_background_hides_the_thing_one_is_taken_all_the_same():
    red = Gradient("on a red background", COLOURS["red"], COLOURS["red"])
    data = Scenes(shapes(colours=["red"]), [red], size=32, length=2)
    assert data[0].location == "on a red background"


def test_phrases_are_equally_frequent_however_many_cutouts_share_one():
    square = Image.new("RGBA", (8, 8), "red")
    cutouts = [Cutout("a hen", square, str(i)) for i in range(9)] + [Cutout("an owl", square)]
    data = Scenes(cutouts, objects=(1, 1), size=32, length=300)
    hens = [s.objects[0].source for s in data if s.caption.startswith("a hen")]
    assert 110 < len(hens) < 190
    assert len(set(hens)) == 9


def test_captions_can_follow_the_places_or_not():
    def rises(data):
        middles = [[t.box[0] + t.box[2] for t in s.objects] for s in data]
        return [xs == sorted(xs) for xs in middles]

    assert all(rises(scenes(order="left-to-right", objects=(2, 4))))
    share = np.mean(rises(scenes(objects=(2, 2), length=200)))
    assert 0.35 < share < 0.65


def test_flipping_can_be_turned_off():
    data = Scenes(
        shapes(names=["arrow"], size=64), objects=(1, 1), size=64, length=60, scale=(0.8, 0.8), flip=False
    )
    mixed = Scenes(shapes(names=["arrow"], size=64), objects=(1, 1), size=64, length=60, scale=(0.8, 0.8))

    def points_right(scene):
        columns = scene.objects[0].mask.sum(0).nonzero()[0]
        half = scene.objects[0].mask[:, columns.min() : columns.max() + 1]
        middle = half.shape[1] // 2
        return half[:, middle:].any(1).sum() > half[:, :middle].any(1).sum()

    assert all(points_right(scene) for scene in data)
    assert 0.25 < np.mean([points_right(scene) for scene in mixed]) < 0.75


def test_a_background_without_words_leaves_the_caption_to_the_objects():
    data = Scenes(SHAPES, [Gradient("", (9, 200, 200), (9, 200, 200))], size=32, length=3)
    assert all(s.caption.endswith(s.objects[-1].phrase) for s in data)


def test_pixels_are_the_image():
    scene = scenes()[0]
    assert scene.pixels.shape == (3, 64, 64)
    assert scene.pixels.dtype == torch.uint8
    assert scene.pixels[:, 5, 9].tolist() == list(scene.image.getpixel((9, 5)))


def test_faint_and_thin_cutouts_still_have_a_box():
    faint = Image.new("RGBA", (200, 3), (255, 0, 0, 40))
    scene = Scenes([Cutout("a red line", faint)], objects=(1, 1), size=32, length=1)[0]
    assert scene.objects[0].mask.any()


def test_the_central_location_is_where_the_box_has_its_middle():
    for thing in scenes(objects=(4, 4))[0].objects:
        left, top, right, bottom = thing.box
        row, column = thing.location((7, 5))
        assert row <= (top + bottom) / 2 * 7 / 64 < row + 1
        assert column <= (left + right) / 2 * 5 / 64 < column + 1


def test_boxes_that_find_no_room_are_none():
    draws = np.random.default_rng(0)
    assert place_boxes(draws, [(9, 9)], 8, 0) is None
    assert place_boxes(draws, [(8, 8), (1, 1)], 8, 0) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": -1}, "length=-1"),
        ({"size": 8}, "size=8"),
        ({"objects": (0, 2)}, "objects"),
        ({"objects": (3, 2)}, "objects"),
        ({"scale": (0.0, 0.5)}, "scale"),
        ({"scale": (0.5, 1.5)}, "scale"),
        ({"max_overlap": 0.9}, "max_overlap"),
        ({"order": "alphabetical"}, "order"),
        ({"seed": -1}, "seed"),
        ({"backgrounds": []}, "backgrounds"),
    ],
)
def test_impossible_wishes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenes(**options)


def test_too_few_phrases_and_unseen_cutouts_are_refused():
    with pytest.raises(ValueError, match="3 phrases in 3 cut-outs"):
        Scenes(SHAPES[:3])
    with pytest.raises(ValueError, match=r"'a ghost' 'g\.png' has no visible pixel"):
        Scenes([Cutout("a ghost", Image.new("RGBA", (8, 8)), "g.png")], objects=(1, 1))
    with pytest.raises(IndexError, match="scene 20 of 20"):
        scenes()[20]
