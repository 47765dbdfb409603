"""Pictures of one named object, for which a classifier's prediction is right or wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from torchnle.backbones import Backbone
from torchnle.data import Background, Cutout, Scenes, head_noun
from torchnle.errors import optional_package
from torchnle.images import open_image
from torchnle.metrics.captions import words

#: scikit-image's photographs of one object that ImageNet has a class for: file -> its phrase.
PHOTOGRAPHS = {
    "chelsea.png": "a cat",
    "coffee.png": "an espresso",
    "rocket.jpg": "a missile",
    "motorcycle_left.png": "a moped",
}


def named_alike(phrase: str, class_name: str) -> bool:
    """Return whether a picture's phrase and a class have the same head noun.

    Example:
        >>> named_alike("a small red fox", "grey fox"), named_alike("a fox", "fox squirrel")
        (True, False)
    """
    return words(head_noun(phrase)) == words(class_name)[-1:]


def rightly_classified(
    backbone: Backbone, pictures: Iterable[tuple[Image.Image, str]], count: int, *, batch_size: int = 16
) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
    """Yield batches of the pictures whose predicted class has their phrase's head noun.

    Args:
        backbone: A classifier with class names.
        pictures: (picture, noun phrase of its object).
        count: The largest number of pictures.
        batch_size: The largest number of pictures a batch.

    Yields:
        Preprocessed images, their predicted classes, and their phrases.
    """
    kept: list[tuple[Tensor, Tensor, str]] = []
    for images, phrases in _batches(backbone, pictures, batch_size):
        with torch.no_grad():
            predicted = backbone.model(images).argmax(dim=1)
        kept += [
            (image, target, phrase)
            for image, target, phrase in zip(images, predicted, phrases, strict=True)
            if named_alike(phrase, backbone.class_names[target])
        ]
        while len(kept) >= min(batch_size, count) > 0:
            size = min(batch_size, count)
            yield _stacked(kept[:size])
            kept, count = kept[size:], count - size
        if count == 0:
            return
    if kept:
        yield _stacked(kept)


def single_scenes(
    cutouts: Sequence[Cutout],
    backgrounds: Sequence[Background],
    class_names: Sequence[str],
    *,
    size: int = 224,
    seed: int = 0,
) -> Iterator[tuple[Image.Image, str]]:
    """Compose an endless stream of scenes of one large object whose head noun is that of a class.

    Args:
        cutouts: The objects.
        backgrounds: The backgrounds.
        class_names: The classes.
        size: Width and height in pixels.
        seed: The seed of the scenes.

    Yields:
        (picture, phrase).

    Raises:
        ValueError: If no cut-out has the head noun of a class.
    """
    heads = {words(name)[-1] for name in class_names}
    matching = [cutout for cutout in cutouts if words(head_noun(cutout.phrase))[-1] in heads]
    if not matching:
        raise ValueError(f"none of the {len(cutouts)} cut-outs is named like one of the classes.")
    scenes = Scenes(
        matching, backgrounds, length=10**9, size=size, objects=(1, 1), scale=(0.5, 0.9), seed=seed
    )
    return ((scene.image, scene.objects[0].phrase) for scene in scenes)


def photographs() -> Iterator[tuple[Image.Image, str]]:
    """Yield scikit-image's photographs of one object each.

    Raises:
        MissingDependencyError: If scikit-image is not installed.
    """
    with optional_package("scikit-image", extra="demo", purpose="for its photographs"):
        from skimage import data
    folder = Path(data.__file__).parent
    for name, phrase in PHOTOGRAPHS.items():
        yield open_image(folder / name), phrase


def find_photographs() -> dict[str, Path]:
    """Return the paths of the six photographs of scikit-image and scikit-learn.

    Raises:
        MissingDependencyError: If one of the packages is not installed.
    """
    with optional_package("scikit-image and scikit-learn", extra="eval", purpose="for their photographs"):
        import skimage.data
        import sklearn.datasets
    skimage_folder = Path(skimage.data.__file__).parent
    sklearn_folder = Path(sklearn.datasets.__file__).parent / "images"
    files = {
        "chelsea": skimage_folder / "chelsea.png",
        "coffee": skimage_folder / "coffee.png",
        "rocket": skimage_folder / "rocket.jpg",
        "motorcycle_left": skimage_folder / "motorcycle_left.png",
    }
    return files | {name: sklearn_folder / f"{name}.jpg" for name in ("flower", "china")}


def _batches(
    backbone: Backbone, pictures: Iterable[tuple[Image.Image, str]], size: int
) -> Iterator[tuple[Tensor, list[str]]]:
    source = iter(pictures)
    while part := list(islice(source, size)):
        images = torch.stack([backbone.preprocess(picture) for picture, _ in part])
        yield images, [phrase for _, phrase in part]


def _stacked(kept: Sequence[tuple[Tensor, Tensor, str]]) -> tuple[Tensor, Tensor, list[str]]:
    images, targets, phrases = zip(*kept, strict=True)
    return torch.stack(images), torch.stack(targets), list(phrases)
