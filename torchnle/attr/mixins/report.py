"""A report of a batch: one HTML file with words, probabilities and maps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from torchnle import images
from torchnle.attr.inputs.pictures import Pictures
from torchnle.attr.layer_reader import Chosen
from torchnle.attr.score_maps import Refinement, ScoreMaps
from torchnle.description import Description
from torchnle.language.texts import as_texts
from torchnle.views.batch_page import ImageReport, write_batch
from torchnle.vision.inputs import channels_last


class Reports(ScoreMaps[Chosen]):
    """Adds `report` to `LanguageAttribution` (mixin)."""

    @torch.no_grad()
    def report(
        self,
        inputs: Pictures,
        file: str | os.PathLike[str],
        additional_forward_args: Any = None,
        *,
        texts: str | Sequence[str] = (),
        names: Sequence[str] | None = None,
        pictures: Sequence[Image.Image] | None = None,
        title: str = "Words",
        internal_batch_size: int | None = None,
    ) -> Path:
        """Write one self-contained HTML page of a batch: words by layer, probabilities, and maps of texts.

        Args:
            inputs: (N, C, H, W), a tuple of tensors, or pictures where the preprocessing is known.
            file: The HTML file to write; its parent folders are created.
            additional_forward_args: Passed to the model after the inputs.
            texts: Texts to map at every layer that has locations, all on one scale.
            names: A title for every image; None = the names of files, else numbers.
            pictures: The picture drawn for each image; None = the part that the model sees, with tensors
                rescaled to the range of pixels.
            title: The title of the page.
            internal_batch_size: The largest number of rows (locations) the language model sees at once.

        Returns:
            The file.

        Raises:
            ValueError: If there are not as many names or pictures as images, or the file cannot be written.

        Example:
            >>> import tempfile
            >>> from torchnle import LanguageAttribution
            >>> lang = LanguageAttribution(model, "layer", translator)
            >>> lang.report(images, Path(tempfile.mkdtemp(), "page.html"), texts=["a cat"]).name
            'page.html'
        """
        given = self._inputs(inputs)
        first = given[0] if isinstance(given, tuple) else given
        listed = as_texts(texts) if texts else []
        titles = _checked("names", _names(inputs, len(first)) if names is None else names, len(first))
        drawn = self._drawn(inputs, first) if pictures is None else pictures
        drawn = _checked("pictures", drawn, len(first))
        features = self.read(given, additional_forward_args)
        descriptions: Any = self.describe_features(features, internal_batch_size=internal_batch_size)
        layers: list[list[Description]] = descriptions if self.several else [descriptions]
        placed = [each for each in features if each.grid is not None] if listed else []
        how = Refinement()
        maps = self._score_maps(placed, listed, False, how, internal_batch_size) if placed else []
        reports = [
            ImageReport(
                titles[image],
                drawn[image],
                [words[image] for words in layers],
                [(each.layer, scores[image]) for each, scores in zip(placed, maps, strict=True)],
            )
            for image in range(len(first))
        ]
        return write_batch(Path(file), title, reports, listed, f"raw {self.translator.score_kind}")

    def _drawn(self, inputs: Pictures, batch: Tensor) -> list[Image.Image]:
        """Return what the model sees of each image."""
        view = getattr(self.preprocess, "view", None)
        several: list[Any] = list(inputs) if isinstance(inputs, list) else [inputs]
        if view is None or any(isinstance(each, Tensor | tuple) for each in several):
            return [_stretched(image, channels_last(batch)) for image in batch]
        opened = (each if isinstance(each, Image.Image) else images.open_image(each) for each in several)
        return [view(each.convert("RGB")) for each in opened]


def _checked(what: str, given: Sequence[Any], count: int) -> Sequence[Any]:
    if len(given) != count:
        raise ValueError(f"{len(given)} {what} were given for {count} images; pass one an image.")
    return given


def _names(inputs: Pictures, count: int) -> list[str]:
    several = list(inputs) if isinstance(inputs, list) else [inputs]
    if len(several) == count and all(isinstance(each, str | os.PathLike) for each in several):
        return [Path(str(each)).name for each in several]
    return [f"image {index}" for index in range(count)]


def _stretched(image: Tensor, last: bool) -> Image.Image:
    """Return an image of a batch as a picture: its range is stretched to that of pixels."""
    pixels = (image if last else image.movedim(0, -1)).detach().float().cpu()
    pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].expand(*pixels.shape[:-1], 3)
    low, high = pixels.min(), pixels.max()
    return Image.fromarray(((pixels - low) / (high - low).clamp(min=1e-6) * 255).round().byte().numpy())
