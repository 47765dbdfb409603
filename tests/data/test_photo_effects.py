from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from torchnle.data import PhotoEffects, Scenes, load_photo_backgrounds, shapes

OFF = {"downscale": 1.0, "blur": 0.0, "jpeg": 95, "lighting": 0.0, "occlusion": 0.0}


def noise(seed=0, size=48):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


def apply(seed=0, image=None, masks=(), **settings):
    effects = PhotoEffects(**{"chance": 1.0, **OFF, **settings})
    return effects(np.random.default_rng(seed), image or noise(), masks)


def test_everything_off_changes_nothing():
    image, masks = apply(masks=[np.eye(48, dtype=bool)])
    assert image.tobytes() == noise().tobytes()
    assert masks[0].sum() == 48
    assert apply(**{**OFF, "blur": 0.1}, chance=0.0)[0].tobytes() == noise().tobytes()


@pytest.mark.parametrize(
    "settings", [{"downscale": 0.3}, {"blur": 0.05}, {"jpeg": 5}, {"lighting": 0.5}, {"occlusion": 0.5}]
)
def test_each_effect_is_seen_and_the_same_for_the_same_seed(settings):
    first, _ = apply(3, **settings)
    assert first.tobytes() == apply(3, **settings)[0].tobytes()
    assert first.tobytes() != apply(4, **settings)[0].tobytes()
    assert first.tobytes() != noise().tobytes()
    assert (first.size, first.mode) == ((48, 48), "RGB")


@pytest.mark.parametrize("settings", [{"downscale": 0.2}, {"blur": 0.1}])
def test_detail_is_lost_and_the_mean_kept(settings):
    before = np.asarray(noise(), float)
    after = np.asarray(apply(1, **settings)[0], float)
    assert after.std() < 0.8 * before.std()
    assert abs(after.mean() - before.mean()) < 3


def test_light_falls_off_to_one_side():
    grey = Image.new("RGB", (48, 48), (128, 128, 128))
    spreads = [np.asarray(apply(seed, grey, lighting=0.5)[0], float).std() for seed in range(8)]
    assert max(spreads) > 5


def test_what_is_hidden_leaves_the_masks_and_half_of_each_thing_stays():
    whole = np.ones((48, 48), bool)
    small = np.zeros((48, 48), bool)
    small[20:24, 20:24] = True
    hidden = 0
    for seed in range(60):
        image, (all_seen, seen) = apply(
            seed, Image.new("RGB", (48, 48), (1, 2, 3)), [whole, small], occlusion=0.8
        )
        covered = (np.asarray(image) != (1, 2, 3)).any(axis=2)
        assert (all_seen == ~covered).all()
        assert (seen == small & ~covered).all()
        assert seen.sum() >= 8
        hidden += small.sum() > seen.sum()
    assert hidden > 3


def test_scenes_keep_their_captions_and_boxes_stay_inside_masks():
    settings = {"length": 6, "size": 64, "objects": (2, 2), "seed": 5}
    plain, photographed = Scenes(shapes(), **settings), Scenes(shapes(), effects=PhotoEffects(), **settings)
    for before, after in zip(plain, photographed, strict=True):
        assert {thing.phrase for thing in before.objects} == {thing.phrase for thing in after.objects}
        for thing in after.objects:
            rows, columns = np.nonzero(thing.mask)
            assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert any(a.image.tobytes() != b.image.tobytes() for a, b in zip(plain, photographed, strict=True))
    assert plain.fingerprint != photographed.fingerprint


def test_the_fingerprint_of_scenes_sees_every_setting():
    settings = [{}, {"seed": 1}, {"length": 5}, {"objects": (1, 1)}, {"scale": (0.3, 0.5)}, {"size": 48}]
    found = {Scenes(shapes(size=24), **{"length": 4, "size": 64, **each}).fingerprint for each in settings}
    found.add(Scenes(shapes(size=24, names=["star", "heart"]), length=4, size=64).fingerprint)
    assert len(found) == 7
    assert Scenes(shapes(size=24), length=4, size=64).fingerprint in found


@pytest.mark.parametrize(
    "wrong", [{"chance": 2}, {"downscale": 0}, {"blur": -1}, {"jpeg": 0}, {"lighting": 1}, {"occlusion": 1}]
)
def test_strengths_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"PhotoEffects.{next(iter(wrong))}="):
        PhotoEffects(**wrong)


def test_photographs_of_a_folder_as_backgrounds(tmp_path, caplog):
    (tmp_path / "deep").mkdir()
    Image.new("RGB", (40, 20), "red").save(tmp_path / "deep" / "a.jpg")
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.txt").write_text("no image either")
    (ground,) = load_photo_backgrounds(tmp_path, "in front of a house", largest=10)
    assert (ground.location, ground.image.size) == ("in front of a house", (20, 10))
    assert "b.png is not an image" in caplog.text
    (tmp_path / "deep" / "a.jpg").unlink()
    with pytest.raises(ValueError, match="holds no readable photograph"):
        load_photo_backgrounds(tmp_path)
