"""The Captum door: attribution classes that answer in words."""

from torchnle.attr.language_attribution import LanguageAttribution
from torchnle.attr.layer_language_attribution import LayerLanguageAttribution
from torchnle.attr.neuron_language_attribution import NeuronLanguageAttribution
from torchnle.attr.text_score import TextScore
from torchnle.vision.reading import Reading

__all__ = [
    "LanguageAttribution",
    "LayerLanguageAttribution",
    "NeuronLanguageAttribution",
    "Reading",
    "TextScore",
]
