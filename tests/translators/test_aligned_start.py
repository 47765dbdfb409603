from __future__ import annotations

import pytest
import torch
from letter_encoder import LetterEncoder
from tiny_translators import LAYERS, WIDTH, features, saved_language_model, tiny_language_model

from torchnle.language import scoring
from torchnle.translators.aligned_start import AlignedStart
from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.base import Translator
from torchnle.translators.class_mixture import ClassMixture
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.recall import PhraseMemory
from torchnle.translators.ridge import RidgeMap
from torchnle.translators.rows import gather
from torchnle.translators.text_decoder import PrefixFromSentence, TextDecoder
from torchnle.translators.text_maps import MapSum

CHANGE = {"width": 8, "depth": 1, "heads": 2, "feedforward": 16}


def aligned(lm=None, *, mixed=False, **options):
    """Random maps and a random decoder of the letters' space."""
    source = torch.Generator().manual_seed(4)
    maps = {}
    for layer, width in LAYERS.items():
        maps[layer] = RidgeMap(width, 26)
        if mixed:
            maps[layer] = MapSum.of([maps[layer], ClassMixture(width, 26, classes=3)], [1.0, 0.5])
        for tensor in maps[layer].buffers():
            tensor.copy_(torch.randn(tensor.shape, generator=source))
    torch.manual_seed(5)
    network = PrefixFromSentence(26, WIDTH, opening_length=1, prefix_length=3, hidden=16)
    network.begin_at(torch.randn(1, WIDTH), torch.randn(3, WIDTH), torch.randn(9, 26))
    decoder = TextDecoder(network, lm or tiny_language_model(), encoder="letters", prompt="the", stop=" door")
    return AlignedTranslator(maps, LetterEncoder(), decoder, spread=0.7, **options)


def tokens(rows=4):
    source = torch.Generator().manual_seed(6)
    return {layer: torch.randn(rows, 1, width, generator=source) for layer, width in LAYERS.items()}


@pytest.mark.parametrize("options", [{}, {"phrases": ["cat", "dog", "door"], "recall": 0.1}, {"mixed": True}])
@pytest.mark.parametrize("layers", [("layer3",), ("layer4",), ("layer3", "layer4")])
def test_the_first_prefix_is_the_aligned_one(layers, options):
    translator = aligned(**options)
    network = AlignedStart.of(translator, WIDTH, **CHANGE)
    given = [features(layer) for layer in layers]
    rows = gather(given, LAYERS, joint=True, tokens_per_row=1, translator="")[0]
    expected = translator.decoder.prefixes(translator.recalled(translator.embed(rows)))
    torch.testing.assert_close(network(rows.tokens), expected, atol=1e-6, rtol=1e-5)


def test_a_masked_layer_is_an_absent_one():
    network, given = AlignedStart.of(aligned(), WIDTH, **CHANGE), tokens()
    torch.nn.init.normal_(network.change.output.weight)
    keep = {"layer3": torch.tensor([[True], [False], [True], [False]]), "layer4": torch.ones(4, 1).bool()}
    found = network(given, keep)
    both, alone = network(given), network({"layer4": given["layer4"]})
    torch.testing.assert_close(found[[0, 2]], both[[0, 2]], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found[[1, 3]], alone[[1, 3]], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(both, alone, atol=1e-2)


def test_the_change_learns_from_the_first_step():
    network = AlignedStart.of(aligned(), WIDTH, **CHANGE)
    network.freeze_start()
    network(tokens()).square().sum().backward()
    assert network.change.output.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in network.speak.parameters())


def test_a_share_of_the_change_is_kept():
    network, given = AlignedStart.of(aligned(), WIDTH, **CHANGE), tokens()
    start = network(given)
    torch.nn.init.normal_(network.change.output.weight)
    torch.nn.init.normal_(network.change.output.bias)
    learned = network(given)
    network.scale_change(0.25)
    torch.testing.assert_close(network(given), start + 0.25 * (learned - start), atol=1e-5, rtol=1e-5)
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="pass a number from 0 to 1"):
            network.scale_change(share)


def test_texts_are_scored_after_the_prefix_of_the_description_unless_asked():
    network, given = AlignedStart.of(aligned(phrases=["cat", "dog"], recall=0.2), WIDTH, **CHANGE), tokens()
    torch.nn.init.normal_(network.change.output.weight)
    torch.testing.assert_close(network.for_places(given), network(given))


def test_texts_are_scored_as_surely_as_the_features_speak():
    start = aligned(phrases=["cat", "dog", "ship"], recall=0.05)
    network = AlignedStart.of(start, WIDTH, **CHANGE, scoring_recall=0.4, scoring_share=0.5)
    torch.nn.init.normal_(network.change.output.weight)
    ridge, x = start.by_layer["layer4"], torch.randn(2, 1, LAYERS["layer4"])
    for part in (1.0, 0.5):  # half the evidence: the same sentence, other scores
        given = {"layer4": (x - ridge.mean) * part + ridge.mean}
        vectors = network.center + ridge(given["layer4"][:, 0]) - ridge.center
        memory = PhraseMemory(start.memory, network.center)
        soft = memory.recall(vectors, spread=0.7, temperature=0.4, by="projection")
        expected = network.speak(torch.nn.functional.normalize(soft, dim=-1)) + 0.5 * network.change(given)
        torch.testing.assert_close(network.for_places(given), expected)
    for value, recalling in ((0.0, start), (-1.0, start), (0.1, aligned())):
        with pytest.raises(ValueError, match=r"scoring_recall=.* pass a positive temperature and phrases"):
            AlignedStart.of(recalling, WIDTH, **CHANGE, scoring_recall=value)


def test_maps_show_how_far_features_raise_a_text_above_its_prior():
    lm = tiny_language_model()
    start = aligned(lm, phrases=["cat", "dog"], recall=0.5)
    network = AlignedStart.of(start, WIDTH, **CHANGE, scoring_recall=0.3, scoring_share=0.5)
    torch.nn.init.normal_(network.change.output.weight)
    translator, rows, texts = (
        PrefixTranslator(network, lm, prompt="the"),
        features("layer4"),
        ["dog", "a door"],
    )
    spaced = [f" {text}" for text in texts]
    after = scoring.log_prob(lm, network.for_places({"layer4": rows.rows[:, None]}), spaced, prompt="the")
    nothing = scoring.log_prob(lm, network.of_nothing(), spaced, prompt="the")
    prior = scoring.prior(lm, spaced, prompt="the")
    torch.testing.assert_close(translator.score_places(rows, texts), after - nothing + prior)
    torch.testing.assert_close(translator.score_places(rows, texts, prior=True), after - nothing)
    assert not torch.allclose(translator.score(rows, texts), translator.score_places(rows, texts), atol=1e-2)
    best = translator.top_rows(rows, "dog", 2, prior=True)
    torch.testing.assert_close(best.scores, (after - nothing)[:, 0].topk(2).values)
    for option in ({}, {"prior": True}):  # without such a reading, places are scored as they are described
        network.scoring_recall = None
        torch.testing.assert_close(
            translator.score_places(rows, texts, **option), translator.score(rows, texts, **option)
        )


def test_a_feature_of_all_means_is_nothing():
    start = aligned(phrases=["cat", "dog"], recall=0.5)
    network = AlignedStart.of(start, WIDTH, **CHANGE, scoring_recall=0.3)
    means = {layer: start.by_layer[layer].mean[None, None] for layer in LAYERS}
    torch.testing.assert_close(network.for_places(means), network.of_nothing())


def test_it_is_saved_in_the_translators_file(tmp_path):
    lm = saved_language_model(tmp_path / "lm")
    start = aligned(lm, mixed=True, phrases=["cat", "dog"], recall=0.5)
    network = AlignedStart.of(start, WIDTH, **CHANGE, standardise=True, scoring_recall=0.3, scoring_share=0.5)
    torch.nn.init.normal_(network.change.output.weight)
    translator = PrefixTranslator(network, lm, prompt="the", stop=" door")
    again = Translator.from_pretrained(translator.save_pretrained(tmp_path / "saved"))
    torch.testing.assert_close(again.network(tokens()), network(tokens()))
    torch.testing.assert_close(again.network.for_places(tokens()), network.for_places(tokens()))
    assert (again.prompt, again.stop) == ("the", " door")


def test_the_shipped_size_stays_under_20_megabytes():
    """In bfloat16, with the maps and the text decoder's network of the embedded encoder and model."""
    layers = {"28x28": 40, "14x14": 112, "7x7": 1280}
    change = {"width": 192, "depth": 3, "heads": 4, "feedforward": 512, "standardise": True}
    maps = {layer: {"kind": "ridge", "in_width": width} for layer, width in layers.items()}
    classes = {"kind": "class mixture", "in_width": 1280, "classes": 1000}
    maps["7x7"] = {"kind": "sum", "in_width": 1280, "maps": [maps["7x7"], classes], "weights": [1, 0.7]}
    sizes = {"space": 384, "hidden": 960, "opening_length": 2, "prefix_length": 8, "phrases": 1434}
    with torch.device("meta"):
        network = AlignedStart(layers, 576, **sizes, maps=maps, change=change)
    assert 2 * sum(t.numel() for t in network.state_dict().values()) < 20e6


def test_what_it_cannot_start_from():
    mute = AlignedTranslator(aligned().by_layer, LetterEncoder(), phrases=["a cat"])
    with pytest.raises(ValueError, match="has no text decoder"):
        AlignedStart.of(mute, WIDTH)
    with pytest.raises(ValueError, match=r"makes prefixes of width 12 .* the language model reads 16"):
        AlignedStart.of(aligned(), 16)
    with pytest.raises(ValueError, match=r"unknown key\(s\) \['dept'\]"):
        AlignedStart(LAYERS, WIDTH, space=4, hidden=4, opening_length=1, prefix_length=3, change={"dept": 3})
