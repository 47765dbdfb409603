"""Measure whether a translator names composed scenes' objects that a classifier has classes for.

``python -m measurements class-objects`` uses a translator that was fitted from class names alone, without
images. The objects and their classes follow from the words: an object belongs to every class that has a name
with the same head noun ("a red fox" to "grey fox" and "Arctic fox, white fox"), and nothing is chosen by
hand. So an object that only shares a word with a class (the animal and the computer's mouse) counts too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from tqdm import tqdm

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone, class_synonyms
from torchnle.data import Cutout, Scene, Scenes, head_noun
from torchnle.evaluation.record import table
from torchnle.evaluation.scenes.data import evaluation_backgrounds, images_of, read
from torchnle.evaluation.scenes.sentences import Sentences, rates
from torchnle.metrics import says_nouns
from torchnle.metrics.captions import words

_EXAMPLES = 12
_RATES = ("local", "whole", "shuffled")


def measure(
    backbone: Backbone,
    lang: LanguageAttribution,
    cutouts: Sequence[Cutout],
    *,
    count: int = 200,
    scale: tuple[float, float] = (0.3, 0.6),
    seed: int = 1,
    batch_size: int = 16,
    internal_batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Describe scenes of one object, whole and at the object's location, and look for its class's names.

    Args:
        backbone: The classifier, with class names.
        lang: The translator attached to it, by `attach`.
        cutouts: The cut-outs; those with the head noun of a class are used.
        count: The number of scenes.
        scale: Range of the object's longer side as a part of the scene's.
        seed: The seed of the scenes.
        batch_size: Scenes in the model at once.
        internal_batch_size: Rows in the language model at once.
        progress: Whether to show a progress bar.

    Returns:
        By layer and kind of naming ("class_name", "head_noun", "either") the rates "local" (at the object's
        location), "whole" and "shuffled" (other scenes' sentences); "classifier", the share of scenes whose
        predicted class is one of the object's; "things", each with its classes; and some examples.

    Raises:
        ValueError: If no cut-out has the head noun of a class.
    """
    classes = classes_of([cutout.phrase for cutout in cutouts], backbone.class_names)
    matching = [cutout for cutout in cutouts if cutout.phrase in classes]
    if not matching:
        raise ValueError(
            f"none of the {len(cutouts)} cut-outs has the head noun of one of {len(backbone.class_names)} "
            "class names; pass other cut-outs, or a classifier whose classes have names."
        )
    scenes = Scenes(matching, evaluation_backgrounds(), length=count, objects=(1, 1), scale=scale, seed=seed)
    sentences, seen, right = Sentences(), list[Scene](), list[bool]()
    batches = read(backbone, lang, scenes, batch_size=batch_size)
    for batch, features in tqdm(batches, total=-(-count // batch_size), disable=not progress):
        sentences.add(lang, batch, features, internal_batch_size=internal_batch_size)
        right += _rightly_classified(backbone, batch, classes)
        seen += batch
    return {
        "translator": lang.translator.name,
        "scenes": {"count": count, "seed": seed, "scale": scale, "cutouts": len(cutouts)},
        "classifier": sum(right) / len(right),
        "layers": {
            layer: naming(texts, sentences.at_objects[layer], seen, classes, backbone.class_names)
            for layer, texts in sentences.wholes.items()
        },
        "things": {
            phrase: [backbone.class_names[index] for index in found] for phrase, found in classes.items()
        },
        "examples": [
            {
                "thing": scene.objects[0].phrase,
                **{
                    layer: {"local": sentences.at_objects[layer][i], "whole": texts[i]}
                    for layer, texts in sentences.wholes.items()
                },
            }
            for i, scene in enumerate(seen[:_EXAMPLES])
        ],
    }


def classes_of(phrases: Sequence[str], class_names: Sequence[str]) -> dict[str, list[int]]:
    """Return the classes of each phrase: those with a name of the same head noun. Other phrases are left out.

    Example:
        >>> classes_of(["a red fox", "a fox squirrel", "a door"], ["grey fox", "hen"])
        {'a red fox': [0]}
    """
    by_head: dict[str, list[int]] = {}
    for index, names in enumerate(class_synonyms(class_names)):
        for head in dict.fromkeys(_head(name) for name in names):
            by_head.setdefault(head, []).append(index)
    unique = dict.fromkeys(phrases)
    return {phrase: by_head[_head(phrase)] for phrase in unique if _head(phrase) in by_head}


def naming(
    wholes: list[str],
    at_objects: list[str],
    scenes: Sequence[Scene],
    classes: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
) -> dict[str, dict[str, float]]:
    """Compute how often sentences name objects by their class: `rates` for each kind of naming.

    Args:
        wholes: One sentence a scene.
        at_objects: One sentence an object.
        scenes: The scenes.
        classes: The classes of each phrase, by `classes_of`.
        class_names: The classifier's.

    Returns:
        "class_name": a whole name of one of the object's classes is in the sentence, with its words in order;
        "head_noun": the object's head noun is; "either".
    """
    phrases, synonyms = list(classes), class_synonyms(class_names)
    names = [[name for index in found for name in synonyms[index]] for found in classes.values()]
    heads = [head_noun(phrase) for phrase in phrases]

    def by_name(texts: list[str]) -> Tensor:
        return says_names(texts, names)

    def by_head(texts: list[str]) -> Tensor:
        return says_nouns(texts, heads)

    judges = {
        "class_name": by_name,
        "head_noun": by_head,
        "either": lambda texts: by_name(texts) | by_head(texts),
    }
    return {kind: rates(judge, wholes, at_objects, scenes, phrases) for kind, judge in judges.items()}


def says_names(texts: Sequence[str], names: Sequence[Sequence[str]]) -> Bool[Tensor, "texts things"]:
    """Return whether each text has one of each object's names, with its words in sequence.

    Example:
        >>> says_names(["an Arctic fox on snow", "a fox"], [["white fox", "Arctic fox"], ["fox"]])
        tensor([[ True,  True], [False,  True]])
    """
    spaced = [_spaced(text) for text in texts]
    wanted = [[_spaced(name) for name in item] for item in names]
    return torch.tensor([[any(name in text for name in item) for item in wanted] for text in spaced])


def page(data: Mapping[str, Any]) -> str:
    """Format the rates as Markdown."""
    scenes = data["scenes"]
    rows = [
        [layer, kind.replace("_", " "), *(found[name] for name in _RATES)]
        for layer, kinds in data["layers"].items()
        for kind, found in kinds.items()
    ]
    classes = {name for names in data["things"].values() for name in names}
    return "\n\n".join(
        [
            f"# `{data['translator']}` on objects that the classifier has classes for",
            f"{scenes['count']} scenes of one object (seed {scenes['seed']}, {scenes['scale'][0]} to "
            f"{scenes['scale'][1]} of the picture's side). {len(data['things'])} phrases of "
            f"{scenes['cutouts']} cut-outs have the head noun of a name of one of {len(classes)} classes. "
            f"The classifier's first class is one of the object's for {data['classifier']:.3f} of the "
            "scenes.",
            "The share of objects that a sentence names: the one for their own location, the one for the "
            "whole image, and those of other scenes (the shuffled control). By class name: it holds a "
            "whole name of one of the object's classes, any that ImageNet's list gives; by head noun: the "
            "object's own.",
            table(["layer", "by", *_RATES], rows),
        ]
    )


def _rightly_classified(
    backbone: Backbone, scenes: Sequence[Scene], classes: Mapping[str, Sequence[int]]
) -> Iterator[bool]:
    with torch.no_grad():
        predicted = backbone.model(images_of(backbone, scenes)).argmax(dim=1).tolist()
    for scene, index in zip(scenes, predicted, strict=True):
        yield index in classes[scene.objects[0].phrase]


def _head(name: str) -> str:
    """Return the head noun as texts are compared: its last word in lower case."""
    return words(head_noun(name))[-1]


def _spaced(text: str) -> str:
    return f" {' '.join(words(text))} "
