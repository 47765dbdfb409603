"""Clicks and texts on the explorer's page, timed, and clicks that read another location."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median
from typing import Any

from tqdm import tqdm

from measurements.explorer.page import opened
from torchnle.explorer.explorer import Explorer

#: The widths of the window, and the device pixels a pixel of the page: what a browser's zoom changes.
WIDTHS, ZOOMS = (480, 960, 1440), (1.0, 1.75)
#: The texts that are mapped, one after the other; each is new to the encoder's cache.
TEXTS = (
    "whiskers", "green eyes", "a pink nose", "a striped tail", "an ear", "a wooden floor",
    "a red blanket", "soft fur", "a paw", "a window", "a shadow", "a person",
)  # fmt: skip


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Summarise times.

    Example:
        >>> summary([0.1, 0.2, 0.3])["p50"]
        0.2
    """
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]
    return {"p50": median(ordered), "p95": last, "most": ordered[-1], "count": len(ordered)}


#: Clicks a location and resolves with the milliseconds until an element says that it answered for it.
_CLICK = """([x, y, region, id]) => new Promise((resolve) => {
  const shown = document.getElementById(id), began = performance.now();
  const done = () => JSON.stringify(JSON.parse(shown.dataset.answered || '{}').region) === region;
  const watch = new MutationObserver(() => {
    if (done()) { watch.disconnect(); requestAnimationFrame(() => resolve(performance.now() - began)); } });
  watch.observe(shown, { attributes: true });
  const stage = document.getElementById('stage'), box = stage.getBoundingClientRect();
  const at = { clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true };
  stage.setPointerCapture = () => {};
  stage.dispatchEvent(new PointerEvent('pointerdown', at));
  stage.dispatchEvent(new PointerEvent('pointerup', at));
})"""


def time_clicks(page: Any, explorer: Explorer, count: int, drawn: random.Random) -> tuple[Any, Any]:
    """Click at drawn locations of drawn layers; every tenth click waits for its sentence."""
    phrases: list[float] = []
    sentences: list[float] = []
    for index in tqdm(range(count), desc="clicks"):
        grid = _choose_layer(page, drawn.choice(explorer.layers))
        point, region = _draw(grid, drawn, page)
        waits = index % 10 == 9 and explorer.sentences.offered
        milliseconds = page.evaluate(_CLICK, [*point, region, "sentence" if waits else "words"])
        (sentences if waits else phrases).append(milliseconds / 1000)
    return summary(phrases), summary(sentences) if sentences else None


def _choose_layer(page: Any, layer: str) -> tuple[int, int]:
    page.locator(f"#layers label[title='{layer}']").click()
    page.wait_for_function("name => JSON.parse(words.dataset.answered).layer === name", arg=layer)
    rows, columns = page.get_attribute("#stage", "data-grid").split("x")
    return int(rows), int(columns)


def _draw(grid: tuple[int, int], drawn: random.Random, page: Any) -> tuple[tuple[float, float], str]:
    """Draw a location that is not the one that is read, and a point well within it."""
    read = page.evaluate("JSON.stringify(JSON.parse(words.dataset.answered).region)")
    while True:
        row, column = (drawn.randrange(size) for size in grid)
        region = f"[{row},{column},{row},{column}]"
        if region != read:
            x, y = (
                (at + drawn.uniform(0.1, 0.9)) / size
                for at, size in zip((column, row), grid[::-1], strict=True)
            )
            return (x, y), region


def time_texts(page: Any) -> dict[str, float]:
    """Time from pressing Enter to the maps at all layers, each time of one new text."""
    times = []
    for text in TEXTS:
        milliseconds = page.evaluate(
            """(text) => new Promise((resolve) => {
              const shown = document.getElementById('maps'), began = performance.now();
              const watch = new MutationObserver(() => {
                if (JSON.parse(shown.dataset.answered).includes(text)) {
                  watch.disconnect(); requestAnimationFrame(() => resolve(performance.now() - began)); } });
              watch.observe(shown, { attributes: true });
              document.getElementById('text').value = text;
              document.getElementById('ask').requestSubmit();
            })""",
            text,
        )
        times.append(milliseconds / 1000)
        page.locator("#maps .remove").click()
        page.wait_for_selector("#maps table", state="detached")
    return summary(times)


def count_misses(
    started: Any, address: str, explorer: Explorer, clicks: int, drawn: random.Random
) -> dict[str, list[int]]:
    """Click with the mouse; count the clicks after which another location is in the address."""
    found = {}
    for width in WIDTHS:
        for zoom in ZOOMS:
            page = opened(started, address, width, zoom)
            missed = sum(_missed(page, explorer, drawn) for _ in range(clicks))
            found[f"{width} pixels, zoom {zoom}"] = [missed, clicks]
            page.context.close()
    return found


def _missed(page: Any, explorer: Explorer, drawn: random.Random) -> bool:
    layer = drawn.choice(explorer.layers[-2:])
    if page.evaluate("document.querySelector('#layers input:checked').value") != layer:
        _choose_layer(page, layer)
    rows, columns = (int(size) for size in page.get_attribute("#stage", "data-grid").split("x"))
    row, column = drawn.randrange(rows), drawn.randrange(columns)
    page.evaluate("stage.scrollIntoView({block: 'center'}); words.dataset.before = location.hash")
    box = page.locator("#stage").bounding_box()
    x = box["x"] + (column + drawn.uniform(0.05, 0.95)) / columns * box["width"]
    y = box["y"] + (row + drawn.uniform(0.05, 0.95)) / rows * box["height"]
    page.mouse.click(x, y)
    page.wait_for_timeout(20)
    wanted = f"region={row}%2C{column}%2C{row}%2C{column}"
    return wanted not in str(page.evaluate("location.hash"))
