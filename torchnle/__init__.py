"""Natural-language explanations for any PyTorch vision model, for use with Captum."""

from torchnle.attr import (
    LanguageAttribution,
    LayerLanguageAttribution,
    NeuronLanguageAttribution,
    Reading,
    TextScore,
)
from torchnle.description import Description, DescriptionGrid
from torchnle.translators.base import Translator
from torchnle.version import __version__
from torchnle.vision.features import Features
from torchnle.vision.suggest import SuggestedLayer, suggest_layers
from torchnle.vision.taps import Tap

__all__ = [
    "Description",
    "DescriptionGrid",
    "Features",
    "LanguageAttribution",
    "LayerLanguageAttribution",
    "NeuronLanguageAttribution",
    "Reading",
    "SuggestedLayer",
    "Tap",
    "TextScore",
    "Translator",
    "__version__",
    "suggest_layers",
]
