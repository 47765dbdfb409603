"""Every labeller by its name: the same as its function on the same record, and through `dissect`."""

from typing import get_args

import pytest
import torch
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder
from map_world import CLASSES, PHRASES, WIDTH, drawn, fitted
from torch import nn

from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.labellers.clip_dissect import soft_wpmi
from torchnle.methods.dissect.labellers.linear import linear_labels
from torchnle.methods.dissect.labellers.rank_texts import UnitReading, combinations, ranked, text_scores
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.probe import EvidenceLayer, probe
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.run import DissectSettings, dissect
from torchnle.methods.dissect.words import score_rows
from torchnle.types import Labeller
from torchnle.vision.taps import resolve

SMALL = ProbeSettings(k=3, wide=8, table=True, batch_size=8)
ALL = get_args(Labeller)


def world():
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("layer", nn.Conv2d(3, WIDTH, 2, stride=2))
    maps = MapTranslator(
        {"layer": fitted()}, LetterEncoder(), phrases=PHRASES, class_names=CLASSES, class_texts=CLASSES
    )
    return model.eval(), list(drawn(24, 3, 8, 8, seed=5)), maps


def reading():
    model, images, maps = world()
    (tap,) = resolve(model, "layer")
    found = probe(model, tap, ProbingSet(images), settings=SMALL, evidence=EvidenceLayer(tap))
    return UnitReading(found.layers["layer"], maps, "layer", [4, 0, 2])


def test_scores_are_those_of_each_function_on_the_chosen_units():
    given = reading()
    record, texts = given.record, given.texts
    scores = score_rows(given.map, "layer", record.vectors, texts)
    norms = given.map.by_layer["layer"].whiten(record.vectors).norm(dim=1, keepdim=True)
    torch.testing.assert_close(
        text_scores("soft WPMI", given), soft_wpmi(record.more_images[[4, 0, 2]], scores / norms)
    )
    activations = record.activations[:, [4, 0, 2]]
    slow = torch.corrcoef(torch.cat([activations, scores], dim=1).T)[:3, 3:]
    torch.testing.assert_close(text_scores("correlation", given), slow, atol=1e-4, rtol=1e-3)
    expected = linear_labels(scores, activations, texts, most=2, gain=0.0)
    for label, slow_label in zip(combinations(given, most=2), expected, strict=True):
        assert label.words == slow_label.words
        assert label.weights == pytest.approx(slow_label.weights)
    for name in ("WPMI", "nearest text", "re-ranking", "expected activation"):
        assert text_scores(name, given).shape == (3, len(texts))
    with pytest.raises(ValueError, match="ranks no texts"):
        text_scores("linear", given)


@pytest.mark.parametrize("labeller", ALL)
def test_dissect_labels_by_any_of_them(labeller):
    model, images, maps = world()
    given = {"translator": maps, "probing": SMALL, "only": [4, 0, 2]}
    found = dissect(model, "layer", images, settings=DissectSettings(labeller=labeller), **given)
    expected = ranked(labeller, reading())
    assert [label.unit for label in found] == [4, 0, 2]
    for label, texts in zip(found, expected, strict=True):
        assert label.candidates[0][0] == texts[0][0]
        assert label.text == (" + ".join(t for t, _ in texts) if labeller == "linear" else texts[0][0])
        assert len(label.images) == 3


def test_what_a_labeller_lacks_is_said():
    model, images = conv_net(), list(drawn(24, 3, 8, 8, seed=5))
    given = {"translator": LetterTranslator(), "evidence_layer": "layer", "probing": SMALL}
    with pytest.raises(ValueError, match=r"is no map from text into features.*masked exemplars"):
        dissect(model, "layer", images, settings=DissectSettings(labeller="WPMI"), **given)
    labels = dissect(model, "layer", images, settings=DissectSettings(labeller="masked exemplars"), **given)
    assert all(label.text for label in labels if not label.dead)
