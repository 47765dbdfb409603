"""Where a change of a quarter of the input lies in a grid."""

import pytest
import torch

from torchnle.vision.features import Features
from torchnle.vision.order.check import locate


def test_the_change_lies_where_the_images_differ():
    energy = torch.tensor([[0.0, 0.0, 3.0], [0.0, 2.0, 5.0], [0.0, 0.0, 6.0]])
    tokens = torch.stack([torch.zeros(9), energy.flatten().sqrt()])[..., None]
    found = locate(Features(tokens, "layer", (3, 3)))
    # the top right quarter holds the corner, half of the cells beside it and a quarter of the middle
    assert found.right == pytest.approx((3 + 5 / 2 + 2 / 4) / 16)
    assert found.best == pytest.approx((6 + 5 + 3) / 16)
