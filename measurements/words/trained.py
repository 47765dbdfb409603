"""Measure a trained TExplain translator on composed scenes, beside controls that must say other words.

Run as ``python -m measurements.words.trained TRANSLATOR OUTPUT`` after ``torchnle train texplain --config
scenes-texplain.toml``. Scenes are new, cut-outs those of training. Descriptions: is the noun of an object
said? Words: how many of ten that dominate sentences are words of the scene's caption or nouns above its
objects. Controls: features dealt to other images, and the network with weights that no training has touched
(the paper's sanity, section 6).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurements.scene_words import true_words
from torchnle import LanguageAttribution, Translator, backbones
from torchnle.data import Scenes, load_cutouts
from torchnle.evaluation import record
from torchnle.evaluation.scenes.data import evaluation_backgrounds, images_of
from torchnle.language.english.content_words import content_words
from torchnle.methods.texplain.network import TExplainNetwork
from torchnle.methods.texplain.words.sentences import Sampling
from torchnle.methods.texplain.words.word_counts import words_of
from torchnle.metrics import captions
from torchnle.translators.prefix import PrefixTranslator
from torchnle.translators.rows import Rows

STAMPS = Path("/usr/share/tuxpaint/stamps")
SCENES, SEED, TEN, BATCH, DRAWN, SENTENCES = 96, 31, 10, 4, 12, 50


def measure(reference: str) -> dict[str, Any]:
    """Measure the translator and its controls on the same scenes."""
    translator = Translator.from_pretrained(reference)
    if not isinstance(translator, PrefixTranslator) or not isinstance(translator.network, TExplainNetwork):
        raise TypeError(f"'{reference}' is no TExplain translator with a causal language model.")
    backbone = backbones.load(translator.backbone)
    scenes = Scenes(load_cutouts(STAMPS), evaluation_backgrounds(), length=SCENES, objects=(1, 2), seed=SEED)[
        :
    ]
    lang = LanguageAttribution(backbone.model, translator.layers[0], translator)
    with torch.no_grad():
        parts = [images_of(backbone, scenes[i : i + BATCH]) for i in range(0, SCENES, BATCH)]
        x = torch.cat([lang.reading.pool(lang.read(part)[0], None).rows for part in parts])
    found = {
        "trained": _measured(translator, x, scenes),
        "features of another image": {},
        "random weights": {},
    }
    found["features of another image"] = _measured(translator, x.roll(1, dims=0), scenes)
    torch.manual_seed(0)
    translator.network = TExplainNetwork(**translator.network.config).to(translator.device).eval()
    found["random weights"] = _measured(translator, x, scenes)
    return found


def _measured(translator: PrefixTranslator, x: Tensor, scenes: Any) -> dict[str, float]:
    rows = Rows({translator.layers[0]: x[:, None]})
    texts = [each.text for each in translator.describe([rows])]
    nouns = [[content_words(item.phrase)[-1:] for item in scene.objects] for scene in scenes]
    truths = [true_words([item.phrase for item in scene.objects], scene.caption) for scene in scenes]
    table = words_of(translator, rows[:DRAWN], Sampling(SENTENCES), split=_all_nouns)
    tops = [[word.text for word in table[[row]].top(TEN)] for row in range(DRAWN)]
    nonempty = [text if text.strip() else "nothing" for text in texts]
    return {
        "a noun of an object is said": _mean(
            any(set(noun) & set(content_words(text)) for noun in each)
            for each, text in zip(nouns, texts, strict=True)
        ),
        "a word of the scene is said": _mean(
            bool(truth & set(content_words(text))) for truth, text in zip(truths, texts, strict=True)
        ),
        "CIDEr": captions.cider(nonempty, [(scene.caption,) for scene in scenes]),
        "words in the scene, of ten": _mean(
            len(truth & set(top)) for truth, top in zip(truths, tops, strict=False)
        ),
        "first word in the scene": _mean(top[0] in truth for truth, top in zip(truths, tops, strict=False)),
    }


def _all_nouns(text: str) -> tuple[str, ...]:
    """Nouns of any language: a network that nobody trained makes a model write anything."""
    return content_words(text)


def _mean(values: Any) -> float:
    return torch.tensor([float(value) for value in values]).mean().item()


def page(found: dict[str, Any]) -> str:
    """Return the results as a table."""
    rows = [[key, *(found[name][key] for name in found)] for key in found["trained"]]
    return (
        f"# TExplain's translator on {SCENES} composed scenes\n\n{record.table(['', *found], rows)}\n\n"
        f"Ten words: of {SENTENCES} sentences for each of the first {DRAWN} scenes.\n"
    )


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("translator")
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.translator)
    setting = {**record.setting(), "translator": "scenes-texplain.toml"}
    record.write(options.output, "texplain_scenes", {"setting": setting, **found}, page(found))
    print(page(found))


if __name__ == "__main__":
    main()
