import pytest
import torch
from PIL import Image

from torchnle.metrics.explanations import explanation_scores, retrieve

RED, BLUE, PINK = (Image.new("RGB", (2, 2), colour) for colour in ("red", "blue", "pink"))


def embed(pictures):
    return torch.tensor([p.getpixel((0, 0)) for p in pictures]).float()


def scorer(pictures, texts):
    wanted = torch.tensor([[255.0, 0, 0] if "red" in t else [0, 0, 255.0] for t in texts])
    return torch.nn.functional.normalize(embed(pictures), dim=1) @ wanted.T / 255


def apart(one, other):
    return float((embed([one]) - embed([other])).abs().mean())


def test_every_judge_gives_its_own_number():
    find = retrieve([PINK, RED, BLUE], scorer)
    right = explanation_scores(
        [RED, BLUE], ["red", "blue"], scorer=scorer, imagine=find, embed=embed, distance=apart
    )
    wrong = explanation_scores(
        [RED, BLUE], ["blue", "red"], scorer=scorer, imagine=find, embed=embed, distance=apart
    )
    assert (right.cosine, right.distance, right.clip_score) == pytest.approx((1.0, 0.0, 2.5))
    assert (wrong.cosine, wrong.distance, wrong.clip_score) == pytest.approx((0.0, 170.0, 0.0))


def test_judges_that_are_not_given_say_nothing():
    found = explanation_scores([RED], ["red"], scorer=scorer)
    assert found.clip_score == pytest.approx(2.5)
    assert found.cosine is found.distance is None


@pytest.mark.parametrize(
    ("images", "judges", "match"),
    [
        ([RED, BLUE], {"scorer": scorer}, "2 images"),
        ([RED], {}, "no judge"),
        ([RED], {"embed": embed}, "imagine"),
    ],
)
def test_bad_input(images, judges, match):
    with pytest.raises(ValueError, match=match):
        explanation_scores(images, ["red"], **judges)
    with pytest.raises(ValueError, match="empty"):
        retrieve([], scorer)
