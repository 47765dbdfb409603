"""The figures of the README and of the table of methods are those of the committed results."""

from __future__ import annotations

import json

import pytest
from documents import DOCS, ROOT


def result(name):
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def fraction(name, *keys):
    value = result(name)
    for key in keys:
        value = value[key]
    return value


def seconds(what):
    return fraction("map_costs", "seconds", what, "median")


def group(arm):
    return next(
        line.split("|")[2].split("±")[0].strip()
        for line in (DOCS / "results/waterbirds.md").read_text().splitlines()
        if line.startswith(f"| {arm} |")
    )


LENS = ("lens_photographs", "photographs")
FIGURES = {
    "words at 49 locations 0.07 s": lambda: f"words at 49 locations {seconds('words at 49 locations'):.2f} s",
    "class names 1.9 s": lambda: f"class names {seconds('fit to 1,000 class names'):.1f} s",
    "maps of 1,000 texts 2.6 s": lambda: f"maps of 1,000 texts {seconds('maps of 1000 new texts'):.1f} s",
    "0.77 of 53 photographs at the head": lambda: (
        f"{fraction(*LENS, '_avg_pooling:input', 'location', 'right'):.2f} of 53 photographs at the head"
    ),
    "0.53 two blocks below": lambda: (
        f"{fraction(*LENS, '_blocks.13, lens', 'location', 'right'):.2f} two blocks below"
    ),
    "1,000 sentences of a picture 1.0 s": lambda: (
        "1,000 sentences of a picture "
        f"{fraction('word_sampling_cost', 'rows', '1000 with replacement', 'processor seconds'):.1f} s"
    ),
}


@pytest.mark.parametrize("sentence", FIGURES)
def test_a_figure_of_the_table_of_methods(sentence):
    assert sentence in (DOCS / "index.md").read_text()
    assert FIGURES[sentence]() == sentence


def test_the_repairs_figures():
    plain, repaired, oracle = (float(group(arm)) for arm in ("plain", "words", "oracle"))
    assert f"{plain:.2f} to {repaired:.2f} (true groups: {oracle:.2f})" in (ROOT / "README.md").read_text()


def photographs(name, row):
    """The texts, the share that is right, the wrong ones and those of them that are not marked unsure."""
    table = (DOCS / f"results/photographs_{name}.md").read_text()
    (cells,) = (line.split("|")[2:] for line in table.splitlines() if line.startswith(f"| {row} |"))
    return int(cells[0]), float(cells[1]), int(cells[3]), int(cells[4])


def test_the_photographs_figures():
    readme = (ROOT / "README.md").read_text()
    count, right, wrong, vouched = photographs("class_names", "the whole picture")
    first = photographs("class_names", "the classifier's first class")[1]
    where = photographs("class_names", "the main object's location")[1]
    assert (
        f"{count} photographs, judged by WordNet | {right:.2f} (the classifier's first class: {first:.2f})"
        in readme
    )
    assert f"| at the main object's location | the same | {where:.2f} |" in readme
    assert f"not marked unsure | the same (thresholds chosen on them) | {vouched} of {wrong} |" in readme


@pytest.mark.parametrize(
    "name",
    [
        "class_names",
        "class_names_adapted",
        "map_adapted",
        "map_rewhitened_adapted",
        "lite2_class_names_adapted",
        "lite2_map_adapted",
    ],
)
def test_the_table_of_photographs(name):
    """A row of docs/measurements.md: whole and location right, and wrong texts that are not marked unsure."""
    page = (DOCS / "measurements.md").read_text()
    (line,) = (
        line for line in page.splitlines() if f"](results/photographs_{name}.md)" in line and line[0] == "|"
    )
    cells = [cell.strip() for cell in line.split("|")[1:]]
    _, whole, wrong, vouched = photographs(name, "the whole picture")
    location = photographs(name, "the main object's location")[1]
    assert cells[2:4] == [f"{whole:.2f}", f"{location:.2f}"]
    assert cells[6] == f"{vouched} of {wrong}"


def test_the_figures_of_held_out_objects():
    found = fraction("map_on_scenes", "test", "_avg_pooling:input")
    readme = (ROOT / "README.md").read_text()
    assert f"{found['first_among']:.2f}; {found['said_nearest_phrase']:.2f} |" in readme
    index = (DOCS / "index.md").read_text()
    assert f"of the fit {found['said_nearest_phrase']:.2f}, and {found['first_among']:.2f} if only" in index
