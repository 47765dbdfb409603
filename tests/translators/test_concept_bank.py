from torchnle.translators import concept_bank

CATEGORIES = {"attributes", "colours", "everyday", "kinds", "materials", "parts", "scenes"}


def test_categories_of_clean_phrases():
    found = concept_bank.categories()
    assert set(found) == CATEGORIES
    for category, phrases in found.items():
        assert len(phrases) >= 30, category
        assert len(set(phrases)) == len(phrases), category
        for phrase in phrases:
            assert phrase == " ".join(phrase.split()), phrase
            assert phrase.isascii(), phrase
            assert len(phrase.split()) <= 6, phrase


def test_a_phrase_of_two_categories_is_listed_once():
    everything = concept_bank.phrases()
    assert len(set(everything)) == len(everything)
    assert set(everything) == {phrase for part in concept_bank.categories().values() for phrase in part}
    assert len(everything) < sum(map(len, concept_bank.categories().values()))
