"""Composed scenes with known groups: a class, and a context that is correlated with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Bool, Int
from PIL import Image
from torch import Tensor

from torchnle.data.backgrounds import Background
from torchnle.data.cutouts import Cutout, Cutouts, load_cutouts
from torchnle.data.scenes import Scene, Scenes
from torchnle.language.english.head_nouns import head_senses
from torchnle.language.english.nouns import Nouns

#: WordNet's synset above every bird of waters and shores.
_AQUATIC = "aquatic bird"


@dataclass(frozen=True)
class GroupedScene:
    """A scene of one object whose class and context are known.

    Args:
        scene: The scene, with the object's mask.
        label: The class, as an index.
        context: The context, as an index.
    """

    scene: Scene
    label: int
    context: int

    @property
    def image(self) -> Image.Image:
        """The picture, RGB."""
        return self.scene.image

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """The visible pixels of the object."""
        return self.scene.objects[0].mask


class GroupedScenes(Sequence[GroupedScene]):
    """A data set with a spurious correlation, by the number of scenes of each class and context.

    A scene is one cut-out of its class on one background of its context. Scenes come cell by cell, and scene
    i of a cell is the same whatever the other cells hold, so that a smaller set is a part of a larger one.

    Args:
        classes: The cut-outs of each class, by its name.
        contexts: The backgrounds of each context, by its name.
        counts: How many scenes of each class (rows) in each context (columns).
        size: Width and height of the images in pixels.
        scale: Range of the object's longer side as a part of `size`.
        seed: 0 or more; another seed is another set.
        options: For `Scenes`, as `effects`.

    Raises:
        ValueError: If `counts` has not a row per class and a column per context, or is negative or all zero;
            or as `Scenes`.

    Example:
        >>> from torchnle.data import plain_backgrounds, shapes
        >>> dark, light = plain_backgrounds()[:1], plain_backgrounds()[1:2]
        >>> squares, stars = shapes(names=["square"]), shapes(names=["star"])
        >>> scenes = GroupedScenes({"square": squares, "star": stars}, {"dark": dark, "light": light},
        ...                        [[3, 1], [1, 3]], size=32)
        >>> len(scenes), scenes.labels.tolist(), scenes.conflicting.sum().item()
        (8, [0, 0, 0, 0, 1, 1, 1, 1], 2)
    """

    def __init__(
        self,
        classes: Mapping[str, Sequence[Cutout]],
        contexts: Mapping[str, Sequence[Background]],
        counts: Sequence[Sequence[int]],
        *,
        size: int = 224,
        scale: tuple[float, float] = (0.35, 0.6),
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.class_names, self.context_names = tuple(classes), tuple(contexts)
        self.counts = _checked(counts, len(classes), len(contexts))
        cells = [
            (label, context)
            for label in range(len(self.class_names))
            for context in range(len(self.context_names))
        ]
        self._cells = [
            Scenes(
                classes[self.class_names[label]],
                contexts[self.context_names[context]],
                length=self.counts[label][context],
                size=size,
                objects=(1, 1),
                scale=scale,
                seed=seed * len(cells) + number,
                **options,
            )
            for number, (label, context) in enumerate(cells)
        ]
        self._indices = [
            (*cell, index)
            for cell, scenes in zip(cells, self._cells, strict=True)
            for index in range(len(scenes))
        ]

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> GroupedScene: ...
    @overload
    def __getitem__(self, index: slice) -> list[GroupedScene]: ...
    def __getitem__(self, index: int | slice) -> GroupedScene | list[GroupedScene]:
        """Return one scene, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        label, context, number = self._indices[index]
        scenes = self._cells[label * len(self.context_names) + context]
        return GroupedScene(scenes[number], label, context)

    @property
    def labels(self) -> Int[Tensor, "N"]:
        """The class of each scene."""
        return torch.tensor([label for label, _, _ in self._indices])

    @property
    def contexts(self) -> Int[Tensor, "N"]:
        """The context of each scene."""
        return torch.tensor([context for _, context, _ in self._indices])

    @property
    def groups(self) -> Int[Tensor, "N"]:
        """The cell of each scene: class times the number of contexts, plus context."""
        return self.labels * len(self.context_names) + self.contexts

    @property
    def conflicting(self) -> Bool[Tensor, "N"]:
        """For each scene, whether its context differs from its class's most frequent one."""
        usual = torch.tensor(self.counts).argmax(dim=1)
        return self.contexts != usual[self.labels]


def correlated(length: int, share: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Count the scenes of two classes in two contexts if `share` of each class are in its own context.

    Args:
        length: The number of scenes a class.
        share: 0.95 = the Waterbirds of Sagawa et al. (2019); 0.5 = no correlation.

    Raises:
        ValueError: If `length` is not positive or `share` not between 0 and 1.

    Example:
        >>> correlated(100, 0.95)
        ((95, 5), (5, 95))
    """
    if length < 1 or not 0 <= share <= 1:
        raise ValueError(f"correlated({length}, {share}): pass 1 or more, and a share from 0 to 1.")
    own = round(length * share)
    return (own, length - own), (length - own, own)


def load_birds(folder: str | Path) -> dict[str, Cutouts]:
    """Read cut-outs of birds and split them into land birds and water birds, by WordNet's "aquatic bird".

    Args:
        folder: As `load_cutouts` reads it; Tux Paint's stamps keep birds in `animals/birds`. Folders named
            "cartoon" are left out.

    Returns:
        {"landbird": ..., "waterbird": ...}, each in the order of the files.

    Raises:
        NotADirectoryError: As `load_cutouts`.
        ValueError: If either kind is missing.
    """
    cutouts, nouns = load_cutouts(folder, exclude=("*_mirror.png", "*cartoon/*")), Nouns.load()
    aquatic = nouns.senses(_AQUATIC)[0]
    kinds: dict[str, list[Cutout]] = {"landbird": [], "waterbird": []}
    for cutout in cutouts:
        senses = head_senses(cutout.phrase, nouns.common_senses, nouns.is_physical)
        wet = any(aquatic in nouns.ancestors(sense) for sense in senses)
        kinds["waterbird" if wet else "landbird"].append(cutout)
    for name, found in kinds.items():
        if not found:
            raise ValueError(
                f"'{folder}' holds no {name} among {len(cutouts)} cut-outs. Pass a folder of both."
            )
    return {name: Cutouts(found) for name, found in kinds.items()}


def _checked(counts: Sequence[Sequence[int]], classes: int, contexts: int) -> tuple[tuple[int, ...], ...]:
    table = tuple(tuple(int(count) for count in row) for row in counts)
    fits = len(table) == classes and all(len(row) == contexts for row in table)
    if not fits or min(map(min, table), default=-1) < 0 or not sum(map(sum, table)):
        raise ValueError(
            f"counts={counts!r} for {classes} classes and {contexts} contexts; pass a row a class and a "
            f"column a "
            "context, of numbers that are 0 or more and not all 0."
        )
    return table
