from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny import WIDTH, make_encoder_parts, tiny_lm

from torchnle.language.decoding import Decoded
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.nearest import EXACT, decode_nearest
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence, TextDecoder

TEXTS = ["a red cat", "the dog runs", "a cat and a bird"]


@pytest.fixture
def encoder():
    return TextEncoder(*make_encoder_parts(), reference="tiny")


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    network = PrefixFromSentence(WIDTH, WIDTH, prefix_length=3, hidden=8)
    return TextDecoder(network, tiny_lm("llama"), encoder="tiny", prompt="the", stop=" .", max_new_tokens=4)


def decoded(texts, number=0.0):
    return Decoded(list(texts), [[i] for i in range(len(texts))], torch.full((len(texts),), number))


def by_hand(encoder, texts, wanted):
    """Return each text's cosine, one by one."""
    return [float(F.cosine_similarity(encoder.encode([text])[0], row, dim=0)) if text else -1.0
            for text, row in zip(texts, wanted, strict=True)]  # fmt: skip


def test_the_nearest_of_all_candidates_is_decoded(encoder, decoder):
    wanted = encoder.encode(TEXTS)
    found = decode_nearest(decoder, encoder, 3 * wanted, candidates=5, temperature=3.0, seed=4)
    greedy = decoder.decode(wanted)
    drawn = decoder.sample(wanted, 5, temperature=3.0, seed=4)
    for row in range(3):
        texts = [greedy.texts[row], *drawn.texts[5 * row : 5 * row + 5]]
        near = by_hand(encoder, texts, [wanted[row]] * 6)
        best = max(range(6), key=lambda i: (near[i], -i))
        numbers = [*greedy.log_probs[row : row + 1], *drawn.log_probs[5 * row : 5 * row + 5]]
        assert found.texts[row] == texts[best]
        assert float(found.log_probs[row]) == pytest.approx(float(numbers[best]), abs=1e-4)
    assert found.texts != greedy.texts  # the tiny decoder is untrained, so draws are nearer


def test_what_is_said_already_is_not_drawn_again(encoder, decoder, monkeypatch):
    monkeypatch.setattr(decoder, "decode", lambda given: decoded(TEXTS))
    embeddings = []

    def sample(given, n, *, temperature, seed):
        embeddings.append(given)
        return decoded(["a red dog", TEXTS[1]] * len(given), -1.0)

    monkeypatch.setattr(decoder, "sample", sample)
    wanted = encoder.encode([TEXTS[0], "a bird", TEXTS[2]])
    found = decode_nearest(decoder, encoder, wanted, candidates=2)
    assert [len(given) for given in embeddings] == [1]
    assert torch.equal(embeddings[0], wanted[1:2])
    assert [found.texts[0], found.texts[2]] == [TEXTS[0], TEXTS[2]]
    everything = ["the dog runs", "a red dog", TEXTS[1]]
    near = by_hand(encoder, everything, [wanted[1]] * 3)
    assert found.texts[1] == everything[near.index(max(near))]


def test_empty_texts_and_ties_keep_the_greedy_one(encoder, decoder, monkeypatch):
    monkeypatch.setattr(decoder, "decode", lambda given: decoded(["a cat", ""]))
    monkeypatch.setattr(decoder, "sample", lambda given, n, **_: decoded(["", "a cat", "", ""], -1.0))
    found = decode_nearest(decoder, encoder, encoder.encode(["a bird", "a bird"]), candidates=2)
    assert found.texts == ["a cat", ""]
    assert found.log_probs.tolist() == [0.0, 0.0]


def test_no_candidates_is_greedy(encoder, decoder):
    wanted = encoder.encode(TEXTS)
    assert decode_nearest(decoder, encoder, wanted, candidates=0).texts == decoder.decode(wanted).texts
    assert EXACT < 1
