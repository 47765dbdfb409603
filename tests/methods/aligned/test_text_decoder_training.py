from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from tiny import WIDTH, make_encoder_parts, make_prefixes, slow_log_prob, tiny_lm

from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import PrefixFromSentence, TextDecoder
from torchnle.methods.aligned.decoder.training import Recipe, Texts, targets, train
from torchnle.training.loop import Examples
from torchnle.training.processes import Share

NOUNS = ["cat", "dog", "bird", "sky", "grass"]
TEXTS = [f"{a} {c} {n}" for a in ("a", "the") for c in ("red", "green", "small", "big") for n in NOUNS]
TEXTS += [f"{text} runs" for text in TEXTS]
RECIPE = Recipe(
    steps=60,
    batch_size=8,
    word_steps=40,
    word_batch_size=16,
    warmup=5,
    hidden=32,
    prefix_length=3,
    learning_rate=2e-2,
    noise=0.1,
    prompt="the",
    opening="the",
    stop=" .",
    checkpoint_every=25,
    log_every=1,
)


def encoder():
    return TextEncoder(*make_encoder_parts(), reference="tiny-encoder")


def run(folder, recipe=RECIPE, report=lambda _: None):
    return train(TEXTS, encoder(), tiny_lm("llama"), recipe, folder, report=report)


def test_the_loss_is_the_oracles():
    lm = tiny_lm("llama")
    torch.manual_seed(0)
    network = PrefixFromSentence(4, WIDTH, prefix_length=3, hidden=8).eval()
    embeddings = torch.randn(3, 4)
    tokens = targets(lm, ["a cat", "the red dog runs", "sky"], " .")
    total = sum(
        slow_log_prob(lm, prefix, ids, "the") for prefix, ids in zip(network(embeddings), tokens, strict=True)
    )
    objective = Texts(network, lm, RECIPE, embeddings, tokens)
    examples = Examples((embeddings,), tokens, range(3))
    losses = objective.losses(network, RECIPE.word_steps, examples)
    assert losses.sum().item() == pytest.approx(-total, abs=1e-4)
    assert objective.count(RECIPE.word_steps, examples) == sum(map(len, tokens))
    assert objective.count(0, examples) == 3


def test_targets_end_with_the_stop():
    lm = tiny_lm("llama")
    assert [lm.detokenize(ids) for ids in targets(lm, ["a cat"], " .")] == ["a cat ."]


def test_training_teaches_to_say_the_texts(tmp_path):
    facts = []
    decoder = run(tmp_path, report=facts.append)
    words, spoken = ([f[name] for f in facts if name in f] for name in ("word_loss", "loss"))
    assert (len(words), len(spoken)) == (RECIPE.word_steps, RECIPE.steps)
    assert sum(words[-8:]) < 0.9 * sum(words[:8])
    assert sum(spoken[-8:]) < 0.75 * sum(spoken[:8])
    assert decoder.encoder == "tiny-encoder"
    assert not decoder.training


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    class KilledError(Exception):
        pass

    def kill_at(step):
        def report(entry):
            if entry["step"] == step:
                raise KilledError

        return report

    whole = run(tmp_path / "whole")
    for step in (10, 38, 63, 90):
        with pytest.raises(KilledError):
            run(tmp_path / "killed", report=kill_at(step))
    resumed = run(tmp_path / "killed")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"is of a recipe with noise=0\.1; pass another folder"):
        run(tmp_path, Recipe(**{**RECIPE.__dict__, "noise": 0.2}))


def test_training_continues_from_given_weights(tmp_path):
    start = run(tmp_path / "first").network
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    facts = []
    recipe = Recipe(**{**RECIPE.__dict__, "word_steps": 0, "steps": 3, "learning_rate": 1e-6, "warmup": 0})
    begun = train(
        TEXTS, encoder(), tiny_lm("llama"), recipe, tmp_path / "more", start=start, report=facts.append
    )
    fresh = []
    train(TEXTS, encoder(), tiny_lm("llama"), recipe, tmp_path / "fresh", report=fresh.append)
    for name, tensor in begun.network.state_dict().items():
        assert torch.allclose(tensor, before[name], atol=1e-5), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.state_dict().items())
    assert facts[0]["loss"] < 0.9 * fresh[0]["loss"]


def test_a_checkpoint_of_another_start_is_refused(tmp_path):
    first = run(tmp_path / "first").network
    recipe = Recipe(**{**RECIPE.__dict__, "word_steps": 0, "steps": 1, "checkpoint_every": 1})
    train(TEXTS, encoder(), tiny_lm("llama"), recipe, tmp_path / "more", start=first)
    with torch.no_grad():
        first.start += 1
    with pytest.raises(ValueError, match="start"):
        train(TEXTS, encoder(), tiny_lm("llama"), recipe, tmp_path / "more", start=first)


def test_a_start_of_other_sizes_is_refused(tmp_path):
    small = PrefixFromSentence(WIDTH, WIDTH, opening_length=1, prefix_length=2, hidden=32)
    with pytest.raises(ValueError, match=r"other sizes .*leave\.weight \(32, 32\), not \(48, 32\)"):
        train(TEXTS, encoder(), tiny_lm("llama"), RECIPE, tmp_path, start=small)


def test_too_few_texts(tmp_path):
    with pytest.raises(ValueError, match="2 texts are too few"):
        train(["a cat", "a dog"], encoder(), tiny_lm("llama"), RECIPE, tmp_path)


def objective(count=80):
    network = PrefixFromSentence(4, WIDTH, opening_length=1, prefix_length=3, hidden=8)
    embeddings = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return Texts(network, tiny_lm("llama"), RECIPE, embeddings, [[2] * (1 + i % 7) for i in range(count)])


def test_every_step_draws_its_own_batch_of_texts_of_like_lengths():
    drawn = objective()
    batches = [tuple(drawn.texts(step)) for step in range(8)]
    assert len(set(batches)) == 8
    assert len({i for batch in batches for i in batch}) == 64
    assert all(a != b for a, b in pairwise(batches))
    lengths = sorted((min(1 + i % 7 for i in b), max(1 + i % 7 for i in b)) for b in batches)
    assert all(longest <= shortest for (_, longest), (shortest, _) in pairwise(lengths))


def test_a_share_of_a_step_is_known_phrases():
    drawn = objective()
    drawn.known = [70, 71]
    shares = [sum(i in (70, 71) for i in drawn.texts(step)) / 8 for step in range(8)]
    assert 0.25 <= sum(shares) / 8 < 0.35
    assert len({tuple(drawn.texts(step)) for step in range(8)}) == 8
    with pytest.raises(ValueError, match="known=1"):
        Recipe(known=1.0)


def test_noise_is_of_the_size_asked_for_and_the_same_however_a_batch_is_shared():
    drawn = objective()
    (whole,) = next(drawn.batches(range(5, 6), Share()))
    halves = [next(drawn.batches(range(5, 6), Share(p, 2, 2))) for p in (0, 1)]
    parts = [part.inputs[0] for half in halves for part in half]
    assert torch.equal(torch.cat(parts), whole.inputs[0])
    assert [i for half in halves for part in half for i in part.items] == list(whole.items)
    noise = (whole.inputs[0] - drawn.embeddings[whole.items]) / drawn.network.std
    assert 0 < noise.std() < RECIPE.noise
    assert [len(next(drawn.batches(range(s, s + 1), Share()))[0].ids) for s in (0, 50)] == [16, 8]


class TestDecoder:
    def decoder(self):
        network = PrefixFromSentence(WIDTH, WIDTH, prefix_length=3, hidden=8)
        lm = tiny_lm("llama")
        lm.reference = "tiny-lm"
        return TextDecoder(network, lm, encoder="tiny-encoder", prompt="the", stop=" .", max_new_tokens=5)

    def test_length_does_not_matter(self):
        decoder = self.decoder()
        vectors = make_prefixes(4)[:, 0]
        assert decoder.decode(vectors).texts == decoder.decode(7 * vectors).texts

    def test_log_prob_is_the_oracles(self):
        decoder = self.decoder()
        vectors = torch.nn.functional.normalize(make_prefixes(2)[:, 0], dim=-1)
        scores = decoder.log_prob(vectors, ["a cat", "sky"])
        for row, prefix in enumerate(decoder.network(vectors)):
            for column, text in enumerate(["a cat", "sky"]):
                ids = decoder.language_model.tokenize([f" {text}"])[0]
                expected = slow_log_prob(decoder.language_model, prefix, ids, "the")
                assert scores[row, column].item() == pytest.approx(expected, abs=1e-4)

    def test_another_width_is_refused(self):
        with pytest.raises(ValueError, match=r"width 16 .* these have width 5"):
            self.decoder().decode(torch.zeros(1, 5))

    def test_saved_and_loaded_it_says_the_same(self, tmp_path, monkeypatch):
        decoder = self.decoder()
        decoder.card = {"license": "bsd-3-clause"}
        decoder.save_pretrained(tmp_path / "decoder", dtype=torch.float32)
        load = classmethod(lambda cls, reference: decoder.language_model)
        monkeypatch.setattr(
            "torchnle.methods.aligned.decoder.text_decoder.LanguageModel.from_pretrained", load
        )
        loaded = TextDecoder.from_pretrained(tmp_path / "decoder")
        vectors = make_prefixes(4)[:, 0]
        assert loaded.decode(vectors).texts == decoder.decode(vectors).texts
        assert loaded.config == decoder.config
        assert loaded.card == decoder.card

    def test_samples_of_a_row_stand_together_and_are_repeatable(self):
        decoder = self.decoder()
        vectors = make_prefixes(2)[:, 0]
        several = decoder.sample(vectors, 3, temperature=0.01).texts
        greedy = decoder.decode(vectors).texts
        assert several == [greedy[0]] * 3 + [greedy[1]] * 3
        wild = decoder.sample(vectors, 4, temperature=5.0, seed=1).texts
        assert wild == decoder.sample(vectors, 4, temperature=5.0, seed=1).texts
        assert len(set(wild)) > 2
