import pytest
import torch
from tiny import make_lm, make_prefixes, tiny_lm

from torchnle.language.decoding import greedy
from torchnle.language.packed.duplicates import near_rows, unique_rows


def rows_read(lm):
    read = []
    lm.model.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(kwargs["inputs_embeds"])), with_kwargs=True
    )
    return read


def test_equal_prefixes_are_decoded_once_and_say_the_same():
    lm, prefixes = make_lm("llama"), make_prefixes(4)
    expected, read = greedy(lm, prefixes), rows_read(lm)
    order = torch.tensor([2, 0, 2, 2, 1, 0, 3])
    found = greedy(lm, prefixes[order])
    assert read[0] == 4
    assert found.ids == [expected.ids[i] for i in order]
    assert found.texts == [expected.texts[i] for i in order]
    torch.testing.assert_close(found.log_probs, expected.log_probs[order], atol=1e-5, rtol=0)
    assert found.disagreement is None


def test_the_representatives_are_the_first_of_their_kind():
    first, index = unique_rows(torch.tensor([[5.0, 1], [2, 2], [5, 1], [0, 0], [2, 2]]))
    assert (first.tolist(), index.tolist()) == ([0, 1, 3], [0, 1, 0, 2, 1])
    assert [part.tolist() for part in unique_rows(torch.zeros(0, 3))] == [[], []]


def test_every_row_is_near_its_speaker_and_no_two_speakers_are_near():
    rows, eps = make_prefixes(60, 1, width=2), 0.5
    first, index = near_rows(rows, eps)
    flat = rows.flatten(1)
    distance = (flat - flat[first[index]]).norm(dim=1)
    assert (distance <= eps * flat[first[index]].norm(dim=1)).all()
    for later, number in enumerate(first.tolist()):
        before = flat[first[:later]]
        assert ((before - flat[number]).norm(dim=1) > eps * before.norm(dim=1)).all()
    assert 1 < len(first) < 60


def test_dedupe_of_zero_is_exact():
    lm, prefixes = tiny_lm(), make_prefixes(5)[[0, 1, 0, 2, 2]]
    found = greedy(lm, prefixes, dedupe=0.0)
    assert found.ids == greedy(lm, prefixes).ids
    assert (found.disagreement.decoded, found.disagreement.checked) == (3, 2)
    assert found.disagreement.different == 0
    assert found.disagreement.log_prob_difference < 1e-5


def test_dedupe_reports_what_it_changed():
    """Every row that was spoken for is checked here, so the report must be the truth."""
    lm = tiny_lm("llama")
    prefixes = make_prefixes(3).repeat(10, 1, 1) + 0.3 * make_prefixes(30, seed=4)
    truth, found = greedy(lm, prefixes), greedy(lm, prefixes, dedupe=0.6)
    wrong = sum(a != b for a, b in zip(found.texts, truth.texts, strict=True))
    assert 0 < wrong < 30
    assert found.disagreement.different == wrong
    assert found.disagreement.checked == 30 - found.disagreement.decoded
    difference = (found.log_probs - truth.log_probs).abs().max().item()
    assert found.disagreement.log_prob_difference == pytest.approx(difference, abs=1e-4)


def test_dedupe_decodes_fewer_rows_and_checks_at_most_sixty():
    lm = make_lm()
    read = rows_read(lm)
    prefixes = make_prefixes(1).repeat(500, 1, 1) + 1e-6 * make_prefixes(500, seed=5)
    found = greedy(lm, prefixes, dedupe=1e-3, max_new_tokens=1)
    assert read == [1, 1, 60]  # the one row, then BOS and those to compare it with
    assert len(found.texts) == 500


@pytest.mark.parametrize("eps", [-0.1, float("nan")])
def test_refuses_bad_distances(eps):
    with pytest.raises(ValueError, match="dedupe="):
        greedy(tiny_lm(), make_prefixes(2), dedupe=eps)
