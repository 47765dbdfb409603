"""A batch as one HTML file: each image with its words by layer, their probabilities, and maps of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from torchnle.description import Description
from torchnle.views import html
from torchnle.views.plots import check_folder

#: The side of a picture and of a map on the page, in pixels; how much of a map is seen over its picture.
_SIDE, _MAP_SIDE, _OPACITY = 320, 160, 0.6
_STYLE = """
section{border-top:1px solid #d5d9e2;padding:1rem 0;display:flex;gap:1.5rem;flex-wrap:wrap}
section>div{flex:1;min-width:20rem}h2{font-size:1.1rem;margin:0 0 .5rem;overflow-wrap:anywhere}
.words{font:500 1.15rem/1.3 ui-serif,Georgia,serif}.unsure{color:#9a4b00}
@media (prefers-color-scheme:dark){body{color:#e9ebef;background:#11141a}th{border-color:#e9ebef}
section,tr+tr td{border-color:#2c333f}.dim{color:#9da7b5}.unsure{color:#f0ad5e}}
"""


@dataclass(frozen=True)
class ImageReport:
    """The content of a page on one image.

    Args:
        name: Its title, any text.
        picture: The part of the image that the model sees, any size.
        words: One description per layer.
        maps: Raw scores (texts, rows, columns) of each layer that has locations, by the layer's name.
    """

    name: str
    picture: Image.Image
    words: Sequence[Description]
    maps: Sequence[tuple[str, Float[Tensor, "T h w"]]] = field(default=())


def write_batch(
    file: str | Path, title: str, reports: Sequence[ImageReport], texts: Sequence[str] = (), kind: str = ""
) -> Path:
    """Write a self-contained HTML page on a batch atomically; all maps have one colour scale.

    Args:
        file: The file to write.
        title: The page's title.
        reports: One report per image.
        texts: The texts of the maps.
        kind: The kind of the maps' scores (`Description.score_kind`).

    Returns:
        The file.

    Raises:
        ValueError: If the folder cannot be made or written.

    Example:
        >>> import tempfile
        >>> report = ImageReport("cat.jpg", Image.new("RGB", (8, 8)), [Description("a cat", 1.0, layer="l")])
        >>> "a cat" in write_batch(Path(tempfile.mkdtemp(), "page.html"), "Words", [report]).read_text()
        True
    """
    target = Path(file)
    check_folder(target.parent)
    values = [scores for report in reports for _, scores in report.maps]
    low = min((float(each.min()) for each in values), default=0.0)
    high = max((float(each.max()) for each in values), default=0.0)
    sections = "\n".join(_section(report, texts, low, high) for report in reports)
    scale = f"<p class='dim'>Maps: {escape(kind)}, all from {low:.3f} (dark) to {high:.3f} (bright).</p>"
    body = (scale if values else "") + sections
    return html.write(target, html.page(title, body, style=_STYLE))


def _section(report: ImageReport, texts: Sequence[str], low: float, high: float) -> str:
    rows = [[escape(each.layer), _words(each), _phrases(each)] for each in report.words]
    shown = html.table(["layer", "words", "likeliest phrases"], rows, name="words")
    if report.maps and texts:
        cells = [
            [escape(layer), *(_map(report.picture, *each, low, high) for each in _pairs(maps, texts))]
            for layer, maps in report.maps
        ]
        shown += html.table(["map", *texts], cells, name="maps")
    picture = html.picture(report.picture, _SIDE, report.name)
    return f"<section>{picture}<div><h2>{escape(report.name)}</h2>{shown}</div></section>"


def _pairs(maps: Float[Tensor, "T h w"], texts: Sequence[str]) -> list[tuple[Tensor, str]]:
    return list(zip(maps, texts, strict=True))


def _words(found: Description) -> str:
    kind = "words unsure" if found.unsure else "words"
    return f'<span class="{kind}">{escape(found.marked_text)}</span>'


def _phrases(found: Description) -> str:
    share = found.probability is not None
    listed = (f"{text} {value:.0%}" if share else f"{text} {value:.2f}" for text, value in found.phrases)
    return f'<span class="dim">{escape("; ".join(listed))}</span>'


def _map(picture: Image.Image, scores: Float[Tensor, "h w"], text: str, low: float, high: float) -> str:
    peak = divmod(int(scores.argmax()), scores.shape[1])
    label = f"{text}: highest {float(scores.max()):.3f} at {peak}"
    return html.picture(overlay(picture, scores, low, high), _MAP_SIDE, label)


def overlay(picture: Image.Image, scores: Float[Tensor, "h w"], low: float, high: float) -> Image.Image:
    """Draw a map over a grey version of a picture, enlarged bicubically.

    Args:
        picture: Any size.
        scores: The raw map.
        low: The score of the first colour.
        high: The score of the last colour.

    Example:
        >>> import torch
        >>> overlay(Image.new("RGB", (8, 4)), torch.eye(2), 0.0, 1.0).size
        (160, 80)
    """
    small = picture.convert("L").convert("RGB")
    scale = _MAP_SIDE / max(small.size)
    small = small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))))
    size = (small.height, small.width)
    values = F.interpolate(scores.float()[None, None], size, mode="bicubic")[0, 0]
    shares = ((values - low) / (high - low if high > low else 1.0)).clamp(0, 1)
    colours = (colormaps["inferno"](shares.cpu().numpy())[..., :3] * 255).round().astype("uint8")
    return Image.blend(small, Image.fromarray(colours), _OPACITY)
