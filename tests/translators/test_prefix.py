import copy
import math

import pytest
import torch
from oracles import devil_prefix, greedy_text, text_log_prob
from tiny_translators import WIDTH, WORDS, features, tiny_language_model, tiny_network, tiny_translator

from torchnle.errors import TranslatorMismatchError
from torchnle.language.decoding import Decoded
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.rows import Rows, rows_of
from torchnle.vision.features import Features

TEXTS = ["a cat", "a red door", "grass", "a cat"]
PROMPT = "the door of"


@pytest.fixture(scope="module")
def translator():
    return tiny_translator()


def slow_prefixes(translator, *layers):
    """One prefix a row for layers read together, from the formulas."""
    state = translator.network.state_dict()
    tokens = {each.layer: each.rows.unsqueeze(1) for each in layers}
    return devil_prefix(state, tokens, depth=2, heads=2).float()


def slow_scores(translator, prefixes, texts=TEXTS, prompt=""):
    lm = translator.language_model
    return torch.tensor([[text_log_prob(lm, prefix, text, prompt) for text in texts] for prefix in prefixes])


@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_score_is_the_log_probability_of_the_text(prompt):
    translator, layer = tiny_translator(prompt=prompt), features("layer4")
    expected = slow_scores(translator, slow_prefixes(translator, layer), prompt=prompt)
    assert expected.std(dim=0).min() > 0.01  # the features matter
    torch.testing.assert_close(translator.score(rows_of(layer), TEXTS), expected, atol=1e-4, rtol=1e-4)


def test_layers_apart_and_together(translator):
    three, four = features("layer3"), features("layer4")
    apart = torch.cat([slow_prefixes(translator, three), slow_prefixes(translator, four)])
    found = translator.score(rows_of([three, four]), TEXTS)
    torch.testing.assert_close(found, slow_scores(translator, apart), atol=1e-4, rtol=1e-4)
    together = slow_scores(translator, slow_prefixes(translator, three, four))
    found = translator.score(rows_of([three, four], joint=True), TEXTS)
    torch.testing.assert_close(found, together, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_prior_is_the_text_after_bos_and_prompt_alone(prompt):
    translator, layer = tiny_translator(prompt=prompt), features("layer4")
    prior = slow_scores(translator, torch.zeros(1, 0, WIDTH), prompt=prompt)
    found = translator.score(rows_of(layer), TEXTS) - translator.score(rows_of(layer), TEXTS, prior=True)
    torch.testing.assert_close(found, prior.expand_as(found), atol=1e-4, rtol=1e-4)


def test_probabilities_of_all_words_sum_to_one(translator):
    scores = translator.score(rows_of(features("layer4")), WORDS)
    torch.testing.assert_close(scores.logsumexp(dim=1), torch.zeros(8), atol=1e-5, rtol=0)


@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_describe_writes_the_most_probable_words(prompt):
    translator, layer = tiny_translator(prompt=prompt), features("layer4")
    found, lm = translator.describe(rows_of(layer)), translator.language_model
    assert len({d.text for d in found}) > 1  # the features matter
    for description, prefix in zip(found, slow_prefixes(translator, layer), strict=True):
        ids, log_prob = greedy_text(lm, prefix, prompt, 5)
        assert description.text == lm.detokenize(ids).strip()
        assert description.score == pytest.approx(log_prob, abs=1e-3)


@pytest.mark.parametrize("prompt", ["", PROMPT])
def test_probability_is_the_odds_against_the_language_models_prior(prompt):
    translator, layer = tiny_translator(prompt=prompt), features("layer4")
    lm, nothing = translator.language_model, torch.zeros(0, WIDTH)
    for description, prefix in zip(
        translator.describe(rows_of(layer)), slow_prefixes(translator, layer), strict=True
    ):
        ids, with_it = greedy_text(lm, prefix, prompt, 5)
        ratio = math.exp(with_it - text_log_prob(lm, nothing, lm.detokenize(ids), prompt))
        assert description.probability == pytest.approx(ratio / (1 + ratio), abs=1e-3)
        assert description.unsure == (description.probability < 0.5)


def test_nothing_written_is_unsure(translator, monkeypatch):
    log_probs = torch.tensor([0.0, 0.0, 99.0, -99.0])
    written = Decoded(["", " ", "a cat", "a cat"], [[]] * 4, log_probs)
    monkeypatch.setattr("torchnle.translators.prefix.decoding.greedy", lambda *_, **__: written)
    found = translator.describe(rows_of(features("layer4", images=1)))
    assert [(d.text, d.probability, d.unsure) for d in found] == [
        ("", 0.0, True),
        ("", 0.0, True),
        ("a cat", 1.0, False),
        ("a cat", 0.0, True),
    ]


def test_without_a_first_token_there_is_no_prior_and_no_probability(monkeypatch):
    translator = tiny_translator()
    monkeypatch.setattr(type(translator.language_model), "bos_id", None)
    monkeypatch.setattr(type(translator.language_model), "eos_id", None)
    assert {(d.probability, d.unsure) for d in translator.describe(rows_of(features("layer4")))} == {
        (None, False)
    }


def test_descriptions_come_group_by_group(translator):
    three, four = features("layer3"), features("layer4", grid=None)
    found = translator.describe(rows_of([three, four]))
    apart = [*translator.describe(rows_of(three)), *translator.describe(rows_of(four))]
    assert [d.text for d in found] == [d.text for d in apart]
    assert len(found) == 8 + 2
    (rows,) = rows_of([features("layer3", 1, None), features("layer4", 1, None)], joint=True)
    assert rows.layer == "layer3+layer4"
    assert len(translator.describe([rows])) == 1


def test_a_batch_is_its_rows_one_by_one(translator):
    layer = features("layer4", images=3)
    whole, words = translator.score(rows_of(layer), TEXTS), translator.describe(rows_of(layer))
    for image in range(3):
        one = Features(layer.tokens[image : image + 1], "layer4", (2, 2))
        torch.testing.assert_close(
            translator.score(rows_of(one), TEXTS), whole[4 * image : 4 * image + 4], atol=1e-5, rtol=1e-5
        )
        assert [d.text for d in translator.describe(rows_of(one))] == [
            d.text for d in words[4 * image : 4 * image + 4]
        ]


def test_permuted_images_permute(translator):
    layer, order = features("layer4", images=3, grid=None), [2, 0, 1]
    permuted = Features(layer.tokens[order], "layer4")
    torch.testing.assert_close(
        translator.score(rows_of(permuted), TEXTS), translator.score(rows_of(layer), TEXTS)[order]
    )


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_internal_batch_size_changes_nothing(translator, size):
    layers = [features("layer3"), features("layer4")]
    whole, parts = (
        translator.score(rows_of(layers), TEXTS),
        translator.score(rows_of(layers), TEXTS, internal_batch_size=size),
    )
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    words = [(d.text, d.layer, d.image, d.location) for d in translator.describe(rows_of(layers))]
    parted = translator.describe(rows_of(layers), internal_batch_size=size)
    assert [(d.text, d.layer, d.image, d.location) for d in parted] == words


def test_internal_batch_size_bounds_the_network(translator, monkeypatch):
    seen = []
    forward = translator.network.forward
    monkeypatch.setattr(
        translator.network, "forward", lambda tokens: seen.append(len(tokens["layer4"])) or forward(tokens)
    )
    translator.score(rows_of(features("layer4")), TEXTS, internal_batch_size=3)
    assert seen == [3, 3, 2]


def test_score_is_differentiable_in_the_features():
    translator = PrefixTranslator(tiny_network().double(), tiny_language_model(dtype=torch.float64))
    tokens = features("layer4", images=1, grid=(1, 2)).tokens.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t: translator.score(rows_of(Features(t, "layer4", (1, 2))), TEXTS, internal_batch_size=1),
        [tokens],
    )


def test_half_precision_features_are_read(translator):
    layer = features("layer4")
    half = Features(layer.tokens.half(), "layer4", (2, 2))
    same = Features(layer.tokens.half().float(), "layer4", (2, 2))
    torch.testing.assert_close(translator.score(rows_of(half), TEXTS), translator.score(rows_of(same), TEXTS))


def test_training_mode_neither_mixes_rows_nor_is_lost():
    network = TExplainNetwork({"layer4": 8}, WIDTH, tokens=1, mode="flat", prefix_length=2)
    translator, layer = PrefixTranslator(network, tiny_language_model()), features("layer4")
    translator.train()
    network.mlp[0].eval()
    statistics = copy.deepcopy(network.state_dict())
    whole = translator.score(rows_of(layer), TEXTS)
    translator.describe(rows_of(layer))
    assert [part.training for part in (translator, network.mlp[1], network.mlp[0])] == [True, True, False]
    assert all(torch.equal(value, statistics[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(translator.eval().score(rows_of(layer), TEXTS), whole)


def test_a_translator_of_whole_images():
    network = TExplainNetwork({"layer4": 8}, WIDTH, tokens=4)
    translator = PrefixTranslator(network, tiny_language_model()).eval()
    layer = features("layer4")
    prefixes = network({"layer4": layer.tokens})
    assert prefixes.shape == (2, 4, WIDTH)
    rows = rows_of(layer, tokens_per_row=translator.tokens_per_row)
    torch.testing.assert_close(
        translator.score(rows, TEXTS),
        slow_scores(translator, prefixes.detach()),
        atol=1e-4,
        rtol=1e-4,
    )
    assert len(translator.describe(rows)) == 2


def test_the_language_model_is_no_part_of_the_module(translator):
    assert all(name.startswith("network.") for name in translator.state_dict())
    assert all(name.startswith("network") for name, _ in translator.named_modules() if name)
    assert {id(p) for p in translator.parameters()} == {id(p) for p in translator.network.parameters()}


def test_the_language_model_moves_along_and_keeps_its_dtype():
    translator = tiny_translator()
    assert translator.half().language_model.dtype == torch.float32
    translator.to("meta")
    assert translator.device == translator.language_model.device == torch.device("meta")


def test_devices_must_agree():
    translator, elsewhere = tiny_translator(), [Rows({"layer4": torch.empty(1, 1, 8, device="meta")})]
    for call in (lambda: translator.describe(elsewhere), lambda: translator.score(elsewhere, TEXTS)):
        with pytest.raises(ValueError, match=r"is on cpu, .* model on cpu, .* on meta\. Bring them"):
            call()
    translator.language_model.to("meta")
    with pytest.raises(ValueError, match=r"is on cpu, its language model on meta, the features on cpu"):
        translator.describe(rows_of(features("layer4")))


def test_a_language_model_of_another_width_is_refused():
    network = TExplainNetwork({"layer4": 8}, WIDTH + 1, tokens=1)
    with pytest.raises(TranslatorMismatchError, match=r"width 13; .* reads 12\. Build .*language_width=12"):
        PrefixTranslator(network, tiny_language_model(reference="tiny"))


def test_no_new_tokens_are_refused():
    with pytest.raises(ValueError, match="max_new_tokens=0"):
        PrefixTranslator(tiny_network(), tiny_language_model(), max_new_tokens=0)


@pytest.mark.parametrize("texts", ["a cat", [], ["a cat", " "], [3]])
def test_bad_texts_are_refused(translator, texts):
    with pytest.raises((TypeError, ValueError)):
        translator.score(rows_of(features("layer4")), texts)


def test_mismatch_names_the_translator(translator):
    with pytest.raises(TranslatorMismatchError, match="'PrefixTranslator' expects widths 6, 8 from 2 layers"):
        translator.describe(rows_of(Features(torch.zeros(1, 1, 5), "layer2")))


def test_no_features_are_refused(translator):
    for call in (lambda: translator.describe(rows_of([])), lambda: translator.score(rows_of([]), TEXTS)):
        with pytest.raises(ValueError, match="no features to read"):
            call()


def test_texts_follow_a_prompt_after_a_space():
    follow = {
        prompt: tiny_translator(prompt=prompt).follow(["a cat", " dog"]) for prompt in ("", "the", "the ")
    }
    assert follow == {"": ["a cat", " dog"], "the": [" a cat", " dog"], "the ": [" a cat", " dog"]}
