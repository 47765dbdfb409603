from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from test_corpus import DATA, INDEX

from torchnle.data.corpus import PEOPLE, WEATHER, WEATHER_MASS
from torchnle.data.vocabulary import decoder_texts, vocabulary
from torchnle.errors import MissingDependencyError


@pytest.fixture
def wordnet(tmp_path, monkeypatch):
    (tmp_path / "index.noun").write_text(INDEX)
    (tmp_path / "data.noun").write_text(DATA)
    common = {"hen": 3.5, "gravel": 3.0, "fire engine": 3.5}
    fake = SimpleNamespace(zipf_frequency=lambda word, language: common[word])
    monkeypatch.setitem(sys.modules, "wordfreq", fake)
    return tmp_path


def test_rare_nouns_are_left_out_and_pairs_must_be_commoner(wordnet):
    phrases = [noun.phrase for noun in vocabulary(wordnet)]
    assert phrases[0] == "a hen"
    assert "gravel" not in phrases
    assert "a fire engine" not in phrases
    assert len(phrases) == 1 + 3 * len([*PEOPLE, *WEATHER, *WEATHER_MASS])


def test_what_nobody_tagged_stays_only_as_an_animal_food_or_plant_of_one_word(tmp_path, wordnet, monkeypatch):
    lines = ("arch n 1 1 @ 1 0 00000040", "newt n 1 1 @ 1 0 00000060", "moor-newt n 1 1 @ 1 0 00000060")
    (tmp_path / "index.noun").write_text("\n".join(lines))
    words = "00000060 05 n 02 newt 0 moor-newt 0 000 | a small amphibian\n"
    (tmp_path / "data.noun").write_text(DATA.replace("fire_engine", "arch") + words)
    monkeypatch.setitem(sys.modules, "wordfreq", SimpleNamespace(zipf_frequency=lambda *_: 5.0))
    found = [noun.phrase for noun in vocabulary(wordnet)]
    assert found[0] == "a newt"
    assert not {"an arch", "a moor-newt"} & set(found)


def test_what_matters_more_is_drawn_more_often(wordnet):
    nouns = vocabulary(wordnet, class_names=["crane (bird)", "crane (machine)"], phrases=["an old clock"])
    phrases = [noun.phrase for noun in nouns]
    assert [phrases.count(p) for p in ("a hen", "a crane", "an old clock")] == [1, 2, 3]


def test_texts_differ_and_are_the_same_for_the_same_seed(wordnet):
    train, held = decoder_texts(vocabulary(wordnet), 400, seed=1)
    assert len({*train, *held}) == len(train) + len(held)
    assert (train, held) == decoder_texts(vocabulary(wordnet), 400, seed=1)
    assert train != decoder_texts(vocabulary(wordnet), 400, seed=2)[0]


def test_without_wordfreq(wordnet, monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(MissingDependencyError, match=r"torchnle\[train\]"):
        vocabulary(wordnet)
