"""CLIPs with random weights: the whole image scores as the model does, a location as if it filled it."""

import pytest
import torch
import torch.nn.functional as F
from tiny_clip import RESNET, TEXTS, VIT, coca, hugging_face, open_clip_model
from torch import nn

from torchnle import LanguageAttribution
from torchnle.heads.classifier_head import find_head
from torchnle.language.clip_text import ClipText
from torchnle.methods.clip.read import read_clip
from torchnle.methods.clip.translator import ClipTranslator
from torchnle.translators.base import Translator
from torchnle.vision.reading import Reading, read

MODELS = {
    "ViT": (lambda: open_clip_model(VIT), "visual.ln_post", "token", (4, 4)),
    "ViT averaged": (
        lambda: open_clip_model(VIT | {"pool_type": "avg", "final_ln_after_pool": True}),
        "visual.transformer", "mean", (4, 4),
    ),
    "ResNet": (
        lambda: open_clip_model(RESNET),
        "visual.attnpool:input", "all", (2, 2),
    ),
    "timm": (
        lambda: open_clip_model(
            {"image_size": 96, "timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear"}
        ),
        "visual.trunk.stages", "mean", (3, 3),
    ),
    "CoCa": (coca, "visual", "none", None),
    "transformers CLIP": (lambda: hugging_face("CLIP"), "vision_model.encoder.layers.1", "token", (4, 4)),
    "transformers SigLIP": (lambda: hugging_face("Siglip"), "vision_model.head:input", "all", (4, 4)),
}  # fmt: skip


def side(model):
    config = getattr(getattr(model, "config", None), "vision_config", None)
    size = config.image_size if config else model.visual.image_size
    return size if isinstance(size, int) else size[0]


def images(model, count=2):
    return torch.randn(count, 3, side(model), side(model), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def own_cosines(model, tokenizer, x):
    """What the model itself says of images and texts."""
    model.eval()
    if hasattr(model, "encode_text"):
        image, text = model.encode_image(x), model.encode_text(tokenizer(TEXTS))
    else:
        tokens = tokenizer(TEXTS, padding="max_length", max_length=8, truncation=True, return_tensors="pt")
        tokens.pop("token_type_ids", None)  # what older tokenizers add and no CLIP reads
        out = model(**tokens, pixel_values=x)
        image, text = out.image_embeds, out.text_embeds
    return F.normalize(image, dim=1) @ F.normalize(text, dim=1).T


@pytest.mark.parametrize("name", MODELS)
def test_the_whole_image_scores_as_the_model_itself(name):
    build, tap, pooling, grid = MODELS[name]
    model, tokenizer = build()
    x = images(model)
    lang = LanguageAttribution.from_clip(model.train(), tokenizer)
    (given,) = lang.taps
    with torch.no_grad():
        scores = lang.text_score(TEXTS)(x)
    assert all(part.training for part in model.modules())
    torch.testing.assert_close(scores, own_cosines(model, tokenizer, x), rtol=1e-3, atol=1e-5)
    whole, _, _ = tap.partition(
        ".layers."
    )  # before version 5 of transformers it gives its last block's output
    assert given.name in (tap, whole)
    assert lang.reading.pool.__self__.pooling == pooling
    if grid is not None:
        maps = lang.saliency(x, TEXTS, interpolate_mode=None)
        assert maps.shape == (2, 3, *grid)
        assert maps.flatten(2).std(dim=2).min() > 0
        assert lang.attribute(x, target="a dog").shape == x.shape
        assert "Checked on 2 image(s)" in lang.summary
    else:
        assert "only whole images" in lang.summary


@torch.no_grad()
def test_a_place_of_a_vit_goes_the_way_of_the_class_token():
    model, tokenizer = open_clip_model(VIT)
    x, tower = images(model), model.visual
    lang = LanguageAttribution.from_clip(model, tokenizer)
    tokens = tower.ln_post(tower.transformer(tower._embeds(x)))[:, 1:] @ tower.proj
    text = F.normalize(model.encode_text(tokenizer(TEXTS)), dim=1)
    expected = (F.normalize(tokens, dim=2) @ text.T).view(2, 4, 4, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(lang.saliency(x, TEXTS, interpolate_mode=None), expected, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_place_of_an_attention_pool_is_all_there_is_to_attend_to():
    model, tokenizer = MODELS["transformers SigLIP"][0]()
    x, head = images(model, 1), model.vision_model.head
    lang = LanguageAttribution.from_clip(model, tokenizer)
    assert lang.reading.pool.__self__.branches[0].views[0].count == 1
    tokens = model.eval().vision_model(pixel_values=x).last_hidden_state[0]
    filled = head(tokens[:, None].expand(16, 16, 24))  # (location, copies of it, width)
    clip = ClipText(model, tokenizer)
    expected = (F.normalize(filled, dim=1) @ clip.encode(TEXTS).T).T.view(3, 4, 4)
    torch.testing.assert_close(
        lang.saliency(x, TEXTS, interpolate_mode=None)[0], expected, rtol=1e-4, atol=1e-5
    )


def test_describing_takes_the_phrase_of_highest_score():
    model, tokenizer = open_clip_model(VIT)
    lang, x = LanguageAttribution.from_clip(model, tokenizer, bank=TEXTS), images(model)
    best = own_cosines(model, tokenizer, x).max(dim=1)
    shares = (model.logit_scale.exp() * own_cosines(model, tokenizer, x)).softmax(dim=1)
    for description, score, index, own in zip(
        lang.describe(x), best.values, best.indices, shares, strict=True
    ):
        assert description.phrases[0][0] == TEXTS[index]
        assert description.phrases[0][1] == pytest.approx(own[index].item(), rel=1e-4)
        if description.text == TEXTS[index]:
            assert description.score == pytest.approx(score.item(), abs=1e-5)
            assert description.probability == pytest.approx(own[index].item(), rel=1e-4)


class ZeroShot(nn.Module):
    """The usual classifier made of CLIP: class texts are its weights."""

    def __init__(self, model, tokenizer):
        super().__init__()
        self.visual = model.visual
        with torch.no_grad():
            self.register_buffer("texts", F.normalize(model.encode_text(tokenizer(TEXTS)), dim=1))

    def forward(self, x):
        return 100 * F.normalize(self.visual(x), dim=1) @ self.texts.T


@pytest.mark.parametrize(("vision", "tap"), [(VIT, "visual.ln_post"), (RESNET, "visual.attnpool:input")])
def test_class_heads_made_of_texts(vision, tap):
    model, tokenizer = open_clip_model(vision)
    classifier, x = ZeroShot(model, tokenizer).eval(), images(model)
    head = find_head(classifier, x, len(TEXTS))
    torch.testing.assert_close(head.weight, 100 * classifier.texts, rtol=1e-4, atol=1e-4)
    assert (head.head_name, head.tap.name) == ("texts", tap)
    reading = Reading(layout=head.layout, num_prefix_tokens=head.num_prefix_tokens)
    with torch.no_grad():
        (features,) = read(classifier, [head.tap], x, None, reading)
        torch.testing.assert_close(head.logits(features), classifier(x), rtol=1e-4, atol=1e-3)


class TestClipText:
    def test_batches_do_not_matter_and_texts_are_unit_vectors(self):
        encoder = ClipText(*hugging_face("CLIP"))
        vectors = encoder.encode(TEXTS * 2, batch_size=4)
        torch.testing.assert_close(vectors[:3], vectors[3:])
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(6))
        assert encoder.width == 20

    def test_the_model_is_left_as_it_is(self):
        model, tokenizer = open_clip_model(VIT)
        model.train()
        ClipText(model, tokenizer).encode(TEXTS)
        assert all(part.training for part in model.modules())
        assert all(value.requires_grad for value in model.parameters())

    @pytest.mark.parametrize("texts", ["a dog", [], ["a dog", " "], [3]])
    def test_bad_texts(self, texts):
        with pytest.raises((TypeError, ValueError)):
            ClipText(*open_clip_model(VIT)).encode(texts)

    def test_bad_batch_size(self):
        with pytest.raises(ValueError, match="batch_size=0"):
            ClipText(*open_clip_model(VIT)).encode(TEXTS, batch_size=0)

    def test_no_text_tower(self):
        model, tokenizer = open_clip_model(VIT)
        with pytest.raises(TypeError, match="VisionTransformer has neither 'encode_image'"):
            read_clip(model.visual, tokenizer)


class TestSaving:
    def test_a_folder_of_transformers(self, tmp_path):
        model, tokenizer = hugging_face("CLIP")
        model.save_pretrained(tmp_path / "clip")
        tokenizer.save_pretrained(tmp_path / "clip")
        clip = read_clip(model, tokenizer, bank=TEXTS, reference=str(tmp_path / "clip"))
        clip.translator.save_pretrained(tmp_path / "saved")
        loaded = Translator.from_pretrained(tmp_path / "saved")
        assert isinstance(loaded, ClipTranslator)
        assert (loaded.bank, loaded.layer) == (tuple(TEXTS), clip.readout.tap.name)
        torch.testing.assert_close(loaded.embed(TEXTS), clip.translator.embed(TEXTS))

    def test_without_a_reference(self):
        clip = read_clip(*open_clip_model(VIT))
        with pytest.raises(ValueError, match="the CLIP has no reference"):
            clip.translator.config  # noqa: B018
