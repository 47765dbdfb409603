"""Attention crops, masks, the pool of exemplars and crops, and contrast exemplars."""

import numpy as np
import pytest
import torch
from fakes import conv_net
from PIL import Image
from skimage.measure import label, regionprops

from torchnle.methods.dissect.exemplars.contrast import contrast_images
from torchnle.methods.dissect.exemplars.crops import attention_crops, iou, regions
from torchnle.methods.dissect.exemplars.exemplar import exemplars
from torchnle.methods.dissect.exemplars.masks import active, resized
from torchnle.methods.dissect.exemplars.pool import UnitRunner, with_crops
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.probe import probe
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.probing.units import EncodedUnits
from torchnle.vision.taps import resolve


def transform(image):
    small = image.resize((8, 8))
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255


def pictures(count=8, size=64):
    draws = np.random.default_rng(0)
    blocks = draws.integers(0, 255, (count, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(b).resize((size, size), Image.Resampling.NEAREST) for b in blocks]


@pytest.mark.parametrize("seed", range(4))
def test_regions_are_those_of_skimage(seed):
    mask = np.random.default_rng(seed).random((23, 31)) < 0.35
    wanted = {(b[1], b[0], b[3], b[2]) for b in (p.bbox for p in regionprops(label(mask, connectivity=2)))}
    assert set(regions(torch.from_numpy(mask))) == wanted
    assert len(regions(torch.from_numpy(mask))) == label(mask, connectivity=2).max()


def test_crops_hold_the_paper_s_rules():
    for seed in range(6):
        activation = torch.rand(7, 7, generator=torch.Generator().manual_seed(seed)) * 300
        boxes = attention_crops(activation, (90, 120))
        assert len(boxes) <= 4
        areas = [(right - left) * (low - top) for left, top, right, low in boxes]
        assert areas == sorted(areas, reverse=True)
        for i, box in enumerate(boxes):
            assert iou(box, (0, 0, 120, 90)) < 0.8
            assert all(iou(box, other) <= 0.5 for other in boxes[:i])
        assert boxes == attention_crops(activation * 1024, (90, 120))
    corner = torch.zeros(7, 7)
    corner[0, 6] = 1.0
    ((left, top, right, bottom),) = attention_crops(corner, (70, 70))
    assert left >= 50
    assert (top, right) == (0, 70)
    assert bottom <= 20
    assert attention_crops(torch.ones(7, 7), (70, 70)) == []
    with pytest.raises(ValueError, match="most=0"):
        attention_crops(corner, (70, 70), most=0)


def test_masks_keep_their_sum_between_grids():
    masks = active(torch.rand(5, 12, generator=torch.Generator().manual_seed(0))).float()
    for to in ((3, 4), (6, 8), (2, 2), None):
        weights = resized(masks, (3, 4), to)
        torch.testing.assert_close(weights.sum(1), torch.ones(5))
    assert torch.equal(resized(masks, None, (2, 2)), torch.full((5, 4), 0.25))


def test_exemplars_open_with_maps_and_masks():
    model, images = conv_net(), ProbingSet(pictures(), transform)
    found = probe(model, "layer", images, settings=ProbeSettings(k=3, batch_size=4)).layers["layer"]
    shown = exemplars(found, 2, images)
    assert [each.image for each in shown] == found.images[2].tolist()
    assert [each.activation for each in shown] == sorted((e.activation for e in shown), reverse=True)
    for each in shown:
        mask = each.mask()
        assert mask.shape == (64, 64)
        assert 0 < mask.sum() < 64 * 64
        row, column = divmod(int(each.map.argmax()), 4)
        assert mask[16 * row + 8, 16 * column + 8]
        assert each.mask(threshold=1e9).sum() == 1
    with pytest.raises(ValueError, match="6 units; 6"):
        exemplars(found, 6, images)


def test_silent_images_are_no_exemplars():
    model, images = conv_net(), ProbingSet(pictures(), transform)
    units = EncodedUnits(lambda tokens: (tokens[..., :1] - 0.26).clamp(min=0), key="rare")
    settings = ProbeSettings(k=6, batch_size=4)
    found = probe(model, "layer", images, units=units, settings=settings).layers["layer"]
    active_ones = int((found.values[0] > 0).sum())
    assert 0 < active_ones < 6
    assert len(exemplars(found, 0, images)) == active_ones
    assert found.active.sum().item() == active_ones


def test_crops_are_run_and_ranked_with_whole_images():
    model, images = conv_net(), ProbingSet(pictures(), transform)
    settings = ProbeSettings(k=4, batch_size=4)
    record = probe(model, "layer", images, settings=settings).layers["layer"]
    (tap,) = resolve(model, "layer")
    runner = UnitRunner(model, tap, transform, settings=settings)
    whole = exemplars(record, 1, images)
    pool = with_crops(whole, 1, runner, count=20)
    crops = [each for each in pool if each.box is not None]
    assert len(pool) == len(whole) + len(crops)
    assert crops
    values = runner.activations([each.picture for each in pool])[:, 1]
    torch.testing.assert_close(torch.tensor([each.activation for each in pool]), values)
    assert values.tolist() == sorted(values.tolist(), reverse=True)
    assert len(with_crops(whole, 1, runner, count=4)) == 4


def test_contrast_images_are_alike_and_inactive():
    draws = torch.Generator().manual_seed(0)
    kind = torch.arange(40) % 4
    vectors = torch.eye(4)[kind] * 5 + 0.1 * torch.randn(40, 4, generator=draws)
    red = torch.arange(40) % 8 < 4
    activations = ((kind == 2) & red).float()
    exemplars = activations.topk(5).indices
    chosen = contrast_images(exemplars, vectors, activations, count=5)
    assert set(chosen.tolist()) == set(((kind == 2) & ~red).nonzero().flatten().tolist())
    assert not set(chosen.tolist()) & set(exemplars.tolist())
    with pytest.raises(ValueError, match="inactive"):
        contrast_images(exemplars, vectors, activations, count=5, inactive=0.0)
