"""What is laid before a language model to be repeated, what it makes of it, and where training begins."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from letter_encoder import LetterEncoder
from tiny import make_model, make_tokenizer, slow_greedy, slow_log_prob, tiny_lm

from measurements import addressing
from measurements.__main__ import main
from measurements.addressing import (
    Frame,
    loss_from_start,
    measure,
    page,
    split,
    starts,
    understood,
    without_bos,
    word_prefixes,
    words,
)
from measurements.phrases import phrases
from torchnle.language.decoding import Decoded
from torchnle.language.model import LanguageModel
from torchnle.methods.aligned.decoder.training import Recipe, fresh_network, targets

FRAME = Frame("the", "the", " .")
TEXTS = ["a cat", "a red bird sits", "the dog", "grass"]
LONG = "the dog runs under the sky"
LEARNED = [f"{a} {c} {n}" for a in ("a", "the") for c in ("red", "big") for n in ("cat", "dog", "bird")]
RECIPE = Recipe(
    steps=25,
    batch_size=8,
    warmup=2,
    learning_rate=2e-2,
    hidden=16,
    prefix_length=4,
    opening="the",
    prompt="the",
    stop=" .",
)


class DenseEncoder(LetterEncoder):
    """Texts are alike that share letters, and no channel is the same for all of them."""

    def encode(self, texts, batch_size=64):
        turn = torch.randn(26, 26, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.normalize(super().encode(texts) @ turn, dim=1)


def embedded(lm, *texts):
    return torch.stack([lm.embed(torch.tensor(lm.tokenize([text])[0])) for text in texts])


def reader(lm, opening, frames):
    """Instead of the language model: reads every vector as the word of the nearest embedding."""

    def read(_, prefixes, *, prompt, stop, max_new_tokens):
        frames.append((prompt, stop))
        every = lm.embed(torch.arange(lm.vocab_size))
        rows = torch.cdist(prefixes[:, opening:], every.expand(len(prefixes), -1, -1)).argmin(dim=-1).tolist()
        texts = [" " + " ".join(lm.detokenize([i]) or "</s>" for i in row) for row in rows]
        return Decoded([text.split(stop or " </s>")[0] for text in texts], rows, torch.zeros(len(rows)))

    return read


def test_prefixes_by_hand():
    lm = tiny_lm("llama")
    found = word_prefixes(lm, ["a cat", LONG], FRAME, length=4)
    torch.testing.assert_close(found, embedded(lm, "the a cat . .", "the the dog runs under"))
    bare = word_prefixes(lm, ["a cat"], Frame("", "", None), length=4)
    torch.testing.assert_close(bare, embedded(lm, "a cat </s> </s>"))


def test_noise_is_on_the_words_and_of_its_size():
    lm = tiny_lm("llama")
    clean = word_prefixes(lm, TEXTS * 50, FRAME, length=4)
    noisy = word_prefixes(lm, TEXTS * 50, FRAME, length=4, noise=0.5, seed=3)
    scale = lm.model.get_input_embeddings().weight.std()
    assert torch.equal(noisy[:, :1], clean[:, :1])
    assert ((noisy - clean)[:, 1:].std() / scale).item() == pytest.approx(0.5, rel=0.02)
    assert torch.equal(noisy, word_prefixes(lm, TEXTS * 50, FRAME, length=4, noise=0.5, seed=3))


def test_an_end_that_the_model_has_not():
    model, tokenizer = make_model("llama"), make_tokenizer()
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    lm = LanguageModel(model, tokenizer)
    with pytest.raises(ValueError, match="no token that ends a text"):
        word_prefixes(lm, TEXTS, Frame(stop=None))
    ends = [FRAME, Frame(stop=None)]
    found = measure(lm, DenseEncoder(), TEXTS, [], frames=[], ends=ends, recipe=quick())
    assert [row["stop"] for row in found["ends"]] == [" ."]


def test_without_bos_nothing_stands_before_the_prefix():
    lm = tiny_lm("llama")
    bare, prefixes = without_bos(lm), torch.randn(2, 3, lm.width)
    assert torch.equal(bare.context(prefixes), prefixes)
    assert lm.context(prefixes).shape[1] == 4  # the model given keeps its own
    assert bare.tokenize(TEXTS) == lm.tokenize(TEXTS)


@pytest.mark.parametrize("bos", [True, False])
def test_what_is_said_is_the_oracles(bos):
    lm = tiny_lm("llama") if bos else without_bos(tiny_lm("llama"))
    for noise in (0.0, 0.5):
        (row,) = understood(lm, DenseEncoder(), TEXTS, FRAME, noises=[noise], length=4, seed=1)
        prefixes = word_prefixes(lm, TEXTS, FRAME, length=4, noise=noise, seed=1)
        for prefix, text in zip(prefixes, TEXTS, strict=True):
            decoded = lm.detokenize(slow_greedy(lm, prefix, 24, FRAME.prompt))
            assert row["examples"][text] == decoded.split(FRAME.stop)[0].strip()


def test_shares_of_a_model_that_repeats(monkeypatch):
    lm, frames = tiny_lm("llama"), []
    monkeypatch.setattr(words, "greedy", reader(lm, 1, frames))
    clean, noisy = understood(lm, DenseEncoder(), [*TEXTS, LONG], FRAME, noises=[0.0, 3.0], length=4)
    assert clean["exact"] == pytest.approx(4 / 5)  # the long one is cut off
    encode = DenseEncoder().encode
    expected = (4 + (encode(["the dog runs under"]) @ encode([LONG]).T).item()) / 5
    assert clean["cosine"] == pytest.approx(expected, abs=1e-6)
    assert noisy["exact"] < clean["exact"]
    assert noisy["cosine"] < clean["cosine"]
    assert frames == [("the", " .")] * 2
    (ended,) = understood(lm, DenseEncoder(), TEXTS, Frame("the", "", None), noises=[0.0], length=4)
    assert ended["exact"] == 1
    assert frames[-1] == ("", None)


def test_the_loss_where_training_begins_is_the_oracles():
    lm, encoder = tiny_lm("llama"), DenseEncoder()
    for start in starts.STARTS:
        found = loss_from_start(lm, encoder, TEXTS, LEARNED, start, quick())
        torch.manual_seed(RECIPE.seed)
        network = fresh_network(lm, RECIPE, encoder.encode(LEARNED), targets(lm, LEARNED, " ."))
        if start == "random":
            starts._scatter(network)
        tokens = targets(lm, TEXTS, " .")
        rows = zip(network(encoder.encode(TEXTS)), tokens, strict=True)
        total = sum(slow_log_prob(lm, prefix, ids, "the") for prefix, ids in rows)
        assert found["before"] == pytest.approx(-total / sum(map(len, tokens)), abs=1e-4)
        assert found["after"] == found["before"]


def test_a_few_steps_lower_the_loss():
    lm = tiny_lm("llama")
    found = [loss_from_start(lm, DenseEncoder(), LEARNED, LEARNED, start, RECIPE) for start in starts.STARTS]
    assert all(row["after"] < 0.9 * row["before"] for row in found)
    assert found[0]["before"] != found[1]["before"]
    assert found[0] == loss_from_start(lm, DenseEncoder(), LEARNED, LEARNED, "mean words", RECIPE)


def test_random_starts_have_the_length_of_the_mean_words():
    lm = tiny_lm("llama")
    network = fresh_network(lm, RECIPE, DenseEncoder().encode(LEARNED), targets(lm, LEARNED, " ."))
    scattered = copy.deepcopy(network)
    starts._scatter(scattered)
    torch.testing.assert_close(scattered.start.norm(dim=1), network.start.norm(dim=1))
    assert torch.cosine_similarity(scattered.start, network.start).abs().max() < 0.9
    assert torch.equal(scattered.opening, network.opening)


def quick(**changes):
    return Recipe(**{**RECIPE.__dict__, "steps": 0, **changes})


def test_the_measurement_and_its_page():
    frames, ends = [Frame("", "", " ."), FRAME], [FRAME, Frame("the", "the", None)]
    options = {"frames": frames, "ends": ends, "noises": [0.0, 1.0], "recipe": quick(steps=2)}
    found = measure(tiny_lm("llama"), DenseEncoder(), [*TEXTS, LONG], LEARNED, **options)
    assert [(row["bos"], row["opening"]) for row in found["frames"]] == [
        (True, ""),
        (True, "the"),
        (False, ""),
        (False, "the"),
    ]
    assert [(row["bos"], row["stop"]) for row in found["ends"]] == [(True, " ."), (True, None)]
    assert [(row["bos"], row["start"]) for row in found["starts"]] == [
        (bos, start) for bos in (True, False) for start in ("mean words", "random")
    ]
    assert found["texts"] == {"measured": 5, "learned_from": 12}
    assert found["fitting"] == 0.8
    assert found["frames"][1]["by_noise"] == found["ends"][0]["by_noise"]
    shown = page(found)
    first = found["starts"][3]
    assert f"| no | random | {first['before']:.3f} | {first['after']:.3f} |" in shown
    assert "after 2 steps of 8" in shown
    assert "| yes | `'the'` | `'the'` |" in shown
    assert "| no | - | - |" in shown
    assert "| yes | end of text |" in shown
    without = measure(tiny_lm("qwen2"), DenseEncoder(), TEXTS, LEARNED, **{**options, "recipe": quick()})
    assert {row["bos"] for part in ("frames", "ends") for row in without[part]} == {False}
    assert without["starts"] == []
    assert "Where training begins" not in page(without)


@pytest.mark.parametrize("changes", [{"steps": -1}, {"batch_size": 0}])
def test_impossible_training(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        measure(tiny_lm("llama"), DenseEncoder(), TEXTS, LEARNED, recipe=quick(**changes))


def test_split():
    texts = [f"text {i}" for i in range(20)]
    held, rest = split(texts + texts, 5, seed=2)
    assert len(held) == 5
    assert sorted(held + rest) == sorted(texts)
    assert split(texts, 5, seed=2) == (held, rest)
    for count in (0, 20):
        with pytest.raises(ValueError, match=f"20 different texts were given, {count} to measure on"):
            split(texts, count)


def test_phrases_speak_of_the_names():
    made = phrases(30, names=["hen (a bird)", "owl"])
    assert len(set(made)) == 30
    assert all("hen" in text or "owl" in text for text in made)
    assert not any("(" in text for text in made)
    assert made != phrases(30, names=["hen", "owl"], seed=1)
    assert "grass" in phrases(1, names=["grass"])[0]


def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(LanguageModel, "from_pretrained", lambda reference: tiny_lm("llama"))
    monkeypatch.setattr("torchnle.language.text_encoder.TextEncoder.from_pretrained", DenseEncoder)
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(LEARNED) + "\n")
    given = ["--texts", str(file), "--count", "4", "--steps", "1", "--batch", "2", "--output", str(tmp_path)]
    assert main(["addressing", *given]) == 0
    assert "## Where training begins" in capsys.readouterr().out
    saved = json.loads((tmp_path / "addressing.json").read_text())
    assert saved["texts"] == {"measured": 4, "learned_from": 8}
    assert len(saved["frames"]) == 2 * len(addressing.run.FRAMES)
    assert str(tmp_path) not in json.dumps(saved)
    assert main(["addressing", "--count", "3", "--steps", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["starts"]
    nowhere, few = ["--texts", str(tmp_path / "none")], ["--texts", str(file), "--count", "12"]
    for wrong in (nowhere, few, ["--threads", "0"]):
        assert main(["addressing", *wrong]) == 2
        assert capsys.readouterr().err.startswith("torchnle: ")
