import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchnle.language.packed.trie import Trie, group

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=8)


def beginnings(texts):
    return {tuple(ids[:length]) for ids in texts for length in range(1, len(ids))}


@PATIENT
@given(TEXTS)
def test_paths_spell_the_texts(texts):
    trie = Trie.build(texts)
    edges = [(parent - 1, token) for parent, tokens in enumerate(trie.children) for token in tokens]
    for ids, path in zip(texts, trie.paths, strict=True):
        assert [edges[edge][1] for edge in path] == ids
        node = -1
        for edge in path:
            assert edges[edge][0] == node
            following = [i for i, token in enumerate(trie.tokens) if (trie.parents[i], token) == edges[edge]]
            node = following[0] if following else None


@PATIENT
@given(TEXTS)
def test_nodes_are_the_beginnings_each_once_parents_first(texts):
    trie = Trie.build(texts)
    assert len(trie.tokens) == len(beginnings(texts))
    assert all(parent < node for node, parent in enumerate(trie.parents))
    assert all(trie.children[1:])  # every node that is read has something predicted after it


@PATIENT
@given(TEXTS)
def test_ancestors_and_depths_are_those_of_the_beginnings(texts):
    trie = Trie.build(texts)
    spelt = []
    for token, parent in zip(trie.tokens, trie.parents, strict=True):
        spelt.append((*(spelt[parent] if parent >= 0 else ()), token))
    assert set(spelt) == beginnings(texts)
    assert trie.depths() == [len(word) - 1 for word in spelt]
    expected = [[long[: len(short)] == short for short in spelt] for long in spelt]
    assert torch.equal(
        trie.ancestors(), torch.tensor(expected, dtype=torch.bool).view(len(spelt), len(spelt))
    )


@PATIENT
@given(TEXTS, st.integers(1, 6))
def test_groups_hold_every_text_once_within_the_limit(texts, max_nodes):
    groups = group(texts, max_nodes)
    assert sorted(index for indices in groups for index in indices) == list(range(len(texts)))
    for indices in groups:
        assert len(indices) == 1 or len(beginnings([texts[index] for index in indices])) <= max_nodes
