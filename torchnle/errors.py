"""The two error classes of torchnle; all other errors are built-in exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class TranslatorMismatchError(ValueError):
    """Features were given to a translator that was not made for them.

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
        extra: The extra of torchnle that includes it.
        purpose: The end of the sentence "... is needed ...".

    Example:
        >>> str(MissingDependencyError("timm", extra="timm", purpose="to build timm models"))
        "'timm' is needed to build timm models. Install it with: pip install 'torchnle[timm]'"
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        super().__init__(f"'{package}' is needed {purpose}. Install it with: pip install 'torchnle[{extra}]'")


@contextmanager
def optional_package(package: str, *, extra: str, purpose: str) -> Iterator[None]:
    """Convert a failed import in the block to a `MissingDependencyError`; arguments as there.

    Example:
        >>> with optional_package("timm", extra="timm", purpose="to build timm models"):
        ...     import timm
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError(package, extra=extra, purpose=purpose) from error
