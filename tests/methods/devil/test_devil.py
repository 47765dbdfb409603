import torch
from tiny_translators import saved_language_model, tiny_language_model

from torchnle.methods.devil import devil_translator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features


def test_the_papers_sizes():
    translator = devil_translator({"layer3": 6, "layer4": 8}, tiny_language_model())
    config = translator.network.config
    sizes = {"prefix_length": 10, "width": 768, "depth": 12, "heads": 12, "feedforward": 3072}
    assert {key: config[key] for key in sizes} == sizes
    assert (translator.prompt, translator.stop, translator.max_new_tokens) == ("", None, 50)


def test_a_reference_names_the_language_model(tmp_path):
    lm = saved_language_model(tmp_path)
    sizes = {"width": 8, "depth": 1, "heads": 2, "feedforward": 8}
    translator = devil_translator({"layer4": 8}, str(tmp_path), backbone="tiny", max_new_tokens=3, **sizes)
    assert translator.base_models == (str(tmp_path), "tiny")
    assert translator.language_model.width == lm.width
    (description,) = translator.describe(rows_of(Features(torch.randn(1, 1, 8), "layer4")))
    assert description.score < 0


def test_the_start_repeats_the_words_over_the_prefix():
    lm = tiny_language_model()
    sizes = {"prefix_length": 3, "width": 8, "depth": 1, "heads": 2}
    translator = devil_translator({"layer4": 8}, lm, start="a cat", **sizes)
    ids = [lm.tokenize(["a"])[0][0], lm.tokenize(["cat"])[0][0]] * 2
    assert torch.equal(translator.network.start, lm.embed(torch.tensor(ids[:3])))


def test_an_opening_stands_before_the_prefix_and_is_its_start_too():
    lm = tiny_language_model()
    sizes = {"prefix_length": 3, "width": 8, "depth": 1, "heads": 2}
    network = devil_translator({"layer4": 8}, lm, opening="the", **sizes).network
    word = lm.embed(torch.tensor(lm.tokenize(["the"])[0]))
    assert torch.equal(network.opening, word)
    assert torch.equal(network.start, word.expand(3, -1))
