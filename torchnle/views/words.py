"""Figures of words: clouds and bars of given frequencies."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from torchnle.errors import optional_package
from torchnle.views.plots import INK, PAPER

#: Words of the class are drawn in this colour (figure 5 of the paper has red), all others in gray.
OWN, OTHER = "#c0392b", "#5b6475"


def plot_cloud(
    frequencies: Mapping[str, float], *, own: Collection[str] = (), title: str = "", seed: int = 0
) -> Figure:
    """Draw a word cloud, whose sizes are proportional to given frequencies.

    Args:
        frequencies: The frequency of each word; words without a positive one are left out.
        own: Words to draw in the class's colour.
        title: The title above the cloud.
        seed: The seed of the layout.

    Raises:
        MissingDependencyError: If wordcloud is not installed.
        ValueError: If no frequency is positive.

    Example:
        >>> plot_cloud({"hen": 0.9, "grass": 0.4}, own={"hen"}, title="hen").axes[0].get_title()
        'hen'
    """
    with optional_package("wordcloud", extra="words", purpose="to draw word clouds"):
        from wordcloud import WordCloud
    positive = {word: value for word, value in frequencies.items() if value > 0}
    if not positive:
        raise ValueError(
            f"none of {len(frequencies)} words has a positive frequency; there is nothing to draw."
        )
    cloud = WordCloud(
        width=640,
        height=400,
        background_color=PAPER,
        prefer_horizontal=1.0,
        random_state=seed,
        color_func=lambda word, **_: OWN if word in own else OTHER,
    ).generate_from_frequencies(positive)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(cloud.to_array(), interpolation="bilinear")
    axes.set_axis_off()
    axes.set_title(title, color=INK, parse_math=False)
    return figure


def plot_bars(
    words: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]] | None = None,
    *,
    own: Collection[str] = (),
    title: str = "",
) -> Figure:
    """Draw word frequencies as horizontal bars with intervals, the first word on top.

    Args:
        words: The words.
        values: Their frequencies.
        intervals: (low, high) of each; None = none are drawn.
        own: Words to draw in the class's colour.
        title: The title above the bars.

    Raises:
        ValueError: If there are no words, or not as many values or intervals.

    Example:
        >>> figure = plot_bars(["hen", "grass"], [0.9, 0.4], [(0.8, 1.0), (0.3, 0.5)])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['hen', 'grass']
    """
    if not words or len(values) != len(words) or len(intervals or words) != len(words):
        raise ValueError(
            f"{len(words)} words, {len(values)} values and {len(intervals or ())} intervals; pass as many "
            f"of each."
        )
    figure = Figure(figsize=(5.0, 0.32 * len(words) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    heights = range(len(words))
    axes.barh(heights, values, color=[OWN if word in own else OTHER for word in words])
    if intervals is not None:
        for height, (low, high) in zip(heights, intervals, strict=True):
            axes.plot([low, high], [height, height], color=INK, linewidth=1.2)
    axes.set_yticks(list(heights), labels=list(words), parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("frequency", color=INK)
    axes.set_title(title, color=INK, parse_math=False)
    return figure
