"""Composed scenes: captioned cut-outs on backgrounds, with the location of every phrase known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from torchnle.data.backgrounds import Background, gradient_backgrounds, plain_backgrounds
from torchnle.data.captions import digest
from torchnle.data.cutouts import Cutout
from torchnle.data.layout import Box, place_boxes
from torchnle.data.photo_effects import PhotoEffects
from torchnle.language.english.phrases import scene_caption

_SHRINK = 0.9  # if there is no room, the largest objects are reduced by this
_CONTRAST = 60.0  # least distance of an object's mean colour from a background's, of 442


@dataclass(frozen=True)
class SceneObject:
    """One object in a scene, with its phrase, box and mask.

    Args:
        phrase: Its noun phrase, as in the caption.
        box: (left, top, right, bottom) of its visible pixels, the last two exclusive.
        mask: Its visible pixels, (H, W).
        source: The file or shape of its cut-out (`Cutout.source`).
    """

    phrase: str
    box: Box
    mask: Bool[np.ndarray, "H W"]
    source: str = ""

    def location(self, grid: tuple[int, int]) -> tuple[int, int]:
        """Return the (row, column) of a layer's grid that holds the middle of the box.

        Args:
            grid: (rows, columns) over the whole image.

        Example:
            >>> SceneObject("a hen", (0, 32, 32, 64), np.ones((64, 64), bool)).location((2, 2))
            (1, 0)
        """
        height, width = self.mask.shape
        left, top, right, bottom = self.box
        return (top + bottom) * grid[0] // (2 * height), (left + right) * grid[1] // (2 * width)


@dataclass(frozen=True)
class Scene:
    """A composed picture with its caption, and the phrase, box and mask of every object.

    Args:
        image: RGB, square.
        caption: The caption: "a hen and a compost bin on grass".
        objects: In the order in which the caption lists them.
        location: The words of the caption for the background; "" if there are none.
    """

    image: Image.Image
    caption: str
    objects: tuple[SceneObject, ...]
    location: str = ""

    @property
    def pixels(self) -> UInt8[Tensor, "3 H W"]:
        """The image as a tensor, 0 to 255."""
        return torch.from_numpy(np.array(self.image)).permute(2, 0, 1).contiguous()

    @property
    def captions(self) -> tuple[str, ...]:
        """The caption, as a tuple of one."""
        return (self.caption,)


class Scenes(Sequence[Scene]):
    """A data set of composed scenes, made on indexing.

    Scene i of a seed is the same in any order of access and any process, so workers of a `DataLoader`
    (`collate_fn=list`) need no seeding, and another seed is a held-out set. The phrases of a scene differ,
    and each phrase is as frequent as any other, however many cut-outs share it.

    Args:
        cutouts: The objects; see `load_cutouts`, `shapes` and `Cutouts.split`.
        backgrounds: The backgrounds, all equally often; by default plain colours and gradients.
        length: How many scenes.
        size: Width and height of the image, in pixels, 32 or more.
        objects: The smallest and largest number of objects (at most 9), all equally often.
        scale: Range of an object's longer side as a part of `size`. If the objects of a scene do not fit, the
            largest are reduced until they do.
        max_overlap: The most of a box that another object's box may cover (of the smaller one of the two).
        order: How the caption lists the objects: "shuffled" so that the order carries no information on
            locations, or "left-to-right" by the middles of their boxes.
        flip: Mirror half of the objects.
        effects: Effects that make scenes look photographed; None = none.
        seed: 0 or more.

    Raises:
        ValueError: If a range is empty or out of bounds, a cut-out has nothing visible, or there are fewer
            phrases than objects.

    Example:
        >>> from torchnle.data import shapes
        >>> scene = Scenes(shapes(), objects=(2, 2), seed=7)[0]
        >>> scene.caption
        'a green arrow and a gray heart on a pink and purple background'
        >>> scene.objects[0].phrase, scene.objects[0].box
        ('a green arrow', (23, 16, 145, 112))
    """

    def __init__(
        self,
        cutouts: Sequence[Cutout],
        backgrounds: Sequence[Background] | None = None,
        *,
        length: int = 1000,
        size: int = 224,
        objects: tuple[int, int] = (1, 4),
        scale: tuple[float, float] = (0.3, 0.6),
        max_overlap: float = 0.1,
        order: Literal["shuffled", "left-to-right"] = "shuffled",
        flip: bool = True,
        effects: PhotoEffects | None = None,
        seed: int = 0,
    ) -> None:
        if backgrounds is None:
            backgrounds = (*plain_backgrounds(), *gradient_backgrounds())
        self.backgrounds = tuple(backgrounds)
        self.size, self.objects, self.scale = size, objects, scale
        self.max_overlap, self.order, self.flip, self.seed = max_overlap, order, flip, seed
        self.effects, self._length = effects, length
        self._check()
        self._items: dict[str, list[_Item]] = defaultdict(list)
        for cutout in cutouts:
            self._items[cutout.phrase].append(_Item.of(cutout, round(scale[1] * size)))
        self.phrases = tuple(self._items)
        if len(self.phrases) < objects[1]:
            raise ValueError(
                f"{objects[1]} objects with different phrases were requested, but there are "
                f"{len(self.phrases)} phrases in {len(cutouts)} cut-outs. Pass more cut-outs "
                "or fewer objects."
            )
        self._grounds = np.array(
            [[ground.colours[0], ground.colours[-1]] for ground in self.backgrounds], float
        )

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Scene: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scene]: ...
    def __getitem__(self, index: int | slice) -> Scene | list[Scene]:
        """Return one scene, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}; pass {-len(self)} to {len(self) - 1}.")
        return self._compose(np.random.default_rng([self.seed, index % len(self)]))

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the settings, every picture that scenes use, and the first scene itself."""
        names = ("size", "objects", "scale", "max_overlap", "order", "flip", "effects", "seed", "_length")
        parts: list[str | bytes] = [repr([getattr(self, name) for name in names])]
        for item in (item for pool in self._items.values() for item in pool):
            parts += [item.phrase, item.image.tobytes()]
        for ground in self.backgrounds:
            parts += [ground.location, ground.draw(np.random.default_rng(0), 64).tobytes()]
        return digest([*parts, *(scene.image.tobytes() for scene in self[:1])])

    def _compose(self, draws: np.random.Generator) -> Scene:
        items = self._choose(draws)
        background = self._background(draws, items)
        image = background.draw(draws, self.size)
        boxes, patches = self._lay_out(draws, items)
        for box, patch in zip(boxes, patches, strict=True):
            image.paste(patch, box, patch)
        masks = self._visible(boxes, patches)
        if self.effects is not None:
            image, masks = self.effects(draws, image, masks)
        found = [
            SceneObject(item.phrase, _bounds(mask), mask, item.source)
            for item, mask in zip(items, masks, strict=True)
        ]
        listed = tuple(self._ordered(draws, found))
        caption = scene_caption([item.phrase for item in listed], background.location)
        return Scene(image, caption, listed, background.location)

    def _choose(self, draws: np.random.Generator) -> list[_Item]:
        count = int(draws.integers(self.objects[0], self.objects[1], endpoint=True))
        phrases = draws.choice(len(self.phrases), count, replace=False)
        pools = [self._items[self.phrases[index]] for index in phrases]
        return [pool[int(draws.integers(len(pool)))] for pool in pools]

    def _background(self, draws: np.random.Generator, items: Sequence[_Item]) -> Background:
        """Choose a background that each object stands out from, or any if there is none."""
        colours = np.array([item.colour for item in items])
        distance = np.linalg.norm(self._grounds[:, :, None] - colours, axis=-1).min(axis=(1, 2))
        fit = np.flatnonzero(distance >= _CONTRAST)
        pool = fit if len(fit) else np.arange(len(self.backgrounds))
        return self.backgrounds[int(draws.choice(pool))]

    def _lay_out(
        self, draws: np.random.Generator, items: Sequence[_Item]
    ) -> tuple[list[Box], list[Image.Image]]:
        """Draw boxes and the patches that fill them; at least half of each object stays visible."""
        flips = (draws.random(len(items)) < 0.5 * self.flip).tolist()
        sides = draws.uniform(*self.scale, len(items)) * self.size
        while True:
            sizes = [_fitted(item.image, side) for item, side in zip(items, sides, strict=True)]
            boxes = place_boxes(draws, sizes, self.size, self.max_overlap)
            if boxes is not None:
                patches = [_patch(*each) for each in zip(items, sizes, flips, strict=True)]
                visible = self._visible(boxes, patches)
                if all(
                    mask.sum() >= _solid(patch).sum() / 2
                    for mask, patch in zip(visible, patches, strict=True)
                ):
                    return boxes, patches
            sides = np.minimum(sides, sides.max() * _SHRINK)

    def _visible(self, boxes: Sequence[Box], patches: Sequence[Image.Image]) -> list[Bool[np.ndarray, "H W"]]:
        """Return the pixels of each patch that no later one hides."""
        hidden = np.zeros((self.size, self.size), bool)
        masks = []
        for (left, top, right, bottom), patch in zip(reversed(boxes), reversed(patches), strict=True):
            mask = np.zeros_like(hidden)
            mask[top:bottom, left:right] = _solid(patch)
            masks.append(mask & ~hidden)
            hidden |= mask
        return masks[::-1]

    def _ordered(self, draws: np.random.Generator, found: list[SceneObject]) -> list[SceneObject]:
        if self.order == "left-to-right":
            return sorted(found, key=lambda item: item.box[0] + item.box[2])
        return [found[index] for index in draws.permutation(len(found))]

    def _check(self) -> None:
        least, most = self.objects
        small, large = self.scale
        wrong = {
            "backgrounds=(); pass at least one, or None for colours and gradients": not self.backgrounds,
            f"length={self._length}; pass 0 or more": self._length < 0,
            f"size={self.size}; pass 32 pixels or more": self.size < 32,
            f"objects={self.objects}; pass (least, most) from 1 to 9": not 1 <= least <= most <= 9,
            f"scale={self.scale}; pass (smallest, largest), above 0 and up to 1": not 0 < small <= large <= 1,
            f"max_overlap={self.max_overlap}; pass 0 to 0.5": not 0 <= self.max_overlap <= 0.5,
            f"order={self.order!r}; pass 'shuffled' or 'left-to-right'": self.order
            not in ("shuffled", "left-to-right"),
            f"seed={self.seed}; pass 0 or more": self.seed < 0,
        }
        for message, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(f"Scenes({message}).")


@dataclass(frozen=True)
class _Item:
    """A cut-out at most as large as a scene needs, with its mean colour."""

    phrase: str
    image: Image.Image
    source: str
    colour: tuple[float, ...]

    @classmethod
    def of(cls, cutout: Cutout, largest: int) -> _Item:
        """Reduce a cut-out to the largest side a scene can need."""
        image = cutout.image.convert("RGBA")
        image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
        pixels = np.asarray(image)
        if not pixels[..., 3].any():
            raise ValueError(f"the cut-out {cutout.phrase!r} {cutout.source!r} has no visible pixel.")
        colour = pixels[_solid(image)][:, :3].mean(axis=0)
        return cls(cutout.phrase, image, cutout.source, tuple(colour.tolist()))


def _solid(image: Image.Image) -> Bool[np.ndarray, "h w"]:
    """Return the pixels that count as the object's: at least half as opaque as its most opaque one."""
    alpha = np.asarray(image)[..., 3]
    solid: Bool[np.ndarray, "h w"] = alpha >= max(1, alpha.max() / 2)
    return solid


def _fitted(image: Image.Image, side: float) -> tuple[int, int]:
    """Return the image's (width, height) when its longer side is `side`."""
    factor = side / max(image.size)
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _patch(item: _Item, size: tuple[int, int], mirrored: bool) -> Image.Image:
    patch = item.image.resize(size, Image.Resampling.BILINEAR)
    return ImageOps.mirror(patch) if mirrored else patch


def _bounds(mask: Bool[np.ndarray, "H W"]) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
