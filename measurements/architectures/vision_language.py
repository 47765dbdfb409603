"""The image towers of vision-language models, built with the smallest possible text part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from torchnle import hub
from torchnle.backbones.transformers import image_tower

_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
#: Model type -> the side of the tower's input.
VISION_LANGUAGE = {"llava": 336, "paligemma": 224, "smolvlm": 224, "idefics3": 224, "internvl": 224}


def build_tower(kind: str) -> tuple[Callable[[], nn.Module], int]:
    """Return a builder of the image tower of a vision-language model, and its input's side."""

    def build() -> nn.Module:
        from transformers import AutoConfig, AutoModel

        standard = AutoConfig.for_model(kind)
        text = type(standard.text_config)(**_TEXT)
        vision = standard.vision_config
        config = type(standard)(text_config=text.to_dict(), vision_config=vision.to_dict())
        return image_tower(hub.build_from_config(AutoModel, config))

    return build, VISION_LANGUAGE[kind]
