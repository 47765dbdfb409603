import numpy as np
import pytest

from torchnle.data.palette import COLOURS
from torchnle.data.surfaces import rendered_surfaces
from torchnle.data.tinting import colour_shares


def test_a_surface_has_its_colour_where_the_mask_says():
    found = rendered_surfaces(3, size=96)
    assert [each.colour for each in found] == [name for name in COLOURS for _ in range(3)]
    own = []
    for each in found:
        pixels, mask = np.asarray(each.image), np.asarray(each.mask)[..., 0]
        assert 0.03 < (mask > 128).mean() < 0.6
        own.append(colour_shares(pixels[mask > 250])[each.colour])
    assert np.mean(own) > 0.6


def test_surfaces_differ_and_are_the_same_for_a_seed():
    one, again, other = (rendered_surfaces(1, size=32, seed=seed) for seed in (0, 0, 1))
    same = [np.array_equal(a.image, b.image) for a, b in zip(one, again, strict=True)]
    assert all(same)
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("options", [{"each": 0}, {"size": 0}])
def test_bad_numbers_are_refused(options):
    with pytest.raises(ValueError, match="pass positive numbers"):
        rendered_surfaces(**options)
