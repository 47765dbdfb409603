"""``torchnle words PHOTO...``: the words that dominate what is said of photos."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from PIL.Image import Image

from torchnle import backbones
from torchnle.attr import LanguageAttribution
from torchnle.attr.dataset.words import words_dataset
from torchnle.cli.folders import add_lines, write_lines
from torchnle.cli.output import say
from torchnle.cli.photos import Result, add_options, for_each, print_picture
from torchnle.language.english.content_words import words_and_kinds
from torchnle.views import plots, words

if TYPE_CHECKING:
    from torchnle.methods.texplain.words.table import Word  # imports language models


def add(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser(
        "words", help="count the words that a model's features make a language model say"
    )
    add_options(command)
    command.add_argument(
        "--n", type=int, help="sentences to draw (default: a map's phrases by their probabilities, else 200)"
    )
    command.add_argument(
        "--replacement", action="store_true", help="draw them independently, as the paper does"
    )
    command.add_argument(
        "--kinds", action="store_true", help="count the more general nouns above the words too"
    )
    command.add_argument("--top", type=int, default=10, help="how many words (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    add_lines(command)
    command.set_defaults(run=_words)


def _words(options: argparse.Namespace) -> None:
    asked: dict[str, Any] = {
        "n": options.n,
        "replacement": options.replacement,
        "seed": options.seed,
        "split": words_and_kinds if options.kinds else None,
    }
    if options.lines:
        write_lines(
            options, partial(words_dataset, count=options.top, **asked), _bars, ending="dominant_words"
        )
        return

    def work(lang: LanguageAttribution, backbone: backbones.Backbone, path: Path, image: Image) -> Result:
        table = lang.words(image, **asked)
        top = (table[0] if isinstance(table, list) else table).top(options.top)
        result: Result = {"photo": str(path), "words": [asdict(word) for word in top]}
        if options.output:
            drawn = _bars(image, top, path.name)
            result["picture"] = str(
                plots.save(drawn, options.output / f"{options.names[path]}_dominant_words.png")
            )
        return result

    for_each(options, work, _print_words)


def _bars(_: Image, top: Sequence[Word], title: str) -> Figure:
    return words.plot_bars(
        [word.text for word in top],
        [word.frequency for word in top],
        [(word.low, word.high) for word in top],
        title=title,
    )


def _print_words(result: Result) -> None:
    said = ", ".join(f"{word['text']} {word['frequency']:.0%}" for word in result["words"])
    say(f"{result['photo']}: {said}")
    print_picture(result)
