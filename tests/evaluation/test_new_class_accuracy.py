import pytest
import torch

from torchnle.data.image_folders import LabelledImages
from torchnle.evaluation.new_classes import (
    NewClassAccuracy,
    class_indices,
    new_class_accuracy,
    top_accuracy,
)

LOGITS = torch.randn(60, 12, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(60) % 12
NEW = torch.tensor([i in (2, 3, 5, 7, 8, 10) for i in range(12)])


def slowly(rows, columns, count):
    """The share of rows whose own column is among the largest, by sorting."""
    hits = 0
    for row in rows:
        ranked = sorted(columns, key=lambda c: -float(LOGITS[row, c]))
        hits += int(LABELS[row]) in ranked[:count]
    return hits / len(rows)


def test_every_rate_is_that_of_sorted_logits():
    found = new_class_accuracy(LOGITS, LABELS, NEW)
    new = [i for i in range(60) if NEW[LABELS[i]]]
    old = [i for i in range(60) if not NEW[LABELS[i]]]
    columns = NEW.nonzero().flatten().tolist()
    for index, count in enumerate((1, 5)):
        assert found.trained[index] == pytest.approx(slowly(old, range(12), count))
        assert found.new[index] == pytest.approx(slowly(new, range(12), count))
        assert found.new_alone[index] == pytest.approx(slowly(new, columns, count))
    assert found.new_alone[0] >= found.new[0]


def test_the_order_of_images_and_of_columns_does_not_matter():
    images, classes = torch.randperm(60), torch.randperm(12)
    shuffled = LOGITS[images][:, classes]
    labels = classes.argsort()[LABELS[images]]
    found = new_class_accuracy(shuffled, labels, NEW[classes])
    expected = new_class_accuracy(LOGITS, LABELS, NEW)
    assert found.trained == pytest.approx(expected.trained)
    assert found.new == pytest.approx(expected.new)
    assert found.new_alone == pytest.approx(expected.new_alone)


def test_fewer_classes_than_five_are_all_counted():
    assert top_accuracy(torch.zeros(3, 2), torch.tensor([0, 1, 1]), 5) == 1.0
    assert NewClassAccuracy((0.0, 1.0), (0.0, 1.0), (1.0, 1.0)).harmonic_mean == 0.0


def test_bad_input():
    with pytest.raises(ValueError, match="0 of 60 images"):
        new_class_accuracy(LOGITS, LABELS, torch.zeros(12, dtype=torch.bool))
    with pytest.raises(ValueError, match="one label an image"):
        top_accuracy(LOGITS, LABELS[:3])


def test_folders_are_classes_by_name_or_by_order():
    by_name = LabelledImages((), ("hen", "fire truck"))
    assert class_indices(by_name, ["Fire_Truck", "hen", "owl", "hen"]).tolist() == [1, 0]
    by_order = LabelledImages((), ("n01", "n02", "n03"))
    assert class_indices(by_order, ["a", "b", "c"]).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="n01"):
        class_indices(by_order, ["a", "b"])
