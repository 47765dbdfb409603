"""Explanations: from what a head reads to the sentence that justifies its prediction."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.language.english.head_nouns import last_word
from torchnle.language.model import LanguageModel
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.zero_shot.classes import predicted
from torchnle.methods.zero_shot.colours import Colours, colour_words, with_colour
from torchnle.methods.zero_shot.concepts import BankDirections, top_concepts
from torchnle.methods.zero_shot.evidence import Evidence, evidence, location_contributions
from torchnle.methods.zero_shot.explanation import Explanation
from torchnle.methods.zero_shot.faithfulness import (
    agreement,
    percentile,
    reference_sentences,
    second_run,
    slopes,
)
from torchnle.methods.zero_shot.prefix_tuning.tuning import Tuning, tune
from torchnle.methods.zero_shot.reliability import known_length, reliability
from torchnle.methods.zero_shot.resemblance import resemblances, without_class
from torchnle.methods.zero_shot.sentences.beams import Beam, Search, completed, write
from torchnle.methods.zero_shot.sentences.candidates import CandidateWords
from torchnle.methods.zero_shot.sentences.likely import LikelyNouns
from torchnle.methods.zero_shot.sentences.words import Words, is_unwanted, unwanted_by_default
from torchnle.methods.zero_shot.truth import sentence_probability


@dataclass(frozen=True)
class ExplanationInput:
    """The input of `Explainer`: what the head reads of each image, and the classes to explain.

    Args:
        pooled: What the head reads, one row per image.
        classes: The class to explain, one per image.
        rather_than: The class that it is contrasted with; None, or -1 = the mean of all.
        wrong: Whether `rather_than` is the true class.
        locations: The features of every location as the head would read them; None where there are none.
        grid: Their (rows, columns).
    """

    pooled: Float[Tensor, "N D"]
    classes: Int[Tensor, "N"]
    rather_than: Int[Tensor, "N"] | None = None
    wrong: bool = False
    locations: Float[Tensor, "N L D"] | None = None
    grid: tuple[int, int] | None = None


@dataclass(eq=False)
class Explainer:
    """Writes explanations of one classifier, and caches what all of them share.

    Args:
        translator: Fitted to the classifier.
        layer: The layer that the head reads.
        lm: The language model that proposes words.
        bank: The phrases of `Explanation.concepts`.
        references: The sentences with which `Explanation.percentile` compares.
    """

    translator: MapTranslator
    layer: str
    lm: LanguageModel
    bank: Sequence[str] = ()
    references: Sequence[str] = field(default_factory=reference_sentences)

    @property
    def fitted(self) -> TextMap:
        """The map of the head's layer."""
        return self.translator.by_layer[self.layer]

    @torch.no_grad()
    def __call__(
        self,
        inputs: ExplanationInput,
        search: Search | Tuning,
        *,
        unwanted: Collection[str] = (),
        count: int = 5,
        second: bool = False,
        colours: Colours | None = None,
    ) -> list[Explanation]:
        """Explain every image.

        Args:
            inputs: The images.
            search: The settings of the search, or of the paper's slow mode.
            unwanted: Words that no sentence holds, beside those of the shipped list.
            count: How many concepts to list.
            second: Whether a second sentence is written, for `Explanation.agreement`; it takes as long.
            colours: Tell the colour of what was looked at, which is added to the sentences of a search.

        Raises:
            ValueError: If too few words are left to write a sentence of.
        """
        found = evidence(
            self.fitted, inputs.pooled, inputs.classes, inputs.rather_than, locations=inputs.locations
        )
        listed = top_concepts(self._bank, found.vector, count)
        peaks = _peaks(self.fitted, inputs)
        filtered = unwanted_by_default() | {word.lower() for word in unwanted}
        runs = [search, second_run(search)] if second else [search]
        titles = self._titles(inputs)
        likely = self._likely(inputs, F.normalize(found.vector, dim=1))
        first, *others = (self._sentences(found, titles, likely, run, filtered, colours) for run in runs)
        shades = [()] * len(first) if colours is None else colours.ranked(found.whole)
        named = [f"{title} {beam.text}" for title, beam in zip(titles, first, strict=True)]
        left = without_class(self.fitted, found.whole, inputs.classes)
        beside = resemblances(self._bank, left, named, filtered)
        explained = [
            replace(
                self._explanation(inputs, found, image, beam, listed[image], peaks[image]),
                colours=shades[image],
                resembles=beside[image],
            )
            for image, beam in enumerate(first)
        ]
        return self._compared(explained, others[0]) if second else explained

    def _sentences(
        self,
        found: Evidence,
        titles: Sequence[str],
        likely: Sequence[Bool[Tensor, "W"] | None],
        search: Search | Tuning,
        unwanted: frozenset[str],
        colours: Colours | None,
    ) -> list[Beam]:
        """Write a sentence for every image, with its colour if colours are told."""
        units = F.normalize(found.vector, dim=1)
        beams = [
            self._write(vector, nouns, search, unwanted | _colours_outside(title, colours), title)
            for vector, nouns, title in zip(units, likely, titles, strict=True)
        ]
        if colours is None or isinstance(search, Tuning):
            return beams
        sure = [colour if colour not in unwanted else "" for colour in colours.sure(found.whole)]
        prompts = [search.about(title).prompt for title in titles]
        return [self._coloured(*each) for each in zip(beams, sure, units, prompts, strict=True)]

    def _coloured(self, beam: Beam, colour: str, vector: Float[Tensor, "D"], prompt: str) -> Beam:
        """Add a colour to a sentence that names a thing and no colour."""
        if not colour or colour_words().intersection(beam.words):
            return beam
        text = with_colour(beam.text, colour, self._words.nouns)
        if text == beam.text:
            return beam
        fit = float(self.fit([text], vector)[0])
        again = Beam(tuple(self.lm.tokenize([f" {text}"])[0]), text, fit=fit)
        return completed(self.lm, [again], prompt)[0]

    def _titles(self, inputs: ExplanationInput) -> list[str]:
        """Name the class of each image, and the one that it is contrasted with."""
        texts, others = self.translator.class_texts, inputs.rather_than
        against = [-1] * len(inputs.classes) if others is None else others.tolist()
        return [
            f"{texts[own]} rather than {texts[other]}" if other >= 0 else texts[own]
            for own, other in zip(inputs.classes.tolist(), against, strict=True)
        ]

    def _compared(self, explained: Sequence[Explanation], second: Sequence[Beam]) -> list[Explanation]:
        """Add the agreement of each sentence with that of the second run."""
        texts, others = [why.text for why in explained], [beam.text for beam in second]
        cosines = agreement(self.translator.encoder, texts, others).tolist()
        return [replace(why, agreement=same) for why, same in zip(explained, cosines, strict=True)]

    def fit(self, texts: Sequence[str], vector: Float[Tensor, "D"]) -> Float[Tensor, "T"]:
        """Compute the cosines of sentences' directions with the unit vector of some evidence."""
        return self.fitted.directions(self.translator.encoder.encode(texts)) @ vector

    def _likely(
        self, inputs: ExplanationInput, units: Float[Tensor, "N D"]
    ) -> list[Bool[Tensor, "W"] | None]:
        """Mark the nouns that are likely on each image and fit its evidence, if its own class is explained.

        Why another class would be said, or one rather than another, is no question of what the image shows.
        """
        fitted, among = self.fitted, self.translator.text_directions.candidates[self.layer]
        shares, _ = posterior(fitted, inputs.pooled, among, local=False)
        own = inputs.classes == predicted(fitted, inputs.pooled)
        if inputs.rather_than is not None:
            own = own & (inputs.rather_than < 0)
        phrases = among.classes.cpu()[inputs.classes.cpu()].tolist()
        fits = units @ self._candidates.directions.T > 0
        return [
            self._nouns.most_informative(share, self.translator.sure_above, phrase, fit) if plain else None
            for share, phrase, plain, fit in zip(shares, phrases, own.tolist(), fits, strict=True)
        ]

    def _write(
        self,
        vector: Float[Tensor, "D"],
        likely: Bool[Tensor, "W"] | None,
        search: Search | Tuning,
        unwanted: Collection[str],
        title: str,
    ) -> Beam:
        fit = partial(self.fit, vector=vector)
        if isinstance(search, Search):
            search = search.about(title)
            candidates = self._candidates.choose(vector, fit, unwanted, likely, prompt=search.prompt)
            return write(self.lm, candidates, search)[0]
        return tune(
            self.lm,
            fit,
            search,
            unwanted=self._tokens(unwanted),
            prompt=Search().about(title).prompt,
        )

    def _tokens(self, unwanted: Collection[str]) -> list[int]:
        """The tokens that are an unwanted word by themselves."""
        marked = zip(self._words.texts, self._words.pieces, strict=True)
        return [pieces[0] for word, pieces in marked if len(pieces) == 1 and is_unwanted(word, unwanted)]

    def _explanation(
        self,
        inputs: ExplanationInput,
        found: Evidence,
        image: int,
        beam: Beam,
        listed: tuple[tuple[str, float], ...],
        peak: tuple[int, int] | None,
    ) -> Explanation:
        names, fitted = self.translator.class_names, self.fitted
        vector = F.normalize(found.vector[image], dim=0)
        others, chosen = self._references, inputs.classes[image : image + 1]
        rank = percentile(torch.tensor([beam.fit]).to(vector), (others @ vector)[None])
        own = fitted.directions(self.translator.encoder.encode([beam.text]))
        slope = float(slopes(fitted, chosen, own))
        probability, unsure = sentence_probability(
            self.translator, self.layer, inputs.pooled[image], beam.text, int(chosen), slope
        )
        other = -1 if inputs.rather_than is None else int(inputs.rather_than[image])
        return Explanation(
            prediction=names[int(chosen)],
            text=beam.text,
            score=beam.fit,
            fluency=beam.fluency,
            percentile=float(rank),
            slope=slope,
            slope_of_others=float(slopes(fitted, chosen, others).mean()),
            concepts=listed,
            location=peak,
            rather_than=names[other] if other >= 0 else "",
            is_wrong=inputs.wrong and other >= 0,
            image=image,
            probability=probability,
            unsure=unsure,
        )

    @cached_property
    def _words(self) -> Words:
        heads = [last_word(text) for text in self.translator.vocabulary.phrases]
        return Words(self.lm, self.translator.encoder, heads)

    @cached_property
    def _nouns(self) -> LikelyNouns:
        named = zip(self._words.texts, self._words.named.tolist(), strict=True)
        return LikelyNouns.of([word if noun else "" for word, noun in named], self.translator.vocabulary)

    @cached_property
    def _candidates(self) -> CandidateWords:
        vectors, fitted = self._words.vectors.to(self.fitted.texts), self.fitted
        known = reliability(fitted, vectors, known_length(fitted))
        return CandidateWords(self.lm, self._words, fitted.directions(vectors), known)

    @cached_property
    def _references(self) -> Float[Tensor, "T D"]:
        return self.fitted.directions(embed_cached(self.translator.encoder, self.references))

    @cached_property
    def _bank(self) -> BankDirections:
        return BankDirections.of(
            self.translator, self.fitted, self.bank or self.translator.vocabulary.phrases
        )


def _colours_outside(title: str, colours: Colours | None) -> frozenset[str]:
    """The colours that a class does not name, which a sentence may not choose where they are told."""
    if colours is None:
        return frozenset()
    return colour_words().difference(re.findall(r"[\w-]+", title.lower()))


def _peaks(fitted: TextMap, inputs: ExplanationInput) -> list[tuple[int, int] | None]:
    """The location of each image that contributes most."""
    if inputs.locations is None or inputs.grid is None:
        return [None] * len(inputs.pooled)
    shares = location_contributions(fitted, inputs.locations, inputs.classes, inputs.rather_than)
    columns = inputs.grid[1]
    return [divmod(int(best), columns) for best in shares.argmax(dim=1)]
