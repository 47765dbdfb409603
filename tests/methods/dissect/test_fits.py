"""How candidates are chosen: correlation over all images, and what the exemplars show."""

import numpy as np
import torch
from map_world import PHRASES
from PIL import Image
from test_rank_texts import SMALL, reading, world

from torchnle.methods.dissect.candidates.attributes import shared_colour
from torchnle.methods.dissect.exemplars.exemplar import Exemplar
from torchnle.methods.dissect.fits import fits, shown_probabilities
from torchnle.methods.dissect.ranking import ranked_candidates
from torchnle.methods.dissect.run import dissect
from torchnle.methods.dissect.scores import text_correlations
from torchnle.methods.dissect.words import phrase_probabilities


def test_shown_is_the_geometric_mean_over_exemplars_that_excite():
    given = reading()
    record, maps = given.record, given.map
    listed = list(maps.vocabulary.phrases)
    texts = [listed[2], "a purple boat", listed[0]]
    found = shown_probabilities(maps, "layer", record, [4, 1], texts)
    for row, unit in enumerate([4, 1]):
        kept = record.evidence[unit][record.active[unit]]
        own = phrase_probabilities(maps, "layer", kept)
        beside = phrase_probabilities(maps, "layer", kept, [*listed, "a purple boat"])
        slow = [own[:, 2].log().mean().exp(), beside[:, -1].log().mean().exp(), own[:, 0].log().mean().exp()]
        torch.testing.assert_close(found[row], torch.stack(slow), atol=1e-5, rtol=1e-4)


def test_a_text_that_exemplars_do_not_show_loses_to_one_that_they_show():
    correlations = torch.tensor([[0.5, 0.6, -0.3, -0.1]])
    shown = torch.tensor([[0.5, 0.01, 0.9, 0.001]])
    assert fits(correlations, shown).argsort(descending=True).tolist() == [[0, 1, 3, 2]]
    assert torch.equal(fits(correlations, None), correlations)
    torch.testing.assert_close(fits(correlations, shown, 0.0), correlations)


def test_ranking_is_that_of_the_formula_and_adds_the_best_of_the_vocabulary():
    given = reading()
    record, maps = given.record, given.map
    texts = list(maps.vocabulary.phrases)
    found = ranked_candidates(maps, "layer", record, [0, 3], {0: ["grass"], 3: []}, more=1)
    correlations = text_correlations(maps, "layer", record, texts)
    for unit, own in ((0, ["grass"]), (3, [])):
        slow = fits(correlations[[unit]], shown_probabilities(maps, "layer", record, [unit], texts))[0]
        wanted = {*own, texts[int(correlations[unit].argmax())], texts[int(slow.argmax())]}
        assert {text for text, _ in found[unit].texts} == wanted
        for text, score in found[unit].texts:
            assert abs(score - float(slow[texts.index(text)])) < 1e-5
        best = found[unit].texts[0][0]
        assert best == texts[int(slow.argmax())]
        assert abs(found[unit].correlation - float(correlations[unit, texts.index(best)])) < 1e-6
    model, images, _ = world()
    label = dissect(model, "layer", images, translator=maps, probing=SMALL, only=[3])[0]
    assert label.correlation == float(correlations[3, texts.index(label.text)])
    assert set(PHRASES) <= set(texts)


def test_the_colour_of_something_thin_is_found_against_contrast():
    def picture(colour, share, seed):
        pixels = np.random.default_rng(seed).integers(90, 150, (40, 40, 1)).repeat(3, axis=2).astype(np.uint8)
        pixels[: int(40 * share)] = colour
        return Image.fromarray(pixels)

    blue, red = (35, 80, 200), (214, 39, 40)
    thin = [Exemplar(i, 1.0, picture(blue, 0.3, i)) for i in range(10)]
    others = [(picture(red, 0.3, 20 + i), None) for i in range(10)]
    assert shared_colour(thin) == "gray"  # of most pixels, where there is no contrast to tell
    assert shared_colour(thin, others) == "blue"
    assert shared_colour(thin, [(each.picture, None) for each in thin]) is None
    mixed = [Exemplar(i, 1.0, picture(blue if i % 2 else red, 0.3, i)) for i in range(10)]
    assert shared_colour(mixed, others) is None
    assert shared_colour(thin[:3], others) is None
