"""Natural-language explanations for any PyTorch vision model, beside Captum."""

__version__ = "0.1.0"
