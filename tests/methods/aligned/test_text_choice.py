import math

import pytest
import torch

from torchnle.backbones import imagenet_class_names
from torchnle.language.english.nouns import Nouns
from torchnle.methods.aligned.probability.vocabulary import (
    MOST_KINDS,
    Vocabulary,
    background_phrases,
    meanings,
    shipped_phrases,
)
from torchnle.methods.aligned.text_choice import choose_texts, noun_mass

WORDS = ("a tabby cat", "a poodle", "a beagle", "a sports car", "a red mug", "grass")
STRANGE = ("qwert", "asdfg", "zxcvb")


def shares(rows=20, phrases=6, seed=0):
    drawn = torch.randn(rows, phrases + 1, generator=torch.Generator().manual_seed(seed))
    return (3 * drawn).softmax(dim=1)[:, :phrases]


class TestVocabulary:
    def test_masses_and_bits_are_those_of_the_ancestors_by_brute_force(self):
        words, posterior, nouns = Vocabulary([*WORDS, "qwert"]), shares(phrases=len(WORDS) + 1), Nouns.load()
        below: dict[int, list[int]] = {}
        for index, phrase in enumerate(WORDS):
            for node in nouns.ancestors(nouns.of_phrase(phrase)):
                if nouns.kinds(node) <= MOST_KINDS and nouns.common_name(node) and nouns.is_physical(node):
                    below.setdefault(node, []).append(index)
        columns = sorted(below, key=lambda node: (nouns.kinds(node), node))
        expected = torch.stack([posterior[:, below[node]].sum(dim=1) for node in columns], dim=1)
        torch.testing.assert_close(noun_mass(posterior, words), expected)
        bits = [math.log2(len(WORDS) / len(below[node])) for node in columns]
        assert words.information.tolist() == pytest.approx(bits)
        assert all(n.endswith(nouns.common_name(node)) for n, node in zip(words.nouns, columns, strict=True))

    def test_the_mass_of_a_noun_is_at_least_that_of_each_phrase_below_and_at_most_one(self):
        words, posterior = Vocabulary(WORDS), shares()
        mass = noun_mass(posterior, words)
        dog = words.nouns.index("a dog")
        assert (mass[:, dog] >= posterior[:, 1:3].amax(dim=1)).all()
        assert (mass <= 1).all()
        assert (noun_mass(torch.full((1, len(WORDS)), 0.3), words) <= 1).all()

    def test_imagenet_classes_mean_what_they_are_published_as(self):
        names = imagenet_class_names()
        words = Vocabulary(class_names=names, class_texts=[f"{i} {name}" for i, name in enumerate(names)])
        nouns = Nouns.load()
        assert words.synsets == nouns.imagenet_1k()
        crane = words.synsets[names.index("crane bird")]
        assert nouns.of_phrase("bird") in nouns.ancestors(crane)

    def test_class_names_mean_what_fits_the_other_classes(self):
        nouns = Nouns.load()
        machines = meanings(["crane", "forklift", "bulldozer"])
        birds = meanings(["crane", "heron", "stork"])
        assert nouns.of_phrase("bird") in nouns.ancestors(birds[0]) - nouns.ancestors(machines[0])

    def test_two_classes_of_one_name_mean_what_both_are(self):
        nouns = Nouns.load()
        names = ["crane (bird)", "crane (machine)", "kite"]
        words = Vocabulary(class_names=names, class_texts=["a crane", "a crane", "a kite"])
        assert words.phrases == ("a crane", "a kite")
        bird, machine, _ = meanings(names)
        assert words.synsets[0] in nouns.ancestors(bird) & nouns.ancestors(machine)

    def test_classes_come_first_and_phrases_once(self):
        words = Vocabulary(["a dog", "grass", "a dog", "a cat"], class_names=["cat"], class_texts=["a cat"])
        assert words.phrases == ("a cat", "a dog", "grass")
        assert len(words) == 3

    def test_words_that_wordnet_does_not_know(self):
        words = Vocabulary(STRANGE)
        assert words.synsets == (None,) * 3
        assert words.nouns == ()
        assert noun_mass(shares(4, 3), words).shape == (4, 0)
        assert words.information.shape == (0,)

    def test_what_is_shipped_means_something_of_a_few_kinds(self):
        nouns, phrases = Nouns.load(), shipped_phrases()
        assert len(phrases) == len(set(phrases)) > 500
        assert all(nouns.kinds(nouns.of_phrase(phrase)) <= MOST_KINDS for phrase in phrases)
        assert len(background_phrases()) == len(set(background_phrases())) > 20
        assert all(phrase.strip() == phrase for phrase in background_phrases())


def chosen(posterior, words=WORDS):
    return choose_texts(torch.tensor([posterior]), Vocabulary(words))[0]


class TestSaying:
    def test_one_phrase_where_it_is_likely(self):
        found = chosen([0.1, 0.61, 0.2, 0.0, 0.0, 0.0])
        assert (found.text, found.probability) == ("a poodle", pytest.approx(0.61))

    def test_the_most_special_noun_where_a_branch_is(self):
        found = chosen([0.05, 0.45, 0.4, 0.02, 0.0, 0.0])
        assert (found.text, found.probability) == ("a dog", pytest.approx(0.85))

    def test_the_more_special_of_two_nouns_that_say_as_much(self):
        """Above the one car stand motor vehicle and wheeled vehicle, which has more kinds."""
        words = Vocabulary(WORDS)
        bits = dict(zip(words.nouns, words.information.tolist(), strict=True))
        assert bits["a motor vehicle"] == bits["a wheeled vehicle"]
        assert words.nouns.index("a motor vehicle") < words.nouns.index("a wheeled vehicle")

    def test_nothing_that_is_no_thing(self):
        """A mug is a quantity, too, of what it holds."""
        nouns = Vocabulary(["a red mug", "a spoonful", "a tabby cat"]).nouns
        assert "a cat" in nouns
        assert not {"an indefinite quantity", "a measure"} & set(nouns)

    def test_two_that_no_noun_joins(self):
        found = chosen([0.35, 0.0, 0.0, 0.0, 0.0, 0.4])
        assert (found.text, found.probability) == ("grass or a tabby cat", pytest.approx(0.75))
        assert chosen([0.35, 0.0, 0.0, 0.0, 0.0, 0.29]).text != "grass or a tabby cat"

    def test_two_words_that_wordnet_does_not_know(self):
        assert chosen([0.45, 0.1, 0.4], STRANGE).text == "qwert or zxcvb"

    def test_the_best_guess_where_nothing_is_likely(self):
        found = chosen([0.3, 0.2, 0.1], STRANGE)
        assert (found.text, found.probability) == ("qwert", pytest.approx(0.3))

    @pytest.mark.parametrize("seed", range(5))
    def test_the_fallback_is_the_largest_expected_reward_by_brute_force(self, seed):
        words = Vocabulary(WORDS)
        posterior = 0.5 * shares(40, seed=seed)
        masses = noun_mass(posterior, words)
        for found, p, mass in zip(choose_texts(posterior, words), posterior, masses, strict=True):
            if mass.max() >= 0.6 or p.max() >= 0.6 or " or " in found.text:
                continue
            phrase = int(p.argmax())
            rewards = {WORDS[phrase]: float(p[phrase]) * (math.log2(len(WORDS)) + 5)}
            for noun, m, bits in zip(words.nouns, mass.tolist(), words.information.tolist(), strict=True):
                rewards[noun] = max(rewards.get(noun, 0.0), m * (bits + 5))
            assert rewards[found.text] == pytest.approx(max(rewards.values()), abs=1e-4)

    @pytest.mark.parametrize("words", [WORDS, STRANGE, ("grass",)])
    def test_probabilities_are_between_zero_and_one(self, words):
        posterior = torch.cat([shares(50, len(words)), torch.ones(1, len(words)) / len(words)])
        posterior[0] = 0.0
        posterior[1] = 0.0
        posterior[1, 0] = 1.0 + 1e-6  # as rounding gives it
        for found in choose_texts(posterior, Vocabulary(words)):
            assert 0 <= found.probability <= 1
            assert found.text

    def test_rows_are_said_one_by_one_as_together(self):
        words, posterior = Vocabulary(WORDS), shares(30)
        apart = [choose_texts(row[None], words)[0] for row in posterior]
        assert [each.text for each in choose_texts(posterior, words)] == [each.text for each in apart]
