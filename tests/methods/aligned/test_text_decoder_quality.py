from __future__ import annotations

import pytest
import torch
from tiny import WIDTH, make_encoder_parts, slow_log_prob, tiny_lm

from torchnle.language.decoding import Decoded
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.quality import decoding_quality, nats_per_token, reconstruction_quality
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence, TextDecoder

TEXTS = ["a red cat", "the dog runs", "a cat and a bird"]


class Parrot(TextDecoder):
    """Says the text whose embedding is nearest, so that every number is known."""

    def __init__(self, encoder):
        network = PrefixFromSentence(WIDTH, WIDTH, prefix_length=1, hidden=4)
        super().__init__(network, tiny_lm("llama"), encoder="tiny")
        self.vectors = encoder.encode(TEXTS)

    def decode(self, embeddings, internal_batch_size=None):
        found = (embeddings @ self.vectors.T).argmax(dim=1).tolist()
        return type("TextChoice", (), {"texts": [TEXTS[i] for i in found]})


@pytest.fixture
def encoder():
    return TextEncoder(*make_encoder_parts(), reference="tiny")


def test_a_parrot_is_perfect_until_noise_drowns_it(encoder):
    found = decoding_quality(Parrot(encoder), encoder, TEXTS, noises=(0.0, 50.0))
    clean, noisy = found["by_noise"]
    assert clean["exact"] == clean["head_noun"] == 1
    assert clean["cosine"] == pytest.approx(1, abs=1e-5)
    assert clean["given_cosine"] == pytest.approx(1, abs=1e-5)
    assert clean["nats_per_token"] == pytest.approx(found["source_nats_per_token"], abs=1e-5)
    assert noisy["given_cosine"] < 0.9
    assert noisy["exact"] < 1


def test_fluency_is_the_language_models_own_surprise():
    lm = tiny_lm("llama")
    ids = lm.tokenize([f" {text}" for text in TEXTS])
    total = sum(slow_log_prob(lm, torch.zeros(0, WIDTH), row) for row in ids)
    assert nats_per_token(lm, TEXTS) == pytest.approx(-total / sum(map(len, ids)), abs=1e-4)


def test_half_a_sentence_names_its_head_noun_and_is_not_exact(encoder):
    parrot = Parrot(encoder)
    parrot.decode = lambda embeddings: type("TextChoice", (), {"texts": ["a cat", "the bird", ""]})
    (row,) = decoding_quality(parrot, encoder, TEXTS, noises=(0.0,))["by_noise"]
    assert row["exact"] == 0
    assert row["head_noun"] == pytest.approx(1 / 3)
    assert row["examples"]["a cat and a bird"] == "nothing"


def test_candidates_are_judged_by_the_encoder(encoder):
    class Draws(Parrot):
        """Says nothing greedily, and draws every text once."""

        def decode(self, embeddings, internal_batch_size=None):
            return Decoded(["" for _ in embeddings], [[] for _ in embeddings], torch.zeros(len(embeddings)))

        def sample(self, embeddings, n, *, temperature, seed):
            rows = len(embeddings)
            return Decoded(TEXTS * rows, [[0]] * (3 * rows), torch.zeros(3 * rows))

    drawn = Draws(encoder)
    assert reconstruction_quality(drawn, encoder, TEXTS)["exact"] == 0
    assert reconstruction_quality(drawn, encoder, TEXTS, candidates=3)["exact"] == 1
    (row,) = decoding_quality(drawn, encoder, TEXTS, noises=(0.0,), candidates=3)["by_noise"]
    assert row["exact"] == 1
