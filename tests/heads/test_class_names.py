"""Class names in whatever form they are kept: in order, or refused with what to pass."""

import pytest
import torch
from letter_encoder import LetterEncoder
from torch import nn

from torchnle import LanguageAttribution
from torchnle.heads.class_names import as_class_names

NAMES = ("cat", "dog", "car", "tree")


@pytest.mark.parametrize(
    "given",
    [
        list(NAMES),
        (name for name in NAMES),
        {0: "cat", 1: "dog", 2: "car", 3: "tree"},
        {3: "tree", 1: "dog", 0: "cat", 2: "car"},
        {"0": "cat", "1": "dog", "2": "car", "3": "tree"},
        {"cat": 0, "dog": 1, "car": 2, "tree": 3},
        {"tree": 3, "car": 2, "dog": 1, "cat": 0},
        {"tree": "3", "car": "2", "dog": "1", "cat": "0"},
        dict.fromkeys(NAMES).keys(),
    ],
)
def test_every_form_gives_the_names_in_order(given):
    assert as_class_names(given) == NAMES


def test_more_than_ten_classes_are_not_in_the_order_of_their_digits():
    assert as_class_names({str(index): f"thing {index}" for index in range(12)})[2] == "thing 2"


def test_names_that_are_numbers():
    assert as_class_names({"7": 0, "8": 1}) == ("7", "8")
    assert as_class_names({0: "7", 1: "8"}) == ("7", "8")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (b"cat", "is a bytes"),
        ({"cat", "dog"}, "is a set"),
        (None, "is a NoneType"),
        (7, "is a int"),
        (["cat", 3], r"class_names\[1\] is 3"),
        ([("cat", 0)], r"class_names\[0\] is \('cat', 0\)"),
        ({0: 1}, "mapping of int to int"),
        ({"0": ["n01440764", "tench"]}, "mapping of str to list"),
        ({"cat": "a pet", "dog": "a pet"}, "mapping of str to str"),
        ({0.5: "cat"}, "mapping of float to str"),
        ({True: "cat"}, "mapping of bool to str"),
    ],
)
def test_what_is_no_list_of_names_is_a_type_error(given, words):
    with pytest.raises(TypeError, match=words):
        as_class_names(given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("cat", "'cat' is one string.*'imagenet-1k'"),
        ({1: "cat", 2: "dog"}, r"not 0 to 1.* 0"),
        ({0: "cat", 2: "dog"}, r"not 0 to 1.* 1"),
        ({"cat": 0, "dog": 0}, r"not 0 to 1.* 0, 1"),
        (["cat", " "], r"class_names\[1\] is ' '"),
        ({0: "LABEL_0", 1: "LABEL_1"}, r"LABEL_0, LABEL_1.*Pass class_names="),
        (["LABEL_0", "LABEL_1"], r"LABEL_0, LABEL_1.*Pass class_names="),
    ],
)
def test_what_does_not_name_every_class_once_is_a_value_error(given, words):
    with pytest.raises(ValueError, match=words):
        as_class_names(given)


def test_a_mapping_reaches_the_translator_in_the_order_of_the_head():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    mapping = {str(index): name for index, name in reversed(list(enumerate(NAMES)))}
    example = torch.rand(2, 3, 9, 9)
    lang = LanguageAttribution.from_classifier(model, mapping, example=example, encoder=LetterEncoder())
    assert lang.translator.class_names == NAMES


def test_no_known_names_are_asked_for():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    with pytest.raises(ValueError, match=r"4 classes, but no class names are known.*class_names="):
        LanguageAttribution.from_classifier(
            model, (), example=torch.rand(2, 3, 9, 9), encoder=LetterEncoder()
        )
