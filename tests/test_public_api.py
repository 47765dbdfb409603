"""What the package promises: its public names, and what importing it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys

import torchnle

PUBLIC = {
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
}


def test_the_inventory_of_public_names():
    assert set(torchnle.__all__) == PUBLIC
    assert all(hasattr(torchnle, name) for name in PUBLIC)


def test_every_public_name_is_documented_with_an_example():
    for name in PUBLIC - {"Translator", "__version__"}:
        doc = inspect.getdoc(getattr(torchnle, name))
        assert "Example" in doc, f"{name} has no example"


def test_captums_argument_order():
    expected = ["inputs", "target", "additional_forward_args", "attribute_to_layer_input"]
    for cls in (torchnle.LanguageAttribution, torchnle.LayerLanguageAttribution):
        parameters = list(inspect.signature(cls.attribute).parameters)
        assert parameters[1:5] == expected
        described = list(inspect.signature(cls.describe).parameters)
        assert described[1:4] == ["inputs", "additional_forward_args", "attribute_to_layer_input"]
    neuron = list(inspect.signature(torchnle.NeuronLanguageAttribution.attribute).parameters)
    assert neuron[1:5] == [
        "inputs",
        "neuron_selector",
        "additional_forward_args",
        "attribute_to_neuron_input",
    ]


def test_importing_is_light():
    heavy = "('transformers', 'triton', 'torchvision', 'timm', 'open_clip', 'gguf', 'skimage')"
    code = f"import sys, torchnle; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
