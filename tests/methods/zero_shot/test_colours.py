import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import tiny_lm
from torch import nn
from zero_shot_world import NAMES, classifier, pictures

from torchnle import LanguageAttribution
from torchnle.data.palette import COLOURS
from torchnle.data.tinting import colour_in
from torchnle.methods.zero_shot import Tuning
from torchnle.methods.zero_shot.colours import Colours, _covered
from torchnle.methods.zero_shot.evidence import evidence
from torchnle.methods.zero_shot.faithfulness import second_run
from torchnle.methods.zero_shot.sentences.beams import Search
from torchnle.methods.zero_shot.sentences.log_probs import sequence_log_probs

SHORT = Search(beams=2, proposals=12, encoded=6, most_words=4, least_words=2)
COLOUR_NAMES = list(COLOURS)


class SeesColours(nn.Module):
    """A classifier whose features are how near each location's colour is to each of the palette."""

    def __init__(self):
        super().__init__()
        self.register_buffer("anchors", torch.tensor(list(COLOURS.values())).float() / 255)
        self.grid = nn.Identity()
        self.head = nn.Linear(len(COLOURS), len(NAMES))

    def forward(self, x):
        cells = F.adaptive_avg_pool2d(x, 8)
        near = (-20 * (cells[:, None] - self.anchors[None, :, :, None, None]).square().sum(dim=2)).exp()
        return self.head(self.grid(near).mean(dim=(2, 3)))


def as_tensor(image):
    return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255


def sees_colours():
    torch.manual_seed(0)
    lang = LanguageAttribution.from_classifier(
        SeesColours().eval(),
        NAMES,
        example=torch.rand(2, 3, 64, 64),
        encoder=classifier().translator.encoder,
    )
    lang.preprocess = as_tensor
    return lang


def plain(colour):
    return Image.new("RGB", (64, 64), COLOURS[colour])


def test_the_regression_is_ridge_regression_and_its_sharpness_makes_left_out_features_likely():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 3
    white = torch.randn(60, 5, generator=draw) + 2 * F.one_hot(labels, 5)
    reader = Colours.fit(["red", "green", "blue"], white, labels)
    unit = F.normalize(white.double(), dim=1)
    x, y = unit - unit.mean(dim=0), F.one_hot(labels, 3).double() - 1 / 3
    slow = torch.linalg.solve(x.T @ x + torch.eye(5), x.T @ y)
    assert torch.allclose(reader.weights, slow.float(), atol=1e-5)

    def left_out(sharpness):
        total = 0.0
        for i in range(60):
            others = torch.arange(60) != i  # the mean stays that of all
            weights = torch.linalg.solve(x[others].T @ x[others] + torch.eye(5), x[others].T @ y[others])
            total += float(F.cross_entropy(sharpness * (x[i] @ weights)[None], labels[i : i + 1]))
        return total

    best = left_out(reader.sharpness)
    assert best <= min(left_out(reader.sharpness * 1.4), left_out(reader.sharpness / 1.4))


def test_the_colour_of_what_was_looked_at_is_said():
    lang = sees_colours()
    shown = [plain(name) for name in ("red", "blue", "yellow")]
    found = lang.explain(shown, language_model=tiny_lm(), search=SHORT, colours=True)
    assert [why.colours[0][0] for why in found] == ["red", "blue", "yellow"]
    for why, name in zip(found, ("red", "blue", "yellow"), strict=True):
        assert sum(p for _, p in why.colours) <= 1 + 1e-5
        assert (colour_in(why.text) == name) == (why.colours[0][1] > 0.5 or name in why.text)
    assert any(colour_in(why.text) for why in found)


def test_a_colour_is_part_of_the_sentence_that_is_scored():
    lang = sees_colours()
    (before,) = lang.explain([plain("red")], language_model=tiny_lm(), search=SHORT)
    (after,) = lang.explain([plain("red")], language_model=tiny_lm(), search=SHORT, colours=True)
    assert before.colours == ()
    assert "red" in after.text.split()
    (read,) = lang.read([plain("red")])
    (fitted,) = lang.translator.by_layer.values()
    classes = torch.tensor([NAMES.index(after.prediction)])
    found = evidence(fitted, read.tokens.mean(dim=1), classes, locations=read.tokens)
    direction = fitted.directions(lang.translator.encoder.encode([after.text]))
    assert after.score == pytest.approx(float(F.cosine_similarity(direction, found.vector)), abs=1e-5)
    prompt = SHORT.about(lang.translator.class_texts[int(classes)]).prompt
    lm = tiny_lm()
    ids = [*lm.tokenize([f" {after.text}"])[0], lm.tokenize(["."])[0][-1]]
    slow = sequence_log_probs(lm, [ids], prompt)[0].mean()
    assert after.fluency == pytest.approx(float(slow), abs=1e-4)


def test_an_unwanted_colour_is_not_said_and_both_runs_are_coloured():
    lang, options = sees_colours(), {"language_model": tiny_lm(), "search": SHORT, "colours": True}
    (why,) = lang.explain([plain("red")], unwanted=["red"], **options)
    assert "red" not in why.text.split()
    (both,) = lang.explain([plain("red")], second=True, **options)
    (second,) = lang.explain([plain("red")], **options | {"search": second_run(SHORT)})
    assert "red" in second.text.split()
    encoded = lang.translator.encoder.encode([both.text, second.text])
    assert both.agreement == pytest.approx(float(F.cosine_similarity(*encoded, dim=0)), abs=1e-5)


def test_surfaces_are_read_once_for_a_map(monkeypatch):
    from torchnle.methods.zero_shot import colours

    lang, calls = sees_colours(), []
    real = colours.rendered_surfaces
    monkeypatch.setattr(colours, "rendered_surfaces", lambda: calls.append(1) or real(1, size=64))
    for _ in range(2):
        lang.explain([plain("red")], language_model=tiny_lm(), search=SHORT, colours=True)
    assert calls == [1]


def test_a_tuned_sentence_gets_no_colour_but_the_explanation_lists_them():
    lang = sees_colours()
    tuning = Tuning(iterations=1, candidates=4, most_tokens=3)
    (why,) = lang.explain([plain("red")], language_model=tiny_lm(), search=tuning, colours=True)
    assert why.colours[0][0] == "red"
    assert "red" not in why.text.split()


def test_without_preprocessing_colours_are_refused():
    with pytest.raises(ValueError, match="preprocessing of the model's inputs is not known"):
        classifier().explain(pictures(1), language_model=tiny_lm(), search=SHORT, colours=True)


def test_locations_are_covered_by_more_than_their_half_or_are_the_most_covered_one():
    masks = torch.zeros(2, 3, 8, 8)
    masks[0, :, :4, :4] = 1
    masks[1, :, 5:6, 5:6] = 1
    assert _covered(masks, (2, 2)).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert _covered(masks * 4 - 2, (2, 2)).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]  # normalised inputs
