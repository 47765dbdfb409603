"""Attribution classes with Captum's interface, whose results are texts and maps of texts."""

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
