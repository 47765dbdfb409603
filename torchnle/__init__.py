"""Natural-language explanations for any PyTorch vision model, beside Captum."""

from torchnle.version import __version__ as __version__
