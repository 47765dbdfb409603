"""Pairs made from a classifier's weights: features that its head takes for a class, and the class's name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_translators import LAYERS
from toys import RECIPE, ToySupply, changed, toy_translator

from torchnle.methods.devil.training.class_features import ClassFeatures
from torchnle.training import prefix

TEXTS = ["a cat", "the dog", "grass", "a door", "the red cat"]
HEAD = torch.randn(len(TEXTS), LAYERS["layer4"], generator=torch.Generator().manual_seed(5))
BIAS = torch.tensor([0.5, -1.0, 0.0, 2.0, 0.1])


def made(pictures=None, *, count=40, seed=0, bias=BIAS):
    return ClassFeatures(pictures or ToySupply(), "layer4", HEAD, bias, TEXTS, count=count, seed=seed)


def all_of(supply, numbers):
    (batch,) = supply.batches([list(numbers)])
    return batch


def answers(batch, bias=BIAS):
    return batch.tokens["layer4"].mean(dim=1) @ HEAD.T + bias


def test_the_head_takes_every_pair_for_the_class_of_its_caption():
    batch = all_of(made(), range(24, 64))
    found = answers(batch).argmax(dim=1).tolist()
    assert [TEXTS[number] for number in found] == [texts[0] for texts in batch.captions]
    assert len(set(found)) == len(TEXTS)


def drawn(supply, count):
    """What `_moved` was given: features before, classes, and by how much each is to lead."""
    calls = []
    moved = supply._moved
    supply._moved = lambda *given: calls.append(given) or moved(*given)
    after = all_of(supply, range(24, 24 + count)).tokens["layer4"].mean(dim=1)
    ((before, classes, ahead),) = calls
    return before, classes, ahead, after


def test_the_class_is_ahead_by_what_was_drawn():
    _, classes, ahead, after = drawn(made(count=200), 200)
    others = after @ HEAD.T + BIAS
    mine = others.gather(1, classes[:, None])[:, 0]
    lead = mine - others.scatter(1, classes[:, None], -torch.inf).amax(dim=1)
    assert (lead > ahead - 0.02).all()
    assert abs(float(ahead.mean()) - 3) < 0.4
    assert float((lead - ahead).abs().median()) < 0.02


def test_features_are_drawn_with_the_moments_of_the_pictures():
    before, *_ = drawn(made(count=4000), 4000)
    means = all_of(ToySupply(), range(24)).tokens["layer4"].mean(dim=1)
    assert torch.allclose(before.mean(dim=0), means.mean(dim=0), atol=0.15)
    assert torch.allclose(torch.cov(before.T), torch.cov(means.T), atol=0.4)


def test_features_move_by_the_shortest_way():
    """Where one boundary alone was crossed: along covariance times the difference of the weights."""
    before, classes, ahead, after = drawn(made(count=60), 60)
    means = all_of(ToySupply(), range(24)).tokens["layer4"].mean(dim=1)
    ways = np.cov(means.numpy().T)
    checked = 0
    for start, chosen, nats, end in zip(before, classes.tolist(), ahead.tolist(), after, strict=True):
        for rival in range(len(TEXTS)):
            between = (HEAD[chosen] - HEAD[rival]).numpy()
            move, way = (end - start).numpy(), ways @ between
            if rival == chosen or not np.abs(move).max() > 1e-3:
                continue
            if move @ way / np.linalg.norm(move) / np.linalg.norm(way) > 0.99999:
                margin = between @ end.numpy() + float(BIAS[chosen] - BIAS[rival])
                assert margin == pytest.approx(nats, abs=0.02)
                checked += 1
    assert checked > 10


def test_every_place_is_the_same():
    maps = all_of(made(), [30]).tokens["layer4"]
    assert torch.equal(maps, maps[:, :1].expand_as(maps))


def test_pictures_stay_as_they_are_and_class_pairs_know_one_layer():
    batch, pictures = all_of(made(), [3, 24, 7]), all_of(ToySupply(), [3, 7])
    for layer in LAYERS:
        assert torch.equal(batch.tokens[layer][[0, 2]], pictures.tokens[layer])
    assert [batch.captions[0], batch.captions[2]] == pictures.captions
    assert batch.items == [3, 24, 7]
    assert {layer: known.tolist() for layer, known in batch.known.items()} == {"layer3": [True, False, True]}
    assert not all_of(made(), [3, 7]).known


def test_a_pair_is_the_same_in_every_batch_and_another_with_another_seed():
    together, alone = all_of(made(), [25, 26, 27]), all_of(made(), [26])
    assert torch.allclose(together.tokens["layer4"][1], alone.tokens["layer4"][0], atol=1e-5)
    assert together.captions[1] == alone.captions[0]
    others = all_of(made(seed=1), range(24, 64)).captions
    assert others != all_of(made(), range(24, 64)).captions


def test_a_head_without_bias():
    batch = all_of(made(bias=None), range(24, 64))
    found = answers(batch, 0.0).argmax(dim=1).tolist()
    assert [TEXTS[number] for number in found] == [texts[0] for texts in batch.captions]


class _Blurred(ClassFeatures):
    """Other layers of class pairs hold something else."""

    def batches(self, numbers):
        for batch in super().batches(numbers):
            if "layer3" in batch.known:
                mask = batch.known["layer3"][:, None, None]
                tokens = {**batch.tokens, "layer3": batch.tokens["layer3"] * mask + 100.0 * ~mask}
                batch = replace(batch, tokens=tokens)
            yield batch


def test_training_reads_nothing_of_a_class_pair_but_the_known_layer(tmp_path):
    recipe = changed(steps=4, checkpoint_every=4, validate_every=4, layer_dropout=0.7)
    states = []
    for kind in (ClassFeatures, _Blurred):
        supply = kind(ToySupply(), "layer4", HEAD, BIAS, TEXTS, count=24)
        trained = prefix.train(toy_translator(), supply, recipe, tmp_path / kind.__name__)
        states.append(trained.network.state_dict())
    assert all(torch.allclose(states[0][name], states[1][name]) for name in states[0])
    assert RECIPE.layer_dropout != recipe.layer_dropout


@pytest.mark.parametrize(
    ("layer", "texts", "message"),
    [
        ("layer9", TEXTS, r"reads 'layer9', which is not among the layers that are trained \(\['layer3'"),
        ("layer3", TEXTS, r"\(5, 8\) does not fit 5 texts and the width 6 of 'layer3'"),
        ("layer4", TEXTS[:3], "does not fit 3 texts"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(layer, texts, message):
    with pytest.raises(ValueError, match=message):
        ClassFeatures(ToySupply(), layer, HEAD, BIAS, texts, count=4)
