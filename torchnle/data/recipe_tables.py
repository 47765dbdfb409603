"""Tables of data in recipes: each kind has settings and opens a source of captions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from torchnle import data
from torchnle.data import CaptionSource, Cutouts
from torchnle.errors import optional_package
from torchnle.settings import build, override, read_toml

_Run = TypeVar("_Run")

#: The folder of cut-outs in Debian's tuxpaint-stamps-default.
TUXPAINT = "/usr/share/tuxpaint/stamps"


@dataclass(frozen=True)
class DataTable(ABC):
    """One table of data in a recipe.

    Args:
        start: The first step that reads it.
        stop: The first step that no longer does; 0 = read to the end.
    """

    start: int = 0
    stop: int = 0

    @abstractmethod
    def open(self) -> CaptionSource:
        """Open the source that the table describes."""


@dataclass(frozen=True)
class FileTable(DataTable):
    """Image files with a file of captions: `CaptionFile`."""

    file: str = ""
    images: str | None = None
    image_key: str | None = None
    caption_key: str | None = None
    strict: bool = True

    def open(self) -> CaptionSource:
        """Open the pairs of the file."""
        return data.CaptionFile(
            self.file,
            self.images,
            image_key=self.image_key,
            caption_key=self.caption_key,
            strict=self.strict,
        )


@dataclass(frozen=True)
class ShardsTable(DataTable):
    """Tar shards as webdataset lays them out: `CaptionShards`."""

    shards: str | tuple[str, ...] = ""
    cache: str | None = None
    strict: bool = True

    def open(self) -> CaptionSource:
        """Open the pairs of all shards."""
        return data.CaptionShards(self.shards, cache=self.cache, strict=self.strict)


@dataclass(frozen=True)
class DatasetTable(DataTable):
    """A data set of Hugging Face's library: `CaptionDataset`.

    Args:
        path: The data set's name on the Hub, or its folder.
        name: Its configuration; null = the only one.
        split: Which of its splits is read.
    """

    path: str = ""
    name: str | None = None
    split: str = "train"
    image: str = "image"
    caption: str = "caption"

    def open(self) -> CaptionSource:
        """Open the rows of a split; a script that comes with the data is never run.

        Raises:
            MissingDependencyError: If datasets is not installed.
            ValueError: If the data set needs a script of its own.
        """
        with optional_package("datasets", extra="data", purpose="to read data sets"):
            from datasets import load_dataset
        try:
            rows = load_dataset(self.path, self.name, split=self.split, trust_remote_code=False)
        except (RuntimeError, ValueError) as error:
            if "script" not in str(error) and "trust_remote_code" not in str(error):
                raise
            raise ValueError(
                f"the data set {self.path!r} needs a script of its own, and torchnle never runs code that "
                "comes with data. Save it as Parquet, or as images with a .jsonl of captions (kind = 'file')."
            ) from None
        return data.CaptionDataset(rows, image=self.image, caption=self.caption, name=self.path)


@dataclass(frozen=True)
class ScenesTable(DataTable):
    """Composed scenes: `Scenes` of cut-outs from a folder.

    Args:
        folder: The folder of cut-outs.
        part: "all", or the cut-outs of the fit ("train") or those held out of it ("test").
        backgrounds: The kinds of backgrounds: "plain", "gradients", "textures" or "photos".
        photos: The folder of photographs, for backgrounds of the kind "photos".
        length: The number of scenes.
        size: Width and height in pixels.
        objects: The least and the largest number of objects.
        scale: The least and the largest longer side of an object, as a part of `size`.
        max_overlap: The largest part of a box that another object's box may cover.
        locations: Whether captions name the background. A location on an object shows little of it, and a
            translator that learns to name the background everywhere describes objects worse.
        effects: True, or the settings of `PhotoEffects`, for the noise and blur of photographs.
        seed: The seed of all draws.
    """

    folder: str = TUXPAINT
    part: Literal["all", "train", "test"] = "all"
    backgrounds: tuple[str, ...] = ("plain", "gradients", "textures")
    photos: str | None = None
    length: int = 1000
    size: int = 224
    objects: tuple[int, ...] = (1, 4)
    scale: tuple[float, ...] = (0.3, 0.6)
    max_overlap: float = 0.1
    locations: bool = True
    effects: Mapping[str, Any] | bool = False
    seed: int = 0

    def open(self) -> CaptionSource:
        """Make the scenes."""
        return data.Scenes(
            self._cutouts(),
            self._grounds(),
            length=self.length,
            size=self.size,
            objects=_pair(self.objects),
            scale=_pair(self.scale),
            max_overlap=self.max_overlap,
            effects=self._effects(),
            seed=self.seed,
        )

    def _grounds(self) -> list[data.Background]:
        grounds = [each for name in self.backgrounds for each in _backgrounds(name, self.photos)]
        return grounds if self.locations else [replace(each, location="") for each in grounds]

    def _cutouts(self) -> Cutouts:
        cutouts = data.load_cutouts(self.folder)
        return cutouts if self.part == "all" else cutouts.split(self.part)

    def _effects(self) -> data.PhotoEffects | None:
        if isinstance(self.effects, Mapping):
            return build(data.PhotoEffects, self.effects, "data.effects")
        return data.PhotoEffects() if self.effects else None


@dataclass(frozen=True)
class ShapesTable(ScenesTable):
    """Composed scenes of coloured shapes, made in code."""

    backgrounds: tuple[str, ...] = ("plain", "gradients")
    objects: tuple[int, ...] = (1, 2)

    def _cutouts(self) -> Cutouts:
        return data.shapes()


#: The kinds by name.
KINDS: dict[str, type[DataTable]] = {
    "file": FileTable,
    "webdataset": ShardsTable,
    "huggingface": DatasetTable,
    "scenes": ScenesTable,
    "shapes": ShapesTable,
}


def data_table(table: Mapping[str, Any], where: str) -> DataTable:
    """Build the settings of one table of data.

    Raises:
        ValueError: If its kind or a key is unknown; the message names the nearest.

    Example:
        >>> data_table({"kind": "shapes", "length": 8}, "data").open()[0].captions
        ('a white heart and a pink star on a blue background',)
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"[[{where}]] is {table!r}; a table with kind = ... is needed.")
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        near = get_close_matches(str(kind), KINDS, n=1, cutoff=0.4) or list(KINDS)
        raise ValueError(f"[{where}] kind = {kind!r}. Nearest: {', '.join(near)}.")
    rest = {key: value for key, value in table.items() if key != "kind"}
    return build(KINDS[str(kind)], rest, where)


def _backgrounds(name: str, photos: str | None) -> tuple[data.Background, ...]:
    if name == "photos":
        if photos is None:
            raise ValueError("[data] backgrounds names 'photos'; say in which folder with photos = '...'.")
        return data.load_photo_backgrounds(Path(photos))
    makers = {
        "plain": data.plain_backgrounds,
        "gradients": data.gradient_backgrounds,
        "textures": data.texture_backgrounds,
    }
    if name not in makers:
        raise ValueError(f"[data] backgrounds has {name!r}; known are {', '.join(makers)} and photos.")
    return makers[name]()


def _pair(values: tuple[Any, ...]) -> tuple[Any, Any]:
    if len(values) != 2:
        raise ValueError(f"[data] {list(values)}: two numbers are needed, the least and the most.")
    return values[0], values[1]


def read_recipe(
    cls: type[_Run],
    path: str | Path,
    settings: Sequence[str],
    *,
    tables: Mapping[str, type],
    data: Collection[str],
) -> _Run:
    """Read a recipe file into the settings of a training run.

    Args:
        cls: The dataclass of the run.
        path: A TOML file, or the name of a shipped one (torchnle/recipes).
        settings: Changes, "training.steps=100".
        tables: The dataclasses of the file's tables by their names.
        data: The names of the tables of data (`data_table`).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not TOML, or a key or value is not known; the message names the nearest.
    """
    file = Path(path)
    content = read_toml(file)
    override(content, settings)

    def part(name: str, value: Any) -> Any:
        if name in data:
            return tuple(data_table(table, name) for table in (value if isinstance(value, list) else [value]))
        if name in tables:
            return build(tables[name], value, name)
        return Path(value) if name == "output" and isinstance(value, str) else value

    given = {name: part(name, value) for name, value in content.items()}
    return build(cls, {"output": Path("runs") / file.stem, **given}, str(file))
