from __future__ import annotations

import pytest
import torch
from letter_encoder import LetterEncoder

from torchnle import Features
from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.alignment_fit import fit_class_names
from torchnle.translators.class_mixture import ClassMixture

NAMES = ["cat", "dog", "crane (bird)", "owl"]
WEIGHT = 3 * torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
BIAS = torch.tensor([0.5, -0.5, 0.0, 1.0])


def test_it_is_the_expectation_of_the_names_embeddings():
    vectors = torch.randn(4, 6)
    mixture = ClassMixture.of(WEIGHT, BIAS, vectors, temperature=2.0)
    features = torch.randn(5, 10)
    for row, mapped in zip(features, mixture(features), strict=True):
        answers = [(float(w @ row) + float(b)) / 2 for w, b in zip(WEIGHT, BIAS, strict=True)]
        total = sum(torch.tensor(answers).exp())
        expected = sum(torch.tensor(a).exp() / total * v for a, v in zip(answers, vectors, strict=True))
        torch.testing.assert_close(mapped, expected)


def test_class_names_are_said_with_their_articles():
    translator = fit_class_names(WEIGHT, NAMES, LetterEncoder(), layer="head", bias=BIAS)
    sure = 9 * torch.linalg.pinv(WEIGHT).T
    said = translator.describe(Features(sure[:, None], "head"))
    assert [d.text for d in said] == ["a cat", "a dog", "a crane", "an owl"]


def test_between_two_classes_lies_what_both_are():
    weight = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    translator = fit_class_names(
        weight, ["tabby cat", "tiger cat", "ship"], LetterEncoder(), layer="head", phrases=["a cat", "a ship"]
    )
    assert translator.describe(Features(torch.eye(2)[:, None], "head"))[0].text == "a cat"


def test_saved_and_loaded_it_maps_the_same(tmp_path, monkeypatch):
    translator = fit_class_names(WEIGHT, NAMES, LetterEncoder(), layer="head", bias=BIAS)
    translator.save_pretrained(tmp_path / "saved")
    monkeypatch.setattr(
        "torchnle.translators.alignment.TextEncoder.from_pretrained", lambda reference: LetterEncoder()
    )
    loaded = AlignedTranslator.from_pretrained(tmp_path / "saved")
    features = Features(torch.randn(3, 1, 10), "head")
    torch.testing.assert_close(loaded.score(features, ["a cat"]), translator.score(features, ["a cat"]))


def test_no_temperature_below_zero():
    with pytest.raises(ValueError, match="pass a positive number"):
        ClassMixture.of(WEIGHT, None, torch.randn(4, 6), temperature=0.0)


def test_an_unknown_kind_of_map_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "torchnle.translators.alignment.TextEncoder.from_pretrained", lambda reference: LetterEncoder()
    )
    config = fit_class_names(WEIGHT, NAMES, LetterEncoder(), layer="head").config
    config["maps"]["head"]["kind"] = "spline"
    with pytest.raises(ValueError, match="kind 'spline' is not known"):
        AlignedTranslator.from_config(config)
