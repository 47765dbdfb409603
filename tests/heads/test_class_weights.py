import pytest
import torch

from torchnle.heads.weights import check_classifier, class_vectors


def test_vectors_are_centred_and_of_unit_length():
    weight = torch.tensor([[4.0, 1.0], [0.0, 1.0], [2.0, 7.0]], dtype=torch.float16)
    vectors = class_vectors(weight)
    expected = [[2.0, -2.0], [-2.0, -2.0], [0.0, 4.0]]
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors, torch.nn.functional.normalize(torch.tensor(expected), dim=1))


def test_a_vector_added_to_all_weights_changes_nothing():
    weight = torch.randn(5, 7)
    assert torch.allclose(class_vectors(weight + torch.randn(7)), class_vectors(weight), atol=1e-6)


def test_another_origin():
    assert torch.equal(class_vectors(torch.eye(2), origin=torch.zeros(2)), torch.eye(2))


@pytest.mark.parametrize(
    ("weight", "names", "message"),
    [
        (torch.eye(3), ["cat", "dog"], "2 class names were given for a head of 3 rows"),
        (torch.eye(2), ["cat", "dog", "bee"], "3 class names were given for a head of 2 rows"),
        (torch.eye(2), ["cat", ""], r"class_names\[1\] is '', which is blank"),
        (torch.eye(2), ["\n", "cat"], r"class_names\[0\] is '\\n', which is blank"),
        (torch.eye(1), ["cat"], "at least two classes"),
        (torch.ones(3), ["a", "b", "c"], r"weight is \(3,\)"),
        (torch.eye(2).long(), ["a", "b"], "torch.int64; pass the head's matrix of floating-point"),
        (torch.tensor([[1.0], [torch.nan]]), ["a", "b"], "NaN or infinite"),
        (torch.ones(3, 2), ["a", "b", "c"], "same row for all classes"),
    ],
)
def test_what_is_refused(weight, names, message):
    with pytest.raises(ValueError, match=message):
        check_classifier(weight, names)


def test_names_of_the_wrong_type():
    with pytest.raises(ValueError, match="'ab' is one string, and no known list"):
        check_classifier(torch.eye(2), "ab")
    with pytest.raises(TypeError, match=r"class_names\[1\] is 7; every class name must be"):
        check_classifier(torch.eye(2), ["a", 7])


def test_two_classes_may_share_a_name():
    assert check_classifier(torch.eye(2), ["crane", "crane"]) == ("crane", "crane")
