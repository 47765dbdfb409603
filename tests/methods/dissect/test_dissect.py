"""`dissect` end to end in a world of colours where every answer is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from colour_world import NAMES, PHRASES, ColourTranslator, backbone, colours, scenes
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder
from PIL import Image

from torchnle.methods.dissect.candidates.attributes import shared_colour, with_colour
from torchnle.methods.dissect.candidates.captioners import TranslatorCaptioner
from torchnle.methods.dissect.candidates.proposers import CaptionAndSummarise
from torchnle.methods.dissect.candidates.summarisers import Extractive
from torchnle.methods.dissect.exemplars.exemplar import Exemplar
from torchnle.methods.dissect.labels import Dissection, UnitLabel, concept_profile, shares_of
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.probing.units import EncodedUnits
from torchnle.methods.dissect.run import DissectSettings, dissect
from torchnle.methods.dissect.silencing import mean_values, silenced

SMALL = ProbeSettings(k=4, batch_size=8)


class World(ColourTranslator):
    """Scores a text without a colour as the mean of all."""

    def score(self, features, texts, **options):
        scores = super().score(features, PHRASES, **options)
        columns = [[i for i, name in enumerate(NAMES) if name in text] or [0, 1, 2, 3] for text in texts]
        return torch.stack([scores[:, chosen].mean(dim=1) for chosen in columns], dim=1)


def colour_units():
    """One unit a colour, active where the location is near to it, and a dead one."""

    def encode(tokens):
        near = (1 - torch.cdist(tokens, colours().expand(len(tokens), -1, -1))).clamp(min=0)
        return torch.cat([near, torch.zeros_like(near[..., :1])], dim=-1)

    return EncodedUnits(encode, key="colours")


def run(**options):
    world = backbone()
    given = {
        "translator": World(),
        "evidence_layer": "coarse",
        "units": colour_units(),
        "probing": SMALL,
    }
    given |= {"transform": world.preprocess} | options
    return dissect(world.model, "coarse", scenes(40), **given)


def test_units_are_labelled_where_they_are_active_and_dead_ones_are_said():
    found = run()
    assert [label.text for label in found[:4]] == list(PHRASES)
    assert found.dead == (4,)
    assert found[4].text == ""
    assert "never became active" in found[4].note
    for label, name in zip(found[:4], NAMES, strict=True):
        assert all(name in scenes(40)[image].caption for image in label.images)
    assert run(only=[2, 4])[0] == found[2]
    mean, deviation = found.record.moments
    best = found.find_active(mean + deviation * torch.tensor([0.5, 3.0, 1.0, -1.0, 9.0]), k=2)
    assert [(label.unit, round(score, 2)) for label, score in best] == [(1, 3.0), (2, 1.0)]
    with pytest.raises(ValueError, match="5 units"):
        run(only=[5])


def test_images_of_candidates_decide_where_there_is_a_source():
    def solid(label, count, seed):
        colour = next((name for name in NAMES if name in label), "red")
        rgb = tuple(int((v + 1) * 127.5) for v in colours()[NAMES.index(colour)].tolist())
        return [Image.new("RGB", (64, 64), rgb)] * count

    class AllColours:
        def __call__(self, exemplars, count, seed):
            from torchnle.methods.dissect.candidates.proposers import Proposal

            return Proposal(PHRASES)

    settings = DissectSettings(scoring="mean", final=4, correlated=0)
    found = run(proposer=AllColours(), images_of=solid, settings=settings)
    assert [label.text for label in found[:4]] == list(PHRASES)
    with pytest.raises(ValueError, match="transform"):
        dissect(
            conv_net(),
            "layer",
            list(torch.rand(6, 3, 8, 8)),
            translator=LetterTranslator(),
            evidence_layer="layer",
            probing=ProbeSettings(k=2),
            images_of=solid,
        )


def test_a_run_that_is_killed_while_it_asks_goes_on_with_the_same_labels(tmp_path):
    class Slow(Extractive):
        fingerprint = "slow"
        calls = 0

        def __call__(self, captions, count, seed=0):
            Slow.calls += 1
            if Slow.calls == 3:
                raise KeyboardInterrupt
            return super().__call__(captions, count, seed)

    whole = run(summariser=Extractive())
    with pytest.raises(KeyboardInterrupt):
        run(summariser=Slow(), cache=tmp_path)
    (log,) = tmp_path.glob("*.jsonl")
    log.write_text(log.read_text() + '[3, {"lab')
    again = run(summariser=Slow(), cache=tmp_path)
    assert Slow.calls == 5  # two units were kept, the third was begun, two are left
    assert list(again)[:4] == list(whole)[:4]
    assert again.dead == whole.dead


def test_bad_input_is_said():
    with pytest.raises(ValueError, match="no source of labels"):
        dissect(conv_net(), "layer", list(torch.rand(12, 3, 8, 8)))
    with pytest.raises(ValueError, match="empty"):
        run_on([])
    with pytest.raises(ValueError, match="fewer than the k=10"):
        run_on(list(torch.rand(3, 3, 8, 8)))
    with pytest.raises(ValueError, match="names no layer"):
        dissect(conv_net(), "layer", list(torch.rand(12, 3, 8, 8)), translator=LetterTranslator())
    with pytest.raises(ValueError, match="labels=0"):
        DissectSettings(labels=0)


def run_on(images):
    return dissect(conv_net(), "layer", images, translator=LetterTranslator(), evidence_layer="layer")


def test_a_captioner_that_says_nothing_leaves_a_unit_without_a_label():
    silent = CaptionAndSummarise(lambda exemplars: [""] * len(exemplars), Extractive())
    found = run(proposer=silent, settings=DissectSettings(correlated=0))
    assert [label.text for label in found] == [""] * 5
    assert "said nothing" in found[0].note
    assert not found[0].reliable


def test_captions_in_a_batch_are_those_one_by_one():
    class OneByOne:
        def __init__(self, inner):
            self.inner = inner

        def __call__(self, exemplars):
            return [caption for each in exemplars for caption in self.inner([each])]

    together = run()
    alone = run(captioner=OneByOne(TranslatorCaptioner(World(), "coarse")))
    assert [label.captions for label in together] == [label.captions for label in alone]


def test_crops_join_the_exemplars():
    found = run(settings=DissectSettings(crops=True))
    assert [label.text for label in found[:4]] == list(PHRASES)


def test_labels_are_found_counted_and_written_down():
    units = [
        UnitLabel(0, "a red car", 0.5),
        UnitLabel(1, "a blue car", 0.4),
        UnitLabel(2, "", float("nan"), dead=True),
    ]
    found = Dissection("layer", units)
    assert [label.unit for label in found.find("car")] == [0, 1]
    assert [label.unit for label in found.find("red car")] == [0]
    assert shares_of(found) == {"a red car": 0.5, "a blue car": 0.5}
    assert json.loads(json.dumps(found.to_dict()["units"][0]))["text"] == "a red car"
    assert "unit 2: dead" in str(found)
    with pytest.raises(ValueError, match="no probing record"):
        found.exemplars(units[0])

    class Words(LetterEncoder):
        def encode(self, texts, batch_size=64):
            return torch.tensor([[float("red" in text), float("blue" in text)] for text in texts])

    assert concept_profile(found, ["red", "blue"], Words()) == {"red": (0,), "blue": (1,)}


def test_colours_are_added_only_where_contrast_images_lack_them():
    red = [Exemplar(i, 1.0, Image.new("RGB", (8, 8), (200, 30, 30))) for i in range(10)]
    blue = Image.new("RGB", (8, 8), (30, 60, 200))
    assert shared_colour(red) == "red"
    assert shared_colour(red, [(blue, None)] * 5) == "red"
    assert shared_colour(red, [(red[0].picture, None)] * 5) is None
    mixed = [replace(each, picture=blue) if i % 2 else each for i, each in enumerate(red)]
    assert shared_colour(mixed) is None
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = (200, 30, 30)
    half[4:] = (30, 60, 200)
    maps = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    masked = [Exemplar(0, 1.0, Image.fromarray(half), maps)] * 4
    assert shared_colour(masked) == "red"
    assert with_colour("an apple", "green") == "a green apple"


@pytest.mark.parametrize("value", [0.0, "means"])
def test_silenced_units_are_constant_and_the_model_is_restored(value):
    model, images = conv_net(), torch.rand(4, 3, 8, 8)
    before, weights = model(images), {name: t.clone() for name, t in model.state_dict().items()}
    features = model[:3](images)
    level = mean_values(features.flatten(2).mean(2), [1, 5]) if value == "means" else value
    changed = features.clone()
    changed[:, [1, 5]] = level.view(1, 2, 1, 1) if value == "means" else level
    with silenced(model, "layer", [1, 5], value=level):
        inside = model(images)
    torch.testing.assert_close(inside, model[3:](changed))
    assert torch.equal(model(images), before)
    assert not model.layer._forward_hooks
    assert all(torch.equal(weights[name], t) for name, t in model.state_dict().items())
    with pytest.raises(ValueError, match="6 units"), silenced(model, "layer", [6]):
        model(images)
    assert not model.layer._forward_hooks


def test_silencing_reaches_into_tuples_tokens_and_vectors():
    class Pair(torch.nn.Module):
        def forward(self, x):
            return {"maps": (x, 1)}

    pair = Pair()
    model = torch.nn.Sequential(pair)
    with silenced(model, pair, [0], axis=2):
        inside = model(torch.ones(2, 5, 3))["maps"][0]
    assert inside[..., 0].abs().sum() == 0
    assert inside[..., 1:].eq(1).all()
    head = torch.nn.Sequential(torch.nn.Linear(3, 4))
    with silenced(head, "0", [3]):
        assert head(torch.ones(2, 3))[:, 3].tolist() == [0.0, 0.0]
