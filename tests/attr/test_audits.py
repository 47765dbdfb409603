"""Words, audits and repairs by LanguageAttribution on a model of some hundred weights."""

import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder
from torch import nn

from torchnle import LanguageAttribution
from torchnle.attr.audits import audit, background_challenge, repair
from torchnle.heads.classifier_head import find_head
from torchnle.methods.texplain.repair.groups import large_cells
from torchnle.methods.texplain.repair.refit import refit_last_layer
from torchnle.translators.rows import rows_of
from torchnle.vision.reading import read

NAMES = ("a dog", "a cat", "a boat")


@pytest.fixture(scope="module")
def classifier():
    return conv_net(classes=3)


@pytest.fixture(scope="module")
def lang(classifier):
    example = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return LanguageAttribution.from_classifier(
        classifier, NAMES, example=example, encoder=LetterEncoder(), vocabulary=["grass", "the sky", "a lake"]
    )


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    return [(torch.rand(240, 3, 8, 8, generator=generator), torch.arange(240) % 3) for _ in range(3)]


def test_words_are_those_of_the_maps_phrases(lang, batches):
    x = batches[0][0][:5]
    table = lang.words(x)
    shares = lang.translator.probabilities(rows_of(lang.reading.pool(lang.read(x)[0], None)))
    column = lang.translator.vocabulary.phrases.index("a lake")
    torch.testing.assert_close(table.frequency("lake"), shares[:, column])
    assert len(table) == 5
    everywhere = lang.words(x, where="all")
    assert len(everywhere) == 5 * 16
    with pytest.raises(TypeError, match="text decoder"):
        lang.words(x, n=10)
    with pytest.raises(ValueError, match="n=0"):
        lang.words(x, n=0)


@pytest.mark.filterwarnings("ignore:the translator")  # the layers have one width, and that is enough here
def test_several_layers_give_a_table_each(classifier, lang, batches):
    several = LanguageAttribution(classifier, ["layer", "norm"], lang.translator)
    x = batches[0][0][:2]
    tables = several.words(x)
    for name, table in zip(("layer", "norm"), tables, strict=True):
        alone = LanguageAttribution(classifier, name, lang.translator).words(x)
        torch.testing.assert_close(table.frequencies, alone.frequencies)
    with pytest.raises(ValueError, match="one layer, not 2"):
        audit(several, batches, NAMES)


def test_an_audit_in_batches_is_that_of_all_images(classifier, lang, batches):
    found = audit(lang, batches, NAMES)
    x, y = (torch.cat(each) for each in zip(*batches, strict=True))
    whole = audit(lang, [(x, y)], NAMES)
    torch.testing.assert_close(found.words.frequencies, whole.words.frequencies)
    assert found.predicted.tolist() == classifier(x).argmax(dim=1).tolist()
    assert str(found) == str(whole)
    assert [each.class_name for each in found.shortcuts.classes] == list(NAMES)
    assert {kind for _, kind in found.first_words} <= {"own", "other", "background", "unrelated"}
    with pytest.raises(ValueError, match="no images"):
        audit(lang, [], NAMES)


def test_words_of_one_model_and_answers_of_another(lang, batches):
    other = conv_net(classes=3)
    torch.nn.init.normal_(other[-1].weight, generator=torch.Generator().manual_seed(7))
    x, y = batches[0]
    with torch.no_grad():
        answers = other(x)
    found = audit(lang, [(x, y)], NAMES, logits=answers)
    assert found.predicted.tolist() == answers.argmax(dim=1).tolist()
    own = audit(lang, [(x, y)], NAMES)
    assert found.predicted.tolist() != own.predicted.tolist()
    torch.testing.assert_close(found.words.frequencies, own.words.frequencies)
    with pytest.raises(ValueError, match="3 class names for a model that gives"):
        audit(lang, [(x, y)], NAMES, logits=answers[:, :2])
    with pytest.raises(ValueError, match="one row and label an image"):
        audit(lang, [(x, y)], NAMES, logits=answers[:9])


def test_a_repair_is_the_refit_of_a_copy(classifier, lang, batches):
    found = audit(lang, batches, NAMES)
    x, y = (torch.cat(each) for each in zip(*batches, strict=True))
    before = classifier(x)
    made = repair(classifier, batches, found)
    torch.testing.assert_close(classifier(x), before)
    head = find_head(classifier, x[:2], 3)
    (features,) = read(classifier, [head.tap], x, None, head.reading)
    groups = large_cells(y, found.shortcuts.context_class)
    expected = refit_last_layer(head.read(features).rows, y, 3, groups=groups).layer
    with torch.no_grad():
        torch.testing.assert_close(made(x), expected(head.read(features).rows), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="not those of the audit"):
        repair(classifier, batches[:2], found)


def test_a_repair_of_a_layer_without_bias_gives_it_one(batches):
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(6, 3, bias=False))
    words = ["grass", "the sky", "a lake"]
    lang = LanguageAttribution.from_classifier(
        model, NAMES, example=batches[0][0][:2], encoder=LetterEncoder(), vocabulary=words
    )
    found = audit(lang, batches, NAMES)
    x, y = (torch.cat(each) for each in zip(*batches, strict=True))
    rows = model[:4](x).detach()
    expected = refit_last_layer(rows, y, 3, groups=large_cells(y, found.shortcuts.context_class)).layer
    made = repair(model, batches, found)
    torch.testing.assert_close(made(x), expected(rows), atol=1e-4, rtol=1e-4)
    assert model[4].bias is None
    assert made[4].bias.abs().max() > 1e-3


def test_logits_among_other_outputs(classifier, lang, batches):
    class Named(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return {"features": x.flatten(1), "logits": self.inner(x)}

    named = LanguageAttribution(Named(classifier), f"inner.{lang.taps[0].name}", lang.translator)
    plain = LanguageAttribution(classifier, lang.taps[0].name, lang.translator)
    assert torch.equal(audit(named, batches, NAMES).predicted, audit(plain, batches, NAMES).predicted)
    x, masks = batches[0][0][:4], torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[:, 3:6, 1:4] = True
    y = torch.arange(4) % 3
    found = background_challenge(Named(classifier), [(x, masks, y)])
    assert torch.equal(found.top[0], background_challenge(classifier, [(x, masks, y)]).top[0])


def test_a_background_challenge_in_batches_is_that_of_all_images(classifier):
    generator = torch.Generator().manual_seed(3)
    x, masks = torch.rand(6, 3, 8, 8, generator=generator), torch.zeros(6, 8, 8, dtype=torch.bool)
    masks[:, 3:6, 1:4] = True
    y = torch.arange(6) % 3
    whole = background_challenge(classifier, [(x, masks, y)])
    parts = background_challenge(classifier, [(x[:2], masks[:2], y[:2]), (x[2:], masks[2:], y[2:])])
    assert (whole.accuracy, whole.same_answer) == (parts.accuracy, parts.same_answer)
    torch.testing.assert_close(whole.top_background[1], parts.top_background[1])
    shares = classifier(x).softmax(dim=1).topk(3, dim=1)
    assert torch.equal(whole.top[0], shares.indices)
    torch.testing.assert_close(whole.top[1], shares.values)
    with pytest.raises(ValueError, match="no images"):
        background_challenge(classifier, [])
    with pytest.raises(ValueError, match="masks of"):
        background_challenge(classifier, [(x, masks[:, :4], y)])
