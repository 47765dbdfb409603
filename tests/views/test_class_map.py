import sys

import pytest
import torch

from torchnle.errors import MissingDependencyError
from torchnle.views.class_map import plot_class_map, tsne

CENTERS = torch.randn(3, 16, generator=torch.Generator().manual_seed(0)) * 4
GROUPS = torch.arange(3).repeat_interleave(5)
ROWS = CENTERS[GROUPS] + 0.3 * torch.randn(15, 16, generator=torch.Generator().manual_seed(1))


def test_like_classes_lie_side_by_side():
    pytest.importorskip("sklearn")
    apart = torch.cdist(*[tsne(ROWS)] * 2).fill_diagonal_(torch.inf)
    assert torch.equal(GROUPS[apart.argmin(dim=1)], GROUPS)


def test_all_names_are_drawn_and_new_ones_among_them():
    pytest.importorskip("sklearn")
    names = [f"old $_{i}" for i in range(12)]
    figure = plot_class_map(ROWS[:12], names, ROWS[12:], ["a", "b", "c"])
    assert [text.get_text() for text in figure.axes[0].texts] == [*names, "a", "b", "c"]
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [12, 3]
    figure.canvas.draw()


def test_bad_input(monkeypatch):
    with pytest.raises(ValueError, match="four"):
        tsne(ROWS[:3])
    with pytest.raises(ValueError, match="15 and 0 rows"):
        plot_class_map(ROWS, ["a"])
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(MissingDependencyError, match="scikit-learn"):
        tsne(ROWS)
