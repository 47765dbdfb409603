from __future__ import annotations

import re

import pytest

from torchnle.data.corpus import Noun, held_out, sentences, wordnet_nouns

INDEX = """  1 a licence line
hen n 1 1 @ 1 1 00000010
gravel n 1 1 @ 1 1 00000020
idea n 1 1 @ 1 0 00000030
fire_engine n 1 1 @ 1 0 00000040
paris n 1 1 @ 1 0 00000050
"""
DATA = """  1 a licence line
00000010 05 n 01 hen 0 000 | adult female chicken; "a brown hen"
00000020 27 n 01 gravel 0 000 | rock fragments and pebbles
00000030 09 n 01 idea 0 000 | the content of cognition
00000040 06 n 01 fire_engine 0 000 | any of various large trucks that carry firemen
00000050 17 n 01 Paris 0 000 | a city
"""


@pytest.fixture
def database(tmp_path):
    (tmp_path / "index.noun").write_text(INDEX)
    (tmp_path / "data.noun").write_text(DATA)
    return tmp_path


def test_visible_common_nouns_are_read_with_articles(database):
    assert wordnet_nouns(database) == [
        Noun("a hen", "adult female chicken", "animal", tagged=True),
        Noun("gravel", "rock fragments and pebbles", "substance", tagged=True),
        Noun("a fire engine", "any of various large trucks that carry firemen", "artifact"),
    ]
    assert [noun.phrase for noun in wordnet_nouns(database, keep=["hen"])] == ["a hen"]


def test_a_folder_without_the_database(tmp_path):
    with pytest.raises(ValueError, match="holds no WordNet database"):
        wordnet_nouns(tmp_path)


def test_sentences_are_the_same_for_the_same_seed_and_name_only_the_nouns():
    nouns = [Noun("a hen"), Noun("an owl"), Noun("gravel")]
    first = list(sentences(nouns, 200, seed=1))
    assert first == list(sentences(nouns, 200, seed=1))
    assert first != list(sentences(nouns, 200, seed=2))
    assert all(any(word in text for word in ("hen", "owl", "gravel")) for text in first)
    assert not any(re.search(r"\b(a|an) (a|an)\b", text) for text in first)
    assert not any(text.startswith(("a orange", "a old")) for text in first)


def test_held_out_is_a_property_of_the_text():
    texts = [f"text {i}" for i in range(5000)]
    share = sum(map(held_out, texts)) / len(texts)
    assert share == pytest.approx(0.02, abs=0.006)
    assert [held_out(t) for t in texts] == [held_out(t) for t in texts]
