"""The models of the sweep, from four libraries, each built with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from measurements.architectures.bare import takes
from measurements.architectures.paper import PAPER
from measurements.architectures.vision_language import VISION_LANGUAGE, build_tower
from torchnle import backbones

#: Inputs with more pixels a side take minutes on one thread.
_LARGE = 320
#: The side that replaces larger inputs, for models that take it.
_USUAL = 224


@dataclass(frozen=True)
class Case:
    """A model to try.

    Args:
        name: "library:model", as `backbones.load` takes it, or any name if `build` is given.
        group: The part of the sweep that it belongs to.
        size: The side of its input; None = the model's own.
        options: Passed to the library's builder.
        build: Builds the model if no name does.
        note: Further facts, such as the models it represents and its other names.
    """

    name: str
    group: str
    size: int | None = None
    options: tuple[tuple[str, Any], ...] = ()
    build: Callable[[], nn.Module] | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """The identity of the case."""
        changed = "".join(f" {name}={value}" for name, value in self.options)
        size = "" if self.size is None else f" at {self.size}"
        return f"{self.name}{changed}{size}"

    def make(self) -> tuple[nn.Module, int]:
        """Build the model with random weights; return it with the side of its input."""
        if self.build is not None:
            return self.build(), self.size or _USUAL
        backbone = self._load()
        size = self.size or backbone.preprocess.size
        smaller = self.size is None and size > _LARGE and takes(backbone.model, (_USUAL, _USUAL))
        return backbone.model, _USUAL if smaller else size

    @cached_property
    def parameters(self) -> int:
        """The number of parameters without allocating them; 0 if a builder needs real numbers."""
        try:
            with torch.device("meta"):
                model = self._load().model if self.build is None else self.build()
                return sum(p.numel() for p in model.parameters())
        except NotImplementedError:
            return 0

    def _load(self) -> backbones.Backbone:
        return backbones.load(self.name, pretrained=False, **dict(self.options))


def cases(*, every_member: bool = False) -> Iterator[Case]:
    """Yield every case of the sweep, small groups first.

    Args:
        every_member: Whether to take every model of timm and every tower of open_clip, instead of one a
            family.
    """
    yield from paper_models()
    yield from transformers_models()
    yield from torchvision_models()
    yield from timm_models(every_member=every_member)
    yield from open_clip_towers(every_member=every_member)


def sample() -> Iterator[Case]:
    """Yield a few small models over all libraries, for the tests."""
    tiny = (
        ("hidden_size", 32), ("num_hidden_layers", 4), ("num_attention_heads", 2), ("intermediate_size", 64),
        ("image_size", 64), ("patch_size", 8),
    )  # fmt: skip
    for name in ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"):
        yield Case(f"torchvision:{name}", "torchvision classifiers", 96)
    for name in (
        "test_vit",
        "test_efficientnet",
        "test_convnext",
        "test_nfnet",
        "levit_128s",
    ):
        yield Case(f"timm:{name}", "timm families")
    for kind in ("vit", "deit", "dinov2_with_registers", "clip_vision_model"):
        yield Case(f"transformers:{kind}", "transformers", options=tiny)
    yield Case("open_clip:ViT-S-32", "open_clip towers", build=_tower_only("ViT-S-32"))


def paper_models() -> Iterator[Case]:
    """Yield the 38 classifiers of Zero-shot NLE (Table 13); weights of one architecture share one case."""
    named: dict[tuple[str, int | None, tuple[tuple[str, Any], ...]], list[str]] = {}
    for name, (reference, size, options) in PAPER.items():
        named.setdefault((reference, size, tuple(options.items())), []).append(name)
    for (reference, size, changed), names in named.items():
        yield Case(reference, "Zero-shot NLE", size, changed, note=", ".join(names))


def transformers_models() -> Iterator[Case]:
    """Yield transformers' image models by their configuration classes, and towers of larger models."""
    kinds = """beit bit clip_vision_model convnext convnextv2 cvt data2vec-vision deit dinov2
    dinov2_with_registers focalnet hiera ijepa levit mobilenet_v1 mobilenet_v2 mobilevit
    mobilevitv2 poolformer pvt pvt_v2 regnet resnet segformer siglip_vision_model swiftformer swin swinv2
    vit vit_msn"""
    for kind in kinds.split():
        yield Case(f"transformers:{kind}", "transformers")
    smallest = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280, "image_size": 224}
    b0 = tuple(smallest.items())  # the default is B7 at 600 pixels
    yield Case("transformers:efficientnet", "transformers", options=b0)
    for name in VISION_LANGUAGE:
        build, size = build_tower(name)
        yield Case(f"transformers:{name} (image tower)", "transformers", size, build=build)


def torchvision_models() -> Iterator[Case]:
    """Yield every classifier of torchvision, and the backbones of its detection and segmentation models."""
    from torchvision import models
    from torchvision.models import detection, segmentation

    for name in models.list_models(module=models):
        yield Case(f"torchvision:{name}", "torchvision classifiers", _torchvision_size(name))
    for module, size in ((detection, 320), (segmentation, 224)):
        for name in models.list_models(module=module):
            yield Case(f"torchvision:{name} (backbone)", "torchvision backbones", size, build=_inner(name))


def timm_models(*, every_member: bool = False) -> Iterator[Case]:
    """Yield a small member of every family of timm, or every member; those of the largest inputs last."""
    import timm

    families = {
        family: [name for name in timm.list_models(module=family) if not name.startswith("test_")]
        for family in timm.list_modules()
    }
    chosen = {
        family: members if every_member else [_smallest(members)]
        for family, members in families.items()
        if members
    }
    for family, members in sorted(chosen.items(), key=lambda item: _side(item[1][0]) > _LARGE):
        for name in members:
            yield Case(f"timm:{name}", "timm families", note=family)


def open_clip_towers(*, every_member: bool = False) -> Iterator[Case]:
    """Yield the image tower of every open_clip configuration; of towers of the same modules the smallest."""
    import open_clip

    alike: dict[str, list[tuple[int, str]]] = {}
    for name in open_clip.list_models():
        with torch.device("meta"):
            tower, size = _tower(name)
        alike.setdefault(name if every_member else repr(tower), []).append((size, name))
    for members in alike.values():
        (size, name), *others = sorted(members, key=lambda member: member[0])
        note = f"the same modules: {', '.join(other for _, other in others)}" if others else ""
        yield Case(
            f"open_clip:{name}",
            "open_clip towers",
            size,
            build=_tower_only(name),
            note=note,
        )
    yield Case("open_clip:RN50 (whole model)", "open_clip towers", 224, build=_whole_clip)


def _torchvision_size(name: str) -> int | None:
    """Return 224 if the network allows it: larger evaluation sizes only cost time."""
    return 299 if name == "inception_v3" else 224


def _inner(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        inner = backbones.load(f"torchvision:{name}", pretrained=False).model.backbone
        return inner  # type: ignore[return-value]

    return build


def _smallest(members: list[str]) -> str:
    """Return the member with fewest parameters among the six shortest names of the smallest input size."""
    least = min(max(_side(name), 224) for name in members)
    shortest = sorted((name for name in members if _side(name) <= least), key=lambda name: (len(name), name))
    return min(shortest[:6], key=lambda name: Case(f"timm:{name}", "").parameters)


def _side(name: str) -> int:
    import timm

    return int(timm.get_pretrained_cfg(name).input_size[-1])


def _tower(name: str) -> tuple[nn.Module, int]:
    """Build the image tower alone, with the smallest possible text tower, which may need downloaded files."""
    import open_clip

    config = open_clip.get_model_config(name)
    text = {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 1, "layers": 1}
    model = open_clip.CLIP(
        config["embed_dim"], config["vision_cfg"], text, quick_gelu=config.get("quick_gelu", False)
    )
    size = config["vision_cfg"].get("image_size", 224)
    return model.visual, size if isinstance(size, int) else size[0]


def _tower_only(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return _tower(name)[0]

    return build


def _whole_clip() -> nn.Module:
    import open_clip

    model: nn.Module = open_clip.create_model("RN50", pretrained=None)
    return model
