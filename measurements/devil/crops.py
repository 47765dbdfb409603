"""Find the crop of a picture that fits its central sentence best (DeViL, section 4.3 and figure 7)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from PIL import Image

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data import Scenes
from torchnle.evaluation.scenes.data import read
from torchnle.evaluation.scenes.sentences import ALL, say
from torchnle.evaluation.subject import all_locations, at
from torchnle.metrics import TextImageScorer
from torchnle.vision.features import Features
from torchnle.vision.reading import select_together

#: Sides of the crops over the picture's side; the last is the whole of it.
SHARES = (32 / 224, 64 / 224, 128 / 224, 1.0)


def crop_sizes(
    backbone: Backbone,
    lang: LanguageAttribution,
    scenes: Scenes,
    scorer: TextImageScorer,
    *,
    batch_size: int = 16,
    internal_batch_size: int | None = None,
) -> dict[str, Any]:
    """Compute how often each central crop fits the sentence for the central location best.

    Args:
        backbone: The model.
        lang: The translator attached to it.
        scenes: The pictures.
        scorer: Cosines of crops and sentences.
        batch_size: Scenes in the model at once.
        internal_batch_size: Rows in the language model at once.

    Returns:
        By layer, for all layers together and for the pictures' own "captions", the share of pictures for each
        crop, by its side in pixels; a blank sentence fits none.

    Raises:
        ValueError: If there is no scene.
    """
    if not len(scenes):
        raise ValueError("there is no scene to crop.")
    best: dict[str, Counter[int]] = defaultdict(Counter)
    sides = [round(share * scenes.size) for share in SHARES]
    for batch, features in read(backbone, lang, scenes, batch_size=batch_size):
        sentences = _central(lang, features, internal_batch_size)
        sentences["captions"] = [scene.caption for scene in batch]
        for index, scene in enumerate(batch):
            own = {layer: texts[index] for layer, texts in sentences.items() if texts[index].strip()}
            crops = [central_crop(scene.image, side) for side in sides]
            fits = scorer(crops, list(own.values())).argmax(dim=0).tolist()
            for layer, index in zip(own, fits, strict=True):
                best[layer][sides[index]] += 1
    return {layer: {side: counts[side] / len(scenes) for side in sides} for layer, counts in best.items()}


def central_crop(image: Image.Image, side: int) -> Image.Image:
    """Crop the square of a side in the middle of a picture.

    Example:
        >>> central_crop(Image.new("RGB", (8, 8)), 4).size
        (4, 4)
    """
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _central(
    lang: LanguageAttribution, features: Sequence[Features], internal_batch_size: int | None
) -> dict[str, list[str]]:
    sentences = {f.layer: say(lang, [_middle(f)], internal_batch_size) for f in all_locations(lang, features)}
    if len(features) > 1:
        together = select_together(features, "all", lang.reading)
        sentences[ALL] = say(lang, [_middle(f) for f in together], internal_batch_size)
    return sentences


def _middle(features: Features) -> Features:
    """Select the location nearest to the middle of each image; of four equal ones, the lower right."""
    rows, columns = features.grid or (1, 1)
    count = features.batch_size
    return at(features, range(count), [(rows // 2, columns // 2)] * count)
