import os

import pytest
import torch
import torch.nn.functional as F
from letter_encoder import LetterEncoder

from torchnle.errors import TranslatorMismatchError
from torchnle.features import Features
from torchnle.language.text_encoder import TextEncoder
from torchnle.translators import concept_bank
from torchnle.translators.base import Translator
from torchnle.translators.class_space import PROMPT, ClassSpaceTranslator
from torchnle.translators.class_weights import class_vectors

NAMES = ["cat", "mug", "boat", "fern", "cliff", "dune", "harp"]
WIDTH = 9


def head(seed=0):
    return torch.randn(len(NAMES), WIDTH, generator=torch.Generator().manual_seed(seed))


def fit(**options):
    return ClassSpaceTranslator.fit(head(), NAMES, LetterEncoder(), layer="last", **options)


def some_features(images=2, grid=(2, 3), seed=1, width=WIDTH):
    tokens = torch.randn(images, grid[0] * grid[1], width, generator=torch.Generator().manual_seed(seed))
    return Features(tokens, "last", grid=grid)


def test_score_is_the_cosine_with_the_mapped_text():
    translator, features, texts = fit(), some_features(), ["cat", "a mug of tea"]
    mapped = translator.regression(LetterEncoder().encode(texts))
    expected = torch.tensor(
        [[(row @ text / (row.norm() * text.norm())).item() for text in mapped] for row in features.rows]
    )
    scores = translator.score(features, texts)
    assert scores.shape == (12, 2)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, expected, atol=1e-6)
    assert scores.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_length_of_a_feature_does_not_matter(factor):
    features = some_features()
    scaled = Features(features.tokens * factor, "last", grid=(2, 3))
    assert torch.allclose(fit().score(scaled, NAMES), fit().score(features, NAMES), atol=1e-5)


def test_a_vector_added_to_all_class_weights_changes_nothing():
    moved = ClassSpaceTranslator.fit(head() + torch.randn(WIDTH), NAMES, LetterEncoder())
    assert torch.allclose(moved.score(some_features(), NAMES), fit().score(some_features(), NAMES), atol=1e-4)


def test_class_weights_are_described_by_their_own_names():
    weights = Features(class_vectors(head())[:, None], "last")
    translator = fit(bank=[PROMPT.replace("{}", name) for name in NAMES], penalties=[1e-4])
    said = [description.text.split("; ")[0] for description in translator.describe(weights)]
    assert said == [PROMPT.replace("{}", name) for name in NAMES]


def test_a_batch_is_its_images_one_by_one_and_parts_make_the_whole():
    translator, features = fit(), some_features(images=3)
    whole = translator.score(features, NAMES)
    one_by_one = [
        translator.score(Features(features.tokens[i : i + 1], "last", grid=(2, 3)), NAMES) for i in range(3)
    ]
    assert torch.allclose(whole, torch.cat(one_by_one), atol=1e-5)
    assert torch.allclose(whole, translator.score(features, NAMES, internal_batch_size=5), atol=1e-5)
    assert [d.text for d in translator.describe(features)] == [
        d.text for d in translator.describe(features, internal_batch_size=4)
    ]


def test_a_permuted_batch_permutes():
    features, order = some_features(images=3), [2, 0, 1]
    permuted = Features(features.tokens[order], "last", grid=(2, 3))
    scores = fit().score(features, NAMES).view(3, 6, -1)
    assert torch.allclose(fit().score(permuted, NAMES).view(3, 6, -1), scores[order], atol=1e-6)


def test_several_layers_are_read_one_after_another():
    first, second = some_features(seed=1), some_features(images=1, grid=(1, 2), seed=2)
    scores = fit().score([first, second], NAMES)
    apart = torch.cat([fit().score(first, NAMES), fit().score(second, NAMES)])
    assert torch.allclose(scores, apart, atol=1e-6)


def test_score_is_differentiable_in_the_features():
    translator = fit()
    tokens = torch.randn(1, 2, WIDTH, requires_grad=True)
    scores = translator.score(Features(tokens, "last"), ["cat", "dune"])
    (gradient,) = torch.autograd.grad(scores[0, 0], tokens)
    row, text = tokens[0, 0].detach(), translator.embed(["cat", "dune"])[0]
    expected = text / row.norm() - row * (row @ text) / row.norm() ** 3
    assert torch.allclose(gradient[0, 0], expected, atol=1e-5)
    assert (gradient[0, 1] == 0).all()


def test_half_precision_features_are_scored_in_float32():
    features = some_features()
    half = Features(features.tokens.bfloat16(), "last", grid=(2, 3))
    scores = fit().score(half, NAMES)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, fit().score(features, NAMES), atol=0.02)


def test_a_dead_place_scores_zero_and_is_not_vouched_for():
    dead = Features(torch.zeros(1, 1, WIDTH), "last")
    assert (fit().score(dead, NAMES) == 0).all()
    (description,) = fit().describe(dead)
    assert description.unsure
    assert description.score == 0


def test_descriptions_say_what_score_says():
    translator, features = fit(), some_features()
    descriptions = translator.describe(features)
    assert len(descriptions) == 12
    for index, description in enumerate(descriptions):
        row = Features(features.rows[index : index + 1, None], "last")
        texts = [text for text, _ in description.phrases]
        scores = translator.score(row, texts)[0].tolist()
        assert [score for _, score in description.phrases] == pytest.approx(scores, abs=1e-5)
        assert scores == sorted(scores, reverse=True)
        assert description.score == description.phrases[0][1]
        assert description.score_kind == translator.score_kind == "cosine"
        said = description.text.split("; ")
        assert said == texts[: len(said)]
        assert 1 <= len(said) <= 3
        assert description.image == index // 6
        assert description.location == divmod(index % 6, 3)


def test_the_bank_is_the_users_or_the_names_and_what_is_near_to_them():
    own = fit(bank=["zebra", "cat", "zebra"])
    assert own.phrases().texts == ("zebra", "cat")
    shipped = fit()
    assert set(NAMES) <= set(shipped.phrases().texts) <= set(NAMES) | set(concept_bank.phrases())
    encoder = LetterEncoder()
    nearest = (encoder.encode(concept_bank.phrases()) @ encoder.encode(NAMES).T).amax(dim=1)
    near = {p for p, cosine in zip(concept_bank.phrases(), nearest.tolist(), strict=True) if cosine > 0.5501}
    assert near <= set(shipped.phrases().texts)
    assert len(shipped.phrases().texts) < len(concept_bank.phrases())


def test_bank_and_repeated_texts_are_encoded_once():
    translator = fit()
    translator.describe(some_features())
    translator.score(some_features(), ["cat", "dog"])
    before = len(translator.text_encoder.calls)
    translator.describe(some_features(seed=5))
    translator.score(some_features(seed=5), ["cat", "dog"])
    assert len(translator.text_encoder.calls) == before
    assert not torch.equal(translator.embed(["dog", "cat"]), translator.embed(["cat", "dog"]))


def test_texts_first_mapped_in_inference_mode_serve_gradients_later():
    translator, texts = fit(), ["cat", "dune"]
    with torch.inference_mode():
        translator.score(some_features(), texts)
    tokens = torch.randn(1, 1, WIDTH, requires_grad=True)
    translator.score(Features(tokens, "last"), texts).sum().backward()
    assert tokens.grad.abs().sum() > 0


def test_texts_given_twice_score_the_same_twice():
    scores = fit().score(some_features(), ["cat", "dog", "cat"])
    assert torch.equal(scores[:, 0], scores[:, 2])


def test_two_classes_of_one_name_share_their_text():
    weight = torch.tensor([[1.0, 0.2, 0.0], [0.2, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, -1.0, -1.0]])
    translator = ClassSpaceTranslator.fit(
        weight, ["crane", "crane", "mug", "boy"], LetterEncoder(), prompt="{}", penalties=[1e-4]
    )
    scores = translator.score(Features(class_vectors(weight)[:2, None], "last"), ["crane"])
    assert scores[0, 0].item() == pytest.approx(scores[1, 0].item(), abs=1e-2)
    assert scores.min() > 0.5
    assert translator.phrases().texts.count("crane") == 1


@pytest.mark.parametrize("method", ["ridge", "mlp"])
def test_round_trip_to_bits(tmp_path, monkeypatch, method):
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda reference: LetterEncoder())
    options = {"epochs": 3, "soft_dropout": False} if method == "mlp" else {}
    saved = fit(method=method, bank=["cat", "cliff"], **options)
    folder = saved.save_pretrained(tmp_path / "translator")
    loaded = Translator.from_pretrained(folder)
    assert type(loaded) is ClassSpaceTranslator
    assert loaded.config == saved.config
    assert torch.equal(loaded.score(some_features(), NAMES), saved.score(some_features(), NAMES))
    assert loaded.describe(some_features()) == saved.describe(some_features())
    assert sorted(os.listdir(folder)) == ["README.md", "config.json", "model.safetensors"]
    assert not any("encoder" in name for name in saved.state_dict())
    assert "letters" in (folder / "README.md").read_text()


def test_an_encoder_without_a_reference_cannot_be_saved():
    translator = fit()
    translator.text_encoder.reference = ""
    with pytest.raises(ValueError, match="the sentence encoder has no reference"):
        _ = translator.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "forest"}, "'method' is 'forest'; .*'ridge'"),
        ({"wings": 2}, r"unknown key\(s\) \['wings'\]"),
    ],
)
def test_a_wrong_configuration_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ClassSpaceTranslator.from_config(fit().config | change)


def test_another_width_is_refused():
    with pytest.raises(TranslatorMismatchError, match="expects width 9 from 'last'; 'last' gives 8"):
        fit().score(some_features(width=8), ["cat"])
    with pytest.raises(TranslatorMismatchError, match="expects width 9 from 'last'; 'last' gives 8"):
        fit().describe(some_features(width=8))


def test_what_score_refuses():
    translator, features = fit(), some_features()
    with pytest.raises(ValueError, match="prior=True subtracts"):
        translator.score(features, ["cat"], prior=True)
    with pytest.raises(ValueError, match="joint=True was given"):
        translator.score([features, features], ["cat"], joint=True)
    with pytest.raises(TypeError, match="texts is one string"):
        translator.score(features, "cat")
    with pytest.raises(ValueError, match="texts is empty"):
        translator.score(features, [])
    with pytest.raises(ValueError, match="blank"):
        translator.score(features, ["cat", " "])
    with pytest.raises(ValueError, match="has 15000 characters"):
        translator.score(features, ["cat" * 5000])
    with pytest.raises(ValueError, match="NaN or infinite"):
        translator.score(Features(torch.full((1, 1, WIDTH), torch.nan), "last"), ["cat"])
    with pytest.raises(ValueError, match="internal_batch_size=0"):
        translator.score(features, ["cat"], internal_batch_size=0)
    with pytest.raises(ValueError, match="is on cpu, the features of 'last' on meta"):
        translator.score(Features(torch.zeros(1, 1, WIDTH, device="meta"), "last"), ["cat"])


def test_one_layer_may_be_read_jointly():
    features = some_features()
    assert torch.equal(fit().score([features], NAMES, joint=True), fit().score(features, NAMES))


def test_what_fit_refuses():
    with pytest.raises(ValueError, match="6 class names were given for a head of 7 rows"):
        ClassSpaceTranslator.fit(head(), NAMES[:-1], LetterEncoder())
    with pytest.raises(ValueError, match="method='tree'; pass one of 'ridge', 'mlp'"):
        fit(method="tree")
    with pytest.raises(ValueError, match=r"prompt='a thing' has no '\{\}'"):
        fit(prompt="a thing")
    with pytest.raises(TypeError, match="epochs"):
        fit(epochs=3)
    with pytest.raises(ValueError, match="texts is empty"):
        fit(bank=[])
    with pytest.raises(ValueError, match="blank"):
        fit(bank=["cat", ""])


def test_mlp_maps_the_names_to_their_weights():
    translator = fit(method="mlp", epochs=200)
    mapped = translator.embed([PROMPT.replace("{}", name) for name in NAMES])
    similarity = F.cosine_similarity(mapped.unsqueeze(1), class_vectors(head()), dim=2)
    assert similarity.diagonal().min() > 0.8
    assert torch.equal(similarity.argmax(dim=1), torch.arange(len(NAMES)))
