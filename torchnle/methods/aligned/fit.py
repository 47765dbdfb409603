"""Fit the map to class names, to captions or to both, and adapt it to other pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.heads.classifier_head import ClassifierHead
from torchnle.heads.weights import check_classifier
from torchnle.language.english.captions import phrases_of
from torchnle.language.english.phrases import with_article
from torchnle.language.text_encoder import TextEncoder
from torchnle.methods.aligned.captioned import CaptionedSums, Parse
from torchnle.methods.aligned.decoder.text_decoder import TextDecoder
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.probability.calibration import calibrate_by_head
from torchnle.methods.aligned.probability.vocabulary import shipped_phrases
from torchnle.methods.aligned.reader import Reader, check_batch
from torchnle.methods.aligned.text_features.statistics import (
    Domain,
    DomainSums,
    batch_statistics,
    contentless,
)
from torchnle.methods.aligned.text_features.text_map import Classes, TextMap
from torchnle.methods.aligned.text_features.whitening import SHRINKAGE
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.vision.running import unwrap

#: A shipped phrase is near to a fitted text from this cosine on.
_REACH = 0.55
#: Features that differ by less than this, relative to their size, are the same.
_ROUNDING = 1e-6


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
    """Fit the map of the layer that a classifier's head reads, by its weights and class names alone.

    Args:
        reader: Reads the layer that the head reads, and no other.
        head: The classifier's head.
        class_names: One per row of the head.
        encoder: The sentence encoder.
        example: A few inputs, of which only size, dtype and device are used.
        images: Unlabelled pictures of the kind to be read, batch by batch; None = the center is computed from
            the statistics of the model's batch normalisations, or is zero if it has none.
        decoder: Describes whole pictures in sentences; None = phrases only.
        vocabulary: Phrases that `describe` chooses from besides the class names; None = the phrases of the
            shipped concept bank that are near to them (`shipped_near`).
        regression: "ridge", or "mlp" as in Zero-shot NLE (section 3.1).

    Returns:
        The translator.

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
        vocabulary=shipped_near(texts, encoder) if vocabulary is None else vocabulary,
    )
    translator.card = {"fitted on": "class names"}
    adapt(translator, reader, images, example=example)
    return translator.eval()


def shipped_near(texts: Sequence[str], encoder: TextEncoder) -> tuple[str, ...]:
    """Choose the phrases of the shipped concept bank that are near to a fitted text, at most half as many.

    The map's directions of distant phrases are not reliable, and many phrases would outweigh few classes.

    Args:
        texts: The class names and phrases that were fitted.
        encoder: The sentence encoder.
    """
    offered = shipped_phrases()
    nearness = (embed_cached(encoder, offered) @ embed_cached(encoder, texts).T).amax(dim=1)
    best = nearness.topk(min(len(offered), len(texts) // 2))
    return tuple(offered[i] for i in best.indices[best.values >= _REACH].sort().values.tolist())


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
    """Fit the map of each layer to captioned pictures in one pass, and to class names in the head's layer.

    Args:
        reader: Reads the layers.
        batches: (images, captions): images as the model takes them, one caption per image.
        encoder: The sentence encoder.
        head: The classifier's head, to fit its class names too.
        class_names: One per row of the head.
        decoder: Describes whole pictures in sentences; None = phrases only.
        vocabulary: Phrases that `describe` chooses from besides the captions' phrases and the class names;
            None = the phrases of the shipped concept bank that are near to them (`shipped_near`).
        parse: Finds the phrases of a caption.
        shrinkage: The shrinkage of the whitening (`whitening`).

    Returns:
        The translator.

    Raises:
        TypeError: If a batch is not a tensor of images with a list of captions.
        ValueError: If fewer than two images or no noun phrase is given, a batch has not one caption per
            image, features do not vary with the phrases, or weights and names do not fit.
    """
    names = check_classifier(head.weight, class_names) if head is not None else ()
    texts = tuple(class_phrase(name) for name in names)
    read = CaptionedSums()
    for images, captions in batches:
        read.add(reader, images, captions, parse)
    if read.example is None:
        raise ValueError("there were no images to fit on; pass batches of (images, captions).")
    maps: dict[str, TextMap] = {}
    phrases: tuple[str, ...] = ()
    for layer in read.sums:
        reads = head is not None and layer == head.tap.name
        classes = Classes(head.weight, head.bias, texts) if reads and head is not None else None
        fitted, phrases = read.fit(layer, partial(embed_cached, encoder), classes, shrinkage)
        maps[layer] = fitted.to(read.example.device)
    translator = MapTranslator(
        maps,
        encoder,
        decoder,
        phrases=phrases,
        class_names=names,
        class_texts=texts,
        vocabulary=shipped_near((*phrases, *texts), encoder) if vocabulary is None else vocabulary,
    )
    translator.card = {"fitted on": f"{read.count} captioned images"}
    _read_nothing(translator, reader, read.example)
    return translator.eval()


def adapt(
    translator: MapTranslator,
    reader: Reader,
    images: Iterable[Tensor] | None,
    *,
    example: Tensor | None = None,
) -> None:
    """Replace a translator's feature statistics by those of other pictures, and calibrate it again.

    Args:
        translator: The translator, changed in place.
        reader: Reads its layers.
        images: Unlabelled pictures as the model takes them, batch by batch; None = as in `fit_class_names`.
        example: Inputs of the model's size; None = the first images.

    Raises:
        TypeError: If a batch is not a tensor.
        ValueError: If there are no images and no example, one image alone, or images of the same features.
        TranslatorMismatchError: If a layer that is read fits no map.
    """
    sums: dict[str, DomainSums] = {}
    for batch in () if images is None else images:
        example = check_batch(batch)[:1] if example is None else example
        for layer, (pooled, locations) in reader.rows(batch).items():
            sums.setdefault(layer, DomainSums(pooled.shape[1])).add(pooled, locations)
    if example is None:
        raise ValueError("there were no images to adapt to; pass at least one batch.")
    if images is not None:
        _check_enough(sums)
    domains = {layer: s.solve() for layer, s in sums.items()} or fallback_domains(reader, example)
    for layer, domain in domains.items():
        fitted = translator.map_for(layer, len(domain.center))
        fitted.set_statistics(domain)
        if layer in sums:
            fitted.whiten_for(torch.stack(sums[layer].sample))
        if fitted.classes:
            calibrate_by_head(fitted, _distance(fitted, domain, sums.get(layer)))
    _read_nothing(translator, reader, example)
    translator.forget()


def _check_enough(sums: Mapping[str, DomainSums]) -> None:
    """Refuse pictures whose mean says nothing: none, one, or copies of one."""
    for layer, found in sums.items():
        if found.count == 1:
            raise ValueError(
                "one image was given to adapt to, and its own features would be the center that they are "
                "compared with; pass at least two, better some dozens, of the kind that is to be read."
            )
        sample = torch.stack(found.sample)
        if (sample - sample[0]).abs().max() <= _ROUNDING * sample.abs().max():
            raise ValueError(
                f"layer '{layer}' gives the same features for all {found.count} images to adapt to; pass "
                "images that differ, or read a layer that tells them apart."
            )
    if not sums:
        raise ValueError("there were no images to adapt to; pass at least one batch.")


def fallback_domains(reader: Reader, example: Tensor) -> dict[str, Domain]:
    """Estimate each layer's center and norms without images, from its batch normalisations.

    Noise is run through the model while the batch normalisations use the statistics of the noise. The
    features of its locations have the norm of pictures' features, but are less correlated, so their mean is
    shorter: the pooled norm is estimated as the geometric mean of the center's and the locations' norms.
    Without such layers the center is zero, and the norms are those of the noise.

    Args:
        reader: Reads the layers.
        example: A few inputs, of which only size, dtype and device are used.

    Returns:
        The statistics by layer.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(8, *example.shape[1:], generator=generator).to(example)
    found = unwrap(reader.model)
    root = nn.ModuleList(tap.module for tap in reader.taps) if found is None else found
    with batch_statistics(root) as normalised:
        read = reader.rows(noise)
    domains = {}
    for layer, (pooled, locations) in read.items():
        norm = float(locations.float().norm(dim=1).mean())
        center = pooled.float().mean(dim=0)
        if normalised:
            domains[layer] = Domain(center, float((center.norm() * norm).sqrt()), norm)
        else:
            domains[layer] = Domain(torch.zeros_like(center), float(pooled.float().norm(dim=1).mean()), norm)
    return domains


def _distance(fitted: TextMap, domain: Domain, sums: DomainSums | None) -> float:
    if sums is not None:
        return float(fitted.whiten(torch.stack(sums.sample).to(fitted.center)).norm(dim=1).mean())
    squared = domain.pooled_norm**2 - float(domain.center.square().sum())
    return math.sqrt(max(squared, 0.0))


def _read_nothing(translator: MapTranslator, reader: Reader, example: Float[Tensor, "N C H W"]) -> None:
    if example.ndim != 4:
        return
    for layer, (pooled, _) in reader.rows(contentless(example)).items():
        fitted = translator.map_for(layer, pooled.shape[1])
        fitted.nulls = pooled.detach().float().to(fitted.center)


def class_phrase(name: str) -> str:
    """Convert a class name to a noun phrase: with its article, without text in brackets.

    Example:
        >>> class_phrase("crane (machine)")
        'a crane'
    """
    bare = name.split(" (")[0]
    return with_article(bare) if bare.strip() else name
