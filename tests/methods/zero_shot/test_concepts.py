import json

import pytest
import torch
import torch.nn.functional as F
from fakes import LetterTranslator, conv_net
from zero_shot_world import NAMES, classifier, pictures

from torchnle import LanguageAttribution
from torchnle.methods.zero_shot.banks import as_bank, general_words, without_names
from torchnle.methods.zero_shot.evidence import evidence
from torchnle.methods.zero_shot.reliability import known_length, reliability

BANK = ["a cat", "a bee", "the sea", "fern leaves", "mud"]


@pytest.fixture(scope="module")
def lang():
    return classifier()


@torch.no_grad()
def slow(lang, locations, index, bank=BANK):
    """The concepts of one image by the definition, one text at a time."""
    (fitted,) = lang.translator.by_layer.values()
    row, c = locations.mean(dim=0)[None], torch.tensor([index])
    vector = evidence(fitted, row, c, locations=locations[None]).vector[0]
    scored = []
    for text in bank:
        embedded = lang.translator.encoder.encode([text])
        weight = float(reliability(fitted, embedded))
        scored.append((text, weight * float(fitted.directions(embedded)[0] @ F.normalize(vector, dim=0))))
    return sorted(scored, key=lambda pair: -pair[1])


def test_concepts_are_those_nearest_to_the_evidence(lang):
    images = pictures(3)
    logits = conv_net()(images)
    (read,) = lang.read(images)
    for image, found in enumerate(lang.concepts(images, BANK, count=3)):
        expected = slow(lang, read.tokens[image], int(logits[image].argmax()))[:3]
        assert found.prediction == NAMES[int(logits[image].argmax())]
        assert list(found.texts) == [text for text, _ in expected]
        assert [score for _, score in found.found] == pytest.approx([s for _, s in expected], abs=1e-5)
        assert found.image == image


def test_a_target_decides_whose_evidence_is_read(lang):
    images = pictures(2)
    by_name, by_index = lang.concepts(images, BANK, target="fern"), lang.concepts(images, BANK, target=3)
    assert [c.found for c in by_name] == [c.found for c in by_index]
    assert {c.prediction for c in by_name} == {"fern"}
    each = lang.concepts(images, BANK, target=["fern", "cat"])
    assert [c.prediction for c in each] == ["fern", "cat"]
    assert each[0].found == by_name[0].found


def test_contributions_of_locations_are_theirs_alone(lang):
    images = pictures(2)
    grid = lang.concepts(images, BANK, where="all", target="mug")
    assert [len(cells) for cells in grid] == [16, 16]
    assert [cell.location for cell in grid[0][:5]] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    one = lang.concepts(images, BANK, where=(1, 2), target="mug")
    assert [c.found for c in one] == [cells[6].found for cells in grid]


def test_a_location_without_a_target_is_read_whole(lang):
    images = pictures(2)
    (fitted,) = lang.translator.by_layer.values()
    (read,) = lang.read(images)
    vectors = lang.translator.encoder.encode(BANK)
    for image, (found,) in enumerate(zip(lang.concepts(images, BANK, where=(2, 1)), strict=True)):
        row = fitted.scaled(read.tokens[image, 9][None])
        cosines = F.normalize(fitted.whiten(row), dim=1) @ fitted.directions(vectors).T
        cosines = cosines[0] * reliability(fitted, vectors)
        assert found.texts[0] == BANK[int(cosines.argmax())]
        assert found.found[0][1] == pytest.approx(float(cosines.max()), abs=1e-5)


def test_concepts_of_classes_need_no_image(lang):
    (fern,) = lang.concepts(bank=BANK, target="fern")
    (fitted,) = lang.translator.by_layer.values()
    vectors = lang.translator.encoder.encode(BANK)
    cosines = fitted.directions(vectors) @ fitted.targets[3] * reliability(fitted, vectors)
    assert fern.texts[0] == BANK[int(cosines.argmax())]
    assert fern.image is None
    assert [c.prediction for c in lang.concepts(bank=BANK)] == NAMES


def test_unknown_texts_count_less(lang):
    (fitted,) = lang.translator.by_layer.values()
    vectors = lang.translator.encoder.encode(["a cat", "zzzz"])
    known, unknown = reliability(fitted, vectors).tolist()
    assert known == 1.0
    assert unknown < 0.2
    assert known_length(fitted) > 0


def test_banks(tmp_path):
    (tmp_path / "bank.txt").write_text("# parts\nwings\n\n a beak \nwings\n")
    (tmp_path / "descriptors.json").write_text(
        json.dumps({"hen": ["a red comb", "wings"], "cat": ["whiskers"]})
    )
    (tmp_path / "list.json").write_text(json.dumps(["wings", "tail"]))
    assert as_bank(tmp_path / "bank.txt") == ("wings", "a beak")
    assert as_bank(str(tmp_path / "descriptors.json")) == ("a red comb", "wings", "whiskers")
    assert as_bank(tmp_path / "list.json") == ("wings", "tail")
    assert len(as_bank(None)) > 500


@pytest.mark.parametrize(
    ("content", "kind"),
    [("{", ValueError), ('"wings"', TypeError), ('{"hen": "comb"}', TypeError), ("[]", ValueError)],
)
def test_a_damaged_bank_names_its_fault(tmp_path, content, kind):
    (tmp_path / "bank.json").write_text(content)
    with pytest.raises(kind):
        as_bank(tmp_path / "bank.json")


def test_a_bank_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="no concept bank"):
        as_bank(tmp_path / "none.txt")


def test_names_are_left_out_and_general_words_need_a_vocabulary():
    assert without_names(["an Owl", "owls", "owl wings"], ["owl"]) == ("owl wings",)
    assert general_words(classifier().translator.encoder) == as_bank(None)


@pytest.mark.parametrize(
    ("target", "kind", "match"),
    [
        ("owl", ValueError, "none of the 5"),
        (7, ValueError, "target=7"),
        (1.5, TypeError, "1[.]5"),
        (["cat", "mug", "fern"], ValueError, "3 targets"),
    ],
)
def test_targets_that_are_no_class(lang, target, kind, match):
    with pytest.raises(kind, match=match):
        lang.concepts(pictures(2), BANK, target=target)


def test_concepts_need_a_positive_count(lang):
    with pytest.raises(ValueError, match="count=0"):
        lang.concepts(pictures(1), BANK, count=0)


def test_a_translator_without_a_classifier_says_what_to_do():
    lang = LanguageAttribution(conv_net(), "layer", LetterTranslator())
    with pytest.raises(TypeError, match="from_classifier"):
        lang.concepts(pictures(1), BANK)


def test_class_names_that_do_not_match_the_head():
    with pytest.raises(ValueError, match="5 classes, but 4 class names"):
        LanguageAttribution.from_classifier(conv_net(), NAMES[:-1], example=torch.rand(2, 3, 8, 8))
