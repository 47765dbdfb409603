"""The two error classes of torchnle; everything else is a built-in exception with a full sentence."""

from __future__ import annotations


class TranslatorMismatchError(ValueError):
    """A translator was given features that it was not made for.

    Example:
        >>> raise TranslatorMismatchError("translator 'x' expects width 2048; 'layer3' gives 1024.")
        Traceback (most recent call last):
        ...
        torchnle.errors.TranslatorMismatchError: translator 'x' expects width 2048; 'layer3' gives 1024.
    """


class MissingDependencyError(ImportError):
    """An optional package is needed; the message names the extra that installs it.

    Args:
        package: The distribution that could not be imported.
        extra: The extra of torchnle that brings it.
        purpose: What it was needed for, to complete "... is needed ...".

    Example:
        >>> str(MissingDependencyError("timm", extra="timm", purpose="to build timm models"))
        "'timm' is needed to build timm models. Install it with: pip install 'torchnle[timm]'"
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"'{package}' is needed {purpose}. Install it with: pip install 'torchnle[{extra}]'")
