"""Explanations: from what a head reads to the sentence that justifies its prediction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchnle.language.english.head_nouns import phrase_words
from torchnle.language.model import LanguageModel
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.zero_shot.classes import predicted
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
from torchnle.methods.zero_shot.sentences.beams import Beam, Candidates, Search, write
from torchnle.methods.zero_shot.sentences.likely import LikelyNouns
from torchnle.methods.zero_shot.sentences.log_probs import sequence_log_probs
from torchnle.methods.zero_shot.sentences.words import Words, is_unwanted, unwanted_by_default
from torchnle.methods.zero_shot.truth import sentence_probability

#: Where no noun is likely, one is said whose score on the evidence is at least this share of the best noun's.
_NEAR = 0.5
#: And that is known to the map at least this far.
_KNOWN = 0.5
#: So many words of several tokens, the nearest, are considered for a sentence.
_MOST_SPLIT = 32


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
    _later: dict[int, float] = field(default_factory=dict, init=False, repr=False)

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
    ) -> list[Explanation]:
        """Explain every image.

        Args:
            inputs: The images.
            search: The settings of the search, or of the paper's slow mode.
            unwanted: Words that no sentence holds, beside those of the shipped list.
            count: How many concepts to list.
            second: Whether a second sentence is written, for `Explanation.agreement`; it takes as long.

        Raises:
            ValueError: If too few words are left to write a sentence of.
        """
        found = evidence(
            self.fitted, inputs.pooled, inputs.classes, inputs.rather_than, locations=inputs.locations
        )
        listed = top_concepts(self._bank, found.vector, count)
        peaks = _peaks(self.fitted, inputs)
        filtered = unwanted_by_default() | {word.lower() for word in unwanted}
        likely = self._likely(inputs)
        runs = [search, second_run(search)] if second else [search]
        first, *others = (
            [
                self._write(vector, nouns, run, filtered)
                for vector, nouns in zip(F.normalize(found.vector, dim=1), likely, strict=True)
            ]
            for run in runs
        )
        explained = [
            self._explanation(inputs, found, image, beam, listed[image], peaks[image])
            for image, beam in enumerate(first)
        ]
        return self._compared(explained, others[0]) if second else explained

    def _compared(self, explained: Sequence[Explanation], second: Sequence[Beam]) -> list[Explanation]:
        """Add the agreement of each sentence with that of the second run."""
        texts, others = [why.text for why in explained], [beam.text for beam in second]
        cosines = agreement(self.translator.encoder, texts, others).tolist()
        return [replace(why, agreement=same) for why, same in zip(explained, cosines, strict=True)]

    def fit(self, texts: Sequence[str], vector: Float[Tensor, "D"]) -> Float[Tensor, "T"]:
        """Compute the cosines of sentences' directions with the unit vector of some evidence."""
        return self.fitted.directions(self.translator.encoder.encode(texts)) @ vector

    def candidates(
        self, vector: Float[Tensor, "D"], unwanted: Collection[str], likely: Bool[Tensor, "W"] | None = None
    ) -> Candidates:
        """Collect the words from which a sentence on some evidence is composed.

        Args:
            vector: The unit evidence.
            unwanted: Words to exclude.
            likely: The nouns that are likely to be true; None, or none of them = those near to the evidence.
        """
        words, allowed = self._words, self._words.allowed(unwanted)
        directions, known = self._word_directions
        nearness = directions @ vector * known
        nouns = words.named & words.seen
        true = nouns if likely is None else nouns & likely
        if likely is not None and true[allowed].any():
            nouns = true
        else:
            nouns = nouns & (known >= _KNOWN)
            best = nearness[nouns].max() if nouns.any() else nearness.max()
            nouns = nouns & (nearness >= _NEAR * best)
        may, later = self._spelled(~words.named | nouns, nearness)
        return Candidates(
            words, allowed[may[allowed]], nearness, lambda texts: self.fit(texts, vector), later
        )

    def _spelled(
        self, may: Bool[Tensor, "W"], nearness: Float[Tensor, "W"]
    ) -> tuple[Bool[Tensor, "W"], Float[Tensor, "W"] | None]:
        """Keep the nearest of the words of several tokens, and estimate their tokens but the first.

        The estimate is after the prompt and an article; a word's tokens depend on each other far more.
        """
        words = self._words
        split = (may & (words.counts > 1)).nonzero().flatten()
        if not len(split):
            return may & (words.counts == 1), None
        kept = split[nearness[split].topk(min(_MOST_SPLIT, len(split))).indices]
        new = [i for i in kept.tolist() if i not in self._later]
        if new:
            article = self.lm.tokenize([" a"])[0]
            rows = [[*article, *words.pieces[i]] for i in new]
            found = sequence_log_probs(self.lm, rows, Search().prompt)
            self._later.update(
                {i: float(each[len(article) + 1 :].sum()) for i, each in zip(new, found, strict=True)}
            )
        may = may & (words.counts == 1)
        may[kept] = True
        later = torch.zeros_like(nearness)
        later[kept] = torch.tensor([self._later[i] for i in kept.tolist()]).to(later)
        return may, later

    def _likely(self, inputs: ExplanationInput) -> list[Bool[Tensor, "W"] | None]:
        """Mark the nouns that are likely on each image whose predicted class is explained.

        Why another class would be said, or one rather than another, is no question of what the image shows.
        """
        fitted, among = self.fitted, self.translator.text_directions.candidates[self.layer]
        shares, _ = posterior(fitted, inputs.pooled, among, local=False)
        own = inputs.classes == predicted(fitted, inputs.pooled)
        if inputs.rather_than is not None:
            own = own & (inputs.rather_than < 0)
        phrases = among.classes.cpu()[inputs.classes.cpu()].tolist()
        return [
            self._nouns.most_informative(share, self.translator.sure_above, phrase) if plain else None
            for share, phrase, plain in zip(shares, phrases, own.tolist(), strict=True)
        ]

    def _write(
        self,
        vector: Float[Tensor, "D"],
        likely: Bool[Tensor, "W"] | None,
        search: Search | Tuning,
        unwanted: Collection[str],
    ) -> Beam:
        if isinstance(search, Search):
            return write(self.lm, self.candidates(vector, unwanted, likely), search)[0]
        return tune(self.lm, lambda texts: self.fit(texts, vector), search, unwanted=self._tokens(unwanted))

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
        heads = [(phrase_words(text) or [""])[-1] for text in self.translator.vocabulary.phrases]
        return Words(self.lm, self.translator.encoder, heads)

    @cached_property
    def _nouns(self) -> LikelyNouns:
        named = zip(self._words.texts, self._words.named.tolist(), strict=True)
        return LikelyNouns.of([word if noun else "" for word, noun in named], self.translator.vocabulary)

    @cached_property
    def _word_directions(self) -> tuple[Float[Tensor, "W D"], Float[Tensor, "W"]]:
        vectors = self._words.vectors.to(self.fitted.texts)
        return self.fitted.directions(vectors), reliability(self.fitted, vectors, known_length(self.fitted))

    @cached_property
    def _references(self) -> Float[Tensor, "T D"]:
        return self.fitted.directions(embed_cached(self.translator.encoder, self.references))

    @cached_property
    def _bank(self) -> BankDirections:
        return BankDirections.of(
            self.translator, self.fitted, self.bank or self.translator.vocabulary.phrases
        )


def _peaks(fitted: TextMap, inputs: ExplanationInput) -> list[tuple[int, int] | None]:
    """The location of each image that contributes most."""
    if inputs.locations is None or inputs.grid is None:
        return [None] * len(inputs.pooled)
    shares = location_contributions(fitted, inputs.locations, inputs.classes, inputs.rather_than)
    columns = inputs.grid[1]
    return [divmod(int(best), columns) for best in shares.argmax(dim=1)]
