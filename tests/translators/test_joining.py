"""Two translators of one layer become one, and each speaks where it knows something."""

from __future__ import annotations

import pytest
import torch
from letter_encoder import LetterEncoder

from torchnle.features import Features
from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.alignment_fit import fit_class_names
from torchnle.translators.joining import join
from torchnle.translators.ridge import RidgeMap, RidgeSums

THINGS, CLASSES = ["a fox", "a jug"], ["lamp", "kite"]
#: Channels 0 and 1 are what the captions were about, 2 and 3 what the classifier knows.
HEAD = torch.tensor([[0.0, 0, 9, 0], [0.0, 0, 0, 9]])


def captions(layers=("last",), **options):
    encoder, source = LetterEncoder(), torch.Generator().manual_seed(0)
    features = torch.zeros(40, 4)
    features[:20, 0], features[20:, 1] = 1, 1
    features[:, 2:] = 1e-3 * torch.randn(40, 2, generator=source)
    maps = {}
    for layer in layers:
        sums = RidgeSums(4, encoder.width)
        sums.add(features, encoder.encode(THINGS).repeat_interleave(20, dim=0))
        maps[layer], _ = sums.solve()
    return AlignedTranslator(maps, encoder, phrases=THINGS, **options)


def classes(layer="last"):
    return fit_class_names(HEAD, CLASSES, LetterEncoder(), layer=layer)


def said(translator, *rows):
    features = Features(torch.tensor(rows)[:, None], "last")
    return [d.text for d in translator.describe(features)]


def test_each_names_what_it_knows():
    joined = join(captions(), classes())
    assert said(joined, [1.0, 0, 0, 0], [0.0, 1, 0, 0]) == THINGS
    assert said(joined, [0.5, 0.5, 2, 0], [0.5, 0.5, 0, 2]) == ["a lamp", "a kite"]
    assert joined.phrases == ("a fox", "a jug", "a lamp", "a kite")


def test_weights_are_in_units_of_spread():
    one, two = captions(spread=0.5), classes()
    joined = join(one, two, weight=0.3)
    assert joined.by_layer["last"].weights == pytest.approx((1.0, 0.3 * 0.5 / two.spread))


def test_the_first_ones_layers_and_settings_are_kept():
    one = captions(("early", "last"), sure_above=0.2, best_of=2, recall=0.4)
    joined = join(one, classes())
    assert joined.layers == ("early", "last")
    assert isinstance(joined.by_layer["early"], RidgeMap)
    assert (joined.sure_above, joined.best_of, joined.recall) == (0.2, 2, 0.4)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_is_none(weight):
    with pytest.raises(ValueError, match="pass a positive number"):
        join(captions(), classes(), weight=weight)


def test_classes_of_another_layer():
    with pytest.raises(ValueError, match=r"\['first'\] cannot be added to a translator of \['last'\]"):
        join(captions(), classes("first"))


def test_another_encoder():
    other = classes()
    other.encoder.reference = "other letters"
    with pytest.raises(ValueError, match="'letters' and 'other letters'"):
        join(captions(), other)
