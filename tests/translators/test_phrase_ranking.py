import torch
import torch.nn.functional as F

from torchnle.translators.phrase_ranking import SAME_MEANING, Phrases


def random_phrases(count=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    meanings = F.normalize(torch.randn(count, 3, generator=generator), dim=1)
    vectors = F.normalize(torch.randn(count, 8, generator=generator), dim=1)
    return Phrases(tuple(f"phrase {i}" for i in range(count)), meanings, vectors)


def slow_best(phrases, row, count):
    """Go through all phrases by falling score; keep one unless a kept one means the same."""
    scores = [(row @ vector).item() for vector in phrases.vectors]
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(phrases.meanings[i] @ phrases.meanings[j] < SAME_MEANING for j in kept):
            kept.append(i)
    return [(phrases.texts[i], scores[i]) for i in kept[:count]]


def test_best_is_the_greedy_list_without_repeated_meanings():
    phrases = random_phrases()
    rows = F.normalize(torch.randn(7, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    for row, found in zip(rows, phrases.best(rows, count=5), strict=True):
        expected = slow_best(phrases, row, 5)
        assert [text for text, _ in found] == [text for text, _ in expected]
        assert torch.allclose(torch.tensor([s for _, s in found]), torch.tensor([s for _, s in expected]))


def test_fewer_are_listed_where_the_rest_repeats():
    phrases = Phrases(("a", "b", "c"), torch.ones(3, 1), torch.eye(3))
    assert phrases.best(torch.tensor([[0.1, 0.9, 0.2]]), count=3)[0][0][0] == "b"
    assert len(phrases.best(torch.tensor([[0.1, 0.9, 0.2]]), count=3)[0]) == 1


def test_no_phrase_is_taken_twice_even_where_its_meaning_vector_is_empty():
    phrases = Phrases(("a", "b"), torch.zeros(2, 3), torch.eye(2))
    assert [text for text, _ in phrases.best(torch.tensor([[0.6, 0.8]]), count=2)[0]] == ["b", "a"]


def test_where_keeps_what_is_marked():
    kept = random_phrases(4).where(torch.tensor([True, False, False, True]))
    assert kept.texts == ("phrase 0", "phrase 3")
    assert torch.equal(kept.vectors, random_phrases(4).vectors[[0, 3]])
