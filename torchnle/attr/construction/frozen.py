"""Frozen text models, given as objects or by reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchnle.language.text_encoder import TextEncoder

if TYPE_CHECKING:
    from torchnle.methods.aligned.decoder.text_decoder import TextDecoder


def as_encoder(encoder: TextEncoder | str | None) -> TextEncoder:
    """Load a sentence encoder if it is given by reference; None = the embedded default."""
    if isinstance(encoder, TextEncoder):
        return encoder
    return TextEncoder.from_pretrained() if encoder is None else TextEncoder.from_pretrained(encoder)


def as_decoder(decoder: TextDecoder | str | None) -> TextDecoder | None:
    """Load a text decoder if it is given by reference; None = no decoder."""
    from torchnle.methods.aligned.decoder.text_decoder import TextDecoder  # loads its language model too

    return TextDecoder.from_pretrained(decoder) if isinstance(decoder, str) else decoder
