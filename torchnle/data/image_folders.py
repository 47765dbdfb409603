"""Labelled images in folders: a folder per class, Waterbirds, and ImageNet-9 with its background variants."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool
from PIL import Image

from torchnle import images

#: The splits of Waterbirds' metadata.csv.
_SPLITS = {"train": "0", "val": "1", "test": "2"}


@dataclass(frozen=True)
class LabelledImage:
    """An image file with its class, and its context if known.

    Args:
        path: The file.
        label: The class, as an index.
        context: The context, as an index; None = unknown.
    """

    path: Path
    label: int
    context: int | None = None

    @property
    def image(self) -> Image.Image:
        """The picture, read on access, RGB."""
        return images.open_image(self.path)


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images with the names of their labels and contexts.

    Args:
        images: The images.
        class_names: The names of the classes.
        context_names: The names of the contexts; empty if they are unknown.
    """

    images: tuple[LabelledImage, ...]
    class_names: tuple[str, ...]
    context_names: tuple[str, ...] = ()

    def with_contexts(self, contexts: Mapping[str, str], folder: Path) -> LabelledImages:
        """Set the context of every image.

        Args:
            contexts: The context of each image, by its path relative to `folder`.
            folder: The folder of the images.

        Raises:
            ValueError: If an image has none.
        """
        names = tuple(sorted(set(contexts.values())))
        context_of = {path: names.index(name) for path, name in contexts.items()}
        relative = [each.path.relative_to(folder).as_posix() for each in self.images]
        if missing := [path for path in relative if path not in context_of]:
            raise ValueError(
                f"{len(missing)} images have no group, such as {missing[:3]}; give every image a line."
            )
        found = tuple(
            LabelledImage(each.path, each.label, context_of[path])
            for each, path in zip(self.images, relative, strict=True)
        )
        return LabelledImages(found, self.class_names, names)


def load_class_folders(folder: str | Path) -> LabelledImages:
    """List the images of a folder with one subfolder per class, as torchvision's `ImageFolder` reads it.

    Names such as "00_dog" and "land_bird" become "dog" and "land bird".

    Raises:
        NotADirectoryError: If the folder does not exist.
        ValueError: If there are fewer than two classes, or a class has no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(
            f"'{root}' is no folder. Pass one that holds a folder of images for every class."
        )
    classes = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [LabelledImage(file, label) for label, path in enumerate(classes) for file in _files(path)]
    counted = {each.label for each in found}
    if len(classes) < 2 or len(counted) < len(classes):
        empty = [path.name for label, path in enumerate(classes) if label not in counted]
        raise ValueError(
            f"'{root}' holds {len(classes)} class folders, without images: {empty}. Pass two classes or "
            f"more, each with "
            f"images ({', '.join(sorted(images.SUFFIXES))})."
        )
    return LabelledImages(tuple(found), tuple(_name(path.name) for path in classes))


def load_waterbirds(folder: str | Path, split: Literal["train", "val", "test"] = "train") -> LabelledImages:
    """List a split of Waterbirds (Sagawa et al., 2019): `metadata.csv` and the images that it names.

    Raises:
        FileNotFoundError: If there is no metadata.csv.
        ValueError: If the split has another name, a column is missing, or the split is empty.
    """
    root = Path(folder)
    if split not in _SPLITS:
        raise ValueError(f"split={split!r}; pass one of {sorted(_SPLITS)}.")
    rows = read_table(root / "metadata.csv", ("img_filename", "y", "split", "place"))
    found = tuple(
        LabelledImage(root / row["img_filename"], int(row["y"]), int(row["place"]))
        for row in rows
        if row["split"] == _SPLITS[split]
    )
    if not found:
        raise ValueError(f"'{root / 'metadata.csv'}' names no image of the split {split!r}.")
    return LabelledImages(found, ("land bird", "aquatic bird"), ("land", "water"))


def load_imagenet9(folder: str | Path, variant: str = "original") -> LabelledImages:
    """List a variant of ImageNet-9 (Xiao et al., 2020), such as "only_bg_t": `VARIANT/val/CLASS`.

    Raises:
        NotADirectoryError: If the folder of the variant does not exist.
        ValueError: As `load_class_folders`.
    """
    return load_class_folders(Path(folder) / variant / "val")


def read_groups(file: str | Path) -> dict[str, str]:
    """Read the context of every image from a CSV file with the columns "file" and "group".

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a column is missing, or the file has no line.
    """
    return {row["file"]: row["group"] for row in read_table(Path(file), ("file", "group"))}


def read_masks(folder: str | Path, listed: LabelledImages, root: str | Path) -> list[Bool[np.ndarray, "H W"]]:
    """Load the object mask of every image from a folder of mask pictures with the images' names.

    Pixels brighter than half are the object. Endings of names may differ.

    Args:
        folder: The masks, in the images' subfolders: "land_bird/7.png" for "land_bird/7.jpg".
        listed: The images.
        root: The folder of the images.

    Raises:
        FileNotFoundError: If an image has no mask.
        ValueError: If a mask has another size than its image.
    """
    paths = [Path(folder) / each.path.relative_to(root).with_suffix(".png") for each in listed.images]
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{len(missing)} images have no mask, such as '{missing[0]}'; give every image one, as PNG."
        )
    return [_mask(path, each) for path, each in zip(paths, listed.images, strict=True)]


def _mask(path: Path, of: LabelledImage) -> Bool[np.ndarray, "H W"]:
    mask, size = images.open_image(path).convert("L"), of.image.size
    if mask.size != size:
        raise ValueError(
            f"the mask '{path}' has {mask.width}x{mask.height} pixels, its image {size[0]}x{size[1]}; make "
            "them the same: a resized mask would leave a rim of the object."
        )
    found: Bool[np.ndarray, "H W"] = np.asarray(mask) > 127
    return found


def read_table(file: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file that has certain columns.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If a column is missing, or the file has no line.
    """
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"'{file}' has the columns {reader.fieldnames}, without {missing}.")
        rows = list(reader)
    if not rows:
        raise ValueError(f"'{file}' has no line below its header.")
    return rows


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in images.SUFFIXES)


def _name(folder: str) -> str:
    number, _, rest = folder.partition("_")
    return (rest if number.isdecimal() and rest else folder).replace("_", " ").lower()
