import resource
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fakes import LetterTranslator, conv_net
from letter_encoder import LetterEncoder
from map_world import drawn
from torch import nn

from torchnle import LanguageAttribution
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.probability.vocabulary import Vocabulary
from torchnle.methods.aligned.text_choice import noun_mass
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features

NAMES = ["cat", "dog", "bird", "house", "tree"]
IMAGES = drawn(12, 3, 8, 8, seed=3)
CAPTIONS = ["a cat on grass", "a dog", "a red door"] * 4
MODEL = conv_net()


def by_names(names=NAMES, model=MODEL, **options):
    given = {"example": IMAGES[:2], "vocabulary": ["grass"], "encoder": LetterEncoder(), **options}
    return LanguageAttribution.from_classifier(model, names, **given)


def by_captions(batches, layers="norm", model=MODEL, **options):
    given = {"vocabulary": ["sky"], "encoder": LetterEncoder(), **options}
    return LanguageAttribution.from_captions(model, layers, batches, **given)


class TestClassNames:
    def test_one_class(self):
        with pytest.raises(ValueError, match="at least two classes"):
            by_names(["cat"], conv_net(classes=1))

    def test_another_number_of_names(self):
        with pytest.raises(ValueError, match="5 classes, but 4 class names"):
            by_names(NAMES[:4])

    @pytest.mark.parametrize("form", ["LABEL_{}", "label {}", "class_{}", "Class-{}"])
    def test_numbered_labels_are_no_names(self, form):
        with pytest.raises(ValueError, match=r"class_names are .*a name in words"):
            by_names([form.format(index) for index in range(5)])

    def test_digits_may_be_what_is_seen(self):
        assert by_names(list("01234")).translator.class_names == tuple("01234")

    def test_blank(self):
        with pytest.raises(ValueError, match=r"class_names\[1\].*blank"):
            by_names(["cat", " ", "bird", "house", "tree"])

    def test_two_classes_of_one_name(self):
        lang = by_names(["crane", "dog", "crane", "house", "tree"], images=[IMAGES])
        assert lang.translator.vocabulary.phrases[:4] == ("a crane", "a dog", "a house", "a tree")
        (fitted,) = lang.translator.maps
        prototypes = F.normalize(fitted.targets[0] + fitted.targets[2], dim=0)
        direction = lang.translator.directions(lang.translator.layers[0], ["a crane"])[0]
        assert (direction @ prototypes).item() > 0.95
        assert all(0 <= found.probability <= 1 for found in lang.describe(IMAGES))

    def test_all_classes_of_one_name(self):
        lang = by_names(["crane"] * 5, images=[IMAGES])
        assert all(0 <= found.probability <= 1 for found in lang.describe(IMAGES))

    @pytest.mark.real
    @pytest.mark.parametrize("name", ["кошка", "猫", "γάτα", "แมว", "고양이"])
    def test_names_that_the_encoder_does_not_know_are_warned_of(self, name):
        with pytest.warns(UserWarning, match=f"1 text.*does not know.*{name}"):
            by_names([name, "dog", "crème brûlée", "house", "tree"], encoder=TextEncoder.from_pretrained())


class TestCaptions:
    @pytest.mark.parametrize("caption", ["Running fast!", "...", ""])
    def test_no_noun_phrase(self, caption):
        with pytest.raises(ValueError, match=r"'norm'.*12 captioned images with 0 different phrases"):
            by_captions([(IMAGES, [caption] * 12)])

    def test_one_caption(self):
        with pytest.raises(ValueError, match=r"1 captioned images with 1 different phrases"):
            by_captions([(IMAGES[:1], ["a cat"])])

    def test_two_captions_suffice(self):
        lang = by_captions([(IMAGES[:2], ["a cat", "a dog"])])
        pooled = Features(MODEL[:4](IMAGES[:2]).mean((2, 3))[:, None], "norm")
        assert lang.translator.score(rows_of(pooled), ["a cat", "a dog"]).argmax(dim=1).tolist() == [0, 1]

    def test_captions_that_all_name_the_same(self):
        with pytest.raises(ValueError, match="do not vary with the 1 phrase"):
            by_captions([(IMAGES, ["a cat"] * 12)])

    def test_constant_features(self):
        model = conv_net()
        model.norm.weight.data.zero_()
        with pytest.raises(ValueError, match=r"'norm' cannot be mapped.*do not vary"):
            by_captions([(IMAGES, CAPTIONS)], ["layer", "norm"], model)

    def test_fewer_images_than_channels(self):
        model = conv_net(width=40)
        lang = by_captions([(IMAGES, CAPTIONS)], model=model)
        scores = lang.translator.score(
            rows_of(Features(model[:4](IMAGES).mean((2, 3))[:, None], "norm")),
            ["a cat", "a dog", "a red door"],
        )
        assert scores.isfinite().all()
        right = scores.argmax(dim=1) == torch.arange(12) % 3
        assert right.float().mean() > 0.7
        assert all(0 <= d.probability <= 1 for d in lang.describe(IMAGES))

    def test_no_batch(self):
        with pytest.raises(ValueError, match="no images to fit on"):
            by_captions(iter([]))

    def test_not_one_caption_an_image(self):
        with pytest.raises(ValueError, match="11 captions came with 12 images"):
            by_captions([(IMAGES, CAPTIONS[1:])])

    def test_captions_in_one_string(self):
        with pytest.raises(TypeError, match="captions of a batch are a str"):
            by_captions([(IMAGES, "a cat on mat")])

    def test_a_caption_that_is_no_string(self):
        with pytest.raises(TypeError, match=r"captions\[1\] is 3"):
            by_captions([(IMAGES[:2], ["a cat", 3])])

    def test_images_without_captions(self):
        with pytest.raises(TypeError, match="captions of a batch are a Tensor"):
            by_captions([IMAGES[:2]])  # unpacks into two images

    @pytest.mark.parametrize("images", [np.zeros((2, 3, 8, 8)), [IMAGES[0], IMAGES[1]], "a.png"])
    def test_images_of_another_type(self, images):
        with pytest.raises(TypeError, match=f"a batch of images is a {type(images).__name__}"):
            by_captions([(images, ["a cat", "a dog"])])

    def test_a_head_that_reads_another_layer(self):
        with pytest.raises(ValueError, match=r"reads 'norm', which is not among.*'layer'"):
            by_captions([(IMAGES, CAPTIONS)], "layer", class_names=NAMES, example=IMAGES[:2])


class TestAdapt:
    def test_one_picture(self):
        lang = by_names()
        before = lang.translator.maps[0].center.clone()
        with pytest.raises(ValueError, match=r"one image was given to adapt to.*at least two"):
            lang.adapt(IMAGES[:1])
        assert torch.equal(lang.translator.maps[0].center, before)

    def test_one_picture_many_times(self):
        with pytest.raises(ValueError, match="'norm' gives the same features for all 6 images"):
            by_names().adapt(IMAGES[:1].expand(6, -1, -1, -1))

    def test_two_pictures_suffice(self):
        found = by_names().adapt([IMAGES[:1], IMAGES[1:2]]).describe(IMAGES)
        assert all(0 <= d.probability <= 1 for d in found)

    @pytest.mark.parametrize("images", [[], iter([])])
    def test_none(self, images):
        with pytest.raises(ValueError, match="no images to adapt to"):
            by_names().adapt(images)
        with pytest.raises(ValueError, match="no images to adapt to"):
            by_names(images=images)

    def test_an_empty_batch(self):
        with pytest.raises(ValueError, match=r"empty|no images"):
            by_names().adapt(IMAGES[:0])

    def test_a_loader_with_labels(self):
        with pytest.raises(TypeError, match=r"is a list; .*pass \(images for images, _ in loader\)"):
            by_names().adapt([[IMAGES, torch.arange(12)]])

    def test_paths(self):
        with pytest.raises(TypeError, match="a batch of images is a str"):
            by_names().adapt(["a.png"])

    def test_a_translator_without_statistics(self):
        with pytest.raises(TypeError, match="LetterTranslator has no statistics"):
            LanguageAttribution(MODEL, "norm", LetterTranslator()).adapt(IMAGES)


class TestVocabularies:
    def test_one_string(self):
        with pytest.raises(TypeError, match="one string"):
            by_names(vocabulary="a cat")

    def test_a_blank_line(self):
        with pytest.raises(ValueError, match=r"texts\[1\].*blank"):
            by_names(vocabulary=["a cat", ""])

    def test_none_at_all_beside_the_classes(self):
        assert by_names(vocabulary=[]).translator.vocabulary.phrases[0] == "a cat"

    def test_a_hundred_thousand_lines(self, capsys, monkeypatch):
        """Blocks of phrases are encoded and carried, under a bar, and no matrix of all by all is made."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        lines = [f"{'abcdefghij'[i % 10]}{i:x} thing" for i in range(100_000)]
        encoder = Quick()
        lang = by_names(vocabulary=lines, encoder=encoder, images=[IMAGES])
        translator = lang.translator
        pooled = Features(MODEL[:4](IMAGES).mean((2, 3))[:, None], translator.layers[0])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = translator.describe(rows_of(pooled))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert "encoding phrases" in capsys.readouterr().err
        assert max(encoder.sizes) <= 8192
        assert sum(encoder.sizes) >= 100_000
        assert len(translator.vocabulary) == 100_005
        assert all(0 <= d.probability <= 1 and d.text for d in found)
        assert grown < 500_000  # KiB; 100,000 x 100,000 numbers would be 40 GB

    def test_masses_of_many_phrases_take_no_room_for_every_link(self):
        words = Vocabulary([f"a {kind} dog" for kind in range(3000)])
        posterior = torch.full((400, 3000), 1 / 3000)
        with torch.profiler.profile(profile_memory=True) as profile:
            mass = noun_mass(posterior, words)
        links = words.tree.phrase.numel()
        most = max((event.cpu_memory_usage for event in profile.events()), default=0)
        assert most < 0.5 * 400 * links * 4
        torch.testing.assert_close(mass.amax(), torch.ones(()), atol=1e-4, rtol=0)


class Quick(TextEncoder):
    """A stand-in that hashes texts to vectors."""

    reference, width, device = "quick", 8, torch.device("cpu")

    def __init__(self):
        self.sizes = []

    def encode(self, texts, batch_size=64):
        self.sizes.append(len(texts))
        codes = torch.tensor([sum(map(ord, t)) * 7919 + len(t) for t in texts]).double()
        angles = codes[:, None] * torch.tensor([0.1, 0.37, 0.73, 1.1, 1.7, 2.3, 3.1, 4.7]).double()
        return F.normalize(angles.sin().float(), dim=1)


def test_a_model_without_batch_normalisation_needs_no_image():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    )
    lang = by_names(model=model.eval())
    (fitted,) = lang.translator.maps
    assert torch.equal(fitted.center, torch.zeros(6))
    assert fitted.temperature > 0
    assert all(0 <= d.probability <= 1 for d in lang.describe(IMAGES))
