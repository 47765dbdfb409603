"""A saved image model comes back as the class it was saved as, whole, with its own image processor."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from torchnle import backbones

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
PROCESSORS = {
    "channels turned round": transformers.MobileViTImageProcessor(),
    "not normalised": transformers.ViTImageProcessor(do_normalize=False),
    "not rescaled": transformers.ViTImageProcessor(do_rescale=False),
    "another crop": transformers.CLIPImageProcessor(
        size={"shortest_edge": 60}, crop_size={"height": 32, "width": 32}
    ),
    "a share": transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
    "not square": transformers.ViTImageProcessor(size={"height": 24, "width": 32}),
    "own resizing": transformers.LevitImageProcessor(),
    "not resized": transformers.ViTImageProcessor(do_resize=False),
    "offset": transformers.EfficientNetImageProcessor(size={"height": 32, "width": 32}, rescale_offset=True),
}


def photo(width=90, height=60):
    noise = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(0))
    smooth = torch.linspace(0, 120, width)[None, :, None] + noise / 4
    return Image.fromarray(smooth.to(torch.uint8).numpy())


def vit(**options):
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8, **options)
    return transformers.ViTForImageClassification(config).eval()


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_go_through_the_saved_processor(name, tmp_path):
    vit().save_pretrained(tmp_path)
    PROCESSORS[name].save_pretrained(tmp_path)
    expected = PROCESSORS[name](images=photo(), return_tensors="pt")["pixel_values"][0]
    found = backbones.load(f"transformers:{tmp_path}").preprocess(photo())
    torch.testing.assert_close(found, expected.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("not normalised", (90, 60)),
        ("not square", (90, 60)),
        ("another crop", (32, 32)),
        ("a share", (48, 48)),
    ],
)
def test_the_view_is_what_the_processor_keeps(name, size, tmp_path):
    vit().save_pretrained(tmp_path)
    PROCESSORS[name].save_pretrained(tmp_path)
    view = backbones.load(f"transformers:{tmp_path}").view(photo())
    assert max(abs(a - b) for a, b in zip(view.size, size, strict=True)) <= 2


def test_a_classifier_without_its_head_is_refused_by_name(tmp_path):
    vit().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if "classifier" not in name}
    save_file(kept, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"classifier\.bias, classifier\.weight"):
        backbones.load(f"transformers:{tmp_path}")


def wrapped(folder, prefix):
    """Write a prefix before every name of a folder's weights, in one file or several, and in their index."""
    for file in folder.glob("*.safetensors"):
        save_file({prefix + name: tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    for file in folder.glob("*.index.json"):
        index = json.loads(file.read_text())
        index["weight_map"] = {prefix + name: shard for name, shard in index["weight_map"].items()}
        file.write_text(json.dumps(index))


def pickled(folder):
    file = folder / "model.safetensors"
    torch.save(load_file(file), folder / "pytorch_model.bin")
    file.unlink()


@pytest.mark.parametrize(
    ("prefix", "size", "pickle"),
    [
        ("module.", "1GB", False),
        ("_orig_mod.", "1GB", False),
        ("module._orig_mod.", "1GB", False),
        ("module.", "5KB", False),
        ("module.", "1GB", True),
    ],
)
def test_names_of_wrapped_models_are_understood(prefix, size, pickle, tmp_path):
    saved = vit()
    saved.save_pretrained(tmp_path, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "5KB")
    wrapped(tmp_path, prefix)
    if pickle:
        pickled(tmp_path)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbones.load(f"transformers:{tmp_path}").model(x).logits, saved(x).logits)


def test_weights_that_are_left_over_are_refused_by_name(tmp_path):
    vit(num_labels=3).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), "adapter.weight": torch.ones(2)}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=r"adapter\.weight"):
        backbones.load(f"transformers:{tmp_path}")


def test_a_classifier_on_a_vision_language_configuration(tmp_path):
    sides = {"text_config": {**SMALL, "vocab_size": 50}}
    sides |= {"vision_config": {**SMALL, "image_size": 32, "patch_size": 8}}
    saved = transformers.SiglipForImageClassification(transformers.SiglipConfig(**sides, num_labels=3)).eval()
    saved.save_pretrained(tmp_path)
    backbone = backbones.load(f"transformers:{tmp_path}")
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(backbone.model(x).logits, saved(x).logits)
    assert backbone.clip is None


def test_an_encoder_stays_an_encoder(tmp_path):
    vit().vit.save_pretrained(tmp_path)
    assert type(backbones.load(f"transformers:{tmp_path}").model).__name__ == "ViTModel"
