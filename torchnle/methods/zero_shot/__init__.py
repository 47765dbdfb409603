"""Zero-shot natural language explanations from a classifier alone (Sammani and Deligiannis 2025)."""

from torchnle.methods.zero_shot.bottleneck import ConceptBottleneck, concept_bottleneck
from torchnle.methods.zero_shot.concepts import Concepts, class_concepts, concepts
from torchnle.methods.zero_shot.explanation import Explanation
from torchnle.methods.zero_shot.new_classes import ExtendedClassifier, extend_classifier
from torchnle.methods.zero_shot.prefix_tuning.tuning import Tuning
from torchnle.methods.zero_shot.sentences.beams import Search

__all__ = [
    "ConceptBottleneck",
    "Concepts",
    "Explanation",
    "ExtendedClassifier",
    "Search",
    "Tuning",
    "class_concepts",
    "concept_bottleneck",
    "concepts",
    "extend_classifier",
]
