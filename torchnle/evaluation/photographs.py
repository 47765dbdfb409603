"""Does the sentence for a photograph name what is on it? Six photographs that packages ship."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from torchnle import images
from torchnle.attr import LanguageAttribution
from torchnle.errors import MissingDependencyError

#: What counts as naming the main object, written down before the first run.
NAMES: dict[str, frozenset[str]] = {
    "chelsea": frozenset(["cat", "kitten", "tabby", "kitty", "feline"]),
    "coffee": frozenset(["coffee", "espresso", "cappuccino", "cup", "mug"]),
    "rocket": frozenset(["rocket", "missile", "spacecraft", "spaceship", "shuttle", "launch"]),
    "motorcycle_left": frozenset(["motorcycle", "motorbike", "moped", "scooter", "bike"]),
    "flower": frozenset(["flower", "flowers", "blossom", "daisy", "dahlia", "petal", "petals", "bloom"]),
    "china": frozenset(
        ["palace", "temple", "pagoda", "building", "monastery", "tower", "castle", "shrine", "house"]
    ),
}


def measure(
    lang: LanguageAttribution, preprocess: Callable[[Image], Tensor], photos: Mapping[str, Path] | None = None
) -> dict[str, Any]:
    """Describe each photograph as a whole and look for a word of its list.

    Args:
        lang: What describes; of several layers, the last one counts.
        preprocess: From an image to the model's input (C, H, W).
        photos: The photographs; None = scikit-image's and scikit-learn's.

    Returns:
        "named", the number of photographs whose sentence holds a word of its list; "of", how many there
        were; "photographs", what was said of each.
    """
    rows = {}
    for name, path in (find_photographs() if photos is None else photos).items():
        said = lang.describe(preprocess(images.open_image(path))[None])
        (description,) = said[-1] if isinstance(said[0], list) else said
        rows[name] = {
            "said": description.text,
            "score": description.score,
            "unsure": description.unsure,
            "named": bool(NAMES[name] & set(re.findall(r"[a-z]+", description.text.lower()))),
        }
    return {"named": sum(row["named"] for row in rows.values()), "of": len(rows), "photographs": rows}


def find_photographs() -> dict[str, Path]:
    """Where scikit-image and scikit-learn keep the six photographs.

    Raises:
        MissingDependencyError: If one of the packages is not installed.
    """
    try:
        import skimage.data
        import sklearn.datasets
    except ImportError as error:
        raise MissingDependencyError(
            "scikit-image and scikit-learn", extra="eval", purpose="for their photographs"
        ) from error
    skimage_folder = Path(skimage.data.__file__).parent
    sklearn_folder = Path(sklearn.datasets.__file__).parent / "images"
    files = {
        "chelsea": skimage_folder / "chelsea.png",
        "coffee": skimage_folder / "coffee.png",
        "rocket": skimage_folder / "rocket.jpg",
        "motorcycle_left": skimage_folder / "motorcycle_left.png",
    }
    return files | {name: sklearn_folder / f"{name}.jpg" for name in ("flower", "china")}
