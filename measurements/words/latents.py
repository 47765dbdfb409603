"""Measure the words of a generative model's latents (TExplain, section 4.3) on a small autoencoder of scenes.

Run as ``python -m measurements.words.latents WORK OUTPUT``; each step keeps its result in WORK. No
text-to-image weights ship in a package, so the latents are those of an autoencoder that is trained here on
scenes of one stamp on a coloured background, 26 stamps with nouns of their own; stamps and backgrounds are
the same in training and test, locations, sizes and colours' pairs are not. A TExplain network reads all
latents of an image at once ("flat") and is trained on scenes with captions by the shared loop, for word steps
alone, which need no language model. Then SmolLM2-135M describes the latents of new scenes, a sentence each;
beside it stand the words nearest to the prefix that it reads. As the paper compares feature captions with
BLIP's captions of the decoded image, they are compared here with the scenes' own captions, and with those of
a scene of another stamp: chance. The autoencoder sees no caption.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchnle import LanguageAttribution, Reading, hub
from torchnle.data import Scenes, load_cutouts, plain_backgrounds
from torchnle.data.cutouts import Cutout, Cutouts
from torchnle.evaluation import record
from torchnle.language.english.content_words import content_words
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.texplain import WordTable, texplain_translator
from torchnle.methods.texplain.training.stages import Stage, train
from torchnle.methods.texplain.words.compare import agreement
from torchnle.methods.texplain.words.sentences import Sentences
from torchnle.metrics import captions as scores
from torchnle.training.recipe import LoopRecipe
from torchnle.training.supply import Batch
from torchnle.translators.prefix import PrefixTranslator
from torchnle.vision.latents import Latents

STAMPS = Path("/usr/share/tuxpaint/stamps")
SIZE, CHANNELS, GRID = 64, 8, 8
CATEGORIES, TRAIN, EACH = 26, 3000, 20
#: After which the language model says again what the prefix says, in 0.8 nats a token untrained.
PROMPT, STOP = " The picture shows", "."
RECIPE = LoopRecipe(
    word_steps=1200, steps=0, batch_size=32, word_learning_rate=2e-3, warmup=50, checkpoint_every=300
)


class Autoencoder(nn.Module):
    """Three convolutions down and three up: a 64 x 64 picture becomes 8 x 8 x 8 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*_down(3, 32), *_down(32, 64), nn.Conv2d(64, CHANNELS, 4, 2, 1))
        self.decoder = nn.Sequential(
            *_up(CHANNELS, 64), *_up(64, 32), nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Sigmoid()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the pictures as the latents keep them."""
        found: Tensor = self.decoder(self.encoder(images))
        return found


def _down(width_in: int, width_out: int) -> list[nn.Module]:
    return [nn.Conv2d(width_in, width_out, 4, 2, 1), nn.BatchNorm2d(width_out), nn.SiLU()]


def _up(width_in: int, width_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(width_in, width_out, 4, 2, 1), nn.BatchNorm2d(width_out), nn.SiLU()]


def categories() -> Cutouts:
    """Choose one stamp for each of 26 nouns, in the order of the files."""
    chosen: dict[str, Cutout] = {}
    for cutout in load_cutouts(STAMPS):
        nouns = content_words(cutout.phrase)
        if nouns and nouns[-1] not in chosen:
            chosen[nouns[-1]] = cutout
    every = list(chosen.values())
    return Cutouts(every[:: max(1, len(every) // CATEGORIES)][:CATEGORIES])


def compose(length: int, seed: int) -> tuple[Tensor, list[str], list[str]]:
    """Return pictures (bytes), captions, and the phrase of each one's stamp."""
    scenes = Scenes(
        categories(),
        plain_backgrounds(),
        length=length,
        size=SIZE,
        objects=(1, 1),
        scale=(0.6, 0.95),
        seed=seed,
    )
    drawn = [scenes[number] for number in range(length)]
    pictures = torch.stack([torch.from_numpy(np.array(scene.image)) for scene in drawn]).permute(0, 3, 1, 2)
    return pictures, [scene.caption for scene in drawn], [scene.objects[0].phrase for scene in drawn]


def trained_autoencoder(pictures: Tensor, *, epochs: int = 6, seed: int = 0) -> Autoencoder:
    """Train by the squared error of pictures."""
    torch.manual_seed(seed)
    model = Autoencoder()
    steps = epochs * (len(pictures) // 32)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for step in range(steps):
        if step % (len(pictures) // 32) == 0:
            order = torch.randperm(len(pictures))
        rows = order[32 * (step % (len(pictures) // 32)) :][:32]
        x = pictures[rows].float() / 255
        loss = F.mse_loss(model(x), x)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return model.eval()


class LatentPairs:
    """Latents and captions, as the training loop reads them."""

    location_counts, widths = {"latents": GRID * GRID}, {"latents": CHANNELS}

    def __init__(self, latents: Tensor, captions: Sequence[str]) -> None:
        self.tokens, self.captions = latents.flatten(2).transpose(1, 2).contiguous(), list(captions)

    def __len__(self) -> int:
        return len(self.captions)

    def batches(self, numbers: Any) -> Iterator[Batch]:
        """Yield the pairs of these numbers."""
        for chosen in numbers:
            rows = list(chosen)
            yield Batch({"latents": self.tokens[rows]}, [(self.captions[i],) for i in rows], rows)


@torch.no_grad()
def prepare(work: Path) -> dict[str, Any]:
    """Compose, train the autoencoder, and encode; kept in the folder."""
    file = work / "latents.pt"
    if file.exists():
        saved: dict[str, Any] = torch.load(file, weights_only=True)
        return saved
    x, captions, _ = compose(TRAIN, 1)
    with torch.enable_grad():
        model = trained_autoencoder(x)
    test, test_captions, phrases = compose(CATEGORIES * EACH, 2)
    pixels = test.float() / 255
    error = F.mse_loss(model(pixels), pixels).item()
    encoded = torch.cat([model.encoder(part.float() / 255) for part in torch.split(x, 100)])
    found = {
        "latents": encoded,
        "captions": captions,
        "test": model.encoder(pixels),
        "test captions": test_captions,
        "phrases": phrases,
        "explained variance": 1 - error / pixels.var(dim=0).mean().item(),
    }
    work.mkdir(parents=True, exist_ok=True)
    torch.save(found, file)
    return found


def translator_of(work: Path, data: dict[str, Any]) -> PrefixTranslator:
    """Train the network on latents and captions."""
    torch.manual_seed(0)
    made = texplain_translator(
        "latents",
        CHANNELS,
        hub.SMOLLM2,
        tokens=GRID * GRID,
        mode="flat",
        prefix_length=14,
        hidden=256,
        activation="gelu",
        prompt=PROMPT,
        stop=STOP,
        max_new_tokens=16,
    )
    pairs = LatentPairs(data["latents"], data["captions"])
    trained = train(made, [Stage(pairs, RECIPE)], work / "run")
    if not isinstance(trained, PrefixTranslator):
        raise TypeError("a causal language model is required.")
    return trained


def measure(work: Path) -> dict[str, Any]:
    """Describe the test latents, by the language model and by the words nearest to its prefix."""
    data = prepare(work)
    translator = translator_of(work, data)
    lang = LanguageAttribution(Latents(), "latents", translator, reading=Reading(layout="NCHW"))
    x, told, phrases = data["test"], data["test captions"], data["phrases"]
    texts = {
        "nearest words of the prefix": nearest_words(translator, x),
        "the language model": [each.text for part in torch.split(x, 40) for each in lang.describe(part)],
    }
    found = {name: _measured(decoded, told, phrases) for name, decoded in texts.items()}
    return {"explained variance of the autoencoder": data["explained variance"], **found}


@torch.no_grad()
def nearest_words(translator: PrefixTranslator, latents: Tensor) -> list[str]:
    """Spell each prefix by the tokens whose embeddings are nearest to its vectors, up to the stop."""
    lm, rows = translator.language_model, latents.flatten(2).transpose(1, 2)
    table = lm.embed(torch.arange(lm.vocab_size)).float()
    lengths, texts = table.square().sum(dim=1) / 2, []
    for part in torch.split(rows, 40):
        prefixes = translator.network.eval()({"latents": part})
        ids = (prefixes @ table.T - lengths).argmax(dim=2)
        texts += [lm.detokenize(row).split(STOP)[0].strip() for row in ids.tolist()]
    return texts


def _measured(decoded: Sequence[str], captions: Sequence[str], phrases: Sequence[str]) -> dict[str, Any]:
    nouns = [content_words(phrase)[-1] for phrase in phrases]
    moved = [_another(phrases, number) for number in range(len(phrases))]
    own, chance = _agreements(phrases, decoded, captions)
    return {
        "noun of the stamp": (
            _mean(n in content_words(t) for n, t in zip(nouns, decoded, strict=True)),
            _mean(nouns[m] in content_words(t) for m, t in zip(moved, decoded, strict=True)),
        ),
        "agreement of a category's words": (own, chance),
        **_compared(decoded, captions, [captions[number] for number in moved]),
    }


def _another(phrases: Sequence[str], number: int) -> int:
    """The next scene of another stamp."""
    count = len(phrases)
    return next(n % count for n in range(number + 1, number + count) if phrases[n % count] != phrases[number])


def _agreements(
    phrases: Sequence[str], decoded: Sequence[str], captions: Sequence[str]
) -> tuple[float, float]:
    """Words of latents against words of captions: of the same category, and of all others."""
    tables = []
    for texts in (decoded, captions):
        sentences = [Sentences((text or "nothing",), torch.ones(1), torch.zeros(1)) for text in texts]
        table = WordTable.of(sentences)
        tables.append(
            {
                kind: table[[i for i, phrase in enumerate(phrases) if phrase == kind]]
                for kind in sorted(set(phrases))
            }
        )
    feature_words, caption_words = tables
    cosines = {
        (a, b): agreement(one, other)
        for a, one in feature_words.items()
        for b, other in caption_words.items()
    }
    return _mean(v for (a, b), v in cosines.items() if a == b), _mean(
        v for (a, b), v in cosines.items() if a != b
    )


def _compared(
    decoded: Sequence[str], captions: Sequence[str], others: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """Table 1: cosine of sentence embeddings, ROUGE and METEOR, with own captions and others'."""
    encoder, nonempty = TextEncoder.from_pretrained(), [text or "nothing" for text in decoded]
    vectors = encoder.encode(nonempty)

    def scored(texts: Sequence[str]) -> tuple[float, float, float]:
        references = [(text,) for text in texts]
        cosines = F.cosine_similarity(vectors, encoder.encode(list(texts)))
        return (
            cosines.mean().item(),
            scores.rouge_l(nonempty, references),
            scores.meteor(nonempty, references),
        )

    names = ("cosine similarity", "ROUGE-L", "METEOR")
    return dict(zip(names, zip(scored(captions), scored(others), strict=True), strict=True))


def _mean(values: Any) -> float:
    return torch.tensor([float(value) for value in values]).mean().item()


def page(found: dict[str, Any]) -> str:
    """Return the results as a table."""
    ways = [name for name, value in found.items() if isinstance(value, dict)]
    header = ["", *(f"{way}, {whose}" for way in ways for whose in ("own", "another stamp"))]
    rows = [[key, *(number for way in ways for number in found[way][key])] for key in found[ways[0]]]
    variance = found["explained variance of the autoencoder"]
    return (
        f"# Latents of an autoencoder of scenes, {CATEGORIES} stamps\n\n{record.table(header, rows)}\n\n"
        f"The autoencoder explains {variance:.3f} of the pixels' variance.\n"
    )


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.work)
    record.write(options.output, "latents", {"setting": record.setting(), **found}, page(found))
    print(page(found))


if __name__ == "__main__":
    main()
