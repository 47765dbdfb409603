"""What is said of a batch does not depend, to the bit, on what was said before it."""

import torch
from zero_shot_world import classifier, pictures


def test_a_batch_is_the_same_first_and_later():
    a, b = pictures(7, seed=3), pictures(9, seed=4)
    first, later = classifier(), classifier()
    later.describe(a)
    later.describe(a, where="all")
    assert first.describe(b) == later.describe(b)
    assert first.describe(b, where="all") == later.describe(b, where="all")


def test_each_text_is_mapped_alone(monkeypatch):
    lang = classifier()
    (layer,) = lang.translator.by_layer
    fitted = lang.translator.by_layer[layer]
    lang.translator.candidates  # noqa: B018  (computed before the texts that are said)
    sizes, directions = [], fitted.directions
    monkeypatch.setattr(
        fitted, "directions", lambda vectors: sizes.append(len(vectors)) or directions(vectors)
    )
    lang.translator._own_directions(layer, ["a cat", "a boat", "a cat"])
    assert sizes == [1, 1]
    torch.testing.assert_close(
        lang.translator._own_directions(layer, ["a boat"])[0],
        directions(lang.translator._embed(["a boat"]))[0],
    )
