"""Attributes: what a unit's exemplars share in colour, and images that are alike but inactive do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor

from torchnle.data.tinting import colour_shares
from torchnle.language.english.phrases import with_article
from torchnle.methods.dissect.exemplars.exemplar import Exemplar

#: A colour is a picture's if it is that of this share of the active pixels.
_OF_PIXELS = 0.5
#: A colour is a unit's if it is that of this share of its exemplars, and of less than half as large a share
#: of the contrast exemplars.
_OF_EXEMPLARS = 0.7
#: Fewer exemplars may share a colour by chance.
_LEAST = 4


def shared_colour(
    exemplars: Sequence[Exemplar], contrast: Sequence[tuple[Image.Image, Tensor | None]] = ()
) -> str | None:
    """Find the colour that exemplars have where they are active, and images that are alike do not have.

    Of a thing that is always red the colour says nothing: contrast exemplars are red, too.

    Args:
        exemplars: A unit's.
        contrast: Images that are alike but inactive, each with the mask of what is alike in it; None =
            everything.

    Example:
        >>> red = Exemplar(0, 1.0, Image.new("RGB", (4, 4), (214, 39, 40)))
        >>> blue = (Image.new("RGB", (4, 4), (35, 80, 200)), None)
        >>> shared_colour([red] * 4, [blue]), shared_colour([red] * 4, [(red.picture, None)])
        ('red', None)
    """
    own = Counter(_colour(each.picture, each.mask()) for each in exemplars)
    others = Counter(_colour(picture, mask) for picture, mask in contrast)
    colour, count = max(own.items(), key=lambda item: item[1], default=(None, 0))
    if colour is None or len(exemplars) < _LEAST or count < _OF_EXEMPLARS * len(exemplars):
        return None
    share = others[colour] / len(contrast) if contrast else 0.0
    return colour if share < count / len(exemplars) / 2 else None


def with_colour(label: str, colour: str) -> str:
    """Set a colour before a label's noun phrase.

    Example:
        >>> with_colour("a car", "red"), with_colour("an old bus", "orange"), with_colour("grass", "blue")
        ('a red car', 'an orange old bus', 'blue grass')
    """
    words = label.split()
    if words[0] in ("a", "an"):
        return with_article(f"a {colour} {' '.join(words[1:])}")
    return f"{colour} {label}"


def _colour(picture: Image.Image, mask: Tensor | None) -> str | None:
    pixels = np.asarray(picture.convert("RGB"))
    chosen = pixels.reshape(-1, 3) if mask is None else pixels[mask.numpy()]
    if not len(chosen):
        return None
    colour, share = max(
        colour_shares(chosen[:: max(1, len(chosen) // 2000)]).items(), key=lambda item: item[1]
    )
    return colour if share >= _OF_PIXELS else None
