"""Descriptions and scores of a batch do not depend, to the bit, on earlier batches."""

import torch
from zero_shot_world import classifier, pictures


def test_a_batch_is_the_same_first_and_later():
    a, b = pictures(7, seed=3), pictures(9, seed=4)
    first, later = classifier(), classifier()
    later.describe(a)
    later.describe(a, where="all")
    assert first.describe(b) == later.describe(b)
    for one, other in zip(first.describe(b, where="all"), later.describe(b, where="all"), strict=True):
        assert list(one) == list(other)


def test_each_text_is_mapped_alone(monkeypatch):
    lang = classifier()
    (layer,) = lang.translator.by_layer
    fitted = lang.translator.by_layer[layer]
    lang.translator.text_directions.candidates  # noqa: B018  (computed before the described texts)
    sizes, directions = [], fitted.directions
    counted = lambda vectors: sizes.append(len(vectors)) or directions(vectors)  # noqa: E731
    monkeypatch.setattr(fitted, "directions", counted)
    lang.translator.text_directions.described(layer, ["a cat", "a boat", "a cat"])
    assert sizes == [1, 1]
    (found,) = lang.translator.text_directions.described(layer, ["a boat"])
    torch.testing.assert_close(found, directions(lang.translator.text_directions.embed(["a boat"]))[0])
