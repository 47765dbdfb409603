"""The arithmetic of the measurements of words: pairs of latents, agreement, ranks and draws."""

import torch

from measurements import scene_words
from measurements.waterbirds import planted
from measurements.words import latents
from torchnle.methods.texplain.words.sentences import Sentences
from torchnle.methods.texplain.words.table import WordTable


def test_latents_become_tokens_with_their_captions():
    z = torch.arange(2.0 * 8 * 64).view(2, 8, 8, 8)
    pairs = latents.LatentPairs(z, ["a hen", "a lake"])
    (batch,) = pairs.batches([[1, 0]])
    assert batch.tokens["latents"].shape == (2, pairs.location_counts["latents"], pairs.widths["latents"])
    assert torch.equal(batch.tokens["latents"][0, 9], z[1, :, 1, 1])
    assert batch.captions == [("a lake",), ("a hen",)]


def test_the_autoencoder_gives_the_latents_that_are_read():
    made = latents.Autoencoder().eval()
    x = torch.rand(2, 3, latents.SIZE, latents.SIZE)
    assert made.encoder(x).shape == (2, latents.CHANNELS, latents.GRID, latents.GRID)
    assert made(x).shape == x.shape


def test_agreement_is_high_within_a_category_and_low_between():
    phrases = ["a hen", "a yak", "a hen", "a yak"]
    own, other = latents._agreements(phrases, ["a hen", "a yak", "a hen", "a frog"], phrases)
    assert own > 0.8 > 0.1 > other
    assert latents._another(phrases, 3) == 0


def test_ranks_by_ratio_prefer_what_an_image_alone_says():
    texts = ("a man", "a hen")
    rows = [Sentences(texts, torch.tensor([0.9, 0.5]), torch.zeros(2))]
    table = WordTable.of(rows, Sentences(texts, torch.tensor([0.5, 0.01]), torch.zeros(2)))
    first = {name: table.words[rank(table)[0].argmax()] for name, rank in scene_words.RANKS.items()}
    assert first == {"difference": "hen", "weighed ratio": "hen"}
    found = scene_words._counted(table, "difference", [{"hen", "bird"}], [{"man"}])
    assert found["words in the scene, of ten"] == 1
    assert found["first word in the scene"] == 1
    assert found["first word matches the answer"] == 0


def test_planted_scenes_are_drawn_by_cell():
    labels = torch.tensor([0] * 6 + [1] * 6)
    contexts = torch.tensor([0, 0, 0, 1, 1, 1] * 2)
    rows = planted._draw({"labels": labels, "contexts": contexts}, (2, 1))
    assert rows.tolist() == [0, 1, 3, 6, 9, 10]
