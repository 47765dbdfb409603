"""Bad inputs are refused in words, before the model sees them."""

import pytest
import torch
from torch import nn

from torchnle.vision.inputs import explain_failure
from torchnle.vision.running import as_tuple, check_inputs


def test_additional_arguments_are_wrapped_like_captum():
    assert as_tuple(None) == ()
    assert as_tuple([1, 2]) == ([1, 2],)
    assert as_tuple((1, None)) == (1, None)


def test_good_inputs_come_back_as_they_are():
    image, ids = torch.rand(2, 3, 4, 4), torch.zeros(2, 5, dtype=torch.long)
    assert check_inputs(image)[0] is image
    assert check_inputs((image, ids))[1] is ids


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_whole_number_images_say_how_to_convert(dtype):
    with pytest.raises(TypeError, match=r"x\.float\(\) / 255"):
        check_inputs(torch.ones(1, 3, 4, 4).to(dtype))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_name_the_examples(value):
    images = torch.zeros(3, 3, 4, 4)
    images[1, 0, 2, 2] = value
    with pytest.raises(ValueError, match=r"NaN or infinite values in example\(s\) \[1\] of 3"):
        check_inputs(images)


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (torch.zeros(0, 3, 4, 4), ValueError, "empty batch"),
        (torch.tensor(1.0), ValueError, "empty batch"),
        ((), ValueError, "no input was given"),
        (None, ValueError, "no input was given"),
        ([torch.zeros(1, 3, 4, 4)], TypeError, "is a list"),
        ((torch.zeros(1, 3), "red"), TypeError, "input 1 is a str"),
        ((torch.zeros(1, 3), torch.zeros(2, 3)), ValueError, r"batches of \[1, 2\]"),
    ],
)
def test_other_bad_inputs(inputs, error, words):
    with pytest.raises(error, match=words):
        check_inputs(inputs)


def test_failures_are_explained_only_by_what_differs():
    model, image = nn.Linear(3, 2), torch.zeros(1, 3)
    assert explain_failure(model, (image,)) is None
    assert explain_failure(nn.ReLU(), (image,)) is None
    assert explain_failure(model, (image.long(),)) is None
    assert "Pass inputs.to('meta')" in explain_failure(model.to("meta"), (image,))
