"""The classifier that an audit of a folder is about: a trained one, or a last layer fitted to the folder."""

from __future__ import annotations

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data.image_folders import LabelledImage, LabelledImages
from torchnle.heads.classifier_head import find_head
from torchnle.methods.texplain.repair.refit import refit_last_layer
from torchnle.vision.reading import read

_log = logging.getLogger(__name__)
_BATCH = 8
_SHOWN = 3

#: Pictures, opened or as files.
Pictures = Sequence[LabelledImage | Image.Image]


class Audited(ABC):
    """A classifier that is audited: the rows that its last layer reads, and the logits of these rows."""

    @abstractmethod
    def rows(self, pictures: Pictures) -> Float[Tensor, "N D"]:
        """Read the last layer's input for every picture."""

    @abstractmethod
    def logits(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """Compute the logits of these rows."""


class TrainedClassifier(Audited):
    """A classifier as it was trained.

    Args:
        backbone: The classifier.

    Raises:
        ValueError: As `find_head`, or if logits are no linear function of one row per picture.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self._head = find_head(backbone.model, backbone.example(), len(backbone.class_names))
        if self._head.clipped or self._head.enlarging is not None:
            raise ValueError(f"the head '{self._head.head_name}' scores locations: pass a classifier.")

    def rows(self, pictures: Pictures) -> Float[Tensor, "N D"]:
        """Read the head's input for every picture."""
        model, head = self._backbone.model, self._head

        def answer(x: Tensor) -> Tensor:
            (features,) = read(model, [head.tap], x, None, head.reading)
            return head.read(features).rows.float()

        return torch.cat([answer(x) for x in batches(self._backbone, pictures)])

    def logits(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """Apply the head."""
        found = rows @ self._head.weight.float().T
        return found if self._head.bias is None else found + self._head.bias.float()


class FittedLastLayer(Audited):
    """A last layer that is fitted to frozen features of the folder's images.

    Args:
        lang: Reads the features.
        backbone: The model of `lang`.
    """

    def __init__(self, lang: LanguageAttribution[Any], backbone: Backbone) -> None:
        self._lang, self._backbone = lang, backbone
        self._layer: Any = None

    def rows(self, pictures: Pictures) -> Float[Tensor, "N D"]:
        """Read the features of every picture."""
        return pooled(self._lang, self._backbone, pictures)

    def fit(self, rows: Float[Tensor, "N D"], labels: Int[Tensor, "N"], classes: int) -> FittedLastLayer:
        """Fit the layer; returns this object."""
        self._layer = refit_last_layer(rows, labels, classes).layer
        return self

    def logits(self, rows: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """Apply the fitted layer."""
        found: Tensor = self._layer(rows)
        return found


def batches(backbone: Backbone, pictures: Pictures) -> Iterator[Tensor]:
    """Open and preprocess pictures, batch by batch, on the model's device, with a bar on a terminal."""
    device = next((p.device for p in backbone.model.parameters()), torch.device("cpu"))
    starts = range(0, len(pictures), _BATCH)
    with torch.no_grad():
        for start in tqdm(starts, unit="batch", disable=not sys.stderr.isatty()):
            part = pictures[start : start + _BATCH]
            opened = [each if isinstance(each, Image.Image) else each.image for each in part]
            yield torch.stack([backbone.preprocess(each) for each in opened]).to(device)


def pooled(lang: LanguageAttribution[Any], backbone: Backbone, pictures: Pictures) -> Float[Tensor, "N D"]:
    """Read one layer of every picture, pooled over the whole image."""
    found = [lang.reading.pool(lang.read(x)[-1], None).rows for x in batches(backbone, pictures)]
    return torch.cat(found)


def labels_of(listed: LabelledImages, class_names: Sequence[str]) -> Int[Tensor, "N"]:
    """Return the class of every image among a classifier's outputs.

    Folders are matched to classes by their names; where these differ, by their order, with a warning.

    Args:
        listed: The images, in folders.
        class_names: In the order of the outputs.

    Raises:
        ValueError: If there is not one folder per class.

    Example:
        >>> from pathlib import Path
        >>> images = (LabelledImage(Path("a/1.png"), 0), LabelledImage(Path("b/1.png"), 1))
        >>> labels_of(LabelledImages(images, ("dog", "red fox")), ["Red_fox", "dog"]).tolist()
        [1, 0]
    """
    wanted, found = [_plain(name) for name in class_names], [_plain(name) for name in listed.class_names]
    order = list(range(len(found)))
    if sorted(wanted) == sorted(found):
        order = [wanted.index(name) for name in found]
    elif len(wanted) != len(found):
        raise ValueError(
            f"{len(found)} folders for {len(wanted)} class names; without a folder: "
            f"{_listed(name for name in wanted if name not in found)}; without a class: "
            f"{_listed(name for name in found if name not in wanted)}. Pass a folder for every class."
        )
    else:
        pairs = zip(listed.class_names, class_names, strict=True)
        told = ", ".join(f"{folder!r} = {name!r}" for folder, name in pairs if _plain(name) != _plain(folder))
        _log.warning("folders are taken as the classes in their alphabetical order: %s.", told)
    return torch.tensor([order[each.label] for each in listed.images])


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return (", ".join(found[:_SHOWN]) or "none") + more
