"""Saved models and translators: read whole or refused, and nothing beside them is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from measurements.reliability.cases.case import (
    Found,
    Topic,
    equal,
    first_wrong,
    folder,
    images,
    near,
    refused,
)
from measurements.reliability.cases.models import SMALL, language_model
from torchnle import backbones
from torchnle.language.model import LanguageModel

TOPIC = Topic("saved models")
case = TOPIC.case


def _photo() -> Image.Image:
    steps = torch.linspace(0, 200, 90)[None, :, None] + torch.linspace(0, 55, 60)[:, None, None]
    colours = steps + torch.tensor([0.0, 20.0, 40.0])
    return Image.fromarray(colours.clamp(0, 255).to(torch.uint8).numpy())


def _vit(directory: Path, **more: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8, **more)
    model: Any = transformers.ViTForImageClassification(config).eval()
    model.save_pretrained(directory)
    return model


def edit(file: Path, change: Any) -> None:
    """Change the tensors of a safetensors file."""
    save_file(change(dict(load_file(file))), file, {"format": "pt"})


@case(
    "a saved MobileViTImageProcessor, whose channels are turned round",
    "its own pixel_values within 0.01",
    "transformers",
)
def turned_channels() -> Found:
    """An image processor that turns the channels round."""
    import transformers

    with folder() as directory:
        transformers.MobileViTForImageClassification(transformers.MobileViTConfig()).save_pretrained(
            directory
        )
        return _processed(directory, transformers.MobileViTImageProcessor())


def _processed(directory: Path, processor: Any) -> Found:
    processor.save_pretrained(directory)
    expected = processor(images=_photo(), return_tensors="pt")["pixel_values"][0].float()
    return near(backbones.load(f"transformers:{directory}").preprocess(_photo()), expected, 0.01)


@case(
    "do_normalize=False, do_rescale=False, other crops, not square, a share, not resized",
    "pixel_values of each",
    "transformers",
)
def other_processors() -> Found:
    """Image processors with other settings."""
    import transformers

    made = {
        "not normalised": transformers.ViTImageProcessor(do_normalize=False),
        "not rescaled": transformers.ViTImageProcessor(do_rescale=False),
        "another crop": transformers.CLIPImageProcessor(
            size={"shortest_edge": 60}, crop_size={"height": 32, "width": 32}
        ),
        "not square": transformers.ViTImageProcessor(size={"height": 24, "width": 32}),
        "a share": transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8),
        "not resized": transformers.ViTImageProcessor(do_resize=False),
        "grey means": transformers.ViTImageProcessor(
            image_mean=[0.5, 0.4, 0.3], image_std=[0.1, 0.2, 0.3], resample=0
        ),
        "offset": transformers.EfficientNetImageProcessor(
            size={"height": 32, "width": 32}, rescale_offset=True
        ),
    }
    tried = []
    for name, processor in made.items():
        with folder() as directory:
            _vit(directory)
            tried.append((name, _processed(directory, processor)))
    return first_wrong(tried)


@case("model.safetensors without classifier.weight", "a ValueError that names it", "transformers")
def no_classifier() -> Found:
    """A saved classifier without its head."""
    with folder() as directory:
        _vit(directory)
        edit(directory / "model.safetensors", lambda w: {k: v for k, v in w.items() if "classifier" not in k})
        return refused(lambda: backbones.load(f"transformers:{directory}"), r"classifier\.weight")


@case('keys that begin with "module.", "_orig_mod." or both', "the same logits", "transformers")
def prefixed_keys() -> Found:
    """Weights saved from a wrapped model."""
    tried = []
    for prefix in ("module.", "_orig_mod.", "module._orig_mod."):
        with folder() as directory, torch.no_grad():
            model = _vit(directory)
            edit(directory / "model.safetensors", lambda w, p=prefix: {p + k: v for k, v in w.items()})
            x = images(1, 32, 32)
            found: Any = backbones.load(f"transformers:{directory}").model
            tried.append((prefix, near(found(x).logits, model(x).logits, 0.0)))
    return first_wrong(tried)


@case("a SiglipForImageClassification folder", "its own class, the same logits", "transformers")
def siglip_classifier() -> Found:
    """A classifier on a vision-language configuration."""
    import transformers

    sides: dict[str, Any] = {"text_config": {**SMALL, "vocab_size": 50}}
    sides |= {"vision_config": {**SMALL, "image_size": 32, "patch_size": 8}}
    with folder() as directory, torch.no_grad():
        torch.manual_seed(0)
        saved: Any = transformers.SiglipForImageClassification(
            transformers.SiglipConfig(**sides, num_labels=3)
        ).eval()
        saved.save_pretrained(directory)
        found: Any = backbones.load(f"transformers:{directory}").model
        x = images(1, 32, 32)
        return near(found(x).logits, saved(x).logits, 0.0)


@case(
    "a state dict with and without 'module.'; one within a dict; one without fc.weight",
    "the logits; ValueErrors",
    "timm",
)
def own_checkpoints() -> Found:
    """Checkpoints of one's own."""
    from torchnle.backbones import timm as timm_models
    from torchnle.backbones.checkpoint import load_checkpoint

    torch.manual_seed(0)
    names = [f"kind {i}" for i in range(5)]
    model: Any = timm_models.load("resnet10t", pretrained=False, num_classes=5).model
    state, x, tried = model.state_dict(), images(1, 64, 64), []
    kinds = {"plain": state, "parallel": {f"module.{k}": v for k, v in state.items()}}
    for name, content in kinds.items():
        with folder() as directory, torch.no_grad():
            torch.save(content, directory / "a.pt")
            loaded: Any = load_checkpoint(directory / "a.pt", "timm:resnet10t", names).model
            tried.append((name, near(loaded(x), model(x), 0.0)))
    with folder() as directory:
        torch.save({"state_dict": state, "epoch": 3}, directory / "a.pt")
        tried.append(
            (
                "nested",
                refused(lambda: load_checkpoint(directory / "a.pt", "timm:resnet10t", names), "state_dict"),
            )
        )
        torch.save({k: v for k, v in state.items() if k != "fc.weight"}, directory / "a.pt")
        tried.append(
            (
                "missing",
                refused(lambda: load_checkpoint(directory / "a.pt", "timm:resnet10t", names), "fc.weight"),
            )
        )
    return first_wrong(tried)


def _saved_lm(directory: Path) -> LanguageModel:
    lm = language_model()
    lm.model.save_pretrained(directory)
    lm.tokenizer.save_pretrained(directory)
    return lm


@case(
    "safetensors without a weight (ln_f), and without an untied lm_head",
    "a ValueError that names it",
    "transformers",
)
def lm_without_weights() -> Found:
    """A language model with a tensor missing."""
    with folder() as directory:
        _saved_lm(directory)
        edit(directory / "model.safetensors", lambda w: {k: v for k, v in w.items() if "ln_f" not in k})
        first = refused(lambda: LanguageModel.from_pretrained(str(directory)), r"ln_f\.weight")
    with folder() as directory:
        lm = language_model("llama")
        lm.model.save_pretrained(directory)
        lm.tokenizer.save_pretrained(directory)
        edit(directory / "model.safetensors", lambda w: {k: v for k, v in w.items() if "lm_head" not in k})
        second = refused(lambda: LanguageModel.from_pretrained(str(directory)), r"lm_head\.weight")
    return first_wrong([("ln_f", first), ("lm_head", second)])


@case("a folder without tokenizer files", "a ValueError that says so", "transformers")
def lm_without_tokenizer() -> Found:
    """A language model without a tokenizer."""
    with folder() as directory:
        _saved_lm(directory)
        for file in directory.glob("tokenizer*"):
            file.unlink()
        return refused(lambda: LanguageModel.from_pretrained(str(directory)), "no tokenizer")


@case("model.safetensors cut after 0, 5 and 400 bytes", "a ValueError that names the file", "transformers")
def lm_cut() -> Found:
    """A truncated weight file."""
    tried = []
    with folder() as directory:
        _saved_lm(directory)
        whole = (directory / "model.safetensors").read_bytes()
        for length in (0, 5, 400):
            (directory / "model.safetensors").write_bytes(whole[:length])
            tried.append(
                (str(length), refused(lambda: LanguageModel.from_pretrained(str(directory)), "damaged"))
            )
    return first_wrong(tried)


@case(
    "pytorch_model.bin alone, of tensors; one that holds code",
    "the same weights; a ValueError",
    "transformers",
)
def lm_pickled() -> Found:
    """Pickled weights where there are no others."""
    with folder() as directory:
        lm = _saved_lm(directory)
        weights = load_file(directory / "model.safetensors")
        (directory / "model.safetensors").unlink()
        torch.save(weights, directory / "pytorch_model.bin")
        found = LanguageModel.from_pretrained(str(directory), dtype=torch.float32).model.state_dict()
        same = all(torch.equal(found[name], value) for name, value in lm.model.state_dict().items())
        torch.save({"a": _Evil()}, directory / "pytorch_model.bin")
        second = refused(lambda: LanguageModel.from_pretrained(str(directory)), "more than tensors")
        ran = Path("PWNED").exists()
    return first_wrong([("tensors", equal(same, True)), ("code", second), ("ran", equal(ran, False))])


class _Evil:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("PWNED"),)


@case(
    "auto_map in config.json and code beside it; 'y' on standard input",
    "a ValueError; the code is not run",
    "transformers",
)
def code_in_folders() -> Found:
    """Code in model folders."""
    tried = []
    for kind in ("language model", "image model", "tokenizer"):
        with folder() as directory:
            load: Any = LanguageModel.from_pretrained
            if kind == "image model":
                _vit(directory)
                load = lambda name: backbones.load(f"transformers:{name}")  # noqa: E731
            else:
                _saved_lm(directory)
            _poison(directory, kind)
            with patch("builtins.input", lambda *_: "y"):
                tried.append(
                    (
                        kind,
                        refused(lambda load=load, p=directory: load(str(p)), "never runs code|cannot read"),
                    )
                )
            tried.append((f"{kind} ran", equal((directory / "PWNED").exists(), False)))
    return first_wrong(tried)


def _poison(directory: Path, kind: str) -> None:
    (directory / "evil.py").write_text(
        f"open({str(directory / 'PWNED')!r}, 'w')\nConfig = Model = Tokenizer = None\n"
    )
    name = "tokenizer_config.json" if kind == "tokenizer" else "config.json"
    content = json.loads((directory / name).read_text())
    content["auto_map"] = {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.Tokenizer", None]}
    content["tokenizer_class" if kind == "tokenizer" else "model_type"] = "Evil"
    (directory / name).write_text(json.dumps(content))
    if kind == "tokenizer":
        (directory / "tokenizer.json").unlink()
