import pytest
import torch
from letter_encoder import LetterEncoder
from tiny import tiny_lm
from zero_shot_world import classifier, pictures

from torchnle.language.english.nouns import Nouns
from torchnle.methods.aligned.probability.vocabulary import Vocabulary
from torchnle.methods.zero_shot.sentences.beams import Search, write
from torchnle.methods.zero_shot.sentences.candidates import Candidates
from torchnle.methods.zero_shot.sentences.likely import LikelyNouns
from torchnle.methods.zero_shot.sentences.words import Words

WORDS = ["dog", "poodle", "cat", "pepper", "sky", ""]
PHRASES = ["a tabby cat", "a poodle", "a beagle", "a bell pepper", "red"]


@pytest.fixture(scope="module")
def likely():
    return LikelyNouns.of(WORDS, Vocabulary(PHRASES))


def test_probabilities_add_up_over_the_kinds_of_a_noun(likely):
    nouns, shares = Nouns.load(), torch.tensor([0.05, 0.3, 0.2, 0.4, 0.05])
    found = dict(zip(WORDS, likely.probabilities(shares).tolist(), strict=True))
    for word in ("dog", "poodle", "cat"):
        own = nouns.of_phrase(word)
        kinds = [nouns.of_phrase(phrase) for phrase in PHRASES]
        slow = sum(
            float(p)
            for p, kind in zip(shares, kinds, strict=True)
            if kind is not None and own in nouns.ancestors(kind)
        )
        assert found[word] == pytest.approx(slow)
    assert found["pepper"] == pytest.approx(0.4)  # the phrase ends on it, whatever it means
    assert found["sky"] == found[""] == 0.0


def test_sure_nouns_may_be_said_and_else_the_worthiest_one(likely):
    shares = torch.tensor([0.05, 0.3, 0.2, 0.4, 0.05])
    sure = likely.most_informative(shares, sure_above=0.35)
    assert [word for word, allowed in zip(WORDS, sure.tolist(), strict=True) if allowed] == ["dog", "pepper"]
    fits = torch.tensor([word not in ("pepper", "dog") for word in WORDS])
    fitting = likely.most_informative(shares, sure_above=0.25, among=fits)
    assert [word for word, allowed in zip(WORDS, fitting.tolist(), strict=True) if allowed] == ["poodle"]
    weak = likely.most_informative(torch.tensor([0.05, 0.1, 0.1, 0.02, 0.0]), sure_above=0.35)
    assert [word for word, allowed in zip(WORDS, weak.tolist(), strict=True) if allowed] == ["dog"]


def test_of_sure_nouns_those_worth_much_less_than_the_best_are_left_out(likely):
    shares = torch.tensor([0.0, 0.9, 0.05, 0.05, 0.0])
    found = likely.most_informative(shares, sure_above=0.35)
    assert [word for word, allowed in zip(WORDS, found.tolist(), strict=True) if allowed] == ["dog", "poodle"]
    less = likely.most_informative(torch.tensor([0.0, 0.5, 0.45, 0.05, 0.0]), sure_above=0.35)
    assert [word for word, allowed in zip(WORDS, less.tolist(), strict=True) if allowed] == ["dog"]


def test_words_without_phrases_are_never_chosen():
    assert not LikelyNouns.of(["sky"], Vocabulary(["a poodle"])).most_informative(torch.ones(1), 0.3).any()


@torch.no_grad()
def test_a_sentence_ends_on_a_noun_and_nothing_joins_before_its_first():
    lm = tiny_lm()
    words = Words(lm, LetterEncoder())
    table = torch.linspace(1, 0, len(words.texts))
    candidates = Candidates(words, torch.arange(len(words.texts)), table, lambda t: torch.zeros(len(t)))
    named = {word for word, noun in zip(words.texts, words.named.tolist(), strict=True) if noun}
    joining = {word for word, joins in zip(words.texts, words.joining.tolist(), strict=True) if joins}
    assert joining
    for beam in write(lm, candidates, Search(beams=4, proposals=20, encoded=8, most_words=5)):
        sentence = beam.text.split()
        first = next(index for index, word in enumerate(sentence) if word in named)
        assert sentence[-1] in named
        assert not set(sentence[:first]) & joining


def test_what_is_not_likely_is_not_said():
    lang = classifier()
    (why,) = lang.explain(pictures(1), language_model=tiny_lm(), search=Search(beams=2, most_words=4))
    explainer = lang._explainer[1]
    (read,) = lang.read(pictures(1))
    from torchnle.methods.zero_shot.explanation_input import ask

    anything = torch.ones(1, explainer.fitted.width)
    (sure,) = explainer._likely(ask(explainer.translator, explainer.layer, read, lang.reading.pool), anything)
    words = dict(zip(explainer._words.texts, (sure & explainer._words.named).tolist(), strict=True))
    nouns = [w for w in why.text.split() if explainer._words.named[explainer._words.texts.index(w)]]
    assert not any(words.values()) or all(words[word] for word in nouns)
    (other,) = explainer._likely(
        ask(explainer.translator, explainer.layer, read, lang.reading.pool, target="fern", truth="mug"),
        anything,
    )
    assert other is None  # what another class would show is no question of what is likely
