"""DeViL: Decoding Vision features into Language (Dani et al., 2023, GCPR)."""

from torchnle.methods.devil.build import devil_translator

__all__ = ["devil_translator"]
