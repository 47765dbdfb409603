"""TExplain: explaining learned visual features via frozen language models (Taghanaki et al., 2023)."""

from __future__ import annotations

from torchnle.language.model import LanguageModel
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.translators.prefix import PrefixTranslator


def texplain_translator(
    layer: str,
    width: int,
    language_model: LanguageModel | str,
    *,
    tokens: int = 577,
    mode: str = "per_token",
    prefix_length: int | None = None,
    hidden: int | None = None,
    activation: str = "none",
    prompt: str = "",
    stop: str | None = None,
    max_new_tokens: int = 40,
    backbone: str = "",
) -> PrefixTranslator:
    """Build TExplain's translator, untrained (section 3).

    The paper's ViT-B/16 at 384 x 384 has ``width=768, tokens=577``. Its language model is a BERT-base as a
    decoder (`CrossAttentionTranslator`); here it is any causal one. Its explanations are 20 to 30 words
    long, hence 40 tokens.

    Args:
        layer: The layer of the vision model, by its dotted name.
        width: The width D of its tokens.
        language_model: The frozen language model, or its reference.
        tokens: How many tokens make one row: all of an image's with class and register tokens, or 1 to
            explain single vectors.
        mode: How the perceptron reads them, see `TExplainNetwork`.
        prefix_length: The number of prefix vectors with ``mode="flat"``.
        hidden: The width of the hidden layers; by default `width`.
        activation: What follows each batch normalisation; the paper names nothing.
        prompt: Text between the prefix and what is written or scored.
        stop: A text at which writing stops, besides the end-of-sequence token.
        max_new_tokens: The largest number of tokens that are written.
        backbone: The reference of the vision model, for the record.

    Raises:
        ValueError: If sizes, `mode` and `prefix_length` do not fit together.
    """
    lm = LanguageModel.from_pretrained(language_model) if isinstance(language_model, str) else language_model
    network = TExplainNetwork(
        {layer: width},
        lm.width,
        tokens=tokens,
        mode=mode,
        prefix_length=prefix_length,
        hidden=hidden,
        activation=activation,
    )
    return PrefixTranslator(
        network, lm, prompt=prompt, stop=stop, max_new_tokens=max_new_tokens, backbone=backbone
    )
