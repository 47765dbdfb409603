"""Zero-shot natural language explanations from a classifier alone (Sammani and Deligiannis 2025)."""

from torchnle.methods.zero_shot.concepts import concepts

__all__ = ["concepts"]
