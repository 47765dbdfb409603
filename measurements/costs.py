"""Time explanations on this machine: preparation, one whole image, all its locations, maps of many texts.

``python -m measurements costs`` compares the methods: a classifier's own space, sentences through its class
names, an aligned translator, and a DeViL network, each on the last layer that it reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from torchnle import images
from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.evaluation import record
from torchnle.evaluation.pictures import find_photographs
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.text_decoder import OPENING, PROMPT, TextDecoder
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.text_features.phrase_sums import PhraseSums
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.devil import devil_translator
from torchnle.translators.base import Translator

Result = TypeVar("Result")
#: The network and its frame in the shipped recipe, torchnle/recipes/scenes-efficientnet-lite0-smollm2.toml.
DEVIL: dict[str, Any] = {
    "prefix_length": 8,
    "width": 192,
    "depth": 3,
    "heads": 4,
    "feedforward": 512,
    "standardise": True,
    "opening": OPENING,
    "prompt": PROMPT,
}
#: With random weights decoding does not stop early, so texts are limited to the length of a sentence.
_SENTENCE: dict[str, Any] = {"stop": None, "max_new_tokens": 8}
#: The number of different phrases in the captions of a fit, and how many of them are summed at once.
_PHRASES, _BATCH = 400, 128


class Clock:
    """Times one function repeatedly.

    Args:
        rounds: The number of runs, after a warm-up that is not counted.
        limit: Seconds after which no run starts; a warm-up that takes longer is counted.

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> seconds, result = Clock(rounds=3)(lambda: "done")
        >>> int(seconds["rounds"]), result
        (3, 'done')
    """

    def __init__(self, rounds: int = 5, limit: float = 60.0) -> None:
        if rounds < 1 or not limit > 0:
            raise ValueError(f"rounds={rounds}, limit={limit}; pass at least one round and some seconds.")
        self.rounds, self.limit = rounds, limit

    def __call__(self, run: Callable[[], Result]) -> tuple[dict[str, float], Result]:
        """Return the "median", "least" and "most" seconds and the number of "rounds"; and the last result."""
        times: list[float] = []
        while len(times) <= self.rounds and sum(times) < self.limit:
            began = time.perf_counter()
            result = run()
            times.append(time.perf_counter() - began)
        counted = times[1:] or times
        found = {"median": median(counted), "least": min(counted), "most": max(counted)}
        return found | {"rounds": len(counted)}, result


def measure(
    backbone: Backbone,
    image: Float[Tensor, "1 C H W"],
    queries: Sequence[Sequence[str]],
    encoder: TextEncoder,
    decoder: TextDecoder,
    *,
    captions: Translator,
    devil: Translator | None = None,
    scenes: int = 10_000,
    clock: Clock | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Time every method on one image.

    Args:
        backbone: A classifier with class names.
        image: As the model takes it.
        queries: Lists of as many texts, mapped in turn, since a translator may cache the embeddings of the
            last.
        encoder: The sentence encoder of the fits.
        decoder: Gives the language model of a random DeViL network.
        captions: A map of the model that was fitted to captions.
        devil: A trained DeViL translator of it; None = `DEVIL` with random weights.
        scenes: How many captioned scenes the map is solved for.
        clock: Measures the times; None = five rounds, or a minute.
        progress: Whether to show progress.

    Raises:
        ValueError: If there is no scene.
    """
    if scenes < 1:
        raise ValueError(f"scenes={scenes}; pass a positive number.")
    clock = clock or Clock()
    names_fit, names = clock(
        lambda: LanguageAttribution.from_classifier(backbone.model, backbone.class_names, encoder=encoder)
    )
    (features,) = names.read(image)
    extracted = torch.randn(scenes, features.width, generator=torch.Generator().manual_seed(0))
    solve_fit, _ = clock(partial(solve, extracted, encoder))
    if devil is None:
        explains = _devil(names, features.layer, features.width, decoder.language_model)
    else:
        explains = _last_layer(backbone, devil)
    ways: list[tuple[str, LanguageAttribution, dict[str, float] | None]] = [
        ("class names", names, names_fit),
        ("captions", _last_layer(backbone, captions), solve_fit),
        ("DeViL", explains, None),
    ]
    return {
        "model": backbone.name,
        "language_model": f"{decoder.language_model.reference} in {decoder.language_model.dtype}",
        "threads": torch.get_num_threads(),
        "texts": len(queries[0]),
        "solved": {"rows": scenes, "width": features.width, "phrases": _PHRASES},
        "devil": "random weights" if devil is None else "trained weights",
        "forward": clock(lambda: names.read(image))[0],
        "ways": {
            name: {"fit": fit, **_explain(lang, image, queries, clock)}
            for name, lang, fit in tqdm(ways, desc="ways", disable=not progress)
        },
    }


def solve(features: Float[Tensor, "n d"], encoder: TextEncoder) -> TextMap:
    """Fit a map to given features and phrases of captions, two each: sums, then the solution."""
    sums = PhraseSums(features.shape[1])
    for start in range(0, len(features), _BATCH):
        rows = features[start : start + _BATCH]
        pairs = [(f"thing {2 * i % _PHRASES}", f"thing {(2 * i + 1) % _PHRASES}") for i in range(len(rows))]
        sums.add(rows, pairs)
    return TextMap.fit(partial(embed_cached, encoder), prototypes=sums.solve())


def photograph(backbone: Backbone, path: Path | None = None) -> Float[Tensor, "1 C H W"]:
    """Load a photograph as the model takes it; None = scikit-image's cat."""
    return backbone.preprocess(images.open_image(path or find_photographs()["chelsea"]))[None]


def page(data: Mapping[str, Any]) -> str:
    """Format the median seconds as Markdown, a row a method."""
    rows = [
        [name, f"`{way['layer']}`", *(way[what] and way[what]["median"] for what in _COLUMNS), way["words"]]
        for name, way in data["ways"].items()
    ]
    count = next(iter(data["ways"].values()))["locations"]
    seconds = [column.format(count=count, **data) for column in _COLUMNS.values()]
    table = record.table(["way", "layer", *seconds, "words at a location"], rows)
    return f"{_PREFACE.format(**data)}\n{table}\n"


def _last_layer(backbone: Backbone, translator: Translator) -> LanguageAttribution:
    return LanguageAttribution(backbone.model, translator.layers[-1], translator)


def _devil(like: LanguageAttribution, layer: str, width: int, lm: LanguageModel) -> LanguageAttribution[Any]:
    """Build a network of the shipped recipe's size with random weights, on another method's layer."""
    torch.manual_seed(0)
    translator = devil_translator({layer: width}, lm, **DEVIL, **_SENTENCE).eval()
    (tap,) = like.taps
    return LanguageAttribution(like.forward_func, tap, translator, reading=like.reading)


def _explain(
    lang: LanguageAttribution, image: Tensor, queries: Sequence[Sequence[str]], clock: Clock
) -> dict[str, Any]:
    turn = cycle(queries)
    locations, (grid,) = clock(lambda: lang.describe(image, where="all"))
    sentences = [cell.text for cell in grid]
    return {
        "layer": lang.taps[0].name,
        "locations": len(sentences),
        "words": sum(len(text.split()) for text in sentences) / len(sentences),
        "whole": clock(lambda: lang.describe(image))[0],
        "all_locations": locations,
        "saliency": clock(lambda: lang.saliency(image, next(turn), interpolate_mode=None))[0],
    }


_COLUMNS = {
    "fit": "fit",
    "whole": "the whole image",
    "all_locations": "its {count} locations",
    "saliency": "maps of {texts} texts",
}
_PREFACE = """# What explaining costs

{model}, {language_model}, {threads} thread(s): wall-clock seconds, medians.
Reading the layer takes {forward[median]:.3f} s and is in every column but the fit. Fit: for the class names
the whole of it; for the captions the sums and the solve of {solved[rows]} rows of {solved[width]} channels,
features and phrases extracted before. Maps are the raw scores at every location. DeViL
has {devil}: it needs a training run; random ones write up to 8 tokens at every location.
"""
