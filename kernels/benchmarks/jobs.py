"""What the benchmarks work on: the real language model, prefixes with known words, names of classes."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor

from benchmarks.common import SEED
from torchnle.language.model import LanguageModel

#: The class names of CIFAR-100 (Krizhevsky, 2009).
CLASS_NAMES = (
    """
apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus,
butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch,
crab, crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo,
keyboard, lamp, lawn mower, leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse,
mushroom, oak tree, orange, orchid, otter, palm tree, pear, pickup truck, pine tree, plain, plate, poppy,
porcupine, possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper,
snail, snake, spider, squirrel, streetcar, sunflower, sweet pepper, table, tank, telephone, television,
tiger, tractor, train, trout, tulip, turtle, wardrobe, whale, willow tree, wolf, woman, worm
""".replace("\n", " ")
    .strip()
    .split(", ")
)

WORDS = "The photo shows a small red bird on green grass near an old house by the lake under a blue sky"


@cache
def language_model(dtype: torch.dtype | Literal["int8"] = torch.float32) -> LanguageModel:
    """The embedded default, SmolLM2-135M-Instruct."""
    return LanguageModel.from_pretrained(dtype=dtype)


def prefixes(lm: LanguageModel, rows: int, length: int = 10) -> Tensor:
    """Soft prompts as a translator makes them: near word embeddings, but none of them, (rows, length, E)."""
    chosen = lm.embed(token_prompts(lm, rows, length))
    generator = torch.Generator().manual_seed(SEED + 1)
    noise = torch.randn(chosen.shape, generator=generator).to(chosen) * chosen.float().std().item() * 0.3
    return chosen + noise


def token_prompts(lm: LanguageModel, rows: int, length: int = 10) -> Tensor:
    """Words in random order, (rows, length)."""
    generator = torch.Generator().manual_seed(SEED)
    words = torch.tensor(lm.tokenize([WORDS])[0])
    return words[torch.randint(len(words), (rows, length), generator=generator)].to(lm.device)


def hidden_states(lm: LanguageModel, rows: int) -> Tensor:
    """What the head really sees, (rows, W)."""
    length = 7
    context = lm.context(prefixes(lm, -(-rows // length), length - 1 if lm.bos_id is not None else length))
    return lm.hidden(context).flatten(0, 1)[:rows].contiguous()
