"""Fits of the map: to a classifier's names alone, to captions, or to both; and to other pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle import reading as readers
from torchnle import taps
from torchnle.language.captions import phrases_of
from torchnle.language.phrases import with_article
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.calibration import (
    calibrate_by_captions,
    calibrate_by_head,
    choose_offset,
    marks,
)
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.phrase_sums import PhraseSums
from torchnle.methods.aligned.statistics import Domain, DomainSums, batch_statistics, contentless
from torchnle.methods.aligned.text_map import Classes, TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.aligned.vocabulary import shipped_phrases
from torchnle.methods.aligned.whitening import SHRINKAGE
from torchnle.reading import Reading
from torchnle.running import unwrap
from torchnle.translators.class_weights import check_classifier
from torchnle.translators.classifier_head import ClassifierHead
from torchnle.translators.kernel_ridge import KernelRidge
from torchnle.translators.text_decoder import TextDecoder

#: Finds the noun phrases of a caption.
Parse = Callable[[str], Sequence[str]]


@dataclass
class Reader:
    """Reads chosen layers of one model.

    Args:
        model: The vision model.
        taps: The layers.
        reading: How they are read.
    """

    model: Callable[..., Any]
    taps: Sequence[taps.Tap]
    reading: Reading = field(default_factory=Reading)

    @torch.no_grad()
    def rows(self, images: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Read a batch: each layer's pooled features (N, D), and those of all its locations (R, D)."""
        features = readers.read(self.model, self.taps, images, reading=self.reading)
        pool = self.reading.pool
        return {f.layer: (pool(f, None).rows, pool(f, "all" if f.grid else None).rows) for f in features}


def fit_class_names(
    reader: Reader,
    head: ClassifierHead,
    class_names: Sequence[str],
    encoder: TextEncoder,
    *,
    example: Tensor,
    images: Iterable[Tensor] | None = None,
    decoder: TextDecoder | None = None,
    vocabulary: Sequence[str] | None = None,
    regression: str = "ridge",
) -> MapTranslator:
    """Fit the head's layer from the classifier's weights and class names; no image is needed.

    Args:
        reader: Reads the layer that the head reads, and no other.
        head: The classifier's head.
        class_names: One a row of the head.
        encoder: The sentence encoder.
        example: A few inputs, of which only size, dtype and device are used.
        images: Unlabelled pictures of the kind that is to be read, batch by batch; None = the center is taken
            from the statistics of the model's batch normalisations, or is zero where it has none.
        decoder: Says whole pictures in sentences.
        vocabulary: What `describe` may say beside the class names; None = the shipped concept bank.
        regression: "ridge", or "mlp" as in Zero-shot NLE (section 3.1).

    Raises:
        ValueError: If weights and names do not fit.
    """
    names = check_classifier(head.weight, class_names)
    texts = tuple(class_phrase(name) for name in names)
    classes = Classes(head.weight, head.bias, texts)
    fitted = TextMap.fit(partial(embed_cached, encoder), classes=classes, regression=regression)
    translator = MapTranslator(
        {head.tap.name: fitted.to(head.weight.device)},
        encoder,
        decoder,
        class_names=names,
        class_texts=texts,
        vocabulary=shipped_phrases() if vocabulary is None else vocabulary,
    )
    translator.card = {"fitted on": "class names"}
    adapt(translator, reader, images, example=example)
    return translator.eval()


def fit_captions(
    reader: Reader,
    batches: Iterable[tuple[Tensor, Sequence[str]]],
    encoder: TextEncoder,
    *,
    head: ClassifierHead | None = None,
    class_names: Sequence[str] = (),
    decoder: TextDecoder | None = None,
    vocabulary: Sequence[str] | None = None,
    parse: Parse = phrases_of,
    shrinkage: float = SHRINKAGE,
) -> MapTranslator:
    """Fit each layer to captioned pictures in one pass, and the head's layer to its class names too.

    Args:
        reader: Reads the layers.
        batches: (images, captions): images as the model takes them, one caption an image.
        encoder: The sentence encoder.
        head: The classifier's head, if its class names are to be known too.
        class_names: One a row of the head.
        decoder: Says whole pictures in sentences.
        vocabulary: What `describe` may say beside phrases and class names; None = the shipped concept bank.
        parse: Finds the phrases of a caption.
        shrinkage: Of the whitening (`whitening`).

    Raises:
        ValueError: If fewer than two images or no noun phrase is given, a batch has not one caption an image,
            or weights and names do not fit.
    """
    sums: dict[str, PhraseSums] = {}
    domains: dict[str, DomainSums] = {}
    named: list[Sequence[str]] = []
    example: Tensor | None = None
    for images, captions in batches:
        if len(images) != len(captions):
            raise ValueError(f"{len(captions)} captions came with {len(images)} images; pass one an image.")
        phrases = [tuple(parse(caption)) for caption in captions]
        named += phrases
        example = images[:1] if example is None else example
        for layer, (pooled, locations) in reader.rows(images).items():
            sums.setdefault(layer, PhraseSums(pooled.shape[1])).add(pooled, phrases)
            domains.setdefault(layer, DomainSums(pooled.shape[1])).add(pooled, locations)
    if example is None:
        raise ValueError("there were no images to fit on; pass batches of (images, captions).")
    names = check_classifier(head.weight, class_names) if head is not None else ()
    texts = tuple(class_phrase(name) for name in names)
    maps, phrases_by_layer = {}, {}
    for layer, found in sums.items():
        prototypes = found.solve()
        reads = head is not None and layer == head.tap.name
        classes = Classes(head.weight, head.bias, texts) if reads and head is not None else None
        fitted = TextMap.fit(
            partial(embed_cached, encoder), prototypes=prototypes, classes=classes, shrinkage=shrinkage
        )
        fitted.read_in(domains[layer].solve())
        marked = marks([named[i] for i in domains[layer].sampled], prototypes.phrases)
        sample = torch.stack(domains[layer].sample)
        calibrate_by_captions(fitted, sample, marked)
        if isinstance(fitted.regression, KernelRidge):
            left_out = fitted.regression.left_out()[: len(prototypes.phrases)]
            fitted.offset.fill_(choose_offset(fitted, left_out, sample, marked))
        maps[layer], phrases_by_layer[layer] = fitted.to(example.device), prototypes.phrases
    translator = MapTranslator(
        maps,
        encoder,
        decoder,
        phrases=next(iter(phrases_by_layer.values())),
        class_names=names,
        class_texts=texts,
        vocabulary=shipped_phrases() if vocabulary is None else vocabulary,
    )
    translator.card = {"fitted on": f"{len(named)} captioned images"}
    _read_nothing(translator, reader, example)
    return translator.eval()


def adapt(
    translator: MapTranslator,
    reader: Reader,
    images: Iterable[Tensor] | None,
    *,
    example: Tensor | None = None,
) -> None:
    """Give a translator the statistics of other pictures, and calibrate it by the classifier's own softmax.

    Args:
        translator: It is changed.
        reader: Reads its layers.
        images: Unlabelled pictures as the model takes them, batch by batch; None = as `fit_class_names`.
        example: Inputs of the model's size; None = the first images.

    Raises:
        ValueError: If there are no images and no example.
    """
    sums: dict[str, DomainSums] = {}
    for batch in images or ():
        example = batch[:1] if example is None else example
        for layer, (pooled, locations) in reader.rows(batch).items():
            sums.setdefault(layer, DomainSums(pooled.shape[1])).add(pooled, locations)
    if example is None:
        raise ValueError("there were no images to adapt to; pass at least one batch.")
    domains = (
        {layer: found.solve() for layer, found in sums.items()}
        if sums
        else fallback_domains(reader, example, translator.by_layer)
    )
    for layer, fitted in translator.by_layer.items():
        fitted.read_in(domains[layer])
        if fitted.classes:
            calibrate_by_head(fitted, _distance(fitted, domains[layer], sums.get(layer)))
    _read_nothing(translator, reader, example)
    translator.forget()


def fallback_domains(reader: Reader, example: Tensor, maps: Mapping[str, TextMap]) -> dict[str, Domain]:
    """Estimate each layer's center and norms without images, from its batch normalisations.

    Noise is run through the model while these use the noise's own statistics. Its locations are as long as
    those of pictures, but, being unlike each other, they average to a shorter pooled feature: its norm is
    taken as the geometric mean of the center's and the locations' norms. Without such layers the center is
    zero, and the norms are those of the noise.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, *example.shape[1:], generator=generator).to(example)
    root = unwrap(reader.model) or nn.ModuleList(tap.module for tap in reader.taps)
    with batch_statistics(root) as normalised:
        read = reader.rows(noise)
    found = {}
    for layer, (pooled, locations) in read.items():
        norm = float(locations.float().norm(dim=1).mean())
        center = pooled.float().mean(dim=0)
        if normalised:
            found[layer] = Domain(center, float((center.norm() * norm).sqrt()), norm)
        else:
            found[layer] = Domain(torch.zeros_like(center), float(pooled.float().norm(dim=1).mean()), norm)
    return found


def _distance(fitted: TextMap, domain: Domain, sums: DomainSums | None) -> float:
    if sums is not None:
        return float(fitted.whiten(torch.stack(sums.sample).to(fitted.center)).norm(dim=1).mean())
    squared = domain.pooled_norm**2 - float(domain.center.square().sum())
    return math.sqrt(max(squared, 0.0))


def _read_nothing(translator: MapTranslator, reader: Reader, example: Float[Tensor, "N C H W"]) -> None:
    if example.ndim != 4:
        return
    for layer, (pooled, _) in reader.rows(contentless(example)).items():
        fitted = translator.by_layer[layer]
        fitted.nulls = pooled.detach().float().to(fitted.center)


def class_phrase(name: str) -> str:
    """Put a class name as a text says it: with its article, without what stands in brackets.

    Example:
        >>> class_phrase("crane (machine)")
        'a crane'
    """
    bare = name.split(" (")[0]
    return with_article(bare) if bare.strip() else name
