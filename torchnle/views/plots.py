"""Pictures: descriptions on an image, and text saliency maps on one scale.

Plain matplotlib figures, made without pyplot and its global state, so that they work in notebooks, in
scripts and on machines without a screen. Only drawing normalises; the scores stay raw.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from torchnle.description import Description, DescriptionGrid
from torchnle.hub import leftovers

INK = "#10182b"
PAPER = "#ffffff"
#: Texts are drawn verbatim: "$" and "\\" are no TeX, whatever the reader's settings.
_AS_IS: dict[str, Any] = {"parse_math": False, "usetex": False}
#: The darkening of a photo under words, for legibility.
VEIL = 0.28


def plot_descriptions(
    image: Image.Image, grid: DescriptionGrid, *, whole: Description | None = None, words: int = 3
) -> Figure:
    """Draw the photo with a layer's grid and the words of each location.

    Args:
        image: The model's view, RGB, any size; the grid covers all of it.
        grid: One description per location, as ``describe(x, where="all")`` gives for an image.
        whole: The description of the whole image, for the title.
        words: The largest number of lines in a cell.

    Returns:
        A matplotlib figure; `save` writes it.

    Example:
        >>> cells = [Description(word, 0.5, "cosine", "layer") for word in ("sky", "sea")]
        >>> figure = plot_descriptions(Image.new("RGB", (64, 32)), DescriptionGrid(cells, (1, 2)))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['sky', 'sea']
    """
    rows, columns = grid.grid
    figure, axes = _canvas(
        1.75 * columns + 0.4, 1.75 * rows * image.height / image.width * columns / rows + 0.9
    )
    _show(axes, Image.blend(image.convert("RGB"), Image.new("RGB", image.size, INK), VEIL))
    for edge in range(1, columns):
        axes.axvline(edge * image.width / columns, color=PAPER, linewidth=0.8, alpha=0.7)
    for edge in range(1, rows):
        axes.axhline(edge * image.height / rows, color=PAPER, linewidth=0.8, alpha=0.7)
    for index, cell in enumerate(grid):
        row, column = divmod(index, columns)
        x, y = (column + 0.5) * image.width / columns, (row + 0.5) * image.height / rows
        _write(axes, x, y, _lines(cell.marked_text, width=16, most=words), strong=not cell.unsure)
    if whole is not None:
        title = "\n".join(textwrap.wrap(whole.marked_text, 70))
        axes.set_title(title, color=INK, fontsize=13, pad=10, **_AS_IS)
    return figure


def plot_saliency(
    image: Image.Image,
    maps: Float[Tensor, "T H W"],
    texts: Sequence[str],
    *,
    score_name: str = "raw score",
    opacity: float = 0.55,
    columns: int = 4,
) -> Figure:
    """Draw one panel per text, all on one colour scale, each with its own raw range below.

    Args:
        image: The model's view, RGB, any size.
        maps: Raw scores, (texts, rows, columns) at any resolution; enlarged bicubically for display.
        texts: T texts.
        score_name: The name of the scores, for the colour bar.
        opacity: The opacity of the map over the photo, 0 to 1.
        columns: The largest number of panels in a row.

    Raises:
        ValueError: If there are not as many texts as maps.

    Example:
        >>> import torch
        >>> figure = plot_saliency(Image.new("RGB", (32, 32)), torch.rand(2, 4, 4), ["a cat", "a dog"])
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['a cat', 'a dog']
    """
    if len(texts) != maps.shape[0]:
        raise ValueError(f"{maps.shape[0]} maps were given with {len(texts)} texts; pass one text a map.")
    across = min(columns, len(texts))
    down = -(-len(texts) // across)
    figure = Figure(
        figsize=(3.4 * across + 1.0, 3.75 * down * image.height / image.width), layout="constrained"
    )
    FigureCanvasAgg(figure)
    low, high = maps.min().item(), maps.max().item()
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, text, values in zip(panels, texts, maps.float().cpu(), strict=False):
        overlay = _overlay(axes, image, values, low, high, opacity)
        axes.set_title("\n".join(textwrap.wrap(text, 32)), color=INK, fontsize=11, **_AS_IS)
        axes.set_xlabel(f"{values.min():.3f} to {values.max():.3f}", color=INK, fontsize=8)
    for axes in panels[len(texts) :]:
        axes.set_visible(False)
    bar = figure.colorbar(overlay, ax=panels.tolist(), shrink=0.8, pad=0.01)
    bar.set_label(score_name, color=INK, **_AS_IS)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    return figure


def save(figure: Figure, path: str | Path, *, dpi: int = 110) -> Path:
    """Write a figure as PNG atomically; parent folders are created.

    Raises:
        ValueError: If the folder cannot be made or written.

    Example:
        >>> import tempfile
        >>> save(Figure(), Path(tempfile.mkdtemp()) / "new" / "figure.png").name
        'figure.png'
    """
    target = Path(path)
    check_folder(target.parent)
    with leftovers.replacing(target) as scratch:
        figure.savefig(scratch, dpi=dpi, facecolor=PAPER, format="png")
    return target


def check_folder(folder: Path) -> None:
    """Create a folder, and check that files can be written into it.

    Raises:
        ValueError: If it cannot be created or written, with the system's reason.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"cannot write to '{folder}': {error.strerror}. Pass a folder that can be written."
        ) from error


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _show(axes: Axes, image: Image.Image) -> None:
    axes.imshow(image.convert("RGB"), extent=(0, image.width, image.height, 0))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _lines(text: str, *, width: int, most: int) -> str:
    """Break a text into at most so many lines, each of its phrases on a line of its own."""
    lines = [line for phrase in text.split("; ") for line in textwrap.wrap(phrase, width)]
    return "\n".join(lines[:most])


def _write(axes: Axes, x: float, y: float, text: str, *, strong: bool) -> None:
    axes.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=8.5,
        color=PAPER,
        weight="bold" if strong else "normal",
        style="normal" if strong else "italic",
        path_effects=[withStroke(linewidth=2.4, foreground=INK)],
        **_AS_IS,
    )


def _overlay(
    axes: Axes, image: Image.Image, values: Tensor, low: float, high: float, opacity: float
) -> AxesImage:
    _show(axes, image.convert("L").convert("RGB"))
    return axes.imshow(
        values.numpy(),
        extent=(0, image.width, image.height, 0),
        cmap="inferno",
        vmin=low,
        vmax=high if high > low else low + 1e-6,
        alpha=opacity,
        interpolation="bicubic",
    )
