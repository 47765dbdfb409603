from __future__ import annotations

import json

import pytest
import torch
from letter_encoder import LetterEncoder
from oracles import devil_prefix, gelu, layer_norm, linear, softmax
from safetensors.torch import load_file, save_file
from tiny_translators import (
    EXTRA,
    LAYERS,
    PHRASES,
    TEXTS,
    WIDTH,
    features,
    saved_language_model,
    tiny_decoder,
    tiny_language_model,
    tiny_map,
)

from torchnle.errors import TranslatorMismatchError
from torchnle.language.decoding import Decoded
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.phrase_memory import recall
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence, TextDecoder
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.devil.map_start import EVIDENCE_WEIGHT, MapStart
from torchnle.translators.base import Translator
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features

CHANGE = {"width": 8, "depth": 1, "heads": 2, "feedforward": 16}


def start(translator=None, *, learned=False, **options):
    torch.manual_seed(7)
    network = MapStart.of(translator or tiny_map(), WIDTH, **CHANGE, **options)
    if learned:
        torch.nn.init.normal_(network.change.output.weight)
        torch.nn.init.normal_(network.change.output.bias)
    return network.eval()


def tokens(rows=4):
    source = torch.Generator().manual_seed(6)
    return {layer: torch.randn(rows, 1, width, generator=source) for layer, width in LAYERS.items()}


# The slow oracle: the formulas once more, row by row, in float64.


def slow_posterior(fitted, known, vectors, x, classes):
    """The probability of each phrase: softmax of cosines beside nothing, mixed with the classifier's own."""
    numbers = {name: tensor.double() for name, tensor in fitted.state_dict().items()}
    scaled = x / (x * x).sum().sqrt() * numbers["pooled_norm"]
    matrix = numbers.get("matrix", torch.eye(len(x)).double())

    def white(v):
        return torch.stack([((v - numbers["center"]) * column).sum() for column in matrix.T])

    def cosine(a, b):
        return (a * b).sum() / (a * a).sum().sqrt() / (b * b).sum().sqrt()

    feature = white(scaled)
    directions = fitted.directions(vectors.float()).double()
    logits = [numbers["temperature"] * cosine(feature, d) for d in directions]
    logits += [numbers["temperature"] * cosine(feature, white(null)) for null in numbers["nulls"]]
    shares = softmax(logits)
    phrases, none = shares[: len(known)], sum(shares[len(known) :])
    if classes:
        center = torch.stack([(numbers["center"] * column).sum() for column in matrix.T])
        weights = numbers["targets"][fitted.phrases :] * numbers["class_norms"][:, None]
        head = softmax(
            [((feature + center) * w).sum() + b for w, b in zip(weights, numbers["class_bias"], strict=True)]
        )
        share = numbers["head_share"]
        phrases = [(1 - share) * p for p in phrases]
        for column, p in zip(classes, head, strict=True):
            phrases[column] = phrases[column] + share * (1 - none) * p
    return torch.stack(phrases)


def slow_start(translator, given, keep=None):
    """The prefixes of the map alone."""
    words = [*TEXTS, *PHRASES, *EXTRA]
    vectors = translator.encoder.encode(words).double()
    center = sum(vectors) / len(vectors)
    spread = sum(((v - center) ** 2).sum().sqrt() for v in vectors) / len(vectors)
    prefix_network = {name: t.double() for name, t in translator.decoder.network.state_dict().items()}
    rows = []
    for row in range(len(next(iter(given.values())))):
        read = [layer for layer in given if keep is None or bool(keep[layer][row, 0])]
        found = []
        for layer in read:
            classes = [words.index(t) for t in TEXTS] if layer == "layer4" else []
            known = [w in PHRASES or (layer == "layer4" and w in TEXTS) for w in words]
            x = given[layer][row, 0].double()
            found.append(slow_posterior(translator.by_layer[layer], known, vectors, x, classes))
        shares = sum(found) / len(found)
        step = sum(p * (v - center) for p, v in zip(shares, vectors, strict=True))
        rows.append(slow_speak(center + spread * step / (step * step).sum().sqrt(), prefix_network))
    return torch.stack(rows)


def slow_speak(vector, state):
    standard = (vector / (vector * vector).sum().sqrt() - state["mean"]) / state["std"]
    hidden = gelu(linear(standard, state["enter.weight"], state["enter.bias"]))
    normed = layer_norm(hidden, state["deepen.0.weight"], state["deepen.0.bias"], 1e-5)
    hidden = hidden + gelu(linear(normed, state["deepen.1.weight"], state["deepen.1.bias"]))
    normed = layer_norm(hidden, state["norm.weight"], state["norm.bias"], 1e-5)
    change = linear(normed, state["leave.weight"], state["leave.bias"]).view(state["start"].shape)
    return torch.cat([state["opening"], state["start"] + change])


def slow_change(network, given, keep=None):
    return devil_prefix(network.change.state_dict(), given, depth=1, heads=2, keep=keep)


@pytest.mark.parametrize("layers", [("layer3",), ("layer4",), ("layer3", "layer4")])
def test_the_prefix_is_the_formula(layers):
    translator, given = tiny_map(), {layer: tokens()[layer] for layer in layers}
    network = start(translator, learned=True)
    expected = slow_start(translator, given) + slow_change(network, given)
    torch.testing.assert_close(network(given).double(), expected, atol=1e-4, rtol=1e-4)


def test_a_masked_layer_is_not_read():
    translator, given = tiny_map(), tokens()
    network = start(translator, learned=True)
    keep = {"layer3": torch.tensor([[True], [False], [True], [False]]), "layer4": torch.ones(4, 1).bool()}
    expected = slow_start(translator, given, keep) + slow_change(network, given, keep)
    torch.testing.assert_close(network(given, keep).double(), expected, atol=1e-4, rtol=1e-4)
    alone = network({"layer4": given["layer4"]})
    torch.testing.assert_close(network(given, keep)[[1, 3]], alone[[1, 3]], atol=1e-5, rtol=1e-5)
    some = network(given, {"layer3": keep["layer3"]})  # a layer that is not named is read
    torch.testing.assert_close(some, network(given, keep))


@pytest.mark.parametrize("layers", [("layer3",), ("layer4",), ("layer3", "layer4")])
def test_the_first_prefix_is_the_maps(layers):
    translator, network = tiny_map(), start()
    (rows,) = rows_of([features(layer) for layer in layers], joint=True)
    vectors = recall(translator._posterior(rows), translator.vectors)
    torch.testing.assert_close(
        network(rows.tokens), translator.decoder.prefixes(vectors), atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(
        network.posterior(rows.tokens), translator._posterior(rows), atol=1e-7, rtol=1e-5
    )


def test_only_the_change_is_trained():
    network = start()
    network(tokens()).square().sum().backward()
    assert network.change.output.weight.grad.abs().max() > 0
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert trained == {"change"}


def test_a_batch_is_its_rows_and_a_permuted_one_is_permuted():
    network, given, order = start(learned=True), tokens(), [2, 0, 3, 1]
    whole = network(given)
    alone = torch.cat([network({k: x[i : i + 1] for k, x in given.items()}) for i in range(4)])
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        network({k: x[order] for k, x in given.items()}), whole[order], atol=1e-5, rtol=1e-5
    )


def test_the_length_of_a_feature_does_not_count_for_the_map():
    network, given = start(), tokens()
    longer = {layer: 3 * x for layer, x in given.items()}
    torch.testing.assert_close(network(longer), network(given), atol=1e-6, rtol=1e-5)


def test_gradients_reach_the_features():
    translator = tiny_map()
    network, x = start(translator, learned=True), tokens(2)["layer4"].requires_grad_()
    weight = torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        network({"layer4": x.detach()})  # what this leaves behind must not hinder gradients
    (found,) = torch.autograd.grad((network({"layer4": x}) * weight).sum(), x)
    slow = x.detach().double().requires_grad_()
    prefix = slow_start(translator, {"layer4": slow}) + slow_change(network, {"layer4": slow})
    (expected,) = torch.autograd.grad((prefix * weight).sum(), slow)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-3)


def test_it_stays_in_float32_and_moves_its_frozen_models(monkeypatch):
    monkeypatch.setattr(LetterEncoder, "to", lambda self, device: self)
    network, given = start(learned=True), tokens()
    whole = network(given)
    network.bfloat16()
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    torch.testing.assert_close(network(given), whole, atol=0.05, rtol=0.05)
    network.to("meta")
    assert (
        {t.device.type for t in network.map.buffers()}
        == {network.prefix_network.mean.device.type}
        == {"meta"}
    )


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A map and a text decoder in folders, and a translator that starts from them."""
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda reference: LetterEncoder())
    lm = saved_language_model(tmp_path / "lm")
    decoder = tiny_decoder(lm)
    decoder.save_pretrained(tmp_path / "decoder")
    tiny_map(decoder=False, sure_above=0.6, sure_above_at_location=0.4).save_pretrained(tmp_path / "map")
    found = MapTranslator.from_pretrained(tmp_path / "map")
    found.decoder = TextDecoder.from_pretrained(tmp_path / "decoder")
    translator = PrefixTranslator(
        start(found, learned=True, standardise=True), lm, prompt="the", stop=" door"
    )
    translator.save_pretrained(tmp_path / "saved")
    return translator


def test_only_what_is_learned_is_saved(saved, tmp_path):
    again = Translator.from_pretrained(tmp_path / "saved")
    assert again.network.config == saved.network.config
    assert again.network.vocabulary.phrases == (*TEXTS, *PHRASES, *EXTRA)
    assert (again.network.sure_above, again.network.sure_above_at_location) == (0.6, 0.4)
    torch.testing.assert_close(again.network(tokens()), saved.network(tokens()), atol=0, rtol=0)
    names = {name.split(".")[1] for name in load_file(tmp_path / "saved" / "model.safetensors")}
    assert names == {"change"}
    lm, encoder = str(tmp_path / "lm"), "letters"
    assert again.base_models == (lm, str(tmp_path / "map"), str(tmp_path / "decoder"), encoder)
    assert str(tmp_path / "map") in (tmp_path / "saved" / "README.md").read_text()


def test_what_is_learned_is_saved_in_bfloat16(saved, tmp_path):
    again = Translator.from_pretrained(saved.save_pretrained(tmp_path / "narrow", dtype=torch.bfloat16))
    stored = load_file(tmp_path / "narrow" / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    torch.testing.assert_close(again.network(tokens()), saved.network(tokens()), atol=0.05, rtol=0.05)
    assert again.score(rows_of(features("layer4")), ["a cat"]).isfinite().all()


@pytest.mark.parametrize("model", ["map", "decoder"])
def test_another_map_or_decoder_behind_the_reference_is_refused(saved, tmp_path, model):
    weights = tmp_path / model / "model.safetensors"
    before = weights.read_bytes()
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(
        TranslatorMismatchError, match=rf"'{tmp_path}/{model}' is not the one used in training"
    ):
        Translator.from_pretrained(tmp_path / "saved")
    weights.write_bytes(before)
    card = tmp_path / model / "config.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "card": {"note": "a card may change"}}))
    Translator.from_pretrained(tmp_path / "saved")


def test_a_map_that_no_reference_gives_cannot_be_named(saved, tmp_path):
    saved.network.map.maps[0].center.add_(1)
    with pytest.raises(ValueError, match=r"the map differs from '.*map' .*in maps\.0\.center"):
        saved.save_pretrained(tmp_path / "again")
    with pytest.raises(ValueError, match="the map has no reference"):
        start().config  # noqa: B018


def test_a_text_is_kept_where_the_map_finds_it_as_likely_as_its_own(monkeypatch):
    lm = tiny_language_model()
    network = start(tiny_map(lm, sure_above=0.5, sure_above_at_location=0.2))
    network.map.decoder = None
    translator, local = PrefixTranslator(network, lm, prompt="the"), features("layer4", images=2)
    (rows,) = rows_of(local)
    own, shares = network.map.describe([rows]), network.map.probabilities([rows])
    column = {phrase: i for i, phrase in enumerate(network.vocabulary.phrases)}
    everything = "a dog and a house and a red cat and a door and grass and a bird"
    texts = [everything, "a dog", "a dog and a dog", "xyzzy", "an animal", "a door", "grass", everything]
    about = {"a dog": ["a dog"], "a door": ["a door"], "grass": ["grass"], everything: list(column)}
    about["an animal"] = ["a dog", "a red cat", "a bird"]
    monkeypatch.setattr("torchnle.translators.prefix.decoding.greedy", lambda *_, **__: written(texts))
    found = translator.describe([rows])
    for row, (text, choice, description) in enumerate(zip(texts, own, found, strict=True)):
        known = sum(float(shares[row, column[p]]) for p in about.get(text, []))
        kept = text in about and known >= choice.probability
        assert description.text == (text if kept else choice.text)
        assert description.probability == pytest.approx(known if kept else choice.probability, abs=1e-6)
        assert description.unsure == (description.probability < 0.2)
    assert found[0].text == found[7].text == everything
    assert found[2].text == own[2].text
    assert found[3].text == own[3].text
    other = [i for i, text in enumerate(texts) if found[i].text != text]
    assert network.evidence_weight > 0
    for i in other:  # the score is that of the chosen text, as `score` gives it
        (score,) = translator.score([rows[i : i + 1]], [found[i].text])
        assert found[i].score == pytest.approx(score.item(), abs=1e-4)


def test_the_evidence_is_the_formula_and_is_added_with_its_weight():
    lm = tiny_language_model()
    translator = PrefixTranslator(start(learned=True), lm, prompt="the").eval()
    network, texts = translator.network, ["a dog", "a purple cat"]
    for layers in (["layer3"], ["layer3", "layer4"]):
        (rows,) = rows_of([features(layer) for layer in layers], joint=True)
        expected = torch.zeros(len(rows), 2, dtype=torch.double)
        for layer in layers:
            fitted = network.map.by_layer[layer]
            directions = network.map.directions(layer, texts).double()
            for row, x in enumerate(rows.tokens[layer][:, 0].double()):
                matrix = torch.eye(len(x)).double() if fitted.matrix is None else fitted.matrix.double()
                white = (x - fitted.center.double()) @ matrix
                scaled = (x / x.norm() * fitted.pooled_norm.double() - fitted.center.double()) @ matrix
                expected[row] += fitted.temperature * (directions @ white) / scaled.norm() / len(layers)
        torch.testing.assert_close(network.evidence(rows, texts).double(), expected, atol=1e-4, rtol=1e-4)
        both = translator.score([rows], texts)
        prior = both - translator.score([rows], texts, prior=True)
        network.evidence_weight = 0.0
        alone = translator.score([rows], texts)
        network.evidence_weight = EVIDENCE_WEIGHT
        torch.testing.assert_close((both - alone).double(), EVIDENCE_WEIGHT * expected, atol=1e-3, rtol=1e-3)
        assert prior.std(dim=0).max() < 1e-4
        best = translator.top_texts([rows], texts, 1)
        torch.testing.assert_close(best.scores[:, 0], both.max(dim=1).values)
        torch.testing.assert_close(translator.top_rows([rows], "a dog", 2).scores, both[:, 0].topk(2).values)


def written(texts):
    return Decoded(list(texts), [[2]] * len(texts), torch.zeros(len(texts)))


def test_it_scores_by_what_it_writes_after():
    lm = tiny_language_model()
    translator = PrefixTranslator(start(learned=True), lm, prompt="the").eval()
    rows = features("layer4")
    best = translator.top_rows(rows_of(rows), "a dog", 3)
    torch.testing.assert_close(best.scores, translator.score(rows_of(rows), ["a dog"])[:, 0].topk(3).values)
    x = rows.tokens.clone().requires_grad_()
    translator.score(rows_of(Features(x, "layer4", (2, 2))), ["a dog"]).sum().backward()
    assert x.grad.abs().max() > 0


def test_what_it_cannot_start_from():
    with pytest.raises(ValueError, match="has no text decoder"):
        MapStart.of(tiny_map(decoder=False), WIDTH)
    with pytest.raises(ValueError, match=r"makes prefixes of width 12 .* the language model reads 16"):
        MapStart.of(tiny_map(), 16)


def test_a_decoder_of_another_encoder():
    translator = tiny_map()
    translator.decoder.network = PrefixFromSentence(5, WIDTH, opening_length=1, prefix_length=3, hidden=16)
    with pytest.raises(ValueError, match="embeddings of width 26, the text decoder reads 5"):
        MapStart.of(translator, WIDTH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"change": {"dept": 3}}, r"unknown key\(s\) \['dept'\]"),
        ({"change": {**CHANGE, "width": 0.5}}, "'width' is 0.5; it must be a whole"),
        ({"map": {"reference": "map"}}, r"the map is stated by \['reference'\]"),
        ({"decoder": {"reference": 3, "sha256": ""}}, "'decoder.reference' is 3; it must be a string"),
        ({"maps": {}}, r"unknown key\(s\) \['maps'\]"),
    ],
)
def test_configurations_that_do_not_fit(saved, tmp_path, change, message):
    file = tmp_path / "saved" / "config.json"
    content = json.loads(file.read_text())
    content["config"]["network_config"] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Translator.from_pretrained(tmp_path / "saved")
