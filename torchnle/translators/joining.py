"""One translator out of two: what captions taught a layer, and what its classifier knows of it."""

from __future__ import annotations

from torchnle.translators.alignment import AlignedTranslator
from torchnle.translators.text_maps import MapSum

#: How much a classifier's answers count beside a map from captions, both in units of their spreads.
CLASS_WEIGHT = 0.7


def join(
    captions: AlignedTranslator, classes: AlignedTranslator, *, weight: float = CLASS_WEIGHT
) -> AlignedTranslator:
    """Add the maps of one translator to those of another, layer by layer (`MapSum`).

    The two need not know the same things. A map from captions takes short steps where an image resembles
    none that it was fitted to, and there a classifier that is sure of its class leads.

    Args:
        captions: Whose layers, decoder and settings are kept.
        classes: Whose maps are added, on layers that the first has too; its phrases come behind the first's.
        weight: How much its steps count, each translator's taken in units of its spread.

    Returns:
        A translator of its own; its maps are copies.

    Raises:
        ValueError: If the weight is not positive, the encoders differ, or a layer of `classes` is not one of
            `captions`.
    """
    if not weight > 0:
        raise ValueError(f"weight={weight}; pass a positive number.")
    if captions.encoder.reference != classes.encoder.reference:
        raise ValueError(
            f"translators of one encoder can be joined; these have '{captions.encoder.reference}' and "
            f"'{classes.encoder.reference}'."
        )
    unknown = [layer for layer in classes.layers if layer not in captions.layers]
    if unknown:
        raise ValueError(
            f"{unknown} cannot be added to a translator of {list(captions.layers)}; fit the captions to the "
            "layer that the classes are read from, too."
        )
    weights = [1.0, weight * captions.spread / classes.spread]
    added = {
        layer: MapSum.of([captions.by_layer[layer], fitted], weights)
        for layer, fitted in classes.by_layer.items()
    }
    joined = AlignedTranslator(
        {**captions.by_layer, **added},
        captions.encoder,
        captions.decoder,
        phrases=(*captions.phrases, *classes.phrases),
        spread=captions.spread,
        sure_above=captions.sure_above,
        best_of=captions.best_of,
        recall=captions.recall,
    )
    joined.card = captions.card
    return joined.eval()
