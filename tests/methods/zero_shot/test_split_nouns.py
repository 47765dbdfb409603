"""Nouns that are several tokens of the language model, and log-probabilities of ragged sequences."""

from dataclasses import replace
from functools import cache

import pytest
import torch
import transformers
from letter_encoder import LetterEncoder
from tiny import make_prefixes, slow_log_prob, slow_logits, tiny_lm
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from torchnle.language.model import LanguageModel
from torchnle.methods.zero_shot.sentences.beams import Beam, Search, ending_well, write
from torchnle.methods.zero_shot.sentences.candidates import Candidates
from torchnle.methods.zero_shot.sentences.log_probs import next_log_probs, sequence_log_probs
from torchnle.methods.zero_shot.sentences.words import Words, split_nouns

PIECES = [
    "<s>",
    "</s>",
    "<unk>",
    "▁a",
    "▁the",
    "▁light",
    "house",
    "▁cat",
    "▁tall",
    "▁on",
    ".",
    "▁The",
    "▁mug",
]
SEARCH = Search(beams=3, proposals=20, encoded=20, most_words=3, least_words=2, prompt="The")


@cache
def pieces_lm():
    """A language model whose tokenizer splits "lighthouse" into two tokens."""
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0 - len(piece) / 100) for piece in PIECES], 2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    config = transformers.GPT2Config(
        vocab_size=len(PIECES), n_positions=32, n_embd=16, n_layer=2, n_head=2, initializer_range=0.4
    )
    torch.manual_seed(0)
    return LanguageModel(transformers.GPT2LMHeadModel(config), fast)


def candidates(words, nearness, later):
    value = dict(zip(words.texts, nearness.tolist(), strict=True))
    return Candidates(
        words,
        torch.arange(len(words.texts)),
        nearness,
        lambda texts: torch.tensor([sum(value[w] for w in t.split()) for t in texts]),
        later,
    )


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["", "a red"])
def test_ragged_sequences_are_read_as_each_alone(prompt):
    lm, rows = tiny_lm(), [[3, 5, 8], [4], [7, 7, 9, 10, 3]]
    nothing = make_prefixes(1, 0)[0]
    for row, found in zip(rows, sequence_log_probs(lm, rows, prompt), strict=True):
        assert len(found) == len(row)
        assert float(found.sum()) == pytest.approx(slow_log_prob(lm, nothing, row, prompt), abs=1e-4)
    for row, found in zip([*rows, []], next_log_probs(lm, [*rows, []], prompt), strict=True):
        slow = slow_logits(lm, nothing, row, prompt)[-1].log_softmax(-1)
        torch.testing.assert_close(found.double(), slow, atol=1e-4, rtol=0)


def test_only_unknown_nouns_of_several_tokens_are_added():
    found = split_nouns(
        pieces_lm(), ["lighthouse", "cat", "Lighthouse", "qwertz", "the", "lighthouse"], ["cat"]
    )
    assert found == {"lighthouse": (PIECES.index("▁light"), PIECES.index("house"))}
    words = Words(pieces_lm(), LetterEncoder(), ["lighthouse", "cat"])
    assert words.texts.count("cat") == 1
    assert "lighthouse" in words.nouns
    assert words.counts.tolist() == [len(pieces) for pieces in words.pieces]
    assert words.tokens.tolist() == [pieces[0] for pieces in words.pieces]


@torch.no_grad()
def test_a_sentence_may_end_on_such_a_noun_and_its_probability_is_exact():
    lm = pieces_lm()
    words = Words(lm, LetterEncoder(), ["lighthouse"])
    nearness = torch.tensor([{"lighthouse": 2.0, "cat": -1.0, "mug": -1.0}.get(w, 0.0) for w in words.texts])
    later = torch.tensor([-0.5 if n > 1 else 0.0 for n in words.counts.tolist()])
    best = write(lm, candidates(words, nearness, later), SEARCH)[0]
    assert best.text.split()[-1] == "lighthouse"
    assert lm.detokenize(best.ids).strip() == best.text + "."
    nothing = make_prefixes(1, 0)[0]
    assert best.log_prob == pytest.approx(slow_log_prob(lm, nothing, list(best.ids), "The"), abs=1e-4)


def test_an_estimate_that_is_low_keeps_a_noun_away():
    lm = pieces_lm()
    words = Words(lm, LetterEncoder(), ["lighthouse"])
    nearness = torch.zeros(len(words.texts))
    later = torch.tensor([-1e4 if n > 1 else 0.0 for n in words.counts.tolist()])
    one = replace(SEARCH, completed=1)  # no sentence is read again with exact probabilities
    assert "lighthouse" not in write(lm, candidates(words, nearness, later), one)[0].text


def test_sentences_that_end_well_are_long_enough_and_end_on_a_noun():
    words = Words(pieces_lm(), LetterEncoder(), ["lighthouse"])
    beams = [Beam(text=text) for text in ("a tall", "cat", "a lighthouse", "a cat on")]
    assert [beam.text for beam in ending_well(beams, words, SEARCH)] == ["a lighthouse"]
    assert [beam.text for beam in ending_well(beams[:2], words, SEARCH)] == ["cat"]
    assert [beam.text for beam in ending_well(beams[:1], words, SEARCH)] == ["a tall"]
