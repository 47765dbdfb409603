"""Zero-shot natural language explanations from a classifier alone (Sammani and Deligiannis 2025)."""

from torchnle.methods.zero_shot.concepts import Concepts, class_concepts, concepts
from torchnle.methods.zero_shot.explanation import Explanation

__all__ = ["Concepts", "Explanation", "class_concepts", "concepts"]
