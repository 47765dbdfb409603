"""Colours that a unit's exemplars share and similar images that do not activate it lack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from torchnle.data.palette import COLOURS
from torchnle.data.tinting import colour_shares
from torchnle.language.english.phrases import with_article
from torchnle.methods.dissect.exemplars.exemplar import Exemplar

_NAMES = tuple(COLOURS)
#: Fewer exemplars may share a colour by chance.
_LEAST = 4
#: A colour is a unit's where its mean share of the active pixels lies so many standard errors above that of
#: contrast exemplars, and so much above it (`dissect-units planted`, set before any seed was run).
_ERRORS, _GAIN = 4.0, 0.15
#: Without contrast exemplars it must cover this share of the pixels, in this share of the exemplars.
_OF_PIXELS, _OF_EXEMPLARS = 0.5, 0.7
#: The least standard deviation of a colour's share between pictures: a share of pixels is no finer.
_SPREAD = 0.05


def shared_colour(
    exemplars: Sequence[Exemplar], contrast: Sequence[tuple[Image.Image, Tensor | None]] | None = None
) -> str | None:
    """Find the colour that a unit's exemplars share where it is active, and that contrast images lack.

    Shares of the pixels are compared, so that the colour of a thin object, which fills a small part of its
    mask, is found too. The colour of an object that is always red is not returned, since contrast images show
    it in red too.

    Args:
        exemplars: The unit's exemplars.
        contrast: Similar images that do not activate the unit, each with the mask of the similar part (None
            = the whole image); no argument = the most frequent colour of the exemplars.

    Returns:
        The colour; None if there is none.

    Example:
        >>> red = Exemplar(0, 1.0, Image.new("RGB", (4, 4), (214, 39, 40)))
        >>> blue = (Image.new("RGB", (4, 4), (35, 80, 200)), None)
        >>> shared_colour([red] * 4, [blue] * 4), shared_colour([red] * 4, [(red.picture, None)] * 4)
        ('red', None)
    """
    if len(exemplars) < _LEAST:
        return None
    own = np.stack([_shares(each.picture, each.mask()) for each in exemplars])
    if contrast is None or len(contrast) < _LEAST:
        common = (own >= _OF_PIXELS).mean(axis=0)
        best = int(common.argmax())
        return _NAMES[best] if common[best] >= _OF_EXEMPLARS else None
    others = np.stack([_shares(picture, mask) for picture, mask in contrast])
    gain = own.mean(axis=0) - others.mean(axis=0)
    best = int(gain.argmax())
    error = np.sqrt(_variance(own[:, best]) / len(own) + _variance(others[:, best]) / len(others))
    return _NAMES[best] if gain[best] >= max(_GAIN, _ERRORS * error) else None


def with_colour(label: str, colour: str) -> str:
    """Insert a colour into a label's noun phrase.

    Example:
        >>> with_colour("a car", "red"), with_colour("an old bus", "orange"), with_colour("grass", "blue")
        ('a red car', 'an orange old bus', 'blue grass')
    """
    words = label.split()
    if words[0] in ("a", "an"):
        return with_article(f"a {colour} {' '.join(words[1:])}")
    return f"{colour} {label}"


def _shares(picture: Image.Image, mask: Tensor | None) -> Float[np.ndarray, "C"]:
    """Return each colour's share of the masked pixels; zeros where none are masked."""
    pixels = np.asarray(picture.convert("RGB"))
    chosen = pixels.reshape(-1, 3) if mask is None else pixels[mask.numpy()]
    if not len(chosen):
        return np.zeros(len(_NAMES))
    shares = colour_shares(chosen[:: max(1, len(chosen) // 2000)])
    return np.array([shares[name] for name in _NAMES])


def _variance(shares: Float[np.ndarray, "n"]) -> float:
    return max(float(shares.var(ddof=1)), _SPREAD**2)
