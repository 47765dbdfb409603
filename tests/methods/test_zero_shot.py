import pytest
import torch
from fakes import conv_net
from letter_encoder import LetterEncoder

from torchnle import LanguageAttribution
from torchnle.methods.zero_shot import concepts
from torchnle.translators.rows import rows_of

NAMES = ["cat", "mug", "boat", "fern", "cliff"]


@pytest.fixture
def lang():
    torch.manual_seed(0)
    example = torch.rand(2, 3, 8, 8)
    return LanguageAttribution.from_classifier(conv_net(), NAMES, example=example, encoder=LetterEncoder())


def features(lang, images):
    (found,) = lang.read(images)
    return rows_of(lang.reading.pool(found, None))


def test_concepts_are_the_best_texts_of_score(lang):
    read = features(lang, torch.rand(2, 3, 8, 8))
    texts = ["cat", "a bee", "sea", "fern", "mud"]
    scores = lang.translator.score(read, texts)
    for row, listed in zip(scores, concepts(lang.translator, read, texts, count=3), strict=True):
        order = sorted(range(5), key=lambda i: -row[i].item())[:3]
        assert [text for text, _ in listed] == [texts[i] for i in order]
        assert [score for _, score in listed] == pytest.approx(row[order].tolist())
    assert len(concepts(lang.translator, read, texts)[0]) == 5


def test_concepts_need_a_positive_count(lang):
    with pytest.raises(ValueError, match="count=0"):
        concepts(lang.translator, features(lang, torch.rand(1, 3, 8, 8)), ["cat"], count=0)


def test_class_names_that_do_not_match_the_head():
    with pytest.raises(ValueError, match="5 classes, but 4 class names"):
        LanguageAttribution.from_classifier(
            conv_net(), NAMES[:-1], example=torch.rand(2, 3, 8, 8), encoder=LetterEncoder()
        )
