"""Measure a translator on scenes: descriptions, maps and the probe, from one reading of each scene."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.data import Scenes
from torchnle.evaluation.scenes.data import read
from torchnle.evaluation.scenes.maps import MEAN, Pointing, chance, point, rivals_from
from torchnle.evaluation.scenes.probe import Probe
from torchnle.evaluation.scenes.sentences import Sentences, captioning, naming
from torchnle.language.text_encoder import TextEncoder
from torchnle.metrics import TextImageScorer

_EXAMPLES = 8


def measure(
    backbone: Backbone,
    lang: LanguageAttribution,
    scenes: Scenes,
    *,
    encoder: TextEncoder,
    scorer: TextImageScorer | None = None,
    bert: bool = True,
    probe: Scenes | None = None,
    maps: int | None = None,
    rivals: int = 16,
    batch_size: int = 16,
    internal_batch_size: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a translator's naming, captions and maps on composed scenes.

    Args:
        backbone: The model.
        lang: The translator attached to it, by `attach`.
        scenes: The scenes, all of which are used.
        encoder: Embeds sentences, for the nearest phrase and BERTScore.
        scorer: Cosines of pictures and texts, for CLIPScore.
        bert: Whether BERTScore is among the captions' scores.
        probe: Scenes of another seed, to which the ridge probe is fitted; None = no probe.
        maps: The number of scenes with maps, which are slow with a language model; None = all.
        rivals: The number of other phrases in the contrast variants; 0 = without these.
        batch_size: Scenes in the model at once.
        internal_batch_size: Rows in the language model at once.
        progress: Whether to show a progress bar.

    Returns:
        By layer "naming", "captions", "pointing" by variant, and "probe"; "chance"; and some examples.

    Raises:
        ValueError: If there are fewer than two scenes.
    """
    sentences, pointing, yardstick = Sentences(), Pointing(), Probe(scenes.phrases)
    if probe is not None:
        yardstick.fit(lang, read(backbone, lang, probe, batch_size=batch_size))
    against = rivals_from(scenes.phrases, rivals, scenes.seed)
    seen = []
    left = len(scenes) if maps is None else maps
    batches = read(backbone, lang, scenes, batch_size=batch_size)
    for batch, features in tqdm(batches, total=-(-len(scenes) // batch_size), disable=not progress):
        sentences.add(lang, batch, features, internal_batch_size=internal_batch_size)
        point(lang, batch[:left], features, against, pointing, internal_batch_size=internal_batch_size)
        if probe is not None:
            yardstick.add(lang, batch, features)
        left = max(0, left - len(batch))
        seen += batch
    found, probed = pointing.means(), yardstick.results()
    return {
        "translator": lang.translator.name,
        "score_kind": lang.translator.score_kind,
        "encoder": encoder.reference,
        "scenes": {
            "count": len(scenes),
            "maps": len(scenes) if maps is None else min(maps, len(scenes)),
            "seed": scenes.seed,
            "objects": scenes.objects,
            "phrases": len(scenes.phrases),
            "rivals": against,
            "probe": None if probe is None else {"count": len(probe), "seed": probe.seed},
        },
        "layers": {
            layer: {
                "naming": naming(texts, sentences.at_objects[layer], seen, scenes.phrases, encoder.encode),
                "captions": captioning(texts, seen, encoder if bert else None, scorer),
                "pointing": found.get(layer),
                "probe": probed.get(layer),
            }
            for layer, texts in sentences.wholes.items()
        },
        "mean_of_layers": found.get(MEAN),
        "chance": chance(seen),
        "examples": [
            {
                "caption": scene.caption,
                "whole": {layer: texts[i] for layer, texts in sentences.wholes.items()},
            }
            for i, scene in enumerate(seen[:_EXAMPLES])
        ],
    }
