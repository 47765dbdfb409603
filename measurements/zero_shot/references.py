"""Write the sentences among which explanations find their percentile: one a class, from its weights alone.

Run as ``python -m measurements.zero_shot.references``; it rewrites the file that ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

import torchnle.methods.zero_shot as room
from torchnle import LanguageAttribution, backbones
from torchnle.language.model import LanguageModel
from torchnle.methods.zero_shot.classes import class_directions, class_map
from torchnle.methods.zero_shot.explain import Explainer
from torchnle.methods.zero_shot.sentences.beams import Beam, Candidates, Search, ended, grow, next_log_probs
from torchnle.methods.zero_shot.sentences.words import unwanted_by_default

FILE = Path(room.__file__).parent / "reference_sentences.txt"
_HEAD = "# Written by `python -m measurements.zero_shot.references`: one a class of ImageNet, no image.\n"
#: One beam a class, so that the language model reads many classes at once.
QUICK = Search(beams=1, encoded=8)
_AT_ONCE = 50


@torch.no_grad()
def write_quickly(lm: LanguageModel, chosen: Sequence[Candidates], search: Search = QUICK) -> list[str]:
    """Write a sentence for each set of candidates, with one beam each, all together."""
    stop = lm.tokenize(["."])[0][-1]
    growing, found = {index: Beam() for index in range(len(chosen))}, [list[Beam]() for _ in chosen]
    for step in range(search.most_words + 1):
        log_probs = dict(zip(growing, next_log_probs(lm, list(growing.values()), search.prompt), strict=True))
        for index, row in log_probs.items():
            if step >= search.least_words:
                found[index] += ended([growing[index]], stop, [float(row[stop])])
        continued = {i: grow(chosen[i], row[None], [growing[i]], search) for i, row in log_probs.items()}
        growing = {i: max(each, key=lambda beam: beam.value(search)) for i, each in continued.items() if each}
    both = zip(found, chosen, strict=True)
    return [_best(sentences, each, search) for sentences, each in both if sentences]


def _best(sentences: Sequence[Beam], candidates: Candidates, search: Search) -> str:
    nouns = set(candidates.words.tokens[candidates.words.named].tolist())
    named = [beam for beam in sentences if beam.ids[-2] in nouns]
    return max(named or sentences, key=lambda beam: beam.value(search)).text


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)
    backbone = backbones.load()
    lang = LanguageAttribution.from_backbone(backbone)
    translator, layer = class_map(lang.translator, list(lang.translator.layers))
    lm = LanguageModel.from_pretrained(dtype=torch.float32)
    explainer = Explainer(translator, layer, lm, references=("a dog",))
    rows = F.normalize(class_directions(explainer.fitted), dim=1)
    written: list[str] = []
    for block in rows.split(_AT_ONCE):
        chosen = [explainer.candidates(row, unwanted_by_default()) for row in block]
        written += write_quickly(lm, chosen)
        print(len(written), written[-1], flush=True)
    FILE.write_text(_HEAD + "\n".join(written) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
