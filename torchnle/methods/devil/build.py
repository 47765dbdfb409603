"""DeViL's translator as the paper builds it, untrained (Dani et al., 2023, supplement A)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.model import LanguageModel
from torchnle.methods.devil.network import DeViLNetwork
from torchnle.translators.prefix import PrefixTranslator


def devil_translator(
    layers: Mapping[str, int],
    language_model: LanguageModel | str = "facebook/opt-125m",
    *,
    prefix_length: int = 10,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    feedforward: int = 3072,
    standardise: bool = False,
    start: str = "",
    opening: str = "",
    prompt: str = "",
    stop: str | None = None,
    max_new_tokens: int = 50,
    backbone: str = "",
) -> PrefixTranslator:
    """Build DeViL's translator, untrained, at the paper's sizes (supplement A).

    The paper's comparison with ClipCap uses GPT-2 with ``depth=8, heads=8, feedforward=1532``; its MILAN
    experiments write at most 20 tokens.

    Args:
        layers: The layers of the vision model: dotted name -> number of channels.
        language_model: The frozen language model, or its reference.
        prefix_length: The number of prefix vectors.
        width: The width of the translation network.
        depth: The number of its layers.
        heads: The number of its attention heads.
        feedforward: The width of its feed-forward layers.
        standardise: Standardise features channel by channel; the paper does not.
        start: Words at whose embeddings the prefix is initialised, repeated up to its length; "" = at random,
            as in the paper.
        opening: Words at which further trained vectors before the prefix are initialised; the paper has none.
        prompt: Text between the prefix and the text that is decoded or scored.
        stop: A string that ends a decoded text, besides the end-of-sequence token.
        max_new_tokens: The largest number of decoded tokens.
        backbone: The reference of the vision model, which is saved.

    Returns:
        The translator, to be trained.

    Raises:
        ValueError: If a size is not positive, or the width is no multiple of the heads.
    """
    lm = LanguageModel.from_pretrained(language_model) if isinstance(language_model, str) else language_model
    network = DeViLNetwork(
        layers,
        lm.width,
        prefix_length=prefix_length,
        width=width,
        depth=depth,
        heads=heads,
        feedforward=feedforward,
        standardise=standardise,
        start=bool(start or opening),
        opening_length=len(lm.tokenize([opening])[0]) if opening else 0,
    )
    if start or opening:
        words = _words(lm, start or opening)
        columns = torch.arange(prefix_length, device=lm.device) % len(words)
        network.set_start(words[columns], _words(lm, opening) if opening else None)
    return PrefixTranslator(
        network, lm, prompt=prompt, stop=stop, max_new_tokens=max_new_tokens, backbone=backbone
    )


def _words(lm: LanguageModel, text: str) -> Float[Tensor, "T E"]:
    return lm.embed(torch.tensor(lm.tokenize([text])[0], device=lm.device)).float()
