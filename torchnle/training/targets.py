"""What a translator is trained to say: a caption's tokens, and what ends it."""

from __future__ import annotations

from collections.abc import Sequence

from torchnle.translators.prefix import PrefixTranslator


def caption_tokens(
    translator: PrefixTranslator, captions: Sequence[str], *, longest: int = 100
) -> list[list[int]]:
    """The tokens of captions as they follow the translator's prompt, and of what ends them.

    A caption ends with the translator's stop, or without one with the end-of-sequence token, so that a
    trained translator ends by itself.

    Args:
        translator: Says which language model, prompt and stop.
        captions: The captions.
        longest: The most tokens of a caption with its end; the rest is cut off (DeViL's reference: 100).

    Raises:
        ValueError: If a caption is blank, or there is nothing to end it with.
    """
    lm = translator.language_model
    if translator.stop is None and lm.eos_id is None:
        raise ValueError(
            "the language model has no token that ends a text; build the translator with a stop."
        )
    words = lm.tokenize(translator.follow(captions), translator.prompt)
    if translator.stop is None:
        end = [lm.eos_id] if lm.eos_id is not None else []
    else:
        word = lm.tokenize([" a"])[0]
        end = lm.tokenize([f" a{translator.stop}"])[0][len(word) :]
    return [[*ids, *end][:longest] for ids in words]
