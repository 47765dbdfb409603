"""TExplain: explaining learned visual features via frozen language models (Taghanaki et al. 2023)."""

from torchnle.methods.texplain.build import texplain_translator

__all__ = ["texplain_translator"]
