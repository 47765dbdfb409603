"""Explorer: answers what a page asks of a photograph; nothing of a request is kept but cached features."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchnle.attr import LanguageAttribution
from torchnle.backbones import Backbone
from torchnle.description import Description
from torchnle.explorer.concepts import HeadConcepts
from torchnle.explorer.photos import Photo, Photos
from torchnle.explorer.prepare import exact_lenses, fit_lenses
from torchnle.explorer.regions import Region
from torchnle.explorer.sentences import SentenceWriter
from torchnle.language.texts import check_texts
from torchnle.translators.rows import rows_of
from torchnle.vision.features import Features
from torchnle.vision.running import device_of, exclusive_use

#: The features of so many photographs are kept.
_KEPT = 8
#: The most texts that are mapped at once, and the most characters of one.
TEXTS, CHARACTERS = 8, 200


class Explorer:
    """Reads photographs for the pages of the explorer.

    A photograph is read once, all layers in one forward; then an answer costs the words of one location.
    Requests of several threads are answered one after the other, but for the decoding of sentences.

    Args:
        backbone: The model.
        lang: From `torchnle.explorer.prepare.attach`; its translator's decoder is taken over.
        photos: Files that are known from the start.
        decoder: Writes sentences: a decoder, its reference, or None for phrases alone.
    """

    def __init__(
        self,
        backbone: Backbone,
        lang: LanguageAttribution[Any],
        photos: Sequence[Path] = (),
        *,
        decoder: Any = None,
    ) -> None:
        self.backbone, self.lang = backbone, lang
        self.photos = Photos(backbone, photos)
        self.sentences = SentenceWriter(lang.translator, decoder)
        self.concepts = HeadConcepts.find(lang)
        self._features: OrderedDict[str, list[Features]] = OrderedDict()
        self._fit(list(self.photos.given.values()))

    @property
    def layers(self) -> list[str]:
        """The layers that are read, from shallow to deep."""
        return [tap.name for tap in self.lang.taps]

    def warm(self) -> None:
        """Read the first photograph and load the decoder, so that no question waits for either."""
        first = next(iter(self.photos.given), None)
        if first is not None:
            self.words(first, self.layers[-1], None)
            self.maps(first, ["a thing"])
            if self.concepts is not None:
                self.classes(first, [])
        if self.sentences.offered:
            self.sentences.load()

    def add(self, content: bytes, name: str) -> Photo:
        """Take a photograph that was dropped in.

        Raises:
            ValueError: If the bytes are no picture, or too large a one.
        """
        photo = self.photos.add(content, name)
        with self._alone():
            self._fit([photo])
        return photo

    def about(self, key: Any) -> dict[str, Any]:
        """Describe a photograph's layers: name and grid, as the page draws it.

        Raises:
            KeyError: If the photograph is not known.
        """
        with self._alone():
            features = self._read(key)
        layers = [{"name": each.layer, "grid": each.grid and list(each.grid)} for each in features]
        return {"photo": self.photos[key].to_dict(), "layers": layers}

    @torch.no_grad()
    def words(self, key: Any, layer: Any, region: Region | None) -> dict[str, Any]:
        """Say what a region shows in phrases, with their probabilities.

        Args:
            key: The photograph.
            layer: The layer.
            region: The locations; None = the whole picture.

        Raises:
            KeyError: If the photograph or layer is not known.
            ValueError: If the region does not lie on the layer's grid.
        """
        with self._alone():
            return as_answer(self._describe(key, layer, region))

    @torch.no_grad()
    def every(self, key: Any, layer: Any) -> list[Description]:
        """Describe every location of a layer, row by row; none if it has no locations."""
        with self._alone():
            features = self._layer(key, layer)
            return (
                [] if features.grid is None else list(self.lang.describe_features([features], where="all")[0])
            )

    @torch.no_grad()
    def sentence(self, key: Any, layer: Any, region: Region | None) -> dict[str, Any]:
        """Say a region in a sentence, if one fits at least as well as the best phrase; arguments as `words`.

        Returns:
            The fields "text", None if no sentence fits; "probability" and "unsure".
        """
        with self._alone():
            features = self._layer(key, layer)
            description = self._describe(key, layer, region)
            (rows,) = rows_of(self.lang.reading.pool(features, _where(features, region)))
        return self.sentences(rows, description, self._alone)

    @torch.no_grad()
    def maps(self, key: Any, texts: Sequence[str]) -> dict[str, Any]:
        """Score texts at every location of every layer that has locations, with the common scale.

        Args:
            key: The photograph.
            texts: The texts.

        Raises:
            KeyError: If the photograph is not known.
            ValueError: If there are too many texts, or one is blank or too long.
        """
        checked = checked_texts(texts)
        with self._alone():
            layers = [self._map(each, checked) for each in self._read(key) if each.grid is not None]
        values = [value for layer in layers for one in layer["maps"] for value in one]
        return {
            "texts": checked,
            "layers": layers,
            "low": min(values, default=0.0),
            "high": max(values, default=0.0),
            "kind": self.lang.translator.score_kind,
        }

    @torch.no_grad()
    def classes(self, key: Any, off: Sequence[str]) -> dict[str, Any]:
        """Compare a classifier's answer with its answer without some concepts.

        Args:
            key: The photograph.
            off: The concepts, by name; any text.

        Raises:
            KeyError: If the photograph is not known.
            ValueError: If the model is no classifier whose head is read, or as `maps`.
        """
        if self.concepts is None:
            raise ValueError("concepts can be switched off for classifiers whose head's layer is read.")
        checked = checked_texts(off) if off else []
        with self._alone():
            return self.concepts.answer(self._layer(key, self.concepts.layer), checked)

    def _map(self, features: Features, texts: list[str]) -> dict[str, Any]:
        (rows,) = rows_of(self.lang.reading.pool(features, "all"))
        scores = features.fold(self.lang.translator.score([rows], texts))[0].flatten(0, 1)
        maps = [[round(value, 4) for value in column] for column in scores.T.tolist()]
        return {"name": features.layer, "grid": list(features.grid or ()), "maps": maps}

    def _describe(self, key: Any, layer: Any, region: Region | None) -> Description:
        features = self._layer(key, layer)
        (found,) = self.lang.describe_features([features], where=_where(features, region))
        return found  # type: ignore[no-any-return]

    def _layer(self, key: Any, layer: Any) -> Features:
        for features in self._read(key):
            if features.layer == layer:
                return features
        raise KeyError(f"this layer is not read; there are {', '.join(self.layers)}.")

    def _read(self, key: Any) -> list[Features]:
        """Read a photograph's features, or find them from before."""
        photo = self.photos[key]
        if key not in self._features:
            with torch.no_grad():
                self._features[key] = self.lang.read(photo.inputs.to(device_of(self.backbone.model)))
        self._features.move_to_end(key)
        while len(self._features) > _KEPT:
            self._features.popitem(last=False)
        return self._features[key]

    def _fit(self, photos: Sequence[Photo]) -> None:
        """Fit what reads the lower layers, as soon as there is a photograph to fit it to."""
        if photos and exact_lenses(self.lang):
            inputs = torch.cat([photo.inputs for photo in photos[:_KEPT]])
            self.lang.summary += " " + fit_lenses(self.lang, inputs.to(device_of(self.backbone.model)))
            self._features.clear()

    def _alone(self) -> Any:
        """Let one thread at a time into the translator and the caches."""
        return exclusive_use(self.lang.translator)


def checked_texts(texts: Any) -> list[str]:
    """Check texts that a request names.

    Raises:
        ValueError: If they are not a list of a few short strings.

    Example:
        >>> checked_texts(["a cat"])
        ['a cat']
    """
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ValueError("texts are a list of strings.")
    if len(texts) > TEXTS or any(len(each) > CHARACTERS for each in texts):
        raise ValueError(f"there may be {TEXTS} texts of {CHARACTERS} characters each.")
    return check_texts(texts)


def as_answer(found: Description) -> dict[str, Any]:
    """Return a description as the page shows it."""
    return {
        "text": found.text,
        "probability": found.probability,
        "unsure": found.unsure,
        "score": round(found.score, 4),
        "kind": found.score_kind,
        "phrases": [[text, round(value, 5)] for text, value in found.phrases],
    }


def _where(features: Features, region: Region | None) -> Any:
    return None if region is None else region.where(features.grid)
