from __future__ import annotations

import json
import os
import random
import resource
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import accelerate
import pytest
import torch
from oracles import devil_prefix
from tiny_translators import LAYERS, saved_language_model
from toys import CAPTIONS, LOCATIONS, RECIPE, ToySupply, changed, fork, fork_and_kill, toy_translator

from torchnle.errors import MissingDependencyError, TranslatorMismatchError
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.training import checkpoint, loop, prefix
from torchnle.training.dropout import Draws
from torchnle.training.order import Order, Part
from torchnle.training.recipe import Recipe
from torchnle.training.texts import caption_tokens, embedding_scale, word_errors
from torchnle.training.validation import Validation
from torchnle.translators.base import Translator
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    reset_accelerate()


def reset_accelerate():
    """accelerate keeps the precision of a process's first run, and refuses another."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def run(folder, recipe=RECIPE, **options):
    supply = options.pop("supply", None) or ToySupply()
    translator = options.pop("translator", None) or toy_translator()
    facts = []
    report = options.pop("report", facts.append)
    trained = prefix.train(translator, supply, recipe, folder, report=report, **options)
    return trained.network.state_dict(), [fact for fact in facts if "loss" in fact], trained


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


class TestTheLoss:
    def test_the_first_step_is_the_formula(self, tmp_path):
        """Equation 1, slowly: the drawn layers and locations, row by row, summed over caption tokens."""
        translator, supply = toy_translator(), ToySupply()
        weights = {k: v.clone() for k, v in translator.network.state_dict().items()}
        _, facts, _ = run(tmp_path, translator=translator, supply=supply)
        numbers = Order([Part(range(24))], steps=12, batch_size=8, seed=0).batch(0)
        draws = Draws.of_step(0, 0, 8, LOCATIONS, layer_dropout=0.5, location_dropout=(0.5, 0.5))
        lm = translator.language_model
        nats, count = 0.0, 0
        for row, number in enumerate(numbers):
            tokens = {}
            for layer in LAYERS:
                if draws.layers[layer][row]:
                    kept = supply._maps(number)[layer][draws.locations[layer][row]]
                    tokens[layer] = kept.mean(dim=0)[None, None]
            prefix = devil_prefix(weights, tokens, depth=1, heads=2)[0].float()
            ids = [*lm.tokenize([CAPTIONS[number % 4]])[0], lm.eos_id]
            read = torch.cat([lm.embed(torch.tensor([lm.bos_id])), prefix, lm.embed(torch.tensor(ids[:-1]))])
            logits = lm.model(inputs_embeds=read[None]).logits[0].double()
            steps = logits[-len(ids) :].log_softmax(-1)
            nats -= sum(step[token].item() for step, token in zip(steps, ids, strict=True))
            count += len(ids)
        assert facts[0]["loss"] == pytest.approx(nats / count, abs=1e-4)

    def test_it_falls_and_the_translator_says_what_it_learned(self, tmp_path):
        """On unseen images, from each layer alone, it begins to say the right caption."""
        _, facts, trained = run(tmp_path, changed(steps=100, learning_rate=2e-2, checkpoint_every=100))
        first, last = (sum(f["loss"] for f in part) / 10 for part in (facts[:10], facts[-10:]))
        assert last < 0.7 * first
        (batch,) = ToySupply().batches([range(1000, 1040)])
        for layer, tokens in batch.tokens.items():
            texts = [d.text for d in trained.describe(rows_of(Features(tokens, layer).select(None)))]
            assert sum(text[:3] == CAPTIONS[i % 4][:3] for i, text in enumerate(texts)) > 25
        assert not trained.training

    def test_the_language_model_is_left_alone(self, tmp_path):
        translator = toy_translator()
        before = {k: v.clone() for k, v in translator.language_model.model.state_dict().items()}
        run(tmp_path, translator=translator)
        assert same(before, translator.language_model.model.state_dict())

    def test_bf16_is_near(self, tmp_path):
        _, exact, _ = run(tmp_path / "exact")
        reset_accelerate()
        _, rounded, _ = run(tmp_path / "rounded", changed(precision="bf16"))
        assert rounded[0]["loss"] == pytest.approx(exact[0]["loss"], abs=0.05)
        assert rounded[0]["loss"] != exact[0]["loss"]


class TestSharing:
    def test_accumulation_does_not_change_the_run(self, tmp_path):
        _, whole, _ = run(tmp_path / "whole")
        reset_accelerate()
        _, parts, _ = run(tmp_path / "parts", changed(accumulate=4))
        assert [f["loss"] for f in parts] == pytest.approx([f["loss"] for f in whole], abs=1e-4)

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_two_processes_give_the_loss_of_one(self, tmp_path, accumulate):
        _, one, _ = run(tmp_path / "one")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def process(rank):
            reset_accelerate()
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in names.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", ACCELERATE_USE_CPU="true")
            weights, facts, _ = run(tmp_path / "two", changed(accumulate=accumulate))
            checkpoint.save({"losses": [f["loss"] for f in facts], **weights}, tmp_path / f"{rank}.pt")

        with ThreadPoolExecutor() as both:
            assert list(both.map(lambda rank: fork(lambda: process(rank)), (0, 1))) == [0, 0]
        first, second = (checkpoint.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
        assert first["losses"] == pytest.approx([f["loss"] for f in one], abs=1e-4)
        assert second.pop("losses") == []  # one process tells for all
        assert same(second, first)

    def test_a_batch_that_cannot_be_shared(self, tmp_path):
        with pytest.raises(ValueError, match="batch_size=8 does not divide by 1 processes and accumulate=3"):
            run(tmp_path, changed(accumulate=3))


class TestResuming:
    def test_killed_twenty_times_it_ends_with_the_same_weights(self, tmp_path):
        recipe = changed(word_steps=8, steps=52, checkpoint_every=3, validate_every=20)
        checks = Validation(ToySupply(4))
        expected, _, _ = run(tmp_path / "whole", recipe, validation=checks)
        chance, done = random.Random(0), []
        for _ in range(20):
            status = fork_and_kill(
                lambda tick: run(tmp_path / "cut", recipe, validation=checks, supply=ToySupply(tick=tick)),
                ticks=chance.randint(1, 5),
                delay=chance.uniform(0, 0.015),
            )
            assert status == -9
            done.append(loop.steps_done(tmp_path / "cut"))
        assert 0 < done[-1] < 60, "the kills met a run on its way"
        assert done[0] < 8 < done[-1], "in words and in sentences"
        assert len(set(done)) >= 5
        found, _, _ = run(tmp_path / "cut", recipe, validation=checks)
        assert same(expected, found)

    def test_a_finished_run_gives_its_translator_again(self, tmp_path):
        first, _, _ = run(tmp_path)
        again, facts, _ = run(tmp_path)
        assert same(first, again)
        assert facts == []

    def test_another_recipe_is_refused(self, tmp_path):
        run(tmp_path)
        with pytest.raises(ValueError, match=r"is of a recipe with layer_dropout=0\.5; pass another folder"):
            run(tmp_path, changed(layer_dropout=0.25))

    def test_a_full_disk_leaves_the_checkpoint_before(self, tmp_path):
        def full(facts):
            if facts["step"] == 6:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            with pytest.raises(OSError, match=r"last\.pt could not be written, the one before stays"):
                run(tmp_path, report=full)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert loop.steps_done(tmp_path) == 4
        assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
        expected, _, _ = run(tmp_path / "whole")
        assert same(expected, run(tmp_path)[0])


class TestNotANumber:
    def test_it_stops_and_says_where(self, tmp_path):
        order = Order([Part(range(24))], steps=12, batch_size=8, seed=0)
        step = next(s for s in range(5, 12) if 7 in order.batch(s))
        recipe = changed(checkpoint_every=1, location_dropout=0.0, layer_dropout=0.0)
        supply = ToySupply()

        class Late(ToySupply):
            def batches(self, numbers):
                for at, batch in enumerate(supply.batches(numbers)):
                    if at >= step:
                        for tokens in batch.tokens.values():
                            tokens[[n == 7 for n in batch.items]] = float("nan")
                    yield batch

        with pytest.raises(FloatingPointError, match=rf"the loss of step {step} is nan; its pairs are \[7\]"):
            run(tmp_path, recipe, supply=Late())
        state = checkpoint.load(tmp_path / "last.pt")
        assert state["done"] == step
        assert all(torch.isfinite(tensor).all() for tensor in state["network"].values())

    def test_before_the_first_checkpoint(self, tmp_path):
        with pytest.raises(FloatingPointError, match="good checkpoint is none yet"):
            run(tmp_path, supply=ToySupply(8, nan_at=2))


class TestValidation:
    def test_the_best_is_kept(self, tmp_path):
        """A scorer that likes the second validation best gets the weights of that moment."""
        scores = iter([1.0, 3.0, 2.0])
        seen = []

        def scorer(texts, references):
            seen.append((list(texts), list(references)))
            return next(scores)

        best, _, _ = run(tmp_path, validation=Validation(ToySupply(4), scorer))
        after_eight, _, _ = run(tmp_path / "eight", changed(steps=8, learning_rate=1e-2))
        assert not same(best, checkpoint.load(tmp_path / "last.pt")["network"])
        assert same(best, checkpoint.load(tmp_path / "best.pt")["network"])
        assert checkpoint.load(tmp_path / "best.pt")["step"] == 7
        assert [len(texts) for texts, _ in seen] == [4, 4, 4]
        assert seen[0][1] == [(caption, caption) for caption in CAPTIONS]
        assert after_eight.keys() == best.keys()

    def test_losses_by_layer_are_those_of_the_layer_alone(self):
        translator, supply = toy_translator(), ToySupply(4)
        found = Validation(supply).measure(translator)
        assert found["criterion"] == -found["loss"]
        assert set(found["loss_by_layer"]) == set(LAYERS)
        (batch,) = supply.batches([range(4)])
        ids = caption_tokens(translator, CAPTIONS)
        with torch.no_grad():
            prefixes = translator.network({"layer3": batch.tokens["layer3"].mean(1, keepdim=True)})
            from torchnle.language.loss import ids_log_probs

            nats = -ids_log_probs(translator.language_model, prefixes, ids).sum() / sum(map(len, ids))
        assert found["loss_by_layer"]["layer3"] == pytest.approx(nats.item(), abs=1e-5)


class TestOptions:
    def test_standardised_features_have_mean_zero_and_deviation_one(self, tmp_path):
        translator = toy_translator(standardise=True)
        run(tmp_path, changed(steps=1, moments_of=24), translator=translator)
        (batch,) = ToySupply().batches([range(24)])
        for layer, x in batch.tokens.items():
            token = translator.network.inputs[layer]
            z = (x.mean(dim=1) - token.mean) * token.scale
            torch.testing.assert_close(z.mean(dim=0), torch.zeros(LAYERS[layer]), atol=1e-5, rtol=0)
            torch.testing.assert_close(
                z.std(dim=0, correction=0), torch.ones(LAYERS[layer]), atol=1e-5, rtol=0
            )

    def test_the_moments_are_saved_with_the_translator(self, tmp_path):
        translator = toy_translator(standardise=True)
        translator.language_model = saved_language_model(tmp_path / "lm")
        _, _, trained = run(tmp_path / "run", translator=translator)
        again = Translator.from_pretrained(trained.save_pretrained(tmp_path / "saved"))
        assert same(trained.network.state_dict(), again.network.state_dict())
        assert again.network.standardise

    def test_norms_and_biases_do_not_decay(self):
        network = toy_translator().network
        decays, rest = loop._groups(network, 0.1)
        names = {id(p): name for name, p in network.named_parameters()}
        kept = {names[id(p)] for p in rest["params"]}
        assert kept == {n for n in names.values() if n.endswith("bias") or "norm" in n}
        assert decays["weight_decay"] == 0.1
        assert rest["weight_decay"] == 0.0

    def test_the_schedule(self):
        recipe = Recipe(steps=105, warmup=5, learning_rate=1.0, final_learning_rate=0.25)
        rates = [recipe.learning_rate_at(step) for step in (0, 4, 5, 55, 80, 104)]
        assert rates == pytest.approx([0.2, 1.0, 1.0, 0.5, 0.25, 0.25])

    def test_words_have_a_schedule_of_their_own(self):
        recipe = Recipe(steps=15, word_steps=15, warmup=5, learning_rate=1.0, word_learning_rate=2.0)
        rates = [recipe.learning_rate_at(step) for step in (0, 4, 5, 10, 14, 15, 19, 20, 29)]
        assert rates == pytest.approx([0.4, 2.0, 2.0, 1.0, 0.2, 0.2, 1.0, 1.0, 0.1])

    def test_words_are_learned_before_sentences(self, tmp_path):
        reports = []
        run(tmp_path, changed(word_steps=60, steps=1, word_learning_rate=2e-2), report=reports.append)
        errors = [fact["word_loss"] for fact in reports if "word_loss" in fact]
        assert len(errors) == 60
        assert errors[-1] < 0.5 * errors[0]
        assert [fact["step"] for fact in reports if "loss" in fact] == [60]

    def test_the_error_of_words_is_the_formula(self):
        lm = toy_translator().language_model
        prefixes = torch.randn(2, 3, lm.width, generator=torch.Generator().manual_seed(0))
        found = word_errors(lm, prefixes, [[2, 3, 4, 5], [6, 7]], scale=embedding_scale(lm))
        table = lm.model.get_input_embeddings().weight
        for row, ids in enumerate([[2, 3, 4], [6, 7, 7]]):
            error = ((prefixes[row] - table[ids]) ** 2).mean() / table.std() ** 2
            assert found[row].item() == pytest.approx(error.item(), rel=1e-5)

    def test_the_papers_settings_are_the_defaults(self):
        recipe = Recipe()
        assert (recipe.learning_rate, recipe.final_learning_rate, recipe.warmup) == (1e-4, 1e-6, 5000)
        assert (recipe.weight_decay, recipe.batch_size, recipe.steps) == (1e-6, 64, 1_000_000)
        assert (recipe.layer_dropout, recipe.location_range) == (0.5, (0.5, 0.5))

    def test_captions_end_with_the_stop_or_the_end_of_text(self):
        plain, stopped = toy_translator(), toy_translator()
        stopped.stop, stopped.prompt = " door", "the"
        lm = plain.language_model
        assert caption_tokens(plain, ["a cat"]) == [[*lm.tokenize(["a cat"])[0], lm.eos_id]]
        assert caption_tokens(stopped, ["a cat"]) == lm.tokenize(["a cat door"])
        assert caption_tokens(plain, ["a cat of grass"], longest=2) == lm.tokenize(["a cat"])


class TestBadInput:
    def test_layers_of_other_widths(self, tmp_path):
        supply = ToySupply()
        supply.widths = {"layer3": 6, "layer4": 9}
        with pytest.raises(TranslatorMismatchError, match=r"'layer4': 8\}; the data gives .*'layer4': 9"):
            run(tmp_path, supply=supply)

    def test_another_network(self, tmp_path):
        translator = toy_translator()
        translator.network = TExplainNetwork({"layer4": 8}, 12, tokens=2)
        with pytest.raises(TypeError, match=r"TExplainNetwork reads 2 tokens .* tokens_per_row=1"):
            run(tmp_path, translator=translator)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"steps": 0},
            {"word_steps": -1},
            {"layer_dropout": 1.0},
            {"location_dropout": (0.5, 1.0)},
            {"precision": "fp8"},
        ],
    )
    def test_settings_out_of_range(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            changed(**wrong)

    def test_without_accelerate(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "accelerate", None)
        with pytest.raises(MissingDependencyError, match=r"torchnle\[train\]"):
            run(tmp_path)


def test_reports_are_plain_json(tmp_path):
    facts = []
    run(tmp_path, validation=Validation(ToySupply(4)), report=facts.append)
    assert json.loads(json.dumps(facts)) == facts
    assert [fact["step"] for fact in facts if "loss" in fact] == list(range(12))
