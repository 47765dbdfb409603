"""CLIP (Radford et al., 2021) read by location, in the space that its images share with its texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.heads.classifier_head import find_readout
from torchnle.heads.readout import Readout
from torchnle.language.clip_text import ClipText, clip_vector, image_function
from torchnle.methods.clip.translator import ClipTranslator


@dataclass(frozen=True)
class Clip:
    """The parts of a CLIP that an attribution needs.

    Args:
        translator: Scores and describes vectors of the common space.
        readout: The layer that the image vector is computed from, and how its locations become such vectors.
        encode_image: The model's own method: images (N, 3, H, W) -> vectors (N, k).
    """

    translator: ClipTranslator
    readout: Readout
    encode_image: Callable[..., Any]


def read_clip(
    model: nn.Module,
    tokenizer: Any,
    example: Tensor | None = None,
    *,
    bank: Sequence[str] | None = None,
    reference: str = "",
) -> Clip:
    """Find the layer that a CLIP's image vector is computed from, and score texts on it by the text tower.

    For a whole image the score is CLIP's own cosine of image and text. A location gets the vector of an image
    that has the location's feature everywhere: in a ViT, its token of the last block passes the last norm and
    the projection in place of the class token; in an attention pool (CLIP's ResNets, SigLIP) only the
    location is attended to, so that its value vector remains, as in MaskCLIP (Zhou, Loy & Dai, 2022, section
    3.2). MaskCLIP changes the last block of a ViT too; here the block is not changed. CLIP was not trained on
    such vectors: their ranking is more reliable than their values.

    Args:
        model: A whole CLIP of open_clip or transformers.
        tokenizer: Its tokenizer.
        example: A few images for the dry run; None = noise of the size that the model states, else 224 x 224.
        bank: The phrases that `describe` chooses from; None = the shipped concept bank.
        reference: The CLIP's own reference, so that the translator can be saved.

    Returns:
        The translator, the readout and the model's image function.

    Raises:
        TypeError: If the model is no whole CLIP.

    Example:
        >>> import open_clip  # doctest: +SKIP
        >>> model, tokenizer = open_clip.create_model("ViT-B-32"), open_clip.get_tokenizer("ViT-B-32")
        ...     # doctest: +SKIP
        >>> read_clip(model, tokenizer).readout.tap.name  # doctest: +SKIP
        'visual.ln_post'
    """
    encode_image = image_function(model)
    shown = _example(model) if example is None else example
    readout = find_readout(encode_image, shown, lambda output, _: clip_vector(output))
    text = ClipText(model, tokenizer, reference=reference)
    return Clip(ClipTranslator(text, bank=bank, layer=readout.tap.name).eval(), readout, encode_image)


def _example(model: nn.Module) -> Tensor:
    """Two images of noise of the size that the image tower states."""
    tower = getattr(model, "visual", None)
    config = getattr(getattr(model, "config", None), "vision_config", None)
    side = getattr(tower, "image_size", None) or getattr(config, "image_size", None) or 224
    height, width = (side, side) if isinstance(side, int) else side
    noise = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    return noise.to(next(model.parameters()))
