"""The whole measurement (every frame with and without BOS, the ends, the starts) and its tables."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from typing import Any

import torch
from tqdm import tqdm

from measurements.addressing.starts import START_RECIPE, STARTS, loss_from_start
from measurements.addressing.words import NOISES, Frame, understood, without_bos
from torchnle.evaluation import record
from torchnle.language.model import LanguageModel
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.decoder.training import Recipe

#: From an empty frame to the shipped one.
FRAMES = (
    Frame("", ""),
    Frame("", "\nThis is"),
    Frame("This is", "\nThis is"),
    Frame("Repeat this:", "\nRepeat this:"),
    Frame(),
)
#: The shipped frame with other ends: a full stop, and the model's end-of-text token.
ENDS = (Frame(), Frame(stop="."), Frame(stop=None))


def measure(
    lm: LanguageModel,
    encoder: TextEncoder,
    texts: Sequence[str],
    training_texts: Sequence[str],
    *,
    frames: Sequence[Frame] = FRAMES,
    ends: Sequence[Frame] = ENDS,
    noises: Sequence[float] = NOISES,
    recipe: Recipe = START_RECIPE,
    progress: bool = False,
) -> dict[str, Any]:
    """Decode texts through every frame and end, then train for a few steps from each start.

    Args:
        lm: The language model.
        encoder: Compares decoded texts with their sources, and gives the embeddings that training starts
            from.
        texts: The texts to decode, on which losses are measured.
        training_texts: The texts to train on.
        frames: The frames; each is used with BOS, if the model has one, and without.
        ends: The ends, with the model's own start; an end-of-text token that it does not have is left out.
        noises: Sizes of noise on the token embeddings.
        recipe: The number of a text's vectors, and the settings of the short training; 0 steps = none.
        progress: Whether to show progress.

    Raises:
        ValueError: If the steps are negative, or a batch is empty.
    """
    options: dict[str, Any] = {"noises": noises, "length": recipe.prefix_length, "seed": recipe.seed}
    models = {True: lm, False: without_bos(lm)} if lm.bos_id is not None else {False: lm}
    begun = [(lm.bos_id is not None, end) for end in ends if end.stop is not None or lm.eos_id is not None]
    starts = list(product(models, STARTS)) if recipe.steps else []

    def say(cases: Sequence[tuple[bool, Frame]], what: str) -> list[dict[str, Any]]:
        watched = tqdm(cases, desc=what, disable=not progress)
        return [
            {"bos": bos, **asdict(case), "by_noise": understood(models[bos], encoder, texts, case, **options)}
            for bos, case in watched
        ]

    return {
        "language_model": lm.reference,
        "encoder": encoder.reference,
        "threads": torch.get_num_threads(),
        "texts": {"measured": len(texts), "learned_from": len(training_texts) if starts else 0},
        "fitting": _fitting(lm, texts, recipe.prefix_length),
        "recipe": asdict(recipe),
        "frames": say(list(product(models, frames)), "frames"),
        "ends": say(begun, "ends"),
        "starts": [
            {"bos": bos, "start": start}
            | loss_from_start(models[bos], encoder, texts, training_texts, start, recipe)
            for bos, start in tqdm(starts, desc="starts", disable=not progress)
        ],
    }


def split(texts: Sequence[str], count: int, *, seed: int = 0) -> tuple[list[str], list[str]]:
    """Split different texts into those to measure on and the rest, to train on.

    Args:
        texts: All of them.
        count: How many to measure on.
        seed: Decides which.

    Raises:
        ValueError: If there are not that many and one more to learn from.

    Example:
        >>> split(["a hen", "an owl", "a hen"], 1)
        (['a hen'], ['an owl'])
    """
    different = list(dict.fromkeys(texts))
    if not 0 < count < len(different):
        raise ValueError(
            f"{len(different)} different texts were given, {count} to measure on; pass at least one, and "
            "leave at least one to learn from."
        )
    random.Random(seed).shuffle(different)
    return different[:count], different[count:]


def page(data: Mapping[str, Any]) -> str:
    """Return the measurement as Markdown: three tables."""
    recipe = data["recipe"]
    parts = [_PREFACE.format(**data, length=recipe["prefix_length"], measured=data["texts"]["measured"])]
    noises = [row["noise"] for row in data["frames"][0]["by_noise"]]
    header = [f"{what}, noise {noise:g}" for noise in noises for what in ("exact", "cosine")]
    frames = [
        [_yes(row), _code(row["opening"]), _code(row["prompt"]), *_scores_by_noise(row)]
        for row in data["frames"]
    ]
    parts.append("## Frames\n\n" + record.table(["BOS", "opening", "prompt", *header], frames))
    ends = [[_yes(row), _code(row["stop"]), *_scores_by_noise(row)] for row in data["ends"]]
    parts.append("## Ends, in the shipped frame\n\n" + record.table(["BOS", "end", *header], ends))
    if data["starts"]:
        starts = [[_yes(row), row["start"], row["before"], row["after"]] for row in data["starts"]]
        columns = ["BOS", "start", "nats a token", f"after {recipe['steps']} steps of {recipe['batch_size']}"]
        parts.append("## Where training begins\n\n" + record.table(columns, starts))
    return "\n\n".join(parts) + "\n"


def _fitting(lm: LanguageModel, texts: Sequence[str], length: int) -> float:
    """Return the share of texts that fit in the prefix; the ends of longer ones can only be guessed."""
    lengths = [len(ids) for ids in lm.tokenize([f" {text}" for text in texts])]
    return sum(count <= length for count in lengths) / len(lengths)


def _scores_by_noise(row: Mapping[str, Any]) -> list[float]:
    return [noise[what] for noise in row["by_noise"] for what in ("exact", "cosine")]


def _yes(row: Mapping[str, Any]) -> str:
    return "yes" if row["bos"] else "no"


def _code(words: str | None) -> str:
    """Format words as code; an empty text is a dash."""
    return "end of text" if words is None else f"`{words!r}`" if words else "-"


_PREFACE = """# How a language model is addressed

{language_model}, {measured} texts, {threads} thread(s). No training in the first tables: the prefix is the
embeddings of a text's first {length} tokens, a short text filled with its end; {fitting:.3f} of the texts are
no longer. Exact: said word for word, greedily; cosine: of what was said, embedded by {encoder},
to the text. Noise is in standard deviations of the model's embeddings."""
