"""TExplain's training: the loss by its formula, two stages, killed runs, and both language models."""

from dataclasses import replace

import accelerate
import pytest
import torch
from tiny_bert import trained_decoder
from tiny_translators import tiny_language_model
from toys import CAPTIONS, fork_and_kill

from torchnle.errors import TranslatorMismatchError
from torchnle.methods.texplain import CrossAttentionTranslator, TExplainNetwork, texplain_translator
from torchnle.methods.texplain.training.objective import caption_ids, caption_scores
from torchnle.methods.texplain.training.stages import Stage, held_out, train
from torchnle.training.recipe import LoopRecipe
from torchnle.training.supply import Batch
from torchnle.translators.rows import Rows

RECIPE = LoopRecipe(
    steps=8, batch_size=8, learning_rate=1e-2, warmup=2, checkpoint_every=2, validate_every=4, log_every=1
)


class Images:
    """Five tokens of width 8 around one of four centres; the caption is the centre's."""

    location_counts, widths = {"norm": 5}, {"norm": 8}

    def __init__(self, count=24, *, first=0, tick=lambda: None):
        self.count, self.first, self.tick = count, first, tick

    def __len__(self):
        return self.count

    def batches(self, numbers):
        for chosen in numbers:
            self.tick()
            known = [self.first + number for number in chosen]
            tokens = torch.stack([self._tokens(number) for number in known])
            yield Batch({"norm": tokens}, [(CAPTIONS[n % 4],) for n in known], list(chosen))

    def _tokens(self, number):
        centre = torch.randn(5, 8, generator=torch.Generator().manual_seed(100 + number % 4))
        return 2 * centre + torch.randn(5, 8, generator=torch.Generator().manual_seed(number))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


def causal(**options):
    torch.manual_seed(1)
    return texplain_translator("norm", 8, tiny_language_model(), tokens=5, max_new_tokens=5, **options)


def attending():
    torch.manual_seed(1)
    decoder = trained_decoder()
    options = {"tokens": 5, "mode": "flat", "prefix_length": 2, "hidden": 16}
    return CrossAttentionTranslator(
        TExplainNetwork({"norm": 8}, decoder.width, **options), decoder, max_new_tokens=5
    )


@pytest.mark.parametrize("make", [causal, attending])
def test_the_first_loss_is_the_cross_entropy_of_the_captions(make, tmp_path):
    facts, translator = [], make()
    start = {name: x.clone() for name, x in translator.network.state_dict().items()}
    train(translator, [Stage(Images(8), RECIPE)], tmp_path, report=facts.append)
    fresh = make()
    fresh.network.load_state_dict(start)
    (batch,) = Images(8).batches([range(8)])
    ids = caption_ids(fresh, [texts[0] for texts in batch.captions], 60)
    with torch.no_grad():
        vectors = fresh.network.train()(dict(batch.tokens))  # batch statistics of all eight, in any order
        nats = -caption_scores(fresh, vectors, ids).sum().item()
    assert facts[0]["loss"] == pytest.approx(nats / sum(map(len, ids)), abs=1e-4)
    assert {fact["stage"] for fact in facts} == {1}


@pytest.mark.parametrize(("make", "right"), [(causal, 15), (attending, 20)])
def test_it_learns_to_describe_unseen_images_and_the_language_model_stays(make, right, tmp_path):
    translator = make()
    frozen = translator.language_model if hasattr(translator, "language_model") else translator.decoder
    before = {name: x.clone() for name, x in frozen.model.state_dict().items()}
    recipe = replace(RECIPE, steps=120, learning_rate=2e-2, checkpoint_every=120, validate_every=120)
    untrained = held_out(make(), Images(40, first=1000))["loss"]
    train(translator, [Stage(Images(64), recipe)], tmp_path)
    assert held_out(translator, Images(40, first=1000))["loss"] < 0.7 * untrained
    (batch,) = Images(40, first=1000).batches([range(40)])
    descriptions = translator.describe([Rows(dict(batch.tokens))])
    hits = sum(
        one.text.startswith(texts[0][:3]) for one, texts in zip(descriptions, batch.captions, strict=True)
    )
    assert hits > right
    assert all(torch.equal(x, before[name]) for name, x in frozen.model.state_dict().items())


def test_the_second_stage_starts_from_the_first_with_its_own_settings(tmp_path):
    second = replace(RECIPE, steps=4, learning_rate=1e-3)
    facts, translator = [], causal()
    stages = [Stage(Images(24), RECIPE), Stage(Images(8, first=500), second)]
    train(translator, stages, tmp_path, report=facts.append)
    rates = {fact["stage"]: fact["learning_rate"] for fact in facts if fact["step"] == 2}
    assert rates[2] == pytest.approx(rates[1] / 10, rel=0.5)
    by_hand = causal()
    train(by_hand, [Stage(Images(24), RECIPE)], tmp_path / "one")
    train(by_hand, [Stage(Images(8, first=500), second)], tmp_path / "two")
    both = zip(translator.network.state_dict().values(), by_hand.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in both)


def test_killed_in_either_stage_it_ends_with_the_same_weights(tmp_path):
    def run(folder, tick=lambda: None):
        translator = causal()
        stages = [Stage(Images(24, tick=tick), RECIPE), Stage(Images(8, first=500, tick=tick), RECIPE)]
        return train(translator, stages, folder, validation=Images(8, first=900)).network.state_dict()

    expected = run(tmp_path / "whole")
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    for ticks in (3, 4, 5):
        fork_and_kill(lambda tick: run(tmp_path / "cut", tick), ticks, 0.0)
    found = run(tmp_path / "cut")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_stage_of_another_start_is_not_taken_for_this_one(tmp_path):
    stages = [Stage(Images(24), RECIPE), Stage(Images(8), RECIPE)]
    train(causal(), stages, tmp_path)
    (tmp_path / "stage_1" / "last.pt").unlink()
    with pytest.raises(ValueError, match="another start"):
        train(causal(activation="none"), [Stage(Images(16), RECIPE), Stage(Images(8), RECIPE)], tmp_path)


def test_batch_norms_do_not_decay():
    from torchnle.training.loop import _groups

    network = causal().network
    decayed, rest = _groups(network, 0.5)
    norms = {id(p) for m in network.modules() if isinstance(m, torch.nn.BatchNorm1d) for p in m.parameters()}
    assert norms <= {id(p) for p in rest["params"]}
    assert not norms & {id(p) for p in decayed["params"]}


def test_data_that_do_not_fit_are_refused(tmp_path):
    four = Images()
    four.location_counts = {"norm": 4}
    with pytest.raises(TranslatorMismatchError, match="reads 5 tokens"):
        train(causal(), [Stage(four, RECIPE)], tmp_path)
    wide = Images()
    wide.widths = {"norm": 9}
    with pytest.raises(TranslatorMismatchError, match="widths"):
        train(causal(), [Stage(wide, RECIPE)], tmp_path)
    with pytest.raises(ValueError, match="word_steps=3"):
        train(attending(), [Stage(Images(), replace(RECIPE, word_steps=3))], tmp_path)
    with pytest.raises(ValueError, match="no stage"):
        train(causal(), [], tmp_path)
