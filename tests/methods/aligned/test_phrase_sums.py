import pytest
import torch
from map_world import PHRASES, WIDTH, captioned

from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums


def direct(rows, listed, phrases, prior=0.5):
    """The ridge regression with an intercept that is not penalised, on the full matrices in float64."""
    rows = rows.double()
    named = torch.tensor([[phrase in each for phrase in phrases] for each in listed]).double()
    count = len(rows)
    design = torch.cat([named, torch.ones(count, 1).double()], dim=1)
    penalty = prior * torch.eye(len(phrases) + 1).double()
    penalty[-1, -1] = 0
    solution = torch.linalg.solve(design.T @ design + penalty, design.T @ rows)
    residuals = rows - design @ solution
    return solution[:-1], residuals


def solved(rows, listed, *, parts=1, **options):
    sums = PhraseSums(WIDTH, **options)
    for chunk in torch.arange(len(rows)).chunk(parts):
        sums.add(rows[chunk], [listed[i] for i in chunk.tolist()])
    return sums.solve()


def test_prototypes_and_what_is_left_are_those_of_a_direct_ridge_regression():
    rows, listed = captioned()
    found = solved(rows, listed)
    expected, residuals = direct(rows, listed, found.phrases)
    assert set(found.phrases) == set(PHRASES)
    torch.testing.assert_close(found.vectors, expected.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(residuals.mean(dim=0), torch.zeros(WIDTH).double(), atol=1e-9, rtol=0)
    within = (residuals.T @ residuals / len(rows)).float()
    torch.testing.assert_close(found.within, within, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.center, rows.mean(dim=0))


def test_counts_are_captions_and_the_commonest_comes_first():
    rows, listed = captioned()
    doubled = [[*each, *each] for each in listed]  # a phrase that a caption has twice counts once
    found = solved(rows, doubled)
    counts = [sum(phrase in each for each in listed) for phrase in found.phrases]
    assert found.counts.tolist() == counts == sorted(counts, reverse=True)
    torch.testing.assert_close(found.vectors, solved(rows, listed).vectors)


@pytest.mark.parametrize("parts", [2, 7, 60])
def test_batches_do_not_matter(parts):
    rows, listed = captioned()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    whole = solved(rows, listed)
    split = solved(rows[order], [listed[i] for i in order.tolist()], parts=parts)
    assert split.phrases == whole.phrases
    torch.testing.assert_close(split.vectors, whole.vectors)
    torch.testing.assert_close(split.within, whole.within, atol=1e-6, rtol=1e-5)


def test_beyond_capacity_the_commonest_stay_and_equal_a_fit_to_these_alone():
    rows, listed = captioned(200)
    rare = [[*each, f"rare {i}"] for i, each in enumerate(listed)]
    found = solved(rows, rare, parts=40, capacity=4)
    alone = solved(rows, listed)
    assert found.phrases == alone.phrases
    torch.testing.assert_close(found.vectors, alone.vectors)
    torch.testing.assert_close(found.within, alone.within, atol=1e-6, rtol=1e-5)


def test_a_rare_phrase_may_come_back_in_the_batch_that_prunes_it():
    sums = PhraseSums(WIDTH, capacity=2)
    rows = captioned(4)[0]
    sums.add(rows, [["a cat", "a dog"], ["a cat", "a dog"], ["a cat", "an owl"], ["a hen"]])
    sums.add(rows, [["a cat"], ["an owl", "a fox"], ["a dog"], ["a cat"]])  # five phrases: "an owl" must go
    assert dict(zip(sums.solve().phrases, sums.solve().counts.tolist(), strict=True)) == {
        "a cat": 5.0,
        "a dog": 3.0,
    }


def test_memory_does_not_grow_with_the_phrases():
    sums = PhraseSums(WIDTH, capacity=8)
    rows = captioned(4)[0]
    sizes = set()
    for batch in range(50):
        sums.add(rows, [[f"phrase {batch} {image}"] for image in range(4)])
        sizes.add(sum(t.numel() for t in vars(sums).values() if isinstance(t, torch.Tensor)))
    assert len(sums.columns) <= 16
    assert max(sizes) <= 16 * 16 + 16 * WIDTH + WIDTH + WIDTH * WIDTH


def test_captions_without_phrases_count_for_the_center_only():
    rows, listed = captioned()
    listed[0] = listed[1] = []
    found = solved(rows, listed)
    torch.testing.assert_close(found.vectors, direct(rows, listed, found.phrases)[0].float())
    torch.testing.assert_close(found.center, rows.mean(dim=0))


def test_half_precision_features_are_added_up_in_float64():
    rows, listed = captioned()
    half = solved(rows.bfloat16(), listed)
    torch.testing.assert_close(half.vectors, solved(rows.bfloat16().float(), listed).vectors)


def test_without_some_images_the_sums_are_those_of_the_others():
    rows, listed = captioned()
    listed[3] = [*listed[3], "a phrase of the first images alone"]
    sums = PhraseSums(WIDTH)
    sums.add(rows, listed)
    left, expected = sums.without(rows[:20], listed[:20]).solve(), solved(rows[20:], listed[20:])
    assert left.phrases == expected.phrases
    torch.testing.assert_close(left.vectors, expected.vectors)
    torch.testing.assert_close(left.within, expected.within)
    again = sums.solve()  # they themselves are as they were
    assert "a phrase of the first images alone" in again.phrases
    torch.testing.assert_close(again.vectors, solved(rows, listed).vectors)


@pytest.mark.parametrize(
    ("rows", "listed", "message"),
    [
        (torch.zeros(0, WIDTH), [], "0 captioned images with 0 different phrases"),
        (torch.ones(1, WIDTH), [["a cat"]], "1 captioned images"),
        (torch.ones(3, WIDTH), [[], [], []], "with 0 different phrases"),
        (torch.full((4, WIDTH), 0.1), [["a cat"], ["a dog"], [], ["a cat"]], "do not vary"),
        (captioned(4)[0], [["a cat", "a dog"]] * 4, r"do not vary with the 2 phrase\(s\)"),
    ],
)
def test_what_cannot_be_solved_is_refused(rows, listed, message):
    sums = PhraseSums(WIDTH)
    sums.add(rows, listed)
    with pytest.raises(ValueError, match=message):
        sums.solve()
