"""Scoring functions by the paper's formulas, image sources, expected activations, several labels."""

import numpy as np
import pytest
import torch
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder
from map_world import CLASSES, PHRASES, WIDTH, drawn, fitted
from PIL import Image

from torchnle.data import plain_backgrounds, shapes
from torchnle.data.tinting import colour_in, colour_shares, tinted
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.dissect.exemplars.pool import UnitRunner
from torchnle.methods.dissect.probing.images import ProbingSet
from torchnle.methods.dissect.probing.settings import ProbeSettings
from torchnle.methods.dissect.selection.expected import ExpectedActivations, readout
from torchnle.methods.dissect.selection.scoring import Scoring, ranks, score_candidates
from torchnle.methods.dissect.selection.select import Selection
from torchnle.methods.dissect.selection.several import distinct
from torchnle.methods.dissect.selection.sources import Composition, Diffusion, Retrieval
from torchnle.methods.dissect.words import score_rows, score_weights
from torchnle.vision.taps import resolve


def slow_scores(activations, images, exemplars, best=5, compared=10):
    """A.1.4, candidate by candidate."""
    everything = sorted((-a, j, i) for j, row in enumerate(activations.tolist()) for i, a in enumerate(row))
    rank = {(j, i): index + 1 for index, (_, j, i) in enumerate(everything)}
    count, many = activations.shape
    h = [sorted(rank[j, i] for i in range(many)) for j in range(count)]
    mean = [-sum(row) / many for row in h]
    top = [-sum(x * x for x in row[:best]) / min(best, many) for row in h]
    products = []
    for j in range(count):
        kept = sorted(range(many), key=lambda i: (-activations[j, i].item(), i))[:compared]
        pairs = [torch.cosine_similarity(images[j, i], e, dim=0).item() for i in kept for e in exemplars]
        products.append(sum(pairs) / len(pairs))
    order = sorted(range(count), key=lambda j: (-top[j], j))
    both = [(count - order.index(j)) * products[j] for j in range(count)]
    return {"mean": mean, "top squared": top, "image products": products, "top squared and products": both}


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_the_paper_s(seed):
    draws = torch.Generator().manual_seed(seed)
    activations = torch.randint(0, 30, (4, 12), generator=draws).float()  # with ties
    images, exemplars = torch.randn(4, 12, 5, generator=draws), torch.randn(7, 5, generator=draws)
    wanted = slow_scores(activations, images, exemplars)
    for scoring, values in wanted.items():
        found = score_candidates(scoring, activations, images, exemplars)
        torch.testing.assert_close(found, torch.tensor(values), msg=scoring)
    assert set(wanted) == set(Scoring.__args__)
    assert sorted(ranks(activations).flatten().tolist()) == list(range(1, 49))


def test_scoring_says_what_is_missing():
    with pytest.raises(ValueError, match="features"):
        score_candidates("image products", torch.ones(1, 1))


def transform(image):
    return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1).float() / 255


def test_retrieval_finds_the_images_of_the_highest_scores():
    translator, vectors = LetterTranslator(), drawn(9, 6)
    pictures = [Image.new("RGB", (4, 4), (28 * i, 0, 0)) for i in range(9)]
    source = Retrieval(translator, "layer", ProbingSet(pictures, transform), vectors)
    cosines = torch.nn.functional.normalize(vectors, dim=1) @ translator.embed(["sky"])[0]
    found = [image.getpixel((0, 0))[0] // 28 for image in source("sky", 3, 0)]
    assert found == cosines.topk(3).indices.tolist()
    with pytest.raises(ValueError, match="one an image"):
        Retrieval(translator, "layer", ProbingSet(pictures, transform), vectors[:8])


def test_composition_shows_the_thing_and_its_colour():
    white = [ground for ground in plain_backgrounds() if "white" in ground.location]
    cutouts = shapes(names=["square", "heart"], colours=["gray"])
    source = Composition(cutouts, LetterEncoder(), white, nearest=1, size=64)
    plain, red = source("a gray heart", 3, 0), source("a red heart", 3, 0)
    assert [image.size for image in plain] == [(64, 64)] * 3
    assert [p.tobytes() for p in source("a gray heart", 3, 0)] == [p.tobytes() for p in plain]
    assert plain[0].tobytes() != source("a gray heart", 3, 1)[0].tobytes()

    def share(image, colour):
        pixels = np.asarray(image).reshape(-1, 3)
        return colour_shares(pixels[(pixels < 235).any(1)])[colour]

    assert min(share(image, "red") for image in red) > 0.75
    assert max(share(image, "red") for image in plain) == 0


def test_tinting_keeps_light_and_shade_and_every_colour_is_told():
    ramp = Image.fromarray(np.linspace(60, 200, 64, dtype=np.uint8).reshape(8, 8)).convert("RGBA")
    for colour in ("red", "green", "blue", "yellow", "purple", "orange"):
        pixels = np.asarray(tinted(ramp, colour))[..., :3].reshape(-1, 3)
        assert (
            colour_shares(pixels, ["red", "green", "blue", "yellow", "purple", "orange", "gray"])[colour]
            > 0.9
        )
        assert (np.diff(pixels.astype(int).sum(1)) >= 0).all()
    assert colour_in("an old Blue bus") == "blue"
    with pytest.raises(ValueError, match="mauve"):
        tinted(ramp, "mauve")


class FakePipeline:
    """As a diffusers pipeline is called; an image is the noise of its generator."""

    def __init__(self):
        self.calls = []

    def __call__(self, prompt, num_inference_steps, generator, output_type, **options):
        self.calls.append((prompt, num_inference_steps, options))
        drawn = [torch.randint(0, 255, (4, 4, 3), generator=g, dtype=torch.uint8).numpy() for g in generator]
        return type("Output", (), {"images": [Image.fromarray(each) for each in drawn]})


def test_diffusion_asks_for_the_label_with_a_seed_an_image():
    one, two = FakePipeline(), FakePipeline()
    whole = Diffusion(one, steps=7, batch_size=10, guidance_scale=3.0)("a hen", 7, 0)
    parts = Diffusion(two, steps=7, batch_size=3)("a hen", 7, 0)
    assert [image.tobytes() for image in whole] == [image.tobytes() for image in parts]
    assert len({image.tobytes() for image in whole}) == 7
    assert one.calls == [(["One realistic image of a hen"] * 7, 7, {"guidance_scale": 3.0})]
    assert [len(call[0]) for call in two.calls] == [3, 3, 1]
    with pytest.raises(ValueError, match="label"):
        Diffusion(one, prompt="an image")


def test_diffusion_runs_a_real_tiny_pipeline():
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )

    class Prompted(diffusers.DDIMPipeline):
        def __call__(self, prompt, **options):
            return super().__call__(batch_size=len(prompt), **options)

    pipeline = Prompted(unet, diffusers.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    found = Diffusion(pipeline, steps=2, batch_size=2)("a hen", 3, 0)
    assert [image.size for image in found] == [(8, 8)] * 3


def test_selection_ranks_by_the_model_s_own_activations():
    model = conv_net()
    (tap,) = resolve(model, "layer")
    runner = UnitRunner(model, tap, transform, settings=ProbeSettings(batch_size=4))
    calls = []

    def source(label, count, seed):
        calls.append(label)
        draws = np.random.default_rng(len(label))
        return [Image.fromarray(draws.integers(0, 255, (8, 8, 3), dtype=np.uint8)) for _ in range(count)]

    selection = Selection(source, runner, scoring="mean", count=6, final=3)
    labels = ["a", "bb", "ccc", "dddd"]
    for unit in (0, 4):
        scores = selection.rank(unit, labels)
        read = [runner.activations(source(label, 6, 0))[:, unit] for label in labels[:3]]
        torch.testing.assert_close(scores[:3], score_candidates("mean", torch.stack(read)))
        assert scores[3] < scores[:3].min()
    assert calls.count("dddd") == 0
    assert calls.count("a") == 3  # once for both units, and twice here
    with pytest.raises(ValueError, match="0 of 6 images"):
        Selection(lambda *given: [], runner, count=6).rank(0, ["a"])


def translator():
    return MapTranslator(
        {"layer": fitted()}, LetterEncoder(), phrases=PHRASES, class_names=CLASSES, class_texts=CLASSES
    )


def test_expected_activations_go_back_through_the_whitening():
    maps = translator()
    matrix = maps.by_layer["layer"].matrix
    direction = maps.directions("layer", ["a cat"])[0]
    deviations = drawn(WIDTH, seed=4).abs() + 0.5
    expected = ExpectedActivations.of_channels(maps, "layer", deviations)(["a cat"])[0]
    shift = expected * deviations
    torch.testing.assert_close(shift @ matrix, direction, atol=1e-4, rtol=1e-4)


def test_readout_is_ridge_regression():
    vectors, activations = drawn(40, 5, seed=1), drawn(40, 3, seed=2)
    x = (vectors - vectors.mean(0)).double()
    y = (activations - activations.mean(0)).double()
    scale = y.pow(2).mean(0).sqrt()
    penalty = x.pow(2).sum() / 5
    wanted = torch.linalg.inv(x.T @ x + penalty * torch.eye(5)) @ x.T @ (y / scale)
    found = readout((x.T @ x).float(), (y.T @ x).float(), scale.float())
    torch.testing.assert_close(found, wanted.float(), atol=1e-5, rtol=1e-4)


def test_several_labels_say_different_things():
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1.0, 0.1], [0, 1.0], [-1.0, 0]]), dim=1)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.2])
    assert distinct(scores, vectors, most=3) == [0, 2]
    assert distinct(scores, vectors, most=3, share=0.0) == [0, 2, 3]
    assert distinct(scores, vectors, most=1) == [0]
    assert distinct(scores, vectors, most=2, same=1.0) == [0, 1]
    with pytest.raises(ValueError, match="most=0"):
        distinct(scores, vectors, most=0)


def test_maps_are_found_where_the_model_stands_inside_another():
    from torchnle.errors import TranslatorMismatchError

    maps = translator()
    inner, outer = (score_weights(maps, layer, ["a cat"]) for layer in ("layer", "backbone.layer"))
    assert torch.equal(inner, outer)
    rows = drawn(5, WIDTH, seed=3)
    shifted = score_rows(maps, "backbone.layer", rows, ["a cat"]) - rows @ inner.T
    torch.testing.assert_close(shifted, shifted[:1].expand_as(shifted), atol=1e-4, rtol=1e-4)
    with pytest.raises(TranslatorMismatchError, match="none of these"):
        score_weights(maps, "layerlayer", ["a cat"])
